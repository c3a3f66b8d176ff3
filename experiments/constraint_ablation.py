"""What does each published way to constrain a diffusion buy, and what does it cost?

Question: how often do people drawn by a diffusion of the raw columns break a law, without constraints, with a
soft penalty in the loss, guidance, projection onto the laws at the last step or at every step, and each
two of penalty, guidance and projection together; and how like people are they then? The constraint
coordinates stand beside them. Without constraints and in the coordinates, people are drawn moved as well, as
the product moves its draws (:mod:`vpop.transport`, :mod:`vpop.calibration`): that is a gain of its own.
Source: NHANES 2013-2018 (VPOP_DATA), the people whom :mod:`vpop.split` gives to training; the others judge.
Command: VPOP_DATA=... OMP_NUM_THREADS=1 python -m experiments.constraint_ablation
Measured, of ``n`` people from each model, with Wilson's 95 % intervals: who breaks any law (sums off by more
than 1 % count); who breaks a band C05-C34, sums not counted; the share of applicable checks that fail; sums
off by more than 1 %, 0.1 % and 1e-6. Beside these, against unseen people, KS and the tree C2ST on all columns
and on these with their ratios.
All models have the same network, data, noise and number of updates; guidance and projection act on the
trained networks. Settings (lambda 1, guidance 1) were fixed before the first run and none was tried twice.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd
import torch

from experiments import record
from experiments.pcdm_quality import survey
from pbpk.laws import violations, wilson
from pbpk.physiology import Cohort, Physiology
from vpop.calibration import Calibration
from vpop.columns import Sample, everything, hard
from vpop.constrain import RawDiffusion
from vpop.coordinates import NAMES, WHO
from vpop.evaluate import compare_columns
from vpop.pcdm import PCDM
from vpop.project import project
from vpop.training import Training
from vpop.transport import AGES, Transport
from vpop.two_sample import c2st

NAME = "constraint_ablation"
SUMS = ("C01", "C02", "C04")  # laws that a body can break by its sums alone
Model = TypeVar("Model", PCDM, RawDiffusion)
PUBLISHED = (0.0200, 0.0050)  # without and with the soft penalty: https://arxiv.org/abs/2602.18472
WAYS: dict[str, Callable[[Networks], PCDM | RawDiffusion]] = {
    "unconstrained": lambda networks: networks.plain,
    "soft penalty": lambda networks: networks.soft,
    "guidance": lambda networks: but(networks.plain, guidance=1.0),
    "soft penalty + guidance": lambda networks: but(networks.soft, guidance=1.0),
    "projection at every step": lambda networks: but(networks.plain, projection="every"),
    "unconstrained + moved": lambda networks: networks.moved,
    "constraint coordinates": lambda networks: networks.as_drawn,
    "constraint coordinates + moved": lambda networks: networks.ours,
}
PROJECTED = ("unconstrained", "soft penalty", "guidance", "unconstrained + moved")


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 100_000
    ways: str = ",".join(WAYS)
    scored: int = 3000
    part: str = "test"
    updates: int = 1000
    batch: int = 512
    width: int = 128
    depth: int = 3
    seed: int = 1


def run(config: Config) -> dict[str, Any]:
    """Draws people by each model, judges them and draws one figure."""
    real = Sample.of(*survey(config.part, config.seed + 7)).some(config.scored, config.seed)
    found: dict[str, Any] = {}
    for name, cohort, seconds in draws(config):
        found[name] = judged(cohort, real, config)
        found[name]["CPU us a person"] = round(1e6 * seconds / config.n)
        print(name, found[name], flush=True)
        picture(found)
    return found


def draws(config: Config) -> Iterator[tuple[str, Cohort, float]]:
    """Yields each way's name, people and CPU seconds of drawing them.

    Projection at the last step moves the people whom the same sampler drew without it.
    """
    networks = Networks(config)
    for name in config.ways.split(","):
        model = WAYS[name](networks)
        free, seconds = timed(lambda model=model: model.sample(config.n, config.seed))
        yield name, free, seconds
        if name in PROJECTED:
            moved, more = timed(lambda free=free: project(free).cohort)
            yield f"{name} + projection at the last step", moved, seconds + more


def timed(draw: Callable[[], Cohort]) -> tuple[Cohort, float]:
    start = time.process_time()
    cohort = draw()
    return cohort, time.process_time() - start


def but(model: Model, **how: Any) -> Model:
    """Returns a model that differs in these settings alone; what it has learnt is shared."""
    other = copy.copy(model)
    vars(other).update(how)
    return other


@dataclass(frozen=True)
class Networks:
    """The trained networks, each trained when it is first asked for."""

    config: Config

    @cached_property
    def plain(self) -> RawDiffusion:
        """The raw diffusion that knows no law."""
        return RawDiffusion(**self._plan).fit(*self._people)

    @cached_property
    def soft(self) -> RawDiffusion:
        """The raw diffusion with the penalty in its loss."""
        return RawDiffusion(**self._plan, penalty=1.0).fit(*self._people)

    @cached_property
    def moved(self) -> RawDiffusion:
        """The one that knows no law, its draws moved to the people."""
        return but(self.plain).move(*self._people)

    @cached_property
    def ours(self) -> PCDM:
        """The diffusion in the coordinates, its draws moved to the people, as the product has it."""
        return PCDM(**self._plan).fit(*self._people)

    @property
    def as_drawn(self) -> PCDM:
        """The same, its draws left where the network puts them."""
        maps = torch.eye(1 + len(NAMES), dtype=torch.float64)[:, 1 + len(WHO) :]
        still = Transport(maps.expand(2, len(AGES), -1, -1))
        people = self.ours.calibration.people
        return but(self.ours, transport=still, calibration=Calibration(people, people))

    @cached_property
    def _people(self) -> tuple[Cohort, torch.Tensor]:
        return survey("train", self.config.seed, copies=2)

    @property
    def _plan(self) -> dict[str, Any]:
        training = Training(updates=self.config.updates, batch=self.config.batch)
        shape = {"width": self.config.width, "depth": self.config.depth}
        return shape | {"seed": self.config.seed, "training": training}


def judged(cohort: Cohort, real: Sample, config: Config) -> dict[str, Any]:
    """Returns shares with Wilson's intervals, and how like unseen people a part of the people are."""
    report = violations(cohort, tolerance=1e-2)
    band = torch.tensor([law.id.startswith("C") and law.id not in SUMS for law in report.laws])
    broken = report.violated() & report.counted & band
    body = cohort.physiology
    sums = torch.maximum((body.M.sum(-1) / body.BW - 1).abs(), (body.Q.sum(-1) / body.CO - 1).abs())
    ours = Sample.of(cohort)
    some = ours.some(config.scored, config.seed)

    def told(columns: Callable[[Physiology], pd.DataFrame]) -> list[float]:
        tables = (columns(sample.bodies).to_numpy(float) for sample in (real, some))
        auc = c2st(*tables, real.weights, config.seed, real.persons, drawn_groups=some.persons)
        return [round(value, 3) for value in auc]

    return {
        "any law": share(report.broken()),
        "a band, sums aside": share(broken.any(-1)),
        "applicable checks of bands": float(broken.sum() / (report.applicable & report.counted & band).sum()),
        "sums off by 1 %, 0.1 %, 1e-6": [share(sums > t) for t in (1e-2, 1e-3, 1e-6)],
        "KS": float(compare_columns({"real": real, "drawn": ours, "floor": ours}).KS.mean()),
        "C2ST, all columns": told(everything),
        "C2ST, all columns and ratios": told(hard),
    }


