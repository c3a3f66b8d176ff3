r"""Is a column of real people in the unit it should be in, and if not, in which is it?

People of a known sex and age are rarely half or twice as tall or heavy for their height as the growth charts
of the shipped weights have them. A column whose values lie, in the median, a factor :math:`r` away from the
charts, and nearer to them by another unit's factor, is in that other unit. A month read as a year is found
by the heights: a "woman of 60 years" of 1.05 m is a girl of 5.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vpop.growth import Growth
from vpop.headings import UNITS

_FAR = 1.5  # the factor from the charts below which no unit is doubted
_NEAR = 0.12  # how far, in logarithm, the heights of one's own age may be from the charts
_OLDEST = 110.0  # years


def check_likely(
    numbers: Mapping[str, np.ndarray],
    sex: Tensor,
    charts: Mapping[str, Growth],
    stated: frozenset[str] = frozenset(),
) -> None:
    """Refuses a column that another unit explains better than its own.

    Arguments:
        numbers: Per column (age, height, BW, BMI, HCT, SCR), the values, NaN where unknown, shape (n).
        sex: 1 male, 0 female, with shape (n).
        charts: The growth charts of height, BMI, HCT and SCR.
        stated: The columns whose heading names their unit; they are believed.

    Raises:
        ValueError: Naming the column, the likely unit, and the remedy.
    """
    known = {name: torch.from_numpy(values) for name, values in numbers.items()}
    if "age" not in stated:
        known["age"] = _check_age(known, sex, charts)
    for name in ("height", "BW", "BMI", "HCT", "SCR"):
        if name in known and name not in stated:
            _check(name, known[name], _expected(name, known, sex, charts))


def _check_age(known: Mapping[str, Tensor], sex: Tensor, charts: Mapping[str, Growth]) -> Tensor:
    """Returns the ages, or refuses those that heights show to be months or days."""
    age, middle = known["age"], torch.zeros_like(sex)
    height = known.get("height", torch.full_like(age, torch.nan))

    def apart(unit: str, factor: float = 1.0) -> float:
        return _apart(factor * height, charts["height"].value(middle, sex, age * UNITS["age"][unit]))

    if float(age.median()) > _OLDEST:  # no heights are needed
        _refuse("age", age, "day" if float(age.median()) > 12.0 * _OLDEST else "month")
    if min(apart("year", factor) for factor in UNITS["height"].values()) > _NEAR:  # or it is the heights
        for unit in ("month", "day"):
            if apart(unit) < _NEAR:
                _refuse("age", age, unit)
    return age


def _expected(name: str, known: Mapping[str, Tensor], sex: Tensor, charts: Mapping[str, Growth]) -> Tensor:
    """Returns what the charts expect of each person: the weight from the person's own height, if known."""
    age, middle = known["age"], torch.zeros_like(sex)
    if name != "BW":
        return charts[name].value(middle, sex, age)
    tall = charts["height"].value(middle, sex, age)
    height = torch.where(known["height"].isnan(), tall, known["height"]) if "height" in known else tall
    return charts["BMI"].value(middle, sex, age) * (height / 100.0) ** 2


def _check(name: str, values: Tensor, expected: Tensor) -> None:
    ratio = float((values / expected).nanmedian())
    if not ratio > 0:
        return
    distance = {unit: abs(np.log(ratio * factor)) for unit, factor in UNITS[name].items()}
    own = next(iter(UNITS[name]))
    likely = min(distance, key=distance.__getitem__)
    if distance[own] > np.log(_FAR) and distance[likely] < distance[own]:
        _refuse(name, values, likely)


def _apart(values: Tensor, expected: Tensor) -> float:
    """Returns by how much people miss what is expected, as a median of logarithms; 0 where unknown."""
    return float(torch.nan_to_num(torch.log(values / expected).abs().nanmedian()))


def _refuse(name: str, values: Tensor, likely: str) -> None:
    own = next(iter(UNITS[name]))
    raise ValueError(
        f"{name} must be in {own}, but its median of {float(values.nanmedian()):.4g} looks like {likely}. "
        f"Name the unit in the heading: '{name} [{likely}]', or '{name} [{own}]' if it is right."
    )
