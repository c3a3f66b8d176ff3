r"""Curves: numbers that run with age, between knots taken from the literature, without a step anywhere.

A curve is linear between its knots (or its logarithm is) and constant beyond them. A published pair of
equations, one for children and one for adults, is joined by a :func:`ramp`: the one fades into the other
over some years, where a switch at 18 would make people jump by up to 39 %.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from pbpk.checks import choose

_DATA = Path(__file__).parent.parent / "data"
_SEXES = {"M": ("M",), "F": ("F",), "both": ("M", "F")}


def rows(name: str) -> Iterator[dict[str, str]]:
    """Yields the rows of a table of ``vpop/data``."""
    with (_DATA / name).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def mix(sex: Tensor, male: Tensor | float, female: Tensor | float) -> Tensor:
    """Returns the man's number where sex is 1, the woman's where it is 0, their mean where it is unknown."""
    return sex * male + (1.0 - sex) * female


def ramp(x: Tensor, start: float, end: float) -> Tensor:
    """Returns 0 below ``start``, 1 above ``end``, and a straight line between.

    >>> ramp(torch.tensor([1.0, 3.0, 9.0]), 2.0, 4.0)
    tensor([0.0000, 0.5000, 1.0000])
    """
    return ((x - start) / (end - start)).clamp(0.0, 1.0)


def blend(share: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Returns ``first`` where ``share`` is 0, ``second`` where it is 1, a weighted geometric mean between."""
    return torch.exp((1.0 - share) * torch.log(first) + share * torch.log(second))


def bracket(x: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Finds ``x`` between ``knots``.

    Returns:
        The position of the knot to the left, and the share of the way to the right one, in [0, 1].
    """
    left = (torch.searchsorted(knots, x.contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
    return left, ((x - knots[left]) / (knots[left + 1] - knots[left])).clamp(0.0, 1.0)


def interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Returns the line through ``values`` at ``knots``, constant beyond the ends."""
    left, share = bracket(x, knots)
    return values[left] + share * (values[left + 1] - values[left])


@cache
def _knots() -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in (*rows("organ_knots.csv"), *rows("composition_spread.csv")):
        for sex in _SEXES[row["sex"]]:
            point = (float(row["at"]), float(row["value"]))
            points.setdefault(row["curve"], {}).setdefault(sex, []).append(point)
    return {name: {sex: _columns(line) for sex, line in by_sex.items()} for name, by_sex in points.items()}


def _columns(points: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    at, value = torch.tensor(sorted(points), dtype=torch.float64).T
    return at.contiguous(), value.contiguous()


def curve(name: str, at: Tensor, sex: Tensor, log: bool = False) -> Tensor:
    """Returns a curve of ``vpop/data/organ_knots.csv`` or ``composition_spread.csv``.

    Arguments:
        name: Its name in the table.
        at: Where, in the unit that the table states, mostly age [year], with shape :math:`(n)`.
        sex: 1 male, 0 female, with shape :math:`(n)`.
        log: Whether the logarithm, not the value, is linear between knots.

    Returns:
        The value, in the unit that the table states, with shape :math:`(n)`.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> curve("brain", 30 * one, one).item()
    1.45
    """
    by_sex = _knots()[choose("curve", name, _knots())]
    male, female = (
        interpolate(at, knots, torch.log(values) if log else values)
        for knots, values in (by_sex["M"], by_sex["F"])
    )
    mixed = mix(sex, male, female)
    return torch.exp(mixed) if log else mixed
