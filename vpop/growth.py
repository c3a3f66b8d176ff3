r"""Growth charts: where a value stands among people of that sex and age.

A chart holds, at some forty ages, the quantiles of a quantity's logarithm at fixed normal scores. It turns a
value into its score :math:`z` and back by straight lines between quantiles and ages, with straight tails. The
coordinates start from it, so that the network need not learn growth, or how skewed weight is at what age.
A chart is a smoothed summary of some sixty people an age, or of a quarter of all where they are few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vpop import compiled
from vpop.intervals import ndtr
from vpop.marginals import weighted_quantiles

_MONTHS = (0.5, 1.5, 3, 4.5, 6, 8, 10, 12, 15, 18, 22, 27)
_YEARS = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 25, 32, 40, 48, 56, 64, 72, 80)
KNOTS = tuple(month / 12 for month in _MONTHS) + _YEARS
SCORES = torch.linspace(-2.1, 2.1, 15, dtype=torch.float64)
GRID = (float(SCORES[0]), 0.3)  # the first of the scores, and the step between them
_BANDWIDTH = 0.05  # in ln(age + 0.5): 11 days at birth, 6 months at 10 years, 4 years at 80
_OVERLAP = 0.45  # of the distance between knots: kernels so wide leave no one out who stands between two
_ENOUGH = 60  # people, by effective number, whom a kernel must hold
_WIDEST = 10.0
_APART = 1e-3  # neighbouring quantiles of a logarithm are at least this far apart


def stretch(age: Tensor) -> Tensor:
    """Returns the scale on which growth is about even: ln(age + 0.5)."""
    return torch.log(age + 0.5)


@dataclass(frozen=True)
class Row:
    """What a chart says of some people.

    Attributes:
        quantiles: The quantiles of the logarithm at :data:`SCORES`, with shape :math:`(n, 15)`.
    """

    quantiles: Tensor

    def score(self, value: Tensor) -> Tensor:
        """Returns the normal score of values, both with shape :math:`(n)`."""
        if compiled.here(self.quantiles, value):
            return self._compiled("score", value)
        row, at = self.quantiles, torch.log(value)[:, None]
        first, step = GRID
        upper = torch.searchsorted(row.contiguous(), at).clamp(1, len(SCORES) - 1)
        low, high = row.gather(1, upper - 1), row.gather(1, upper)
        return (first + step * (upper - 1 + (at - low) / (high - low)))[:, 0]

    def value(self, score: Tensor) -> Tensor:
        """Returns the values that stand at normal scores, both with shape :math:`(n)`."""
        if compiled.here(self.quantiles, score):
            return self._compiled("value", score)
        first, step = GRID
        at = (score - first) / step
        lower = at.long().clamp(0, len(SCORES) - 2)
        low, high = (self.quantiles.gather(1, side[:, None])[:, 0] for side in (lower, lower + 1))
        return torch.exp(torch.lerp(low, high, at - lower))

    def _compiled(self, kernel: str, numbers: Tensor) -> Tensor:
        from vpop import knots_kernel

        look_up = getattr(knots_kernel, kernel)
        return compiled.fill(look_up, self.quantiles, numbers, *GRID, into=torch.empty_like(numbers))

    def density(self, value: Tensor) -> Tensor:
        """Returns the density of the logarithm of values, both with shape :math:`(n)`."""
        step = 1e-3
        z = self.score(value)
        slope = (self.score(value * (1 + step)) - z) / step
        return torch.exp(-0.5 * z**2) / (2 * math.pi) ** 0.5 * slope


@dataclass(frozen=True)
class Growth:
    """A growth chart of the logarithm of a quantity.

    Attributes:
        quantiles: By sex (female, male), age (:data:`KNOTS`) and score (:data:`SCORES`), rising along the
            last, with shape :math:`(2, 37, 15)`.
    """

    quantiles: Tensor

    @classmethod
    def fit(cls, value: Tensor, sex: Tensor, age: Tensor, weights: Tensor) -> Growth:
        """Learns a chart.

        Arguments:
            value: Positive values, NaN where missing, with shape :math:`(n)`.
            sex: 0 female, 1 male, with shape :math:`(n)`.
            age: The ages [year], with shape :math:`(n)`.
            weights: The weights, with shape :math:`(n)`.
        """
        known = torch.isfinite(value)
        if int(known.sum()) < 2:  # no one has it: a chart that changes nothing
            return cls(SCORES.expand(2, len(KNOTS), -1).clone())
        charts = []
        for one in (0.0, 1.0):
            chosen = known & (sex == one)
            if int(chosen.sum()) < 2:
                chosen = known  # one sex only: the other borrows its chart
            charts.append(_chart(torch.log(value[chosen]), age[chosen], weights[chosen]))
        return cls(torch.stack(charts))

    def score(self, value: Tensor, sex: Tensor, age: Tensor) -> Tensor:
        """Returns the normal score of values, all with shape :math:`(n)`."""
        return self.row(sex, age).score(value)

    def density(self, value: Tensor, sex: Tensor, age: Tensor) -> Tensor:
        """Returns the density of the logarithm of values, all with shape :math:`(n)`."""
        return self.row(sex, age).density(value)

    def value(self, score: Tensor, sex: Tensor, age: Tensor) -> Tensor:
        """Returns the values that stand at normal scores, all with shape :math:`(n)`."""
        return self.row(sex, age).value(score)

    def row(self, sex: Tensor, age: Tensor) -> Row:
        """Returns the chart's row for each person of sex and age, both with shape :math:`(n)`."""
        return Row(between_knots(self.quantiles, sex, age))


