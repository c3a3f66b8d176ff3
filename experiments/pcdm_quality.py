"""Are the drawn people like people whom the model has never seen?

Question: how far are drawn people from real ones, on what was measured of real people and on what an organ
layer built; and how do simpler models do on the same data? The published ways to constrain a diffusion are
compared by :mod:`experiments.constraint_ablation`.
Source: NHANES 2013-2018 and whole-body DXA 2011-2016 (VPOP_DATA). The model has learnt from the people whom
:mod:`vpop.split` gives to training; `--part test` judges by the others.
Command: VPOP_DATA=... python -m experiments.pcdm_quality [--questions people,composition,...]
Measured, by question:
- ``people``: what `vpop evaluate` reports, each figure beside its floor (training people against unseen);
- ``student``: violations, KS and tree C2ST of the one-step student's people, and their residuals as below;
- ``composition``: tree C2ST of age, sex, height, weight, fat, bone mineral against unseen people's DXA
  scans, weighted by the survey, with the scans of training people as the floor; log-SD and correlations of
  what regressions on weight, height, age, sex and race leave of fat, lean and bone mineral, in both;
- ``baselines``: figures of resampling, log-normal and Gaussian copulas;
- ``membership``: the AUC with which nearness to drawn people tells training people from unseen ones, and, for
  scale, validation people from them, whom it does not know either (`--n 10000`);
- ``privacy``: the shadow-model attack on small models, and on a copy of the data, which must be caught.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments import record
from pbpk.laws import violations
from pbpk.physiology import RACES, Cohort
from vpop.baselines import baselines
from vpop.columns import Sample
from vpop.evaluate import TABLES, compare_columns, evaluate
from vpop.membership import by_distance, shadow_attack
from vpop.pcdm import PCDM
from vpop.reference import load_reference
from vpop.split import part_of
from vpop.training import Training
from vpop.two_sample import c2st

NAME = "pcdm_quality"
QUESTIONS = ("people", "student", "composition", "baselines", "membership", "privacy")
SCANNED = (8.0, 60.0)  # years
RACE_OF_SCANS = {"Mexican American": "Hispanic", "Other Hispanic": "Hispanic", "Other": "Other"}
RACE_OF_SCANS |= {"Non-Hispanic White": "White", "Non-Hispanic Black": "Black"}


@dataclass(frozen=True)
class Config:
    """The flags."""

    questions: str = ",".join(QUESTIONS)
    part: str = "test"
    model: str = ""
    n: int = 5000
    shadows: int = 4
    seed: int = 1


def run(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for question in config.questions.split(","):
        answer = {
            "people": people,
            "student": student,
            "composition": composition,
            "baselines": simpler,
            "membership": membership,
            "privacy": privacy,
        }[question](config)
        found[question] = answer | {"asked with": dataclasses.asdict(config)}
        print(question, found[question], flush=True)
    return earlier() | found


def earlier() -> dict[str, Any]:
    """Returns what earlier calls found: the questions can be asked one at a time."""
    file = record.folder(NAME) / "result.json"
    return json.loads(file.read_text(encoding="utf-8"))["result"] if file.is_file() else {}


def survey(part: str, seed: int, copies: int = 1) -> tuple[Cohort, torch.Tensor]:
    table = record.data_folder() / "nhanes" / "nhanes_2013_2018.csv"
    return load_reference(table, seed=seed, copies=copies, part=part)


def people(config: Config) -> dict[str, Any]:
    model = PCDM.load(config.model or None)
    drawn = model.sample(config.n, seed=config.seed)
    real, floor = (Sample.of(*survey(part, config.seed + 7)) for part in (config.part, "train"))
    found = evaluate(drawn, real, floor, model, config.n, config.seed)
    found.write(record.folder(NAME))
    outside = found.conditional[(found.conditional.coverage < 0.88) | (found.conditional.coverage > 0.92)]
    return {
        "figures": rounded(found.figures),
        "intervals outside 88-92 %": dict(zip(outside.column, outside.coverage.round(3), strict=True)),
    }


def student(config: Config) -> dict[str, Any]:
    model = PCDM.load(config.model or None)
    real = Sample.of(*survey(config.part, config.seed + 7)).some(config.n, config.seed)
    drawn = model.sample(config.n, config.seed, steps=1)
    adults = as_scanned(model.sample(2 * config.n, config.seed, age=(18.0, 59.9), steps=1))
    return judged(drawn, real, config) | {"residuals of adults": residuals(adults)}


def rounded(figures: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        for row in figures.astype(object).where(figures.notna(), None).to_dict("records")
    ]


def scans(parts: tuple[str, ...]) -> pd.DataFrame:
    """Returns the scanned people of the cycles that have survey weights, in the columns of a cohort file."""
    table = pd.read_csv(record.data_folder() / "body" / "human_nhanes_dxa.csv")
    table = table.dropna(subset=["height_cm", "weight_kg", "dxa_bmc_kg", "wtmec6yr"])
    table = table[np.isin(part_of(table.seqn), parts)]
    columns = {"age_y": "age", "height_cm": "height", "weight_kg": "BW", "dxa_fat_kg": "FAT"}
    columns |= {"dxa_lean_kg": "LEAN", "dxa_bmc_kg": "BMC", "wtmec6yr": "weight"}
    columns |= {"race": "race", "seqn": "seqn"}
    return table.rename(columns=columns)[list(columns.values())].assign(sex=(table.sex == "M").astype(float))


def as_scanned(cohort: Cohort) -> pd.DataFrame:
    """Returns drawn people as the survey would write them down."""
    body = cohort.physiology
    assert body.FAT is not None and body.BMC is not None and body.race is not None
    return pd.DataFrame(
        {
            "age": np.floor(body.age.numpy()),
            "sex": body.sex.numpy(),
            "height": body.height.numpy().round(1),
            "BW": body.BW.numpy().round(1),
            "FAT": body.FAT.numpy(),
            "BMC": body.BMC.numpy(),
            "race": [RACE_OF_SCANS[RACES[int(race)]] for race in body.race],
            "weight": 1.0,
        }
    )


def composition(config: Config) -> dict[str, Any]:
    model = PCDM.load(config.model or None)
    ages = (SCANNED[0], float(np.nextafter(SCANNED[1], 0)))
    drawn = as_scanned(model.sample(2 * config.n, seed=config.seed, age=ages))
    real, other = scans((config.part,)), scans(("train",))
    columns = ["age", "sex", "height", "BW", "FAT", "BMC"]

    def score(sample: pd.DataFrame, names: list[str]) -> list[float]:
        found = c2st(
            real[names].to_numpy(float),
            sample[names].to_numpy(float),
            real.weight.to_numpy(),
            config.seed,
            drawn_weights=sample.weight.to_numpy(),
        )
        return [round(value, 3) for value in found]

    return {
        "scans": len(real),
        "C2ST": score(drawn, columns),
        "C2ST, floor: training scans": score(other, columns),
        "C2ST, age, sex, height, weight alone": score(drawn, columns[:4]),
        "residuals of adults": {
            "drawn": residuals(drawn),
            "unseen scans": residuals(real) | noise(real, config.seed),
            "training scans": residuals(other) | noise(other, config.seed),
            "training scans, lean as the scanner weighs it": residuals(other, other.LEAN),
        },
    }


def residuals(table: pd.DataFrame, lean: pd.Series | None = None) -> dict[str, float]:
    """Returns log-SD and correlations of what ln weight, ln height, age, sex and race leave, 18 to 59 y.

    Lean is what fat and bone mineral leave of the weight, unless it is given.
    """
    lean = table.BW - table.FAT - table.BMC if lean is None else lean
    table = table.assign(LEAN=lean)[table.age >= 18]
    X = [np.ones(len(table)), np.log(table.BW), np.log(table.height), table.age, table.sex]
    X += [table.race == race for race in ("Black", "Hispanic", "Other")]
    Y = {"fat": table.FAT, "lean": table.LEAN, "bone": table.BMC}
    design = np.stack([np.asarray(column, dtype=float) for column in X], 1)
    values = np.log(np.stack(list(Y.values()), 1))
    root = np.sqrt(table.weight.to_numpy())[:, None]
    left = values - design @ np.linalg.lstsq(root * design, root * values, rcond=None)[0]
    covariance = np.cov(left.T, aweights=table.weight)
    SD = np.sqrt(np.diag(covariance))
    R = covariance / np.outer(SD, SD)
    found = {name: round(float(sd), 4) for name, sd in zip(Y, SD, strict=True)}
    return found | {"fat-lean": round(float(R[0, 1]), 3), "lean-bone": round(float(R[1, 2]), 3)}


def noise(table: pd.DataFrame, seed: int, resamples: int = 200) -> dict[str, float]:
    """Returns the bootstrap standard errors of two of the :func:`residuals` of scanned people."""
    random = np.random.default_rng(seed)
    again = [residuals(table.iloc[random.integers(0, len(table), len(table))]) for _ in range(resamples)]
    return {
        f"error of {name}": round(float(np.std([r[name] for r in again])), 4)
        for name in ("lean", "lean-bone")
    }


def judged(
    drawn: Cohort, real: Sample, config: Config, tables: tuple[str, ...] = tuple(TABLES)
) -> dict[str, Any]:
    """Returns violations and fidelity of drawn people, few enough figures to compare many models."""
    report = violations(drawn, tolerance=1e-2)
    overall = report.overall()
    body = drawn.physiology
    sums = torch.maximum((body.M.sum(-1) / body.BW - 1).abs(), (body.Q.sum(-1) / body.CO - 1).abs())
    ours = Sample.of(drawn)
    found: dict[str, Any] = {
        "any law": [round(overall[name], 5) for name in ("share", "lower95", "upper95")],
        "E1 or E2 by more than 1 %, 0.1 %, 1e-6": [
            round(float((sums > t).double().mean()), 5) for t in (1e-2, 1e-3, 1e-6)
        ],
        "applicable checks of C01-C34": round(checks(report), 5),
        "KS": round(float(compare_columns({"real": real, "drawn": ours, "floor": ours}).KS.mean()), 4),
    }
    some = ours.some(config.n, config.seed)
    for name in tables:
        columns = TABLES[name]
        auc = c2st(
            columns(real.bodies).to_numpy(float),
            columns(some.bodies).to_numpy(float),
            real.weights,
            config.seed,
            real.persons,
            drawn_groups=some.persons,
        )
        found[f"C2ST, {name}"] = [round(value, 3) for value in auc]
    return found


def checks(report: Any) -> float:
    """Returns the share of applicable checks of the counted laws with bands that are violated."""
    banded = torch.tensor([law.id.startswith("C") for law in report.laws]) & report.counted
    return float((report.violated() & banded).sum() / (report.applicable & banded).sum())


def simpler(config: Config) -> dict[str, Any]:
    cohort, weights = survey("train", config.seed)
    real = Sample.of(*survey(config.part, config.seed + 7)).some(config.n, config.seed)
    drawn = {model.name: model.fit(cohort, weights).sample(config.n, config.seed) for model in baselines()}
    return {name: judged(people, real, config) for name, people in drawn.items()}


def membership(config: Config) -> dict[str, Any]:
    drawn = Sample.of(PCDM.load(config.model or None).sample(config.n, config.seed))
    unseen = Sample.of(*survey(config.part, config.seed + 7))
    found: dict[str, Any] = {}
    for part in ("train", "validation"):
        people = Sample.of(*survey(part, config.seed + 7)).some(config.n, config.seed)
        told = by_distance(drawn, people, unseen, config.seed)
        found[f"AUC, {part} against {config.part}"] = [round(value, 3) for value in told]
    return found


def privacy(config: Config) -> dict[str, Any]:
    cohort, weights = survey("train", config.seed)
    some = Sample.of(cohort, weights).some(2000, config.seed)

    def trained(part: Sample, seed: int) -> Sample:
        training = Training(updates=1000, batch=256, calibration=5_000)
        weights = torch.from_numpy(part.weights)
        ids = np.arange(len(part)).astype(str)
        model = PCDM(width=128, training=training, seed=seed).fit(Cohort(part.bodies, ids), weights)
        return Sample.of(model.sample(len(part), seed))

    def copied(part: Sample, seed: int) -> Sample:
        return part

    return {
        "AUC of the shadow-model attack": [round(v, 3) for v in shadow_attack(some, trained, config.shadows)],
        "AUC on a copy of the people": [round(v, 3) for v in shadow_attack(some, copied, config.shadows)],
        "people": len(some),
    }


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
