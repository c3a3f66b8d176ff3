"""Concentrations in animals over time, and the table that they are read from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from allometry.drugs import ANIMALS
from pbpk.checks import choose
from pbpk.regimen import Regimen
from pbpk.table import read_table


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


def read_profiles(path: str | Path, fup: float) -> list[Profile]:
    """Reads profiles from a table with columns ``species, dose, time [h], concentration [mg/L]``.

    Rows of one species and dose are one profile; the dose is a regimen's text, ``5 mg/kg iv``. A column
    ``fu`` gives the unbound fraction in that species' plasma, ``BW`` the body weight [kg].

    Arguments:
        path: The table, .csv or .parquet.
        fup: The unbound fraction where the table has none.

    Raises:
        ValueError: If a column is missing, a cell is not as described, or a time comes twice in a profile.
        OSError: If there is no such file, or it cannot be read.
    """
    table = read_table(path)
    table.require(["species", "dose", "time", "concentration"])
    line = np.array([str(number) for number in range(1, len(table) + 1)], dtype=object)
    species, dose = table.text("species"), table.text("dose")
    time, value = (table.numbers(name, line) for name in ("time", "concentration"))
    optional = {name: table.numbers(name, line, blank=True) for name in ("fu", "BW") if name in table.columns}
    found = []
    for key in dict.fromkeys(zip(species, dose, strict=True)):
        rows = np.flatnonzero((species == key[0]) & (dose == key[1]))
        rows = rows[np.argsort(time[rows], kind="stable")]
        twice = rows[1:][np.diff(time[rows]) == 0.0]
        if len(twice):
            raise ValueError(
                f"time must not come twice in a profile, but {key[0]}, {key[1]!r} has {time[twice[0]]:g} h "
                "twice. Give the mean."
            )
        Regimen.parse(key[1])
        first = {name: values[rows[0]] for name, values in optional.items()}
        fu, BW = (None if np.isnan(x := first.get(name, np.nan)) else float(x) for name in ("fu", "BW"))
        if fu is not None and not 0.0 < fu <= 1.0:
            raise ValueError(f"fu must lie in (0, 1], but {key[0]} has {fu:g}. Divide a percentage by 100.")
        t, C = (torch.from_numpy(values[rows]) for values in (time, value))
        found.append(Profile(key[0], key[1], t, C, fup if fu is None else fu, BW))
    return found
