"""Finds columns in the wrong unit, by the median of the column and never by an unusual person.

The ratio of a column's median to a typical value is compared, in logarithms, with the factors of the units
that people use. The column is refused only where another unit explains it better than the right one does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_GRAMS = {"g": 1e3, "mg": 1e6}
_FLOWS = {"L/min": 1 / 60, "mL/min": 1000 / 60}

# Orders of magnitude, not references: shares of body weight and cardiac output of an adult, from ICRP
# Publication 89 (2002), rounded.
_MASS_SHARE = {
    "adipose": 0.25,
    "bone": 0.1,
    "brain": 0.02,
    "gonads": 0.0005,
    "heart": 0.0045,
    "kidney": 0.0043,
    "large_intestine": 0.005,
    "liver": 0.025,
    "lung": 0.007,
    "muscle": 0.38,
    "pancreas": 0.002,
    "skin": 0.045,
    "small_intestine": 0.009,
    "spleen": 0.002,
    "stomach": 0.002,
    "blood": 0.075,
}
_FLOW_SHARE = {
    "adipose": 0.05,
    "bone": 0.05,
    "brain": 0.12,
    "heart": 0.04,
    "kidney": 0.19,
    "large_intestine": 0.04,
    "liver": 0.065,
    "muscle": 0.17,
    "skin": 0.05,
    "small_intestine": 0.1,
    "spleen": 0.03,
}


@dataclass(frozen=True)
class _Rule:
    """What a column's median is held against.

    Attributes:
        column: The column.
        unit: How its numbers must be, in words.
        typical: A value near which the median lies, whoever the people are.
        others: Per unit that people use by mistake, the number that one canonical unit is in it.
        spread: By which factor the median may miss ``typical`` times such a number.
    """

    column: str
    unit: str
    typical: float
    others: Mapping[str, float]
    spread: float


def check_units(values: Mapping[str, np.ndarray], human: bool) -> None:
    """Checks that no column is in another unit than its own.

    Arguments:
        values: Per column of the cohort file, its numbers, with shape (n,).
        human: The bodies are human; of animals only masses, relative to BW, and HCT are checked.

    Raises:
        ValueError: If a column looks as if it were in another unit; the message names that unit.
    """
    medians = {name: _median(column) for name, column in values.items()}
    rules = [*_human_rules(medians)] if human else []
    for rule in [*rules, *_mass_rules(medians)]:
        if rule.column in medians:
            _check(rule, medians[rule.column])


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def _human_rules(median: Mapping[str, float]) -> Iterator[_Rule]:
    yield _Rule("height", "in cm", 100, {"m": 1e-2, "dm": 1e-1, "mm": 10}, 3.2)
    yield _Rule("BW", "in kg", 30, {"g": 1e3}, 32)
    yield _Rule("age", "in years", 40, {"month": 12, "day": 365.25}, 3.3)
    bsa = math.sqrt(median["height"] * median["BW"] / 3600)
    yield _Rule("CO", "in L/h", 190 * bsa, _FLOWS, 4)
    yield _Rule("GFR", "in L/h", 3.4 * bsa, {"mL/min": 1000 / 60}, 4)
    yield _Rule("SCR", "in mg/dL", 0.8, {"umol/L": 88.4}, 9)
    for organ, share in _FLOW_SHARE.items():
        yield _Rule(f"Q_{organ}", "in L/h", share * median["CO"], _FLOWS, 4)


def _mass_rules(median: Mapping[str, float]) -> Iterator[_Rule]:
    yield _Rule("HCT", "a fraction", 0.42, {"%": 100}, 10)
    for organ, share in _MASS_SHARE.items():
        yield _Rule(f"M_{organ}", "in kg", share * median["BW"], _GRAMS, 32)
    yield _Rule("FAT", "in kg", 0.25 * median["BW"], _GRAMS, 32)
    yield _Rule("BMC", "in kg", 0.035 * median["BW"], _GRAMS, 32)


def _check(rule: _Rule, median: float) -> None:
    """Raises where another unit explains the median better than the right one."""
    if not (median > 0 and rule.typical > 0):
        return
    ratio = median / rule.typical
    distance = {unit: abs(math.log(ratio / factor)) for unit, factor in rule.others.items()}
    unit = min(distance, key=distance.__getitem__)
    if distance[unit] < min(abs(math.log(ratio)), math.log(rule.spread)):
        factor = rule.others[unit]
        remedy = f"Divide it by {factor:.4g}" if factor > 1 else f"Multiply it by {1 / factor:.4g}"
        raise ValueError(
            f"{rule.column} must be {rule.unit}, but its median of {_plain(median)} looks like {unit}. "
            f"{remedy}."
        )


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
