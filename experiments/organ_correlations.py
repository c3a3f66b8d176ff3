"""Do large organs go together in animals of one size, and does one factor say how much?

Question: in rats, rabbits and outbred mice of one study and sex, given body weight, how do the residuals of
brain, heart, kidney, liver and spleen correlate; which loadings of one factor fit the pooled correlations;
and how far are they from those of the organ layer's prior (:mod:`vpop.organs.spread`)?
Source: VPOP_DATA/body: rats and rabbits of toxicity studies (SEND), and outbred mice, of whom no brains and
livers, Svenson et al. (2012) Genetics 190:437, https://doi.org/10.1534/genetics.111.132597.
Command: VPOP_DATA=... python -m experiments.organ_correlations
Measured: each pooled correlation with the standard error of its Fisher z, the loadings, what they leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from experiments import record
from vpop.organs.curves import rows

NAME = "organ_correlations"
ORGANS = ("brain", "heart", "kidney", "liver", "spleen")
# The other studies have faults, and one the weight of another day as the terminal one: see the data's notes.
STUDIES = ("rat_PDS", "rat_instem", "rabbit_CBER2", "rabbit_CBER4")
_FURTHEST = 4.0  # SD: organs further off are slips of the pen


@dataclass(frozen=True)
class Config:
    """No flags."""


def run(config: Config) -> dict[str, Any]:
    """Pools the correlations and fits one factor to them."""
    groups = list(animals())
    pooled = {pair: pool(groups, pair) for pair in combinations(ORGANS, 2)}
    found, left = one_factor(pooled)
    prior = {row["quantity"]: float(row["loading"]) for row in rows("organ_spread.csv")}
    return {
        "animals": sum(len(group) for group in groups),
        "correlations": {"-".join(pair): [round(v, 2) for v in value] for pair, value in pooled.items()},
        "loadings": found,
        "what one factor leaves, rms": left,
        "loadings of the organ layer": {organ: prior[organ] for organ in ORGANS},
        "what these leave, rms": misfit([prior[organ] for organ in ORGANS], pooled),
    }


def animals() -> Iterator[pd.DataFrame]:
    """Yields the residual logarithms of organs given body weight, of one study, sex and diet at a time."""
    folder = record.data_folder() / "body"
    send = pd.read_csv(folder / "send_organ_weights.csv")
    weight = send.termbw.where(send.study != "rat_instem").fillna(send.lastbw)
    send = send.rename(columns={f"{organ}_g": organ for organ in ORGANS}).assign(weight=weight)
    for _, group in send[send.study.isin(STUDIES)].groupby(["study", "sex"]):
        yield residuals(group)
    mice = pd.read_csv(folder / "mouse_DO_svenson.csv")
    kidney = mice.kidney_wt_l + mice.kidney_wt_r
    mice = mice.assign(heart=mice.heart_wt, kidney=kidney, spleen=mice.spleen_wt, weight=mice.necr_wt)
    for _, group in mice.groupby(["sex", "diet"]):
        yield residuals(group)


def residuals(group: pd.DataFrame) -> pd.DataFrame:
    found = {}
    x = np.log(group.weight)
    for organ in ORGANS:
        if organ not in group:
            continue
        y = np.log(group[organ].where(group[organ] > 0))
        known = np.isfinite(x) & np.isfinite(y)
        slope, intercept = np.polyfit(x[known], y[known], 1)
        away = y - intercept - slope * x
        found[organ] = away.where(away.abs() < _FURTHEST * away.std())
    return pd.DataFrame(found)


def pool(groups: list[pd.DataFrame], pair: tuple[str, str]) -> tuple[float, float]:
    """Returns the correlation of two organs over all groups that have both, and the SE of its Fisher z."""
    both = [group[list(pair)].dropna() for group in groups if set(pair) <= set(group)]
    weight = np.array([len(group) - 4.0 for group in both])  # less the line's two
    z = np.array([np.arctanh(group.corr().to_numpy()[0, 1]) for group in both])
    return float(np.tanh((weight * z).sum() / weight.sum())), float(weight.sum() ** -0.5)


def one_factor(pooled: dict[tuple[str, str], tuple[float, float]]) -> tuple[dict[str, float], float]:
    """Returns the loadings whose products are nearest to the correlations in their errors, and the misfit."""

    def error(loading: np.ndarray) -> list[float]:
        at = dict(zip(ORGANS, loading, strict=True))
        return [(at[a] * at[b] - r) / se for (a, b), (r, se) in pooled.items()]

    loading = least_squares(error, np.full(len(ORGANS), 0.5), bounds=(0.0, 0.99)).x
    return dict(zip(ORGANS, loading.round(2).tolist(), strict=True)), misfit(loading, pooled)


def misfit(loading: Any, pooled: dict[tuple[str, str], tuple[float, float]]) -> float:
    at = dict(zip(ORGANS, loading, strict=True))
    return round(float(np.sqrt(np.mean([(at[a] * at[b] - r) ** 2 for (a, b), (r, _) in pooled.items()]))), 3)


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
