r"""Where each coordinate lies and how wide it is, by sex and age: what growth does to every part of a body.

A newborn's skin, brain and flows lie several adult standard deviations away from an adult's and vary less.
A network that had to draw both on one scale would draw the newborn's too widely. So each coordinate is
written as :math:`(x - c)/s`, with centre and scale between some forty ages as the growth charts have them
(:mod:`vpop.growth`); what is left for the network is how people of one age differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vpop import compiled
from vpop.growth import KNOTS, among_knots, between_knots, kernel, stretch

_NARROWEST = 1e-3
_CELLS = 40


@dataclass(frozen=True)
class Standing:
    """Centres and scales of coordinates by sex and age.

    Attributes:
        table: Centre and scale by sex (female, male) and age (:data:`vpop.growth.KNOTS`), with shape
            :math:`(2, 2, 37, d)`.
    """

    table: Tensor

    @classmethod
    def fit(cls, free: Tensor, sex: Tensor, age: Tensor, weights: Tensor) -> Standing:
        """Learns mean and standard deviation around each knot.

        Arguments:
            free: The coordinates, NaN where missing, with shape :math:`(n, d)`.
            sex: 0 female, 1 male, with shape :math:`(n)`.
            age: The ages [year], with shape :math:`(n)`.
            weights: The weights, with shape :math:`(n)`.
        """
        known = torch.isfinite(free)
        overall = _moments(free, known, weights)
        both = []
        for one in (0.0, 1.0):
            chosen = sex == one if int((sex == one).sum()) > 1 else torch.ones_like(sex, dtype=torch.bool)
            near = [kernel(knot, age[chosen], weights[chosen]) for knot in KNOTS]
            both.append([_moments(free[chosen], known[chosen], w, overall) for w in near])
        return cls(torch.stack([torch.stack([torch.stack(knot) for knot in one], 1) for one in both], 1))

    def encode(self, free: Tensor, people: Mapping[str, Tensor]) -> Tensor:
        """Maps coordinates to what is left after growth, both with shape :math:`(n, d)`."""
        centre, scale = self._at(people)
        return (free - centre) / scale

    def decode(self, left: Tensor, people: Mapping[str, Tensor]) -> Tensor:
        """Maps back, both with shape :math:`(n, d)`."""
        if compiled.here(left, self.table, people["sex"], people["age"]):
            from vpop import knots_kernel

            knots, at = among_knots(people["age"])
            columns = (self._columns(), knots, people["sex"], at, left)
            return compiled.fill(knots_kernel.scaled, *columns, into=torch.empty_like(left))
        centre, scale = self._at(people)
        return torch.addcmul(centre, scale, left)

    def _at(self, people: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        centre, scale = between_knots(self._columns(), people["sex"], people["age"]).chunk(2, -1)
        return centre, scale

    def _columns(self) -> Tensor:
        """Returns centres and scales side by side, with shape :math:`(2, 37, 2 d)`."""
        return torch.cat(tuple(self.table), -1)


def _moments(
    free: Tensor, known: Tensor, weights: Tensor, fallback: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Returns mean and SD of each column, shapes (d); the fallback where no one near has a value."""
    share = weights[:, None] * known
    total = share.sum(0)
    values = torch.where(known, free, 0.0)
    mean = (share * values).sum(0) / total.clamp(min=1e-300)
    SD = ((share * (values - mean) ** 2).sum(0) / total.clamp(min=1e-300)).sqrt()
    missing = total <= 1e-6 * weights.sum()
    other_mean, other_SD = fallback if fallback is not None else (torch.zeros_like(mean), torch.ones_like(SD))
    return torch.where(missing, other_mean, mean), torch.where(missing, other_SD, SD).clamp(min=_NARROWEST)


def evened(age: Tensor, weights: Tensor) -> Tensor:
    """Returns how much more often a person of each age should be trained on than the population has it.

    The network is told the age: how often it sees one changes how well it learns that age, not what. Half of
    what it sees is the population, half is even on the scale of growth: of a hundred people that makes 17
    under two years, and not two.

    Arguments:
        age: The ages [year], with shape :math:`(n)`.
        weights: The weights of the population, with shape :math:`(n)`.
    """
    at = stretch(age)
    first, last = at.min(), at.max()
    cell = ((at - first) / (last - first).clamp(min=1e-9) * _CELLS).long().clamp(max=_CELLS - 1)
    share = torch.zeros(_CELLS, dtype=torch.float64).index_add_(0, cell, weights.double())
    share = share / share.sum()
    even = (share > 0).double() / (share > 0).sum()
    return 0.5 + 0.5 * (even / share.clamp(min=1e-300))[cell]
