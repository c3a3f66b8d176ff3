r"""How much fat and bone mineral does a person of this sex, age, height, weight and race carry?

Fits four tables of `vpop/data` that the organ layer reads, `body_fat.csv`, `bone_mineral.csv`,
`body_composition_terms.csv` and `composition_spread.csv`, to whole-body DXA of 8,400 people of 8 to 59 years
(NHANES 2011-2016, the people whom :mod:`vpop.split` gives to training; the others judge, see
`experiments/pcdm_quality.py`):

- the logit of the body fat fraction, less that of Al-Sallami (2015) with Janmahasatian (2005), bilinear in
  age and ln BMI, with second differences held small, and an offset for each race;
- the log of bone mineral: powers of weight and height, a bend in ln BMI, linear in age between knots, an
  offset for each race;
- how far people lie from these: the SD of the one by BMI and age, of the other by age, the correlation of the
  two residuals by age, and the shape of each as a map from normal scores (both are skewed).

Under 8 years there is no DXA: the rows marked so are literature values, copied through (see `YOUNG`).

Command: VPOP_DATA=... python -m experiments.body_composition
Measured: residual SD of logit fat .205 M, .165 F; of ln bone mineral .111 M, .105 F.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from experiments import record
from pbpk.files import write_whole
from vpop.split import part_of

FIT = "[ours] fit to whole-body DXA, NHANES 2011-2016 (CDC/NCHS), 8-59 y: experiments/body_composition.py"
AGES = (8.0, 11.0, 14.0, 17.0, 20.0, 30.0, 45.0, 60.0)
BMIS = (14.0, 17.0, 20.0, 24.0, 30.0, 38.0, 50.0, 65.0)
BONE_AGES = (8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 25.0, 40.0, 50.0, 60.0)
RACES = ("Black", "Hispanic", "Other")  # beside White
US_SHARES = {"Black": 0.112, "Hispanic": 0.182, "Other": 0.100}  # survey-weighted, NHANES 2013-2018
SMOOTHNESS = 10.0
TYPICAL_BMI = 25.0
SPREAD_AGES = (8.0, 11.0, 14.0, 17.0, 22.0, 35.0, 60.0)
SPREAD_BMIS = (16.0, 20.0, 24.0, 28.0, 34.0, 45.0)
SHAPE_SCORES = (-4.0, -3.0, -2.0, -1.4, -0.8, -0.3, 0.0, 0.3, 0.8, 1.4, 2.0, 3.0, 4.0)
OUTER = 2.0  # beyond this score a shape goes on straight: fewer than 100 people lie there

# Under 8 years: logit offsets from Al-Sallami's fat fraction, the same at each BMI.
YOUNG = (
    (0.0, -0.20, "11.2 % fat (SD 4.3) at birth: Hawkes 2011, doi:10.1542/peds.2010-3856"),
    (0.1, 0.20, "[ours] between 19 % at 6 weeks (doubles: Carberry 2010, doi:10.1203/PDR.0b013e3181df5421)"
     " and 22 % by DXA at 1 month (Sotunde 2020, J Clin Densitom 23:264)"),
    (0.35, 0.28, "[ours] peak of body fat at 4-6 months, 25-27 % (de Bruin 1996, doi:10.1136/adc.74.5.386)"),
    (1.0, 0.15, "24 % fat by Hologic DXA at 1 year: Sotunde 2020, J Clin Densitom 23:264"),
)  # fmt: skip
YOUNG_BONE = (
    (0.0, 76.0, 4.0, 53.0, "76.0 g (SD 14.2) under 1 month: Gallo 2012, doi:10.1155/2012/672403"),
    (1.0, 227.0, 9.8, 75.5, "227.0 g (SD 29.7) at 1 year: Gallo 2012, doi:10.1155/2012/672403"),
)
OLD_BONE = (80.0, -0.004, "[ours] extrapolated beyond the scans, -0.4 %/y")


@dataclass(frozen=True)
class Config:
    """The command-line flags."""

    output: str = "vpop/data"


def people(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "body" / "human_nhanes_dxa.csv")
    table = table.dropna(subset=["height_cm", "weight_kg", "dxa_bmc_kg"])
    agrees = (table.dxa_total_kg / table.weight_kg - 1.005).abs() < 0.04  # the scanner against the scale
    table = table[agrees & (part_of(table.seqn) == "train")]
    table = table.assign(age=lambda t: t.age_y + 0.5, fraction=lambda t: t.dxa_fat_kg / t.weight_kg)
    return table.assign(BMI=lambda t: t.weight_kg / (t.height_cm / 100) ** 2)


def expected_fraction(sex: str, age: np.ndarray, BMI: np.ndarray) -> np.ndarray:
    """Returns the fat fraction of Al-Sallami (2015) with Janmahasatian (2005)."""
    if sex == "M":
        lean = (0.88 + 0.12 / (1 + (age / 13.4) ** -12.7)) * 9270 / (6680 + 216 * BMI)
    else:
        lean = (1.11 - 0.11 / (1 + (age / 7.1) ** -1.1)) * 9270 / (8780 + 244 * BMI)
    return 1 - lean


def logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def hats(x: np.ndarray, knots: tuple[float, ...]) -> np.ndarray:
    """Returns the weights of linear interpolation between ``knots``, shape (n, k)."""
    at = np.asarray(knots)
    x = np.clip(x, at[0], at[-1])
    left = np.clip(np.searchsorted(at, x) - 1, 0, len(at) - 2)
    share = (x - at[left]) / (at[left + 1] - at[left])
    weights = np.zeros((len(x), len(at)))
    weights[np.arange(len(x)), left] = 1 - share
    weights[np.arange(len(x)), left + 1] = share
    return weights


def roughness(n_age: int, x: np.ndarray) -> np.ndarray:
    """Returns the rows whose product with the grid is its bend along age and along ``x``."""
    rows = []
    gap = np.diff(x)
    for i in range(n_age):
        for j in range(1, len(x) - 1):
            row = np.zeros((n_age, len(x)))
            row[i, j - 1 : j + 2] = 1 / gap[j - 1], -1 / gap[j - 1] - 1 / gap[j], 1 / gap[j]
            rows.append(0.25 * row.ravel())
    for j in range(len(x)):
        for i in range(1, n_age - 1):
            row = np.zeros((n_age, len(x)))
            row[i - 1 : i + 2, j] = 0.5, -1.0, 0.5
            rows.append(2.0 * row.ravel())
    return np.array(rows)


def races(table: pd.DataFrame) -> np.ndarray:
    return np.stack([(table.race == race).to_numpy(float) for race in RACES], 1)


def centred(offsets: np.ndarray) -> dict[str, float]:
    """Returns the offset of each race from the average person of the United States."""
    mean = sum(US_SHARES[race] * offset for race, offset in zip(RACES, offsets, strict=True))
    return {"White": -mean, **{race: o - mean for race, o in zip(RACES, offsets, strict=True)}}


def fit_fat(table: pd.DataFrame, sex: str) -> tuple[np.ndarray, dict[str, float], np.ndarray]:
    table = table[table.sex == sex]
    y = logit(table.fraction) - logit(expected_fraction(sex, table.age.to_numpy(), table.BMI.to_numpy()))
    x = np.log(BMIS)
    grid = (
        hats(table.age.to_numpy(), AGES)[:, :, None] * hats(np.log(table.BMI.to_numpy()), tuple(x))[:, None]
    )
    X = np.hstack([grid.reshape(len(table), -1), races(table)])
    D = np.pad(roughness(len(AGES), x), ((0, 0), (0, len(RACES))))
    c = np.linalg.solve(X.T @ X + SMOOTHNESS * D.T @ D, X.T @ y)
    offsets = centred(c[-3:])
    return c[:-3].reshape(len(AGES), -1) - offsets["White"], offsets, y - X @ c


def size(weight: Any, height: Any) -> list[Any]:
    """Returns the logarithms that bone mineral depends on: weight, height, and the bend in BMI."""
    BMI = weight / (height / 100) ** 2
    return [np.log(weight / 70), np.log(height / 170), np.log(BMI / TYPICAL_BMI) ** 2]


def fit_bone(table: pd.DataFrame, sex: str) -> tuple[np.ndarray, np.ndarray, dict[str, float], np.ndarray]:
    table = table[table.sex == sex]
    sizes = np.stack(size(table.weight_kg, table.height_cm), 1)
    X = np.hstack([hats(table.age.to_numpy(), BONE_AGES), sizes, races(table)])
    y = np.log(table.dxa_bmc_kg.to_numpy())
    c = np.linalg.lstsq(X, y, rcond=None)[0]
    offsets = centred(c[-3:])
    return c[: len(BONE_AGES)] - offsets["White"], c[-6:-3], offsets, y - X @ c


def spread_of(residual: np.ndarray, at: np.ndarray, knots: tuple[float, ...]) -> np.ndarray:
    """Returns the SD of a residual at each knot, by least squares on its magnitude."""
    return np.linalg.lstsq(hats(at, knots), np.abs(residual) * np.sqrt(np.pi / 2), rcond=None)[0]


def fit_spread(table: pd.DataFrame, sex: str, fat: np.ndarray, bone: np.ndarray) -> list[tuple]:
    """Returns the curves of the spread about the two regressions, as rows of `composition_spread.csv`."""
    table = table[table.sex == sex]
    age, BMI = table.age.to_numpy(), table.BMI.to_numpy()
    by_age = np.ones(len(SPREAD_AGES))
    for _ in range(5):  # SD = f(BMI) g(age): each in turn, given the other
        by_BMI = spread_of(fat / (hats(age, SPREAD_AGES) @ by_age), BMI, SPREAD_BMIS)
        by_age = spread_of(fat / (hats(BMI, SPREAD_BMIS) @ by_BMI), age, SPREAD_AGES)
    bone_by_age = spread_of(bone, age, SPREAD_AGES)
    z = fat / (hats(age, SPREAD_AGES) @ by_age) / (hats(BMI, SPREAD_BMIS) @ by_BMI)
    y = bone / (hats(age, SPREAD_AGES) @ bone_by_age)
    together = np.linalg.lstsq(hats(age, SPREAD_AGES), z * y / (z.std() * y.std()), rcond=None)[0]
    curves = [
        ("fat_spread", SPREAD_BMIS, by_BMI, "logit by BMI"),
        ("fat_spread_by_age", SPREAD_AGES, by_age, "1 by age"),
        ("bone_mineral_spread", SPREAD_AGES, bone_by_age, "ln by age"),
        ("fat_with_bone", SPREAD_AGES, together, "correlation by age"),
        ("fat_shape", SHAPE_SCORES, shape(z), "1 by score"),
        ("bone_mineral_shape", SHAPE_SCORES, shape(y), "1 by score"),
    ]
    rows = [
        (name, sex, at, round(float(value), 3), unit, FIT)
        for name, knots, values, unit in curves
        for at, value in zip(knots, values, strict=True)
    ]
    return rows


def shape(z: np.ndarray) -> np.ndarray:
    """Returns the quantiles of z at normal scores, of mean 0 and SD 1, straight beyond the outer ones."""
    scores = np.array(SHAPE_SCORES)
    inner = np.abs(scores) <= OUTER
    quantiles = np.quantile((z - z.mean()) / z.std(), norm.cdf(scores[inner]))
    slopes = np.diff(quantiles[[0, 1, -2, -1]])[[0, 2]] / np.diff(scores[inner][[0, 1, -2, -1]])[[0, 2]]
    below = quantiles[0] + slopes[0] * (scores[scores < -OUTER] + OUTER)
    above = quantiles[-1] + slopes[1] * (scores[scores > OUTER] - OUTER)
    return np.concatenate([below, quantiles, above])


def write(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with write_whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def run(config: Config) -> dict[str, float]:
    table = people(record.data_folder())
    fat: list[tuple] = []
    bone: list[tuple] = []
    terms: list[tuple] = []
    spread: list[tuple] = []
    measured: dict[str, float] = {}
    for sex in ("M", "F"):
        grid, offsets, residual = fit_fat(table, sex)
        measured[f"logit fat SD {sex}"] = float(residual.std())
        fat += [(sex, age, BMI, value, source) for age, value, source in YOUNG for BMI in BMIS]
        fat += [
            (sex, age, BMI, round(float(grid[i, j]), 3), FIT)
            for i, age in enumerate(AGES)
            for j, BMI in enumerate(BMIS)
        ]
        terms += [("fat", sex, race, round(float(value), 3), FIT) for race, value in offsets.items()]
        at_age, exponents, offsets, bone_residual = fit_bone(table, sex)
        spread += fit_spread(table, sex, residual, bone_residual)
        measured[f"ln BMC SD {sex}"] = float(bone_residual.std())
        measured[f"correlation fat, BMC {sex}"] = float(np.corrcoef(residual, bone_residual)[0, 1])
        named = dict(zip(("weight", "height", "bend"), exponents, strict=True)) | offsets
        terms += [("bone", sex, n, round(float(v), 3), FIT) for n, v in named.items()]
        for age, gram, kg, cm, source in YOUNG_BONE:
            value = np.log(gram / 1000) - exponents @ size(kg, cm)
            bone.append((sex, age, round(float(value), 3), source))
        bone += [(sex, age, round(float(v), 3), FIT) for age, v in zip(BONE_AGES, at_age, strict=True)]
        old, slope, source = OLD_BONE
        bone.append((sex, old, round(float(at_age[-1]) + slope * (old - BONE_AGES[-1]), 3), source))
    folder = Path(config.output)
    write(folder / "body_fat.csv", ("sex", "age", "BMI", "logit_offset", "source"), fat)
    write(folder / "bone_mineral.csv", ("sex", "age", "log_kg", "source"), bone)
    header = ("curve", "sex", "at", "value", "unit", "source")
    write(folder / "composition_spread.csv", header, spread)
    write(folder / "body_composition_terms.csv", ("quantity", "sex", "term", "value", "source"), terms)
    return measured


if __name__ == "__main__":
    record.main("body_composition", Config, run, __doc__)
