"""What does each published way to constrain a diffusion buy, and what does it cost?

Question: how often do people drawn by a diffusion of the raw columns break a law, without constraints, with a
soft penalty in the loss, guidance, projection onto the laws at the last step or at every step, and
two ways together; and how like people are they then? The constraint coordinates stand beside them.
Source: NHANES 2013-2018 (VPOP_DATA), the people whom :mod:`vpop.split` gives to training; the others judge.
Command: VPOP_DATA=... OMP_NUM_THREADS=1 python -m experiments.constraint_ablation
Measured, of ``n`` people from each model, with Wilson's 95 % intervals: who breaks any law (sums off by more
than 1 % count); who breaks a band C05-C34, sums not counted; the share of applicable checks that fail; sums
off by more than 1 %, 0.1 % and 1e-6. Beside these, KS and the tree C2ST on all columns against unseen people.
All models have the same network, data, noise and number of updates; guidance and projection act on the
trained networks. Settings (lambda 1, guidance 1) were fixed before the run and none was tried twice.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from experiments import record
from experiments.pcdm_quality import survey
from pbpk.laws import violations, wilson
from pbpk.physiology import Cohort
from vpop.columns import Sample, everything
from vpop.constrain import RawDiffusion
from vpop.evaluate import compare_columns
from vpop.pcdm import PCDM
from vpop.project import project
from vpop.training import Training
from vpop.two_sample import c2st

NAME = "constraint_ablation"
SUMS = ("C01", "C02", "C04")  # laws that a body can break by its sums alone
PUBLISHED = (0.0200, 0.0050)  # without and with the soft penalty: https://arxiv.org/abs/2602.18472


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 100_000
    scored: int = 3000
    part: str = "test"
    updates: int = 1000
    batch: int = 512
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
    cohort, weights = survey("train", config.seed, copies=2)
    training = Training(updates=config.updates, batch=config.batch, calibration=20_000)

    def fitted(**how: Any) -> RawDiffusion:
        return RawDiffusion(**how, training=training, seed=config.seed).fit(cohort, weights)

    for model, name in ((fitted(), "unconstrained"), (fitted(penalty=1.0), "soft penalty")):
        free, seconds = timed(lambda model=model: model.sample(config.n, config.seed))
        yield name, free, seconds
        moved, more = timed(lambda free=free: project(free).cohort)
        together = "" if name == "unconstrained" else f"{name}, "
        yield f"{together}projection at the last step", moved, seconds + more
        if name == "unconstrained":
            plain = model
    ours = PCDM(width=RawDiffusion.width, training=training, seed=config.seed).fit(cohort, weights)
    yield "constraint coordinates", *timed(lambda: ours.sample(config.n, config.seed))
    for name, how in (("guidance", {"guidance": 1.0}), ("projection at every step", {"projection": "every"})):
        model = copy.copy(plain)
        vars(model).update(how)
        yield name, *timed(lambda model=model: model.sample(config.n, config.seed))


def timed(draw: Callable[[], Cohort]) -> tuple[Cohort, float]:
    start = time.process_time()
    cohort = draw()
    return cohort, time.process_time() - start


def judged(cohort: Cohort, real: Sample, config: Config) -> dict[str, Any]:
    """Returns shares with Wilson's intervals, and how like unseen people a part of the people are."""
    report = violations(cohort, tolerance=1e-2)
    band = torch.tensor([law.id.startswith("C") and law.id not in SUMS for law in report.laws])
    broken = report.violated() & report.counted & band
    body = cohort.physiology
    sums = torch.maximum((body.M.sum(-1) / body.BW - 1).abs(), (body.Q.sum(-1) / body.CO - 1).abs())
    ours = Sample.of(cohort)
    some = ours.some(config.scored, config.seed)
    tables = (everything(sample.bodies).to_numpy(float) for sample in (real, some))
    auc = c2st(*tables, real.weights, config.seed, real.persons, drawn_groups=some.persons)
    return {
        "any law": share(report.broken()),
        "a band, sums aside": share(broken.any(-1)),
        "applicable checks of bands": float(broken.sum() / (report.applicable & report.counted & band).sum()),
        "sums off by 1 %, 0.1 %, 1e-6": [share(sums > t) for t in (1e-2, 1e-3, 1e-6)],
        "KS": float(compare_columns({"real": real, "drawn": ours, "floor": ours}).KS.mean()),
        "C2ST, all columns": [round(value, 3) for value in auc],
    }


def share(who: torch.Tensor) -> list[float]:
    """Returns a share and its Wilson interval."""
    hits = int(who.sum())
    return [hits / len(who), *wilson(hits, len(who))]


def picture(found: dict[str, Any]) -> None:
    """Draws the shares of law breakers with their intervals beside the published, and the C2ST."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.2), sharey=True, layout="constrained")
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