def share(who: torch.Tensor) -> list[float]:
    """Returns a share and its Wilson interval."""
    hits = int(who.sum())
    return [hits / len(who), *wilson(hits, len(who))]


def picture(found: dict[str, Any]) -> None:
    """Draws the shares of law breakers with their intervals beside the published, and the C2ST."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 5.0), sharey=True, layout="constrained")
    rows = range(len(found))
    for offset, (measure, colour) in enumerate(
        {"any law": "tab:red", "a band, sums aside": "tab:orange"}.items()
    ):
        middle, low, high = (100 * torch.tensor([one[measure] for one in found.values()]).T).tolist()
        at = [row + 0.18 * offset for row in rows]
        left.hlines(at, low, high, color=colour)
        left.plot(middle, at, "o", color=colour, label=measure)
    for level in PUBLISHED:
        left.axvline(100 * level, color="grey", linestyle=":")
    left.plot([], [], color="grey", linestyle=":", label="published, 2.00 and 0.50 %")
    left.set_xscale("symlog", linthresh=0.01)
    left.set(yticks=list(rows), yticklabels=list(found), xlabel="people who break it, %")
    left.invert_yaxis()
    left.legend(loc="lower right", fontsize=8)
    scores = [one["C2ST, all columns"][0] for one in found.values()]
    right.plot(scores, list(rows), "ko")
    right.set(xlabel="tree C2ST on all columns against unseen people", xlim=(0.45, 1.0))
    right.axvline(0.5, color="grey", linestyle=":")
    figure.savefig(record.folder(NAME) / "ablation.png", dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
