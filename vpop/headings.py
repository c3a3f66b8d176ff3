"""Headings with a unit in brackets, ``height [m]`` or ``BW (lb)``: read in that unit, turned into ours.

A heading without brackets is in the canonical unit. One with brackets is believed: nobody guesses whether a
median of 48 kg/m2 is a clinic for the obese or a table in pounds when the heading says it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from pbpk.checks import choose
from pbpk.organs import ORGANS, PERFUSED
from pbpk.table import Table

_FLOW = {"L/h": 1.0, "L/min": 60.0, "mL/min": 0.06}
_MASS = {"kg": 1.0, "g": 1e-3, "lb": 0.45359237}
# What a number in a unit is multiplied by. Exact by definition, but creatinine's: 113.12 g/mol.
UNITS: Mapping[str, Mapping[str, float]] = {
    "age": {"year": 1.0, "month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25},
    "height": {"cm": 1.0, "m": 100.0, "mm": 0.1, "in": 2.54, "ft": 30.48},
    "BW": _MASS,
    "BMI": {"kg/m2": 1.0},
    "HCT": {"1": 1.0, "%": 0.01, "L/L": 1.0},
    "SCR": {"mg/dL": 1.0, "umol/L": 1 / 88.4, "mg/L": 0.1},
    "GFR": {**_FLOW, "mL/min/1.73m2": 0.06 / 1.73},
    "CO": {**_FLOW, "L/min/m2": 60.0},
    "FAT": {**_MASS, "%": 0.01},
    **dict.fromkeys(("BMC", *(f"M_{organ}" for organ in ORGANS)), _MASS),
    **dict.fromkeys((f"Q_{organ}" for organ in PERFUSED), _FLOW),
}
# What it is multiplied by too, of height [cm] and weight [kg]: the body surface (Mosteller 1987), the weight.
_SIZE: Mapping[tuple[str, str], Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ("GFR", "mL/min/1.73m2"): lambda height, BW: np.sqrt(height * BW / 3600.0),
    ("CO", "L/min/m2"): lambda height, BW: np.sqrt(height * BW / 3600.0),
    ("FAT", "%"): lambda height, BW: BW,
}
WEIGHT = "sampling_weight"
KNOWN = ("id", "sex", "race", *UNITS, WEIGHT)
"""The columns of a table of people that are read."""
_SPELT = {"years": "year", "y": "year", "yr": "year", "months": "month", "weeks": "week", "days": "day"}
_SPELT |= {"mL/min/1.73 m2": "mL/min/1.73m2", "ml/min/1.73m2": "mL/min/1.73m2", "ml/min": "mL/min"}
_SPELT |= {"l/min": "L/min", "l/h": "L/h", "L/hr": "L/h"}
_SPELT |= {"inch": "in", "inches": "in", "feet": "ft", "lbs": "lb", "kg/m^2": "kg/m2", "kg/m²": "kg/m2"}
_SPELT |= {"µmol/L": "umol/L", "μmol/L": "umol/L", "percent": "%", "mg/dl": "mg/dL", "umol/l": "umol/L"}
_BRACKETS = re.compile(r"(?P<name>\w+)\s*[\[(]\s*(?P<unit>[^\])]*?)\s*[\])]\s*")


def in_canonical_units(table: Table, columns: Collection[str] = tuple(UNITS)) -> tuple[Table, frozenset[str]]:
    """Returns the table with plain headings and canonical units, and the columns whose unit was stated.

    Arguments:
        table: The table.
        columns: The columns that are read; what stands in another's brackets is left as it is.

    Raises:
        ValueError: If a unit is unknown, a cell is no number, two headings name one column, or a heading
            is another spelling of one that is missing.

    A GFR per 1.73 m2, a cardiac index, and fat as a share of the weight become the person's own.

    >>> import pandas as pd
    >>> heavy, stated = in_canonical_units(Table("t.csv", pd.DataFrame({"BW [lb]": ["150", ""]})))
    >>> heavy.frame.BW.round(2).tolist(), sorted(stated)
    ([68.04, nan], ['BW'])
    """
    frame = table.frame.copy()
    numbered = [str(number) for number in range(1, len(table) + 1)]
    rows = table.text("id") if "id" in table.columns else np.array(numbered, dtype=object)
    stated: dict[str, str] = {}
    sized: dict[str, str] = {}
    for heading in table.columns:
        match = _BRACKETS.fullmatch(heading)
        if match is None or match["name"] not in columns:
            continue
        name, units = match["name"], UNITS[match["name"]]
        unit = _SPELT.get(match["unit"], match["unit"])
        factor = units[choose(f"the unit of {name} in {table.name}", unit, units)]
        if name in table.columns or name in stated.values():
            raise ValueError(f"{table.name} must name each column once, but has {name} and {heading!r}.")
        frame[heading] = table.numbers(heading, rows, blank=True) * factor
        stated[heading] = name
        if (name, unit) in _SIZE:
            sized[name] = unit
    found = replace(table, frame=frame.rename(columns=stated))
    for name, unit in sized.items():
        found.frame[name] *= _size(found, name, unit, rows)
    found.refuse_misspelt(("id", "sex", "race", *columns, WEIGHT))
    return found, frozenset(stated.values())


def _size(table: Table, name: str, unit: str, rows: np.ndarray) -> np.ndarray:
    """Returns what of each person a unit refers to, with shape (n); a BMI stands for height or weight.

    Raises:
        ValueError: If the height or the weight of someone who has a value is not known.
    """
    height, BW, BMI = (
        table.numbers(column, rows, blank=True) if column in table.columns else np.full(len(rows), np.nan)
        for column in ("height", "BW", "BMI")
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # a BMI of 0 is refused later
        height = np.where(np.isnan(height), 100.0 * np.sqrt(BW / BMI), height)
        BW = np.where(np.isnan(BW), BMI * (height / 100.0) ** 2, BW)
    size = _SIZE[name, unit](height, BW)
    lost = np.isfinite(table.frame[name]) & np.isnan(size)
    if lost.any():
        raise ValueError(
            f"{name} in {unit} must stand beside height and BW, but row {str(rows[lost.argmax()])!r} of "
            f"{table.name} lacks one. Add it, or give {name} in {next(iter(UNITS[name]))}."
        )
    return size
