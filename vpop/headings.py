"""Headings with a unit in brackets, ``height [m]`` or ``BW (lb)``: read in that unit, turned into ours.

A heading without brackets is in the canonical unit. One with brackets is believed: nobody guesses whether a
median of 48 kg/m2 is a clinic for the obese or a table in pounds when the heading says it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pbpk.checks import choose
from pbpk.table import Table

# What a number in a unit is multiplied by. Exact by definition, but creatinine's: 113.12 g/mol.
UNITS: Mapping[str, Mapping[str, float]] = {
    "age": {"year": 1.0, "month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25},
    "height": {"cm": 1.0, "m": 100.0, "mm": 0.1, "in": 2.54, "ft": 30.48},
    "BW": {"kg": 1.0, "g": 1e-3, "lb": 0.45359237},
    "BMI": {"kg/m2": 1.0},
    "HCT": {"1": 1.0, "%": 0.01, "L/L": 1.0},
    "SCR": {"mg/dL": 1.0, "umol/L": 1 / 88.4, "mg/L": 0.1},
}
WEIGHT = "sampling_weight"
KNOWN = ("id", "sex", "race", *UNITS, WEIGHT)
"""The columns of a table of people that are read."""
_SPELT = {"years": "year", "y": "year", "yr": "year", "months": "month", "weeks": "week", "days": "day"}
_SPELT |= {"inch": "in", "inches": "in", "feet": "ft", "lbs": "lb", "kg/m^2": "kg/m2", "kg/m²": "kg/m2"}
_SPELT |= {"µmol/L": "umol/L", "μmol/L": "umol/L", "percent": "%", "mg/dl": "mg/dL", "umol/l": "umol/L"}
_BRACKETS = re.compile(r"(?P<name>\w+)\s*[\[(]\s*(?P<unit>[^\])]*?)\s*[\])]\s*")


def in_canonical_units(table: Table) -> tuple[Table, frozenset[str]]:
    """Returns the table with plain headings and canonical units, and the columns whose unit was stated.

    Raises:
        ValueError: If a unit is unknown, a cell is no number, two headings name one column, or a heading
            is another spelling of one that is missing.

    >>> import pandas as pd
    >>> heavy, stated = in_canonical_units(Table("t.csv", pd.DataFrame({"BW [lb]": ["150", ""]})))
    >>> heavy.frame.BW.round(2).tolist(), sorted(stated)
    ([68.04, nan], ['BW'])
    """
    frame = table.frame.copy()
    stated: dict[str, str] = {}
    for heading in table.columns:
        match = _BRACKETS.fullmatch(heading)
        if match is None or match["name"] not in UNITS:
            continue
        name, units = match["name"], UNITS[match["name"]]
        unit = _SPELT.get(match["unit"], match["unit"])
        factor = units[choose(f"the unit of {name} in {table.name}", unit, units)]
        if name in table.columns or name in stated.values():
            raise ValueError(f"{table.name} must name each column once, but has {name} and {heading!r}.")
        numbered = [str(number) for number in range(1, len(table) + 1)]
        rows = table.text("id") if "id" in table.columns else np.array(numbered, dtype=object)
        frame[heading] = table.numbers(heading, rows, blank=True) * factor
        stated[heading] = name
    plain = replace(table, frame=frame.rename(columns=stated))
    plain.refuse_misspelt(KNOWN)
    return plain, frozenset(stated.values())
