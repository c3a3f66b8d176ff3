"""What do the organs of drawn people look like, from newborn to old age?

Question: does each organ of the people that the shipped weights draw run as the organ layer means it to, on
the reference people of ICRP 89 where they are right, with no step and no runaway at the ends?
Source: the shipped weights; the reference people of pbpk/data/reference_bodies.csv.
Command: python -m experiments.organ_figures
Written: docs/organs_age.png and docs/organs_weight.png, as `vpop evaluate` has them in its page.
Measured: the median of each organ, and of the cardiac output, at each reference age over the reference's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments import record
from pbpk.bodies import reference_body
from pbpk.files import write_whole
from pbpk.organs import ORGANS
from pbpk.physiology import Physiology
from vpop.organ_picture import REFERENCE_AGES, against
from vpop.pcdm import PCDM

NAME = "organ_figures"
DOCS = Path(__file__).parent.parent / "docs"
FILES = {"age": "organs_age.png", "BW": "organs_weight.png"}


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 6000
    children: int = 1000  # more of those under two years
    seed: int = 1


def run(config: Config) -> dict[str, Any]:
    model = PCDM.load()
    everyone = model.sample(config.n, config.seed).physiology
    young = model.sample(config.children, config.seed, age=(0, 2)).physiology
    tensors = {n: torch.cat([getattr(young, n), getattr(everyone, n)]) for n in everyone.tensors()}
    bodies = Physiology("human", **tensors)
    shuffled = bodies[torch.randperm(len(bodies.BW), generator=torch.Generator().manual_seed(config.seed))]
    for axis, name in FILES.items():
        with write_whole(DOCS / name) as partial:
            against(shuffled, axis).savefig(partial, format="png", dpi=70, metadata={"Software": None})
    return {"drawn / ICRP 89 at its height": at_reference(model, config.seed)}


def at_reference(model: PCDM, seed: int) -> dict[str, list[float]]:
    """Returns by sex and age the median organs and output of people of the reference's size, over its own."""
    organs = [organ for organ in ORGANS if organ != "rest"]
    found: dict[str, list[float]] = {name: [] for name in (*organs, "CO")}
    for sex in ("M", "F"):
        for age in REFERENCE_AGES:
            body = reference_body("human", sex, age)
            given = {"age": float(age), "height": float(body.height), "BW": float(body.BW)}
            drawn = model.sample(200, seed, sex=sex, given=given).physiology
            for organ in organs:
                found[organ].append(round(float(drawn.mass(organ).median() / body.mass(organ)), 2))
            found["CO"].append(round(float(drawn.CO.median() / body.CO), 2))
    return found


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
