"""A table of people to learn from, as people have it: some columns, some cells, some mistakes.

Columns: ``sex`` (M, F) and ``age``, and any of ``id, race, height, BW, BMI, HCT, SCR``, with a unit in
brackets if it is not ours (:mod:`vpop.headings`); ``sampling_weight`` says how many people each stands for.
What would teach nonsense is refused: a column in a wrong unit, of one value or nearly empty, people who come
twice, and fewer than 50 of them. Whoever has no sex or no age, or breaks a law of height, body-mass index or
haematocrit, is left out and counted; who is older than 80 counts as 80, as in the surveys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pbpk.table import Table, read_table
from vpop import limits
from vpop.coordinates import GIVEN, WHO, blank
from vpop.demographics import OLDEST
from vpop.growth import Growth
from vpop.headings import WEIGHT, in_canonical_units
from vpop.likely_units import check_likely
from vpop.patients import Patients, who
from vpop.pcdm import FEWEST

_OLDEST = 120.0  # years, as of vpop.people
_EMPTY = 0.9  # the share of blank cells from which a column is refused
_COPIES = 0.01  # the share of rows that may repeat another
_BY_CHANCE = 30.0  # times what columns that know nothing of each other would repeat: they do know
_GRIDS = (10.0, 5.0, 1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001)
_ON_GRID = 0.98  # the share of values on a grid from which a column counts as rounded to it


@dataclass(frozen=True)
class TrainingTable:
    """People to learn from.

    Attributes:
        patients: What is known of each.
        weights: How many people each stands for, with shape (n).
        steps: What each column is rounded to, by name; a column that is not rounded is not here.
        removed: How many rows were left out, by reason.
        unused: The columns that are not learnt from.
    """

    patients: Patients
    weights: Tensor
    steps: Mapping[str, float]
    removed: Mapping[str, int]
    unused: tuple[str, ...]

    @classmethod
    def load(cls, path: str | Path, charts: Mapping[str, Growth]) -> TrainingTable:
        """Reads a CSV or Parquet table.

        Arguments:
            path: The file.
            charts: The growth charts of people known before, by which wrong units are found.

        Raises:
            ValueError: If something in it would teach nonsense, saying what.
            OSError: If it cannot be read.
        """
        return cls.of(read_table(path), charts)

    @classmethod
    def of(cls, table: Table, charts: Mapping[str, Growth]) -> TrainingTable:
        """Returns the people of a table just read; see :meth:`load`."""
        table.require(["sex", "age"])
        table, stated = in_canonical_units(table, ("age", *GIVEN))
        removed = {}
        table, removed["without sex or age"] = _with_sex_and_age(table)
        numbers = _numbers(table)
        _enough(table)
        sex = torch.tensor([float(letter == "M") for letter in table.text("sex")], dtype=torch.float64)
        known = {name: values for name, values in numbers.items() if name != WEIGHT}
        _refuse_empty(known, table.name)
        _refuse_constant(known, table.name)
        check_likely(known, sex, charts, stated)
        _refuse_too_old(known["age"], table)
        _refuse_copies(table, known)
        weights = torch.from_numpy(numbers.get(WEIGHT, np.ones(len(table))))
        if not float(weights.sum()) > 0:
            raise ValueError(f"{WEIGHT} must be positive for someone, but is 0 for all of {table.name}.")
        steps = {name: step for name, values in known.items() if (step := _grid(values)) is not None}
        unused = sorted(set(table.columns) - {"id", "sex", "race", *numbers})
        frame = table.frame.drop(columns=unused).assign(age=np.minimum(known["age"], OLDEST))
        patients = Patients.of(replace(table, frame=frame))
        inside = lawful(patients)
        removed["outside the laws C08 to C11"] = int((~inside).sum())
        patients = patients[inside]
        if len(patients) < FEWEST:
            raise ValueError(_few(table.name, len(patients), "whose height, BMI and haematocrit are lawful"))
        return cls(patients, weights[inside], steps, removed, tuple(unused))


def is_training_table(path: str | Path) -> bool:
    """Tells whether a file is a table of people without organs; a cohort file has masses and flows."""
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".parquet") or not path.is_file():
        return False
    return not any(column.startswith(("M_", "Q_")) for column in read_table(path).columns)


def _with_sex_and_age(table: Table) -> tuple[Table, int]:
    """Returns the rows that have both, with an id, and how many have not."""
    sex, age = table.text("sex"), table.text("age")
    there = np.array(
        [bool(s.strip()) and a.strip() not in ("", "nan") for s, a in zip(sex, age, strict=True)]
    )
    frame = table.frame[there].reset_index(drop=True)
    if "id" not in table.columns:
        frame = frame.assign(id=(1 + np.flatnonzero(there)).astype(str).astype(object))
    return replace(table, frame=frame), int((~there).sum())


def _numbers(table: Table) -> dict[str, np.ndarray]:
    ids = table.text("id")
    names = [name for name in ("age", *GIVEN, WEIGHT) if name in table.columns]
    return {name: table.numbers(name, ids, blank=name not in ("age", WEIGHT)) for name in names}


def _few(name: str, n: int, who: str) -> str:
    return (
        f"--reference must hold at least {FEWEST} people {who}, but {name} holds {n}. "
        "Draw from a population's means and SDs instead: 'vpop sample --population'."
    )


def _enough(table: Table) -> None:
    if len(table) < FEWEST:
        raise ValueError(_few(table.name, len(table), "with sex and age"))


def _refuse_empty(known: Mapping[str, np.ndarray], name: str) -> None:
    for column, values in known.items():
        share = float(np.isnan(values).mean())
        if share >= _EMPTY:
            raise ValueError(
                f"{column} must be known of more than {1 - _EMPTY:.0%} of the people, but {share:.0%} of its "
                f"cells in {name} are blank. Leave the column out: it is then drawn from what is known."
            )


def _refuse_too_old(age: np.ndarray, table: Table) -> None:
    old = np.flatnonzero(age > _OLDEST)
    if len(old):
        name, years = str(table.text("id")[old[0]]), age[old[0]]
        raise ValueError(
            f"age must be at most {_OLDEST:g} years, but row {name!r} of {table.name} has {years:g}. "
            "Correct the cell or remove the row."
        )


def _refuse_constant(known: Mapping[str, np.ndarray], name: str) -> None:
    for column, values in known.items():
        there = values[~np.isnan(values)]
        if (there == there[0]).all():
            remedy = "Write each person's own" if column == "age" else "Leave the column out"
            raise ValueError(
                f"{column} must differ between people, but is {there[0]:g} for all {len(there)} in {name}. "
                f"{remedy}."
            )


def _refuse_copies(table: Table, known: Mapping[str, np.ndarray]) -> None:
    """Refuses a table in which more people are alike in every number than chance makes of rounded values."""
    columns = [table.text("sex"), *(known[name] for name in known)]
    if len(columns) < 4:
        return
    codes = np.stack([np.unique(column, return_inverse=True)[1] for column in columns], 1)
    _, first, counts = np.unique(codes, axis=0, return_index=True, return_counts=True)
    copies, n = int((counts - 1).sum()), len(codes)
    alike = np.prod([((np.bincount(code) / n) ** 2).sum() for code in codes.T])
    if copies > max(_COPIES * n, _BY_CHANCE * alike * n * n / 2.0):
        row = table.text("id")[first[counts > 1][0]]
        raise ValueError(
            f"--reference must hold each person once, but in {table.name} {copies} of {n} rows repeat "
            f"another in every number, the first that of {row!r}. Remove them."
        )


def _grid(values: np.ndarray) -> float | None:
    """Returns the coarsest grid on which nearly all values lie, None for none."""
    there = values[~np.isnan(values)]
    for step in _GRIDS:
        off = np.abs(there / step - np.round(there / step))
        if (off < 1e-6).mean() > _ON_GRID:
            return step
    return None


def lawful(patients: Patients) -> Tensor:
    """Returns whose height, body-mass index and haematocrit, where known, lie inside the laws.

    A weight without a height must be one that some lawful height and index make.
    """
    body = blank({"sex": patients.sex, "race": patients.race, "age": patients.age})
    bounds = {name: limits.drawn(name, body) for name in WHO}
    lightest, heaviest = (
        BMI * (height / 100.0) ** 2 for height, BMI in zip(bounds["height"], bounds["BMI"], strict=True)
    )
    known = dict(zip(WHO, who(patients).unbind(-1), strict=True)) | {"BW": patients.given["BW"]}
    inside = torch.ones_like(patients.age, dtype=torch.bool)
    for name, (lower, upper) in (bounds | {"BW": (lightest, heaviest)}).items():
        inside &= known[name].isnan() | ((known[name] > lower) & (known[name] < upper))
    return inside
