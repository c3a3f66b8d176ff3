"""A table of drugs: what was measured in which species, checked once, in canonical units of the field.

Columns are ``drug`` and ``<species>_<quantity>``: CL [mL/min/kg], Vss [L/kg], fu [fraction], NOAEL [mg/kg]
of any of :data:`pbpk.bodies.SPECIES`, and ``target_AUC`` [mg h/L]. Another unit is named in brackets behind
the name, ``rat_CL [L/h/kg]``. A cell may be empty, a column may be missing, other columns are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pbpk.bodies import SPECIES
from pbpk.checks import nearest
from pbpk.table import Table, read_table
from pbpk.units import factor

Array = NDArray[np.float64]

UNITS: Mapping[str, str] = {"CL": "mL/min/kg", "Vss": "L/kg", "fu": "1", "NOAEL": "mg/kg", "AUC": "mg*h/L"}
"""The unit of each quantity, where its column names none."""

ANIMALS: tuple[str, ...] = tuple(name for name in SPECIES if name != "human")

_COLUMN = re.compile(
    r"(?P<species>[^_\[(]+)_(?P<quantity>CL|Vss|fu|NOAEL|AUC)\s*([\[(](?P<unit>[^\])]*)[\])])?", re.I
)
_LARGEST = {"CL": 1e4, "Vss": 1e4, "fu": 1.0, "NOAEL": 1e5, "AUC": 1e9}
_REMEDY = {
    "CL": "It is in mL/min/kg; name another unit as in 'rat_CL [L/h/kg]'.",
    "Vss": "It is in L/kg; name another unit as in 'rat_Vss [mL/kg]'.",
    "fu": "It is a fraction; divide a percentage by 100.",
    "NOAEL": "It is in mg/kg.",
    "AUC": "It is in mg h/L.",
}


@dataclass(frozen=True)
class Drugs:
    """Drugs and what was measured of them.

    Attributes:
        name: The drugs' names, with shape (n,).
        values: By (quantity, species) a column with shape (n,), NaN where not measured. The species of the
            area that is asked for is ``"target"``.
        not_read: A line that names the table's further columns, "" where there are none.
    """

    name: NDArray[np.object_]
    values: Mapping[tuple[str, str], Array] = field(default_factory=dict)
    not_read: str = ""

    def __len__(self) -> int:
        """Returns the number of drugs."""
        return len(self.name)

    def column(self, quantity: str, species: str) -> Array:
        """Returns a column with shape (n,), NaN throughout where the table has none."""
        return self.values.get((quantity, species), np.full(len(self), np.nan))

    def columns(self, quantity: str, species: tuple[str, ...]) -> Array:
        """Returns the columns of several species, with shape (n, s)."""
        return np.stack([self.column(quantity, name) for name in species], 1)

    def take(self, which: NDArray) -> Drugs:
        """Returns the drugs ``which``."""
        return Drugs(self.name[which], {key: value[which] for key, value in self.values.items()})

    def without_humans(self) -> Drugs:
        """Returns the drugs without their human clearance and volume."""
        kept = {key: value for key, value in self.values.items() if key not in HUMAN}
        return Drugs(self.name, kept)


HUMAN: tuple[tuple[str, str], ...] = (("CL", "human"), ("Vss", "human"))


def read_drugs(path: str | Path) -> Drugs:
    """Reads a table of drugs.

    Raises:
        ValueError: If a column names no known species or unit, a value is not positive or no number, a
            fraction exceeds 1, or no animal's clearance or volume is there at all.
        OSError: If there is no such file, or it cannot be read.
    """
    table = read_table(path)
    table.require(["drug"])
    name = np.array([text.strip() for text in table.text("drug")], dtype=object)
    if not all(name):
        raise ValueError(
            f"drug must name each row of {table.name}, but row {int(np.argmin(name != '')) + 1} is blank."
        )
    values = _values(table, name)
    read = [column for column in table.columns if _COLUMN.fullmatch(column.strip())]
    drugs = Drugs(name, values, table.not_read(["drug", *read]))
    if not any(key[0] in ("CL", "Vss") and key[1] in ANIMALS for key in drugs.values):
        raise ValueError(
            f"{table.name} must have a column of an animal's clearance or volume, such as 'rat_CL' or "
            f"'dog_Vss', but has {', '.join(table.columns)}."
        )
    return drugs


def _values(table: Table, name: NDArray) -> dict[tuple[str, str], Array]:
    found: dict[tuple[str, str], Array] = {}
    for column in table.columns:
        match = _COLUMN.fullmatch(column.strip())
        if match is None:
            continue
        quantity = next(known for known in UNITS if known.lower() == match["quantity"].lower())
        species = _species(match["species"], quantity, column, table.name)
        if species is None:
            continue
        if (quantity, species) in found:
            raise ValueError(
                f"{table.name} must have one column {species}_{quantity}, but {column!r} is another."
            )
        unit = match["unit"]
        times = 1.0 if unit is None else _factor(unit, quantity, column)
        found[quantity, species] = _checked(
            times * table.numbers(column, name, blank=True), quantity, column, name
        )
    return found


def _factor(unit: str, quantity: str, column: str) -> float:
    try:
        return factor(unit, UNITS[quantity])
    except ValueError:
        raise ValueError(
            f"the unit of {column!r} must convert to {UNITS[quantity]}, but is {unit!r}."
        ) from None


def _species(text: str, quantity: str, column: str, table: str) -> str | None:
    """Returns the species of a column, None where it is none of ours to read."""
    name = text.strip().lower()
    if quantity == "AUC":
        return "target" if name == "target" else None
    if name in SPECIES:
        return name
    close = nearest(name, SPECIES)
    remedy = f"Did you mean '{close}_{quantity}'?" if close else "Remove or rename the column."
    raise ValueError(
        f"{table} must name species among {', '.join(SPECIES)}, but has a column {column!r}. {remedy}"
    )


def _checked(values: Array, quantity: str, column: str, name: NDArray) -> Array:
    wrong = (values <= 0.0) | (values > _LARGEST[quantity])
    if quantity in ("CL", "Vss") and column.lower().startswith("human"):
        wrong &= values != 0.0  # compilations round a small human value to 0: it is not read
        values = np.where(values == 0.0, np.nan, values)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"{column} must lie in (0, {_LARGEST[quantity]:g}], but {name[at]!r} has {values[at]:g}. "
            f"{_REMEDY[quantity]}"
        )
    return values
