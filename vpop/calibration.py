r"""Calibration: what a network draws a little too high or wide, brought back to the people it learnt from.

Given sex and age, the network's draws of height, BMI, haematocrit and creatinine are off by a few hundredths
of a standard deviation. Two growth charts of these coordinates, one of its draws and one of the people, tell
how much at each of their quantiles; a draw moves from its quantile on the one to the same on the other, and
beyond the outermost quantiles by as much as these do. The map rises, keeps how coordinates hang together, and
is undone for what is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vpop import compiled
from vpop.coordinates import NAMES, WHO
from vpop.growth import Growth, among_knots, between_knots

_COLUMNS = [NAMES.index(name) for name in WHO]


@dataclass(frozen=True)
class Calibration:
    """Monotone maps of the coordinates of :data:`vpop.coordinates.WHO` by sex and age.

    Attributes:
        drawn: The quantiles of the network's draws: coordinate, sex, age, score; shape (4, 2, 37, 15).
        people: The quantiles of the people, likewise.
    """

    drawn: Tensor
    people: Tensor

    @classmethod
    def fit(cls, drawn: Population, people: Population) -> Calibration:
        """Learns the maps that give drawn coordinates the quantiles of the people's."""
        return cls(drawn.quantiles(), people.quantiles())

    def apply(self, free: Tensor, people: Mapping[str, Tensor]) -> Tensor:
        """Maps drawn coordinates of people with sex and age to calibrated ones, shape :math:`(n, d)`."""
        return _moved(free, people, self.drawn, self.people)

    def undo(self, free: Tensor, people: Mapping[str, Tensor]) -> Tensor:
        """Maps calibrated coordinates back to those that the network knows, shape :math:`(n, d)`."""
        return _moved(free, people, self.people, self.drawn)


@dataclass(frozen=True)
class Population:
    """Coordinates of people with their sex, age and weights.

    Attributes:
        free: With shape :math:`(n, d)`, NaN where missing.
        sex: With shape :math:`(n)`.
        age: With shape :math:`(n)`.
        weights: With shape :math:`(n)`.
    """

    free: Tensor
    sex: Tensor
    age: Tensor
    weights: Tensor

    def quantiles(self) -> Tensor:
        """Returns the quantiles of each coordinate by sex and age, with shape (4, 2, 37, 15)."""
        charts = (
            Growth.fit(torch.exp(self.free[:, column]), self.sex, self.age, self.weights)
            for column in _COLUMNS
        )
        return torch.stack([chart.quantiles for chart in charts])


def _moved(free: Tensor, people: Mapping[str, Tensor], source: Tensor, target: Tensor) -> Tensor:
    """Moves each coordinate from its quantile in one table to the same quantile in another."""
    moved = free.clone()
    if compiled.here(moved, source, target, people["sex"], people["age"]):
        from vpop import knots_kernel

        knots, at = among_knots(people["age"])
        return compiled.fill(knots_kernel.transfer, source, target, knots, people["sex"], at, into=moved)
    both = torch.cat([*source, *target], -1)
    rows = between_knots(both, people["sex"], people["age"]).chunk(2 * len(_COLUMNS), -1)
    for i, column in enumerate(_COLUMNS):
        moved[:, column] = transfer(free[:, column], rows[i], rows[len(_COLUMNS) + i])
    return moved


def transfer(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Maps x, shape (n), by straight lines from rising ``source`` to rising ``target``, shapes (n, k).

    Beyond the outermost quantiles the slope is 1: the tails keep the shape that the network gave them.
    """
    upper = torch.searchsorted(source.contiguous(), x[:, None].contiguous()).clamp(1, source.shape[1] - 1)
    (s0, s1), (t0, t1) = (
        (table.gather(1, upper - 1)[:, 0], table.gather(1, upper)[:, 0]) for table in (source, target)
    )
    slope = torch.where((x < s0) | (x > s1), 1.0, (t1 - t0) / (s1 - s0))
    return torch.where(x > s1, t1 + (x - s1), t0 + slope * (x - s0))
