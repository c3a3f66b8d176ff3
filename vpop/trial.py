r"""People as a trial describes its own: published means, SDs, ranges, medians and percentages -> cohorts.

A pool of people within the trial's ranges is drawn from the model and weighted by entropy balancing; each
repeat is drawn from the pool by these weights, nobody twice (:mod:`vpop.balance`): it scatters as a repeated
trial would.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pbpk.checks import choose
from pbpk.files import read_text
from pbpk.physiology import RACES, Cohort
from vpop.balance import balance, systematic
from vpop.coordinates import Impossible
from vpop.demographics import OLDEST
from vpop.pcdm import PCDM, Progress
from vpop.request import body_table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("age", "height", "BW", "BMI", "HCT", "SCR", "GFR", "eGFR", "FAT")
STATISTICS = ("mean", "sd", "median", "min", "max")
_SHARES: Mapping[str, tuple[str, ...]] = {"sex": ("M", "F"), "race": RACES}
_KEYS = ("name", "n", "repeats", "where", *_SHARES, *COLUMNS)
POOL = 20_000
_FEWEST = 10  # times n: the least effective number of people in the pool
_RIDGES = (0.0, 1e-4, 1e-3, 1e-2)  # [ours] of the balance: how much slack figures are given, as need be
_OFTEN, _HEAVY = 0.02, 20.0  # [ours] one person may come in so many cohorts, or weigh so many times the mean
_EXAMPLE = "write [BW] with mean = 74.2 and sd = 11, say"


@dataclass(frozen=True)
class Trial:
    """What a trial says of its people.

    Attributes:
        name: The trial's name.
        n: How many people took part.
        repeats: How many cohorts of n are wanted.
        where: A further request in the language of :mod:`vpop.where`.
        shares: By column (sex, race) the shares of its values, between 0 and 1.
        figures: By column its published statistics, in the column's unit.
    """

    name: str
    n: int
    repeats: int = 1
    where: str | None = None
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Trial:
        """Reads a TOML file: n, and tables [sex], [race], [age], [BW], ... with the published figures.

        Raises:
            ValueError: If a key is unknown or a figure cannot be.
            OSError: If there is no such file.
        """
        path = Path(path)
        text = read_text(path, "--match").removeprefix("\ufeff")
        try:
            said = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path.name} must be TOML, but cannot be read ({error}).") from None
        return cls.of(said, path.stem)

    @classmethod
    def of(cls, said: Mapping[str, Any], name: str = "trial") -> Trial:
        """Returns the trial that a mapping with the keys of the TOML file describes; see :meth:`load`."""
        for key in said:
            choose("a trial's key", key, _KEYS)
        n, repeats = (_count(key, said.get(key, default)) for key, default in (("n", None), ("repeats", 1)))
        shares = {column: _shares(column, said[column]) for column in _SHARES if column in said}
        figures = {column: _figures(column, said[column]) for column in COLUMNS if column in said}
        where = said.get("where")
        if where is not None and not isinstance(where, str):
            raise ValueError(f"a trial's where must be text, but is {where!r}.")
        name = said.get("name", name)
        if not isinstance(name, str):
            raise ValueError(f"a trial's name must be text, but is {name!r}. Put it in quotes.")
        return cls(name, n, repeats, where, shares, figures)

    def request(self) -> str | None:
        """Returns the ranges and the further request as one request, None where there is none."""
        parts = []
        for column, figures in self.figures.items():
            parts += [f"{column} >= {figures['min']:.15g}"] if "min" in figures else []
            parts += [f"{column} <= {figures['max']:.15g}"] if "max" in figures else []
        nobody = [f"{c} != {v!r}" for c, shares in self.shares.items() for v, x in shares.items() if x == 0]
        parts += [f"({self.where})"] if self.where else []
        return " and ".join([*parts, *nobody]) or None

    def targets(self) -> list[tuple[str, str, float]]:
        """Returns what is balanced: (column, statistic or value, published figure)."""
        found = [
            (c, s, figures[s]) for c, figures in self.figures.items() for s in STATISTICS[:3] if s in figures
        ]
        return found + [
            (column, value, share)
            for column, shares in self.shares.items()
            for value, share in _balanced(column, shares).items()
        ]


@dataclass(frozen=True)
class Match:
    """Cohorts that match a trial.

    Attributes:
        cohort: The people of all repeats, named ``repeat_person``.
        trial: What was asked for.
        effective: The effective number of people in the pool, 1 / sum of squared weights.
        table: A row a figure: published, in the weighted pool, the mean over the repeats, their SD.
    """

    cohort: Cohort
    trial: Trial
    effective: float
    table: pd.DataFrame

    def text(self) -> str:
        """Returns the figures asked for beside those reached, "" where none is asked for."""
        return self.table.to_string(index=False, float_format="%.4g", na_rep="") if len(self.table) else ""


def match(
    model: PCDM, trial: Trial, seed: int = 0, pool: int | None = None, progress: Progress | None = None
) -> Match:
    """Draws cohorts that have a trial's published figures.

    Arguments:
        model: The model.
        trial: The trial.
        seed: The same seed, the same people.
        pool: How many people are drawn to choose from, :data:`POOL` by default.
        progress: Called with the number of people drawn and wanted.

    Raises:
        Impossible: If the people within the ranges cannot have the figures, naming the figure.
    """
    pool = max(POOL if pool is None else pool, 4 * _FEWEST * trial.n)
    sex = next(
        (s for s, other in (("M", "F"), ("F", "M")) if trial.shares.get("sex", {}).get(other) == 0), None
    )
    people = model.sample(pool, seed, sex=sex, where=trial.request(), progress=progress)
    columns = body_table(people.physiology)
    targets = trial.targets()
    weights = _weights(columns, trial)
    effective = _effective(weights, trial.n)
    generator = np.random.default_rng(seed)
    chosen = np.stack([systematic(weights, trial.n, generator) for _ in range(trial.repeats)])
    said = {"name": trial.name, "n": trial.n, "repeats": trial.repeats, **trial.figures, **trial.shares}
    origin = dict(people.provenance) | {
        "generator": "vpop PCDM, matched to a trial",
        "n": trial.n * trial.repeats,
        "trial": said,
        "effective_pool": round(effective),
    }
    bodies = people.physiology[torch.from_numpy(chosen.ravel())]
    cohort = Cohort(bodies, np.array(_names(trial), dtype=object), origin)
    return Match(cohort, trial, effective, _table(columns, targets, weights, chosen))


def _weights(columns: Mapping[str, np.ndarray], trial: Trial) -> np.ndarray:
    """Returns the weights of a pool, as exact as lets no one come too often.

    Figures that are rounded can contradict each other a little: mean weight, height and BMI leave an SD that
    one giant alone makes up, who then stands in every fourth cohort. A little slack does without her.

    Raises:
        Impossible: If no weights come near the figures.
    """
    for ridge in _RIDGES:
        try:
            weights = balance(columns, trial.targets(), ridge)
        except Impossible:
            if ridge == _RIDGES[-1]:
                raise
            continue
        if weights.max() <= max(_OFTEN / trial.n, _HEAVY / len(weights)):
            break
    return weights


def _effective(weights: np.ndarray, n: int) -> float:
    """Returns the effective number of people in a pool.

    Raises:
        Impossible: If they are too few for cohorts of n.
    """
    effective = 1.0 / float((weights**2).sum())
    most = n * float(weights.max())
    if effective < _FEWEST * n or most > 1.0:
        raise Impossible(
            f"a trial's figures must be met by enough people, but of {len(weights):,} drawn within its "
            f"ranges only {effective:.0f} count for {n} a cohort, and one comes {most:.2g} times in each. "
            "Look for the figure that is unlike the rest."
        )
    return effective


def _names(trial: Trial) -> list[str]:
    """Returns the names of the people of all repeats."""
    people = [f"{person}" for person in range(1, trial.n + 1)]
    if trial.repeats == 1:
        return people
    return [f"{repeat}_{person}" for repeat in range(1, trial.repeats + 1) for person in people]


def _table(
    columns: Mapping[str, np.ndarray],
    targets: list[tuple[str, str, float]],
    weights: np.ndarray,
    chosen: np.ndarray,
) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for column, statistic, target in targets:
        values = columns[column]
        pool = _statistic(values, statistic, weights)
        repeats = np.array([_statistic(values[who], statistic, None) for who in chosen])
        rows.append(
            {
                "figure": f"{column} {statistic}",
                "published": target,
                "weighted pool": pool,
                "mean of repeats": repeats.mean(),
                "SD of repeats": repeats.std(ddof=1) if len(repeats) > 1 else np.nan,
            }
        )
    return pd.DataFrame(
        rows, columns=["figure", "published", "weighted pool", "mean of repeats", "SD of repeats"]
    )


def _statistic(values: np.ndarray, statistic: str, weights: np.ndarray | None) -> float:
    """Returns a statistic; of a cohort (no weights) the SD with n - 1, as trials print it."""
    if values.dtype.kind not in "fiu":
        return float(np.average(values == statistic, weights=weights))
    if statistic == "median":
        if weights is None:
            return float(np.median(values))
        order = np.argsort(values)
        return float(values[order][np.searchsorted(np.cumsum(weights[order]), 0.5 - 1e-9)])
    mean = float(np.average(values, weights=weights))
    if statistic == "mean":
        return mean
    if weights is None:
        return float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(np.average((values - mean) ** 2, weights=weights) ** 0.5)


def _count(key: str, value: Any) -> int:
    if value is None:
        raise ValueError(
            f"a trial must say {key}, the number of its people, but does not; write {key} = 24, say."
        )
    if type(value) is not int or not 1 <= value <= 1_000_000:
        raise ValueError(f"a trial's {key} must be a whole number from 1 to 1000000, but is {value!r}.")
    return value


def _shares(column: str, said: Any) -> dict[str, float]:
    if not isinstance(said, dict) or not said:
        raise ValueError(
            f"a trial's {column} must give shares, but is {said!r}; write [{column}] with M = 0.6, say."
        )
    for value, share in said.items():
        choose(f"a value of {column}", value, _SHARES[column])
        _number(f"{column} {value}", share)
        if not 0 <= share <= 1:
            raise ValueError(
                f"a share of {column} must lie in [0, 1], but {value} has {share:g}. Divide per cent by 100."
            )
    total = sum(said.values())
    complete = len(said) == len(_SHARES[column])
    if total > 1 + 1e-2 or (complete and abs(total - 1.0) > 1e-2):
        raise ValueError(f"the shares of {column} must sum to 1, but sum to {total:.4g}.")
    if column == "sex" and len(said) == 1:
        (value, share), other = next(iter(said.items())), {"M": "F", "F": "M"}
        return {value: share, other[value]: 1.0 - share}
    return {value: share / total if complete else share for value, share in said.items()}


def _balanced(column: str, shares: Mapping[str, float]) -> dict[str, float]:
    """Returns the shares that are free: one less than the values where all are given, none that are 0."""
    some = {value: share for value, share in shares.items() if share > 0}
    if len(shares) == len(_SHARES[column]) or sum(some.values()) > 1 - 1e-9:
        some.pop(next(reversed(some)))
    return some


def _figures(column: str, said: Any) -> dict[str, float]:
    if not isinstance(said, dict) or not said:
        raise ValueError(f"a trial's {column} must give figures, but is {said!r}; {_EXAMPLE}.")
    for statistic, value in said.items():
        choose(f"a figure of {column}", statistic, STATISTICS)
        _number(f"{column} {statistic}", value)
        if value < 0 or (statistic == "sd" and value == 0):
            raise ValueError(f"{column} {statistic} must be positive, but is {value:g}.")
    figures = {statistic: float(value) for statistic, value in said.items()}
    low, high = figures.get("min", 0.0), figures.get("max", np.inf)
    if column == "age" and "max" in figures and high > OLDEST:
        raise ValueError(f"age max must be at most {OLDEST:g} years, but is {high:g}.")
    for statistic in ("mean", "median"):
        if statistic in figures and not low <= figures[statistic] <= high:
            raise ValueError(
                f"{column} {statistic} must lie within min and max, but is {figures[statistic]:g} "
                f"with {low:g} to {high:g}."
            )
    if "sd" in figures and "mean" not in figures:
        raise ValueError(f"{column} sd must come with a mean, but stands alone; {_EXAMPLE}.")
    if low > high:
        raise ValueError(f"{column} min must not exceed max, but {low:g} > {high:g}.")
    return figures


def _number(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"{what} must be a number, but is {value!r}.")