def rows(charts: Sequence[Growth], sex: Tensor, age: Tensor) -> list[Row]:
    """Returns the rows of several charts for the same people, who are looked up once."""
    together = torch.cat([chart.quantiles for chart in charts], -1)
    return [Row(part) for part in between_knots(together, sex, age).chunk(len(charts), -1)]


def between_knots(table: Tensor, sex: Tensor, age: Tensor) -> Tensor:
    """Interpolates a table by sex and age.

    Arguments:
        table: By sex (female, male) and age (:data:`KNOTS`), with shape :math:`(2, 37, k)`.
        sex: With shape :math:`(n)`.
        age: The ages [year], with shape :math:`(n)`; held constant beyond the knots.

    Returns:
        The rows, with shape :math:`(n, k)`.
    """
    knots, at = among_knots(age)
    if compiled.here(table, sex, age):
        from vpop import knots_kernel

        rows = table.new_empty(len(age), table.shape[-1])
        return compiled.fill(knots_kernel.between, table.contiguous(), knots, sex, at, into=rows)
    upper = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    share = (at - knots[upper - 1]) / (knots[upper] - knots[upper - 1])
    row = sex.round().long()
    return torch.lerp(table[row, upper - 1], table[row, upper], share[:, None])


def among_knots(age: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the knots and ages, both on the scale of growth; ages beyond the knots come to their ends."""
    knots = stretch(torch.tensor(KNOTS, dtype=age.dtype))
    return knots, stretch(age).clamp(knots[0], knots[-1])


def place(at: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Returns after which knot positions are, and how far on the way to the next, both with shape (n).

    Arguments:
        at: The positions, with shape :math:`(n)`, from the first knot to the last.
        knots: The knots, rising, with shape :math:`(k)`; of one alone nothing is ever on the way.
    """
    if len(knots) == 1:
        return torch.zeros_like(at, dtype=torch.long), torch.zeros_like(at)
    upper = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    return upper - 1, (at - knots[upper - 1]) / (knots[upper] - knots[upper - 1])


def hats(at: Tensor, knots: Tensor) -> Tensor:
    """Returns the weights of a straight line between knots, with shape (n, k); arguments of :func:`place`."""
    lower, share = place(at, knots)
    found = torch.zeros(len(at), len(knots), dtype=at.dtype)
    if len(knots) > 1:
        found.scatter_(1, lower[:, None] + 1, share[:, None])
    return found.scatter_(1, lower[:, None], 1.0 - share[:, None])


def kernel(knot: float, age: Tensor, weights: Tensor) -> Tensor:
    """Returns how much each person weighs in at an age; the weights sum to 1.

    The kernel widens until enough people weigh in: a survey has few of a given month.

    Arguments:
        knot: The age [year], one of :data:`KNOTS`.
        age: The people's ages, with shape :math:`(n)`.
        weights: Their weights, with shape :math:`(n)`.
    """
    distance = stretch(age) - math.log(knot + 0.5)
    width = _width(knot)
    while True:
        near = weights * torch.exp(-0.5 * (distance / width) ** 2)
        effective = float(near.sum() ** 2 / (near**2).sum().clamp(min=1e-300))
        if effective >= min(_ENOUGH, len(age) / 4) or width > _WIDEST:
            return near / near.sum()
        width *= 1.5


def _width(knot: float) -> float:
    at = KNOTS.index(knot)
    near = [math.log(age + 0.5) for age in KNOTS[max(at - 1, 0) : at + 2]]
    return max(_BANDWIDTH, _OVERLAP * (near[-1] - near[0]) / (len(near) - 1))


def _chart(value: Tensor, age: Tensor, weights: Tensor) -> Tensor:
    """Returns the quantiles of one sex, with shape :math:`(37, 15)`."""
    return torch.stack([_quantiles_at(knot, value, age, weights) for knot in KNOTS])


def _quantiles_at(knot: float, value: Tensor, age: Tensor, weights: Tensor) -> Tensor:
    """Slides the neighbours along a straight line to the knot and takes their quantiles."""
    near, t = kernel(knot, age, weights), stretch(age)
    centre = (near * t).sum()
    slope = (near * (t - centre) * value).sum() / ((near * (t - centre) ** 2).sum() + 1e-6)
    there = value + slope * (math.log(knot + 0.5) - t)
    return rising(weighted_quantiles(there, near, ndtr(SCORES)))


def rising(quantiles: Tensor) -> Tensor:
    """Returns quantiles of shape (*, 15) with neighbours at least a trifle apart."""
    apart = _APART * torch.arange(len(SCORES), dtype=quantiles.dtype)
    return torch.cummax(quantiles - apart, -1).values + apart
