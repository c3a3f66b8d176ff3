"""Is a model fitted to a few people of one's own like others of that population?

Question: from 200 people (or more) of a population that the shipped weights do not know, with gaps, how near
do drawn people come to unseen ones, and what is worth doing: learning from nothing, learning on from the
shipped weights, or learning on with strangers (:mod:`vpop.own_people`) beside the few?
Source: people of NHANES 2013-2018 (VPOP_DATA). Tables are drawn from the part that trains; `--part test`
judges by people whom neither the table nor the shipped weights know, `--part train` by other training people,
which is how the way was chosen.
Command: VPOP_DATA=... python -m experiments.own_tables --population hispanic --n 200 --part test
Populations: ``hispanic`` adults, no race column; ``obese`` adults with BMI of 35 and more, no race column;
``everyone``. A fifth of the weights and of the creatinines is blank, the weight more often in the old.
Measured for each way: tree C2ST on sex, age, height, weight, haematocrit, creatinine (0.5 is perfect); KS,
mean over the last four; Spearman error; the mean weight of women and men against that of the unseen. The
floor is the table itself, before the gaps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments import record
from pbpk.physiology import Cohort
from pbpk.table import Table
from vpop.columns import covariates
from vpop.demographics import Demographics
from vpop.distance import kolmogorov_smirnov, spearman_error
from vpop.own_people import OWN, bodies_of
from vpop.pcdm import PCDM, Training
from vpop.reference import load_nhanes
from vpop.split import part_of
from vpop.training_table import TrainingTable
from vpop.two_sample import c2st

NAME = "own_tables"
COLUMNS = ["sex", "age", "height", "BW", "HCT", "SCR"]
MEASURED = ["height", "BW", "HCT", "SCR"]
WAYS = ("shipped", "from nothing", "start", "strangers", "start and strangers")
UPDATES = OWN.updates


@dataclass(frozen=True)
class Config:
    """The flags."""

    population: str = "hispanic"
    n: int = 200
    part: str = "test"
    ways: str = ",".join(WAYS)
    updates: int = UPDATES
    drawn: int = 3000
    seed: int = 1


def survey(population: str) -> pd.DataFrame:
    """Returns the people of a population."""
    table = load_nhanes(record.data_folder() / "nhanes" / "nhanes_2013_2018.csv")
    adult = (table.age >= 18) & (table.age < 79)
    chosen = {
        "everyone": table.age >= 0,
        "hispanic": adult & table.race.isin(["Mexican American", "Other Hispanic"]),
        "obese": adult & (table.BW / (table.height / 100) ** 2 >= 35),
    }
    return table[chosen[population]]


def with_gaps(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    gap = random.random(len(table)) < 0.4 * (table.age / table.age.max())
    return table.assign(
        BW=table.BW.mask(gap), SCR=table.SCR.mask(random.random(len(table)) < 0.2), id=table.index.astype(str)
    )


def run(config: Config) -> dict[str, Any]:
    shipped = PCDM.load()
    everyone = survey(config.population)
    part = part_of(everyone.index)
    known = everyone[part == "train"].sample(config.n, random_state=config.seed)
    if config.population != "everyone":
        known = known.drop(columns="race")
    unseen = everyone[(part == config.part) & ~everyone.index.isin(known.index)].dropna()
    frame = with_gaps(known.drop(columns="weight"), config.seed)
    text = frame.astype(object).where(frame.notna(), "")
    table = TrainingTable.of(Table("table.csv", text), shipped.coordinates.charts)
    cohort, weights = bodies_of(table, shipped, config.seed)
    found: dict[str, Any] = {"unseen": len(unseen), "removed": dict(table.removed)}
    found["floor"] = score(known.dropna(), unseen, config.seed)
    for way in config.ways.split(","):
        model = fitted(way, shipped, cohort, weights, config)
        body = model.sample(config.drawn, config.seed, age=(float(known.age.min()), float(known.age.max())))
        found[way] = score(covariates(body.physiology), unseen, config.seed)
        print(way, found[way], flush=True)
    return found


def fitted(way: str, shipped: PCDM, cohort: Cohort, weights: torch.Tensor, config: Config) -> PCDM:
    own = torch.tensor(["stranger" not in name for name in cohort.id])
    body = cohort.physiology
    assert body.race is not None
    if way == "shipped":
        model = copy.copy(shipped)
        model.demographics = Demographics.fit(body.sex[own], body.race[own], body.age[own], weights[own])
        return model
    which = torch.ones_like(own) if "strangers" in way else own
    some = Cohort(body[which], cohort.id[which.numpy()], cohort.provenance)
    start = shipped if "start" in way else None
    training = Training(**{**vars(OWN), "updates": config.updates, "rate": OWN.rate if start else 2e-3})
    return PCDM(training=training, seed=config.seed).fit(some, weights[which], start=start)


def score(drawn: pd.DataFrame, unseen: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Returns how far drawn people are from unseen ones; tables of the columns of :data:`COLUMNS`."""
    real, ours = (as_numbers(table) for table in (unseen, drawn))
    auc = c2st(real.to_numpy(float), ours.to_numpy(float), np.ones(len(real)), seed)
    w, v = np.ones(len(real)), np.ones(len(ours))
    distances = [
        kolmogorov_smirnov(real[name].to_numpy(float), ours[name].to_numpy(float), w, v) for name in MEASURED
    ]
    return {
        "C2ST": [round(value, 3) for value in auc],
        "KS": round(float(np.mean(distances)), 4),
        "Spearman error": round(float(spearman_error(real, ours, w, v)), 4),
        "mean BW of women": [round(float(t.BW[t.sex == 0].mean()), 1) for t in (ours, real)],
        "mean BW of men": [round(float(t.BW[t.sex == 1].mean()), 1) for t in (ours, real)],
    }


def as_numbers(table: pd.DataFrame) -> pd.DataFrame:
    sex = table.sex if table.sex.dtype.kind == "f" else (table.sex == "M").astype(float)
    return table.assign(sex=sex)[COLUMNS].astype(float).round(4)  # the same number is the same


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
