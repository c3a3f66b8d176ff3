"""Concentration-time data in NONMEM's columns: one row a dose or an observation.

``ID, TIME [h], DV [mg/L], AMT [mg]`` must be there. There may be ``CMT``, ``RATE`` [mg/h, 0 at once],
``EVID`` (0 observation, 1 dose, 2 other), ``MDV``, ``II`` [h] and ``ADDL`` (further doses), ``BLQ`` (1: below
the limit, and DV is the limit) and ``LLOQ`` [mg/L]. ``CMT`` is a compartment's name; without it, doses and
observations are in the problem's own. Any other column is a covariate, of which a person's first row counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pbpk.inverse.problem import Given, Seen
from pbpk.table import Table, read_table

REQUIRED: tuple[str, ...] = ("ID", "TIME", "DV", "AMT")
OPTIONAL: tuple[str, ...] = ("RATE", "EVID", "MDV", "II", "ADDL", "SS", "BLQ", "LLOQ")
_SAME = 1e-9  # h
MOST = 1e6  # mg/L; no more of anything is in a litre


@dataclass(frozen=True)
class Person:
    """What one person was given, and what was seen.

    Attributes:
        id: The person's name.
        given: The doses.
        seen: The observations.
        covariates: The first entry of each further column.
        messages: What was left out, in words.
    """

    id: str
    given: tuple[Given, ...]
    seen: Seen
    covariates: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[str, ...] = ()


def read_nonmem(
    path: str | Path,
    cmt: Mapping[str, str] | None = None,
    factor: float = 1.0,
    dosed: bool = True,
    default: tuple[str, str] = ("plasma", "plasma"),
) -> list[Person]:
    """Reads a data set.

    Arguments:
        path: A CSV or Parquet file.
        cmt: The name of each compartment that the file calls otherwise, a number say.
        factor: By which DV and LLOQ are multiplied to be in mg/L.
        dosed: Whether each person must have a dose.
        default: Where doses and observations are if there is no column CMT.

    Returns:
        The persons, in the order of the file.

    Raises:
        ValueError: If a column or a value is missing or wrong; the message names it.
    """
    table = read_table(path)
    table.require(REQUIRED)
    ids = table.text("ID")
    if any(not name for name in ids):
        raise ValueError(
            f"ID must not be empty, but row {int(np.argmax(ids == '')) + 1} of {table.name} has none."
        )
    columns = _columns(table, ids)
    where = np.where(columns["EVID"] == 1, *default).astype(object)
    if "CMT" in table.columns:
        where = np.array([_compartment(name, cmt or {}) for name in table.text("CMT")], dtype=object)
    others = [name for name in table.columns if name not in (*REQUIRED, *OPTIONAL, "CMT")]
    _check_one_kind(table, columns)
    covariates = {name: table.text(name) for name in others}
    people = []
    for name in dict.fromkeys(ids):
        rows = np.flatnonzero(ids == name)
        first = {other: column[rows[0]] for other, column in covariates.items()}
        part = {key: column[rows] for key, column in columns.items()}
        people.append(_person(str(name), part, where[rows], first, factor, table.name, dosed))
    return people


def _compartment(cell: str, cmt: Mapping[str, str]) -> str:
    """Returns a compartment's name; a number may be written as 2 or 2.0."""
    name = cell.strip().removesuffix(".0")
    return cmt.get(name, name)


def _check_one_kind(table: Table, columns: Mapping[str, np.ndarray]) -> None:
    """Checks that all observations are concentrations of one kind, where DVID says what they are."""
    if "DVID" not in table.columns:
        return
    kinds = sorted(set(table.text("DVID")[(columns["EVID"] == 0) & (columns["MDV"] == 0)]))
    if len(kinds) > 1:
        raise ValueError(
            f"DVID must name one kind of observation, but {table.name} has {', '.join(kinds[:4])}. Keep the "
            "rows of one kind; tell compartments apart by CMT."
        )


