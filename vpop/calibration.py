r"""Calibration: what a network draws a little too high or wide, brought back to the people it learnt from.

Given sex and age, the network's draws of height, BMI, haematocrit and creatinine are off by a few hundredths
of a standard deviation. With mean :math:`m` and standard deviation :math:`s` by sex and age of
its draws and of the people,

.. math:: x' = m_{people} + (x - m_{drawn}) \, s_{people} / s_{drawn}

which keeps the shape of the tails and how coordinates hang together, and is undone for what is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vpop.coordinates import NAMES, WHO
from vpop.growth import KNOTS, between_knots, kernel

_COLUMNS = [NAMES.index(name) for name in WHO]


@dataclass(frozen=True)
class Calibration:
    """Affine maps of the coordinates of :data:`vpop.coordinates.WHO` by sex and age.

    Attributes:
        scale: By sex (female, male), age (:data:`vpop.growth.KNOTS`) and coordinate, shape (2, 37, 4).
        shift: Likewise.
    """

    scale: Tensor
    shift: Tensor

    @classmethod
    def fit(cls, drawn: Population, people: Population) -> Calibration:
        """Learns the maps that give drawn coordinates the moments of the people's."""
        m_drawn, s_drawn = drawn.moments()
        m_people, s_people = people.moments()
        scale = s_people / s_drawn
        return cls(scale, m_people - m_drawn * scale)

    def apply(self, free: Tensor, people: Mapping[str, Tensor]) -> Tensor:
        """Maps drawn coordinates of people with sex and age to calibrated ones, shape :math:`(n, d)`."""
        scale, shift = self._at(people)
        return _with_columns(free, shift + scale * free[:, _COLUMNS])

    def undo(self, free: Tensor, people: Mapping[str, Tensor]) -> Tensor:
        """Maps calibrated coordinates back to those that the network knows, shape :math:`(n, d)`."""
        scale, shift = self._at(people)
        return _with_columns(free, (free[:, _COLUMNS] - shift) / scale)

    def _at(self, people: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        sex, age = people["sex"], people["age"]
        return between_knots(self.scale, sex, age), between_knots(self.shift, sex, age)


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

    def moments(self) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation by sex, age and coordinate, shape :math:`(2, 37, 4)`."""
        values = self.free[:, _COLUMNS]
        means, sds = [], []
        for one in (0.0, 1.0):
            chosen = self.sex == one
            if int(chosen.sum()) < 2:
                chosen = torch.ones_like(chosen)  # one sex only: the other borrows
            for knot in KNOTS:
                weights = kernel(knot, self.age[chosen], self.weights[chosen])[:, None]
                known = torch.isfinite(values[chosen])
                weights = weights * known
                total = weights.sum(0).clamp(min=1e-300)
                x = torch.where(known, values[chosen], 0.0)
                mean = (weights * x).sum(0) / total
                variance = (weights * (x - mean) ** 2).sum(0) / total
                # A coordinate no one of that age has (a newborn's creatinine) is left as it is.
                absent = ~known.any(0) | (variance <= 0)
                means.append(torch.where(absent, 0.0, mean))
                sds.append(torch.where(absent, 1.0, variance).sqrt())
        shape = (2, len(KNOTS), len(_COLUMNS))
        return torch.stack(means).reshape(shape), torch.stack(sds).reshape(shape)


def _with_columns(free: Tensor, columns: Tensor) -> Tensor:
    changed = free.clone()
    changed[:, _COLUMNS] = columns
    return changed
