"""Concentrations in animals over time, and the table that they are read from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from allometry.drugs import ANIMALS
from pbpk.checks import choose
from pbpk.regimen import Regimen
from pbpk.table import Table, read_table
from pbpk.units import factor

UNITS: Mapping[str, str] = {"time": "h", "concentration": "mg/L", "fu": "1", "BW": "kg"}
"""The columns of numbers, and their units where a heading names none."""
_OPTIONAL = ("fu", "BW")
_MOST = 1e6  # mg/L; no more of anything is in a litre
_BRACKETS = re.compile(r"(?P<name>\w+)\s*[\[(]\s*(?P<unit>[^\])]*?)\s*[\])]")


@dataclass(frozen=True)
class Profile:
    """Concentrations in one species after one regimen.

    Attributes:
        species: One of :data:`allometry.drugs.ANIMALS`.
        regimen: What was given, as :meth:`pbpk.regimen.Regimen.parse` reads it.
        time: The times [h], ascending, with shape :math:`(T)`.
        concentration: The total concentrations in plasma [mg/L], with shape :math:`(T)`.
        fup: The unbound fraction in this species' plasma [1].
        BW: The body weight [kg]; None is that of the reference body.
    """

    species: str
    regimen: str
    time: Tensor
    concentration: Tensor
    fup: float
    BW: float | None = None

    def __post_init__(self) -> None:
        """Checks what a fit needs."""
        choose("Profile.species", self.species, ANIMALS)
        if self.time.shape != self.concentration.shape or self.time.ndim != 1:
            raise ValueError(
                f"Profile.concentration must have the shape of time, {tuple(self.time.shape)}, but has "
                f"{tuple(self.concentration.shape)}."
            )
        wrong = ~(torch.isfinite(self.concentration) & (self.concentration > 0.0))
        if bool(wrong.any()):
            raise ValueError(
                f"Profile.concentration must be positive, but holds {float(self.concentration[wrong][0]):g}. "
                "Leave out what is below the limit of quantification."
            )
        if float(self.concentration.max()) > _MOST:
            raise ValueError(
                f"Profile.concentration must be at most {_MOST:g} mg/L, a kilogram in a litre, but holds "
                f"{float(self.concentration.max()):g}. Check its unit."
            )


def read_profiles(path: str | Path, fup: float) -> list[Profile]:
    """Reads profiles from a table with columns ``species, dose, time [h], concentration [mg/L]``.

    Rows of one species and dose are one profile; the dose is a regimen's text, ``5 mg/kg iv``. A column
    ``fu`` gives the unbound fraction in that species' plasma, ``BW`` the body weight [kg]. A heading may
    name another unit in brackets, ``time [min]``.

    Arguments:
        path: The table, .csv or .parquet.
        fup: The unbound fraction where the table has none.

    Raises:
        ValueError: If a column is missing, a cell is not as described, or a time comes twice in a profile.
        OSError: If there is no such file, or it cannot be read.
    """
    table = _plain(read_table(path))
    table.require(["species", "dose", "time", "concentration"])
    table.refuse_misspelt(UNITS)
    line = np.array([str(number) for number in range(1, len(table) + 1)], dtype=object)
    there = [name for name in UNITS if name in table.columns]
    numbers = {name: table.numbers(name, line, blank=name in _OPTIONAL) for name in there}
    rows: dict[tuple[str, str], list[int]] = {}
    for at, key in enumerate(zip(table.text("species"), table.text("dose"), strict=True)):
        rows.setdefault(key, []).append(at)
    return [
        _profile(key, {name: values[which] for name, values in numbers.items()}, fup)
        for key, which in rows.items()
    ]


def _plain(table: Table) -> Table:
    """Returns the table with plain headings and the numbers under them in our units."""
    frame = table.frame.copy()
    line = np.array([str(number) for number in range(1, len(table) + 1)], dtype=object)
    plain: dict[str, str] = {}
    for heading in table.columns:
        match = _BRACKETS.fullmatch(heading.strip())
        if match is None or match["name"] not in UNITS:
            continue
        name = match["name"]
        if name in table.columns or name in plain.values():
            raise ValueError(f"{table.name} must name each column once, but has {name} and {heading!r}.")
        try:
            times = factor(match["unit"], UNITS[name])
        except ValueError:
            raise ValueError(
                f"the unit of {heading!r} must convert to {UNITS[name]}, but is {match['unit']!r}."
            ) from None
        frame[heading] = times * table.numbers(heading, line, blank=name in _OPTIONAL)
        plain[heading] = name
    return replace(table, frame=frame.rename(columns=plain))


def _profile(key: tuple[str, str], columns: dict[str, np.ndarray], fup: float) -> Profile:
    """Returns the profile of one species and dose, its rows in the order of time."""
    species, dose = key
    order = np.argsort(columns["time"], kind="stable")
    time, concentration = (torch.from_numpy(columns[name][order]) for name in ("time", "concentration"))
    twice = time[1:][time.diff() == 0.0]
    if len(twice):
        raise ValueError(
            f"time must not come twice in a profile, but {species}, {dose!r} has {float(twice[0]):g} h "
            "twice. Give the mean."
        )
    Regimen.parse(dose)
    fu, BW = (_one(name, columns.get(name), key) for name in _OPTIONAL)
    if fu is not None and not 0.0 < fu <= 1.0:
        raise ValueError(f"fu must lie in (0, 1], but {species} has {fu:g}. Divide a percentage by 100.")
    if BW == 0.0:
        raise ValueError(f"BW must be positive, but {species} has 0 kg. Correct it or leave it blank.")
    return Profile(species, dose, time, concentration, fup if fu is None else fu, BW)


def _one(name: str, values: np.ndarray | None, key: tuple[str, str]) -> float | None:
    """Returns the value that all rows of a profile state, None where none does."""
    stated = [] if values is None else sorted(set(values[~np.isnan(values)].tolist()))
    if len(stated) > 1:
        raise ValueError(
            f"{name} must be one in a profile, but {key[0]}, {key[1]!r} has {stated[0]:g} and "
            f"{stated[-1]:g}. Give the mean."
        )
    return stated[0] if stated else None
