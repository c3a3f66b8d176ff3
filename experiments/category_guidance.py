"""Does classifier-free guidance by sex and race draw people who are more like people?

Question: guidance of weight w makes w times as much of sex and race as the network has learnt; 1 draws the
population. Images gain by more; do people?
Source: the shipped weights, NHANES 2013-2018 (VPOP_DATA).
Command: VPOP_DATA=... python -m experiments.category_guidance
Measured, by weight: the people who break a law; KS and tree C2ST against unseen people; by how much muscle is
larger, at a height and weight, in Black than in other adults, beside the training people's, who have it from
the organ layer. No weight is chosen by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from experiments import pcdm_quality, record
from pbpk.physiology import RACES, Physiology
from vpop.columns import Sample
from vpop.pcdm import PCDM

NAME = "category_guidance"
BLACK = RACES.index("Non-Hispanic Black")


@dataclass(frozen=True)
class Config:
    """The flags."""

    weights: str = "0,0.5,1,1.5,2,3"
    part: str = "test"
    n: int = 5000
    adults: int = 20_000
    seed: int = 1


def run(config: Config) -> dict[str, Any]:
    model = PCDM.load()
    quality = pcdm_quality.Config(part=config.part, n=config.n, seed=config.seed)
    real = Sample.of(*pcdm_quality.survey(config.part, config.seed + 7)).some(config.n, config.seed)
    cohort, weights = pcdm_quality.survey("train", config.seed)
    muscle = "muscle of Black adults"
    found: dict[str, Any] = {"training people": {muscle: contrast(cohort.physiology, weights)}}
    for weight in map(float, config.weights.split(",")):
        drawn = model.sample(config.n, config.seed, guidance=weight)
        adults = model.sample(config.adults, config.seed + 1, age=(18.0, 80.0), guidance=weight).physiology
        found[f"{weight:g}"] = pcdm_quality.judged(drawn, real, quality) | {
            muscle: contrast(adults, torch.ones_like(adults.BW))
        }
        print(weight, found[f"{weight:g}"], flush=True)
    return found


def contrast(bodies: Physiology, weights: torch.Tensor) -> float:
    """Returns by what share muscle is larger in Black than in other adults of a sex, age, height, weight."""
    assert bodies.race is not None
    adult = bodies.age >= 18.0
    body, w = bodies[adult], weights[adult].sqrt().numpy()[:, None]
    black = (bodies.race[adult] == BLACK).double()
    ones = torch.ones_like(body.BW)
    X = torch.stack([ones, black, body.sex, body.age, body.BW.log(), body.height.log()], -1)
    y = body.mass("muscle").log()[:, None]
    return round(float(np.expm1(np.linalg.lstsq(w * X.numpy(), w * y.numpy(), rcond=None)[0][1, 0])), 4)


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
