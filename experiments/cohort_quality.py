"""Do the people obey physiology, and are they still the people of the survey?

Question: how many of 20,000 people aged 0 to 80 break a law, and do height, weight and BMI keep the
percentiles and spread of NHANES 2013-2018 in each sex and age band?
Source: NHANES 2013-2018 with its survey weights (VPOP_DATA/nhanes); peers' rates in the laws' notes.
Command: VPOP_DATA=... python -m experiments.cohort_quality
Measured: share of people with any violation of C01-C34 (C03 needs a foreign table), the largest relative
error of E1-E3, and for each sex and band the relative difference of the 5th, 50th and 95th weighted
percentile of height and weight and of the SD of BMI, beside the same difference between two random
halves of the survey (the floor that no model can beat). The bands hold ``per_band`` people each, so that
the model's own sampling noise stays below the survey's; ``survey_error`` is the survey's own standard error,
by bootstrap of its people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from experiments import record
from pbpk.laws import violations
from vpop.marginals import weighted_quantiles
from vpop.pcdm import PCDM
from vpop.reference import load_nhanes

BANDS = ((0.0, 2.0), (2.0, 6.0), (6.0, 12.0), (12.0, 18.0), (18.0, 40.0), (40.0, 60.0), (60.0, 80.0))
LEVELS = (0.05, 0.50, 0.95)


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 20_000
    per_band: int = 10_000
    seed: int = 1
    model: str = ""
    bootstrap: int = 200


def run(config: Config) -> dict:
    """Measures both and draws one figure."""
    model = PCDM.load(config.model or None)
    cohort = model.sample(config.n, seed=config.seed)
    report = violations(cohort)
    body = cohort.physiology
    exact = {
        "E1": float(((body.M.sum(-1) - body.BW) / body.BW).abs().max()),
        "E2": float(((body.Q.sum(-1) - body.CO) / body.CO).abs().max()),
        "E3": float((body.BMI * (body.height / 100) ** 2 / body.BW - 1).abs().max()),
    }
    table = compare(model, config)
    table.to_csv(record.folder("cohort_quality") / "percentiles.csv", index=False)
    worst = {
        quantity: {
            "largest difference": float(rows.difference.abs().max()),
            "where": rows.loc[rows.difference.abs().idxmax(), ["sex", "band", "figure"]].tolist(),
            "largest between halves of the survey": float(rows.floor.abs().max()),
            "within 2 %": f"{int((rows.difference.abs() <= 0.02).sum())} of {len(rows)}",
            "within 5 %": f"{int((rows.difference.abs() <= 0.05).sum())} of {len(rows)}",
            "within two standard errors of the survey": (
                f"{int((rows.difference.abs() <= 2 * rows.survey_error).sum())} of {len(rows)}"
            ),
        }
        for quantity, rows in table.groupby("quantity")
    }
    _figure(table)
    young = cohort[(body.age < 2.0).numpy()]
    rates = {"all": report.rate, "under 2 y": violations(young).rate, "people under 2 y": len(young)}
    return {"any violation": rates, "exact laws, largest relative error": exact, "percentiles": worst}


def compare(model: PCDM, config: Config) -> pd.DataFrame:
    """Compares percentiles and spread by sex and band; one row a figure."""
    people = load_nhanes(record.data_folder() / "nhanes" / "nhanes_2013_2018.csv")
    half = np.random.default_rng(config.seed).random(len(people)) < 0.5
    rows = []
    for sex in "FM":
        for low, high in BANDS:
            last = high == BANDS[-1][1]
            ages = (low, high if last else float(np.nextafter(high, 0)))
            drawn = model.sample(config.per_band, seed=config.seed, sex=sex, age=ages)
            inside = (people.sex == sex) & (people.age >= low) & ((people.age < high) | last)
            ours = _figures(_sizes(drawn.physiology), np.ones(config.per_band))
            real = _figures(people[inside], people.weight[inside])
            first, second = (
                _figures(people[inside & side], people.weight[inside & side]) for side in (half, ~half)
            )
            error = _standard_error(people[inside], config)
            for key, value in real.items():
                rows.append(
                    {
                        "sex": sex,
                        "band": f"{low:g}-{high:g}",
                        "quantity": key[0],
                        "figure": key[1],
                        "NHANES": value,
                        "PCDM": ours[key],
                        "difference": ours[key] / value - 1,
                        "floor": first[key] / second[key] - 1,
                        "survey_error": error[key] / value,
                    }
                )
    return pd.DataFrame(rows)


def _sizes(body) -> pd.DataFrame:
    return pd.DataFrame({"height": body.height.numpy(), "BW": body.BW.numpy()})


def _figures(people: pd.DataFrame, weights) -> dict[tuple[str, str], float]:
    weights = torch.as_tensor(np.asarray(weights, dtype=float))
    found = {}
    for quantity in ("height", "BW"):
        values = torch.tensor(people[quantity].to_numpy(dtype=float))
        quantiles = weighted_quantiles(values, weights, torch.tensor(LEVELS).double())
        found |= {(quantity, f"P{level:.0%}"): float(q) for level, q in zip(LEVELS, quantiles, strict=True)}
    bmi = torch.as_tensor((people.BW / (people.height / 100) ** 2).to_numpy(dtype=float))
    mean = (weights * bmi).sum() / weights.sum()
    found["BMI", "SD"] = float(((weights * (bmi - mean) ** 2).sum() / weights.sum()).sqrt())
    return found


def _standard_error(people: pd.DataFrame, config: Config) -> dict[tuple[str, str], float]:
    """Returns the bootstrap standard error of each of the survey's own figures."""
    rng = np.random.default_rng(config.seed)
    draws = []
    for _ in range(config.bootstrap):
        again = people.iloc[rng.integers(0, len(people), len(people))]
        draws.append(_figures(again, again.weight))
    return {key: float(np.std([draw[key] for draw in draws], ddof=1)) for key in draws[0]}


def _figure(table: pd.DataFrame) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True)
    for axis, (quantity, rows) in zip(axes, table.groupby("quantity"), strict=True):
        names = rows.sex + " " + rows.band
        axis.plot(names, 100 * rows.difference, "o", label="PCDM against NHANES")
        axis.plot(names, 100 * rows.floor, "k_", alpha=0.5, label="half against half of NHANES")
        axis.axhspan(-2, 2, color="0.9")
        axis.set_title(quantity)
        axis.tick_params(axis="x", rotation=90)
    axes[0].set_ylabel("difference [%]")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(record.folder("cohort_quality") / "percentiles.png", dpi=120)


if __name__ == "__main__":
    record.main("cohort_quality", Config, run, __doc__)