def _columns(table: Table, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the columns of numbers; what is missing is 0, but for DV, where it is NaN."""
    n = len(ids)
    columns = {"TIME": table.numbers("TIME", ids)}
    for name in ("DV", "AMT", *OPTIONAL):
        there = name in table.columns
        columns[name] = _numbers(table, name, ids) if there else np.zeros(n)
        if name != "DV":
            columns[name] = np.nan_to_num(columns[name])
    if "EVID" not in table.columns:
        columns["EVID"] = (columns["AMT"] > 0).astype(float)
    if columns["SS"].any():
        raise ValueError(
            f"SS must be 0, but {table.name} begins at steady state. Write the doses out, by ADDL and II."
        )
    wrong = ~np.isin(columns["EVID"], (0.0, 1.0, 2.0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"EVID must be 0 (observation), 1 (dose) or 2 (other), but row {ids[at]!r} of {table.name} has "
            f"{columns['EVID'][at]:g}. Split the person at a reset."
        )
    return columns


def _numbers(table: Table, name: str, ids: np.ndarray) -> np.ndarray:
    """Returns a column in which '.' means no value, as NONMEM has it."""
    if table.frame[name].dtype.kind in "fiu":
        return table.numbers(name, ids, blank=True)
    frame = table.frame.assign(**{name: [("" if cell == "." else cell) for cell in table.text(name)]})
    return Table(table.name, frame).numbers(name, ids, blank=True)


def _person(
    name: str,
    rows: Mapping[str, np.ndarray],
    where: np.ndarray,
    covariates: Mapping[str, str],
    factor: float,
    file: str,
    dosed: bool,
) -> Person:
    given = _given(name, rows, where, file, dosed)
    said = []
    is_seen = (rows["EVID"] == 0) & (rows["MDV"] == 0)
    unknown = is_seen & np.isnan(rows["DV"]) & ~((rows["BLQ"] > 0) & (rows["LLOQ"] > 0))
    if unknown.any():
        said.append("Observations without DV are left out.")
        is_seen &= ~unknown
    begin = given[0].time if given else 0.0
    before = is_seen & (rows["TIME"] < begin - _SAME)
    if before.any():
        raise ValueError(
            f"TIME of an observation must not lie before the first dose ({begin:g} h), but person {name!r} "
            f"of {file} has one at {rows['TIME'][np.argmax(before)]:g} h. Remove the row or add the dose."
        )
    doses_so_far = np.cumsum(rows["EVID"] == 1)
    after = np.array(
        [bool(is_seen[k] and _dosed_at(rows, k, doses_so_far)) for k in range(len(where))], dtype=bool
    )
    empty = is_seen & (np.abs(rows["TIME"] - begin) <= _SAME)
    empty &= ~np.array([a and _at_once(given, begin, place) for a, place in zip(after, where, strict=True)])
    use = np.flatnonzero(is_seen & ~empty)
    if not len(use):
        raise ValueError(
            f"a person must have an observation after the first dose, but {name!r} of {file} has none."
        )
    value = np.nan_to_num(rows["DV"][use]) * factor  # of one below its limit nothing else is known
    if value.max() > MOST:
        raise ValueError(
            f"DV must be at most {MOST:g} mg/L, a kilogram in a litre, but person {name!r} of {file} has "
            f"{value.max():g}. Check --unit."
        )
    limit = np.where(
        rows["BLQ"][use] > 0, np.where(rows["LLOQ"][use] > 0, rows["LLOQ"][use] * factor, value), 0.0
    )
    _check_limit(name, rows, use, limit, file)
    if empty.any():
        said.append("What was sampled at the time of the first dose is left out: nothing is there yet.")
    seen = Seen(
        torch.tensor(rows["TIME"][use]),
        tuple(str(place) for place in where[use]),
        torch.tensor(value),
        torch.tensor(limit),
        torch.tensor(after[use]),
    )
    return Person(name, given, seen, covariates, tuple(said))


def _given(
    name: str, rows: Mapping[str, np.ndarray], where: np.ndarray, file: str, dosed: bool
) -> tuple[Given, ...]:
    doses = []
    for k in np.flatnonzero(rows["EVID"] == 1):
        amount, rate = float(rows["AMT"][k]), float(rows["RATE"][k])
        if not amount > 0:
            raise ValueError(f"AMT of a dose must be above 0, but person {name!r} of {file} has {amount:g}.")
        more, every = int(rows["ADDL"][k]), float(rows["II"][k])
        if more and not every:
            raise ValueError(f"ADDL must come with II, but person {name!r} of {file} has an II of 0.")
        for repeat in range(more + 1):
            begin = float(rows["TIME"][k]) + repeat * every
            doses.append(Given(begin, amount, amount / rate if rate else 0.0, str(where[k])))
    if dosed and not doses:
        raise ValueError(
            f"each person must have a dose, but {name!r} of {file} has none. Add a row with AMT."
        )
    return tuple(sorted(doses, key=lambda dose: dose.time))


def _dosed_at(rows: Mapping[str, np.ndarray], k: int, doses_so_far: np.ndarray) -> bool:
    """Tells whether a dose at the very time of observation k stands above it in the file."""
    same = (np.abs(rows["TIME"] - rows["TIME"][k]) <= _SAME) & (rows["EVID"] == 1)
    return bool(same[:k].any()) and doses_so_far[k] > 0


def _at_once(given: tuple[Given, ...], begin: float, place: str) -> bool:
    return any(d.duration == 0 and abs(d.time - begin) <= _SAME and d.compartment == place for d in given)


def _check_limit(
    name: str, rows: Mapping[str, np.ndarray], use: np.ndarray, limit: np.ndarray, file: str
) -> None:
    marked = rows["BLQ"][use] > 0
    if (marked & ~(limit > 0)).any():
        raise ValueError(
            f"an observation below the limit must give the limit, in LLOQ or in DV, but person {name!r} of "
            f"{file} has 0. Add the column LLOQ."
        )
    if marked.all():
        raise ValueError(
            f"each person must have an observation above the limit, but all {len(use)} of {name!r} in {file} "
            "are below it. Remove the person."
        )
