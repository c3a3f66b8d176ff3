r"""Exact maps between open intervals and the real line, and between parts of a whole and free numbers.

A value :math:`v \in (lo, hi)` has a chart :math:`\ell = \ln v` and a standard score
:math:`z = (\ell - c)/s`. With :math:`a, b` the scores of the two bounds,

.. math:: x = \Phi^{-1}\!\left(\frac{\Phi(z) - \Phi(a)}{\Phi(b) - \Phi(a)}\right)

runs over all of :math:`\mathbb R`, is close to :math:`z` wherever the bounds are far, and so is smooth
where a bound jumps (at 18 years, say). A value drawn as :math:`x` cannot leave its interval.

Parts that must sum to a whole are taken one after another. With :math:`R` what is left of the whole,
part :math:`i` lies between :math:`\max(lo_i, R - \sum_{j>i} hi_j)` and
:math:`\min(hi_i, R - \sum_{j>i} lo_j)`; the last part is what remains, and within its bounds by
construction.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import ndtri

# A law may be checked in other arithmetic than a body was made in: keep this far inside its bounds.
MARGIN = 1e-7


def ndtr(score: Tensor) -> Tensor:
    """Returns the normal distribution function; ``torch.special.ndtr`` loses its lower tail."""
    return 0.5 * torch.erfc(-score * 0.5**0.5)


class Interval(NamedTuple):
    """An open interval of a positive quantity, with the centre and spread of its score.

    Attributes:
        lower: The lower bound, positive, in the quantity's unit.
        upper: The upper bound.
        centre: The logarithm of the value whose score is 0.
        spread: The difference in logarithm that is one unit of score.
    """

    lower: Tensor
    upper: Tensor
    centre: Tensor
    spread: Tensor

    @classmethod
    def between(cls, lower: Tensor, upper: Tensor) -> Interval:
        """Returns the interval whose centre is the geometric mean of its bounds, six spreads wide."""
        lower, upper = torch.broadcast_tensors(lower, upper)
        low, high = torch.log(lower), torch.log(upper)
        return cls(lower, upper, (low + high) / 2, (high - low) / 6)

    def within(self, lower: Tensor, upper: Tensor) -> Interval:
        """Returns the interval cut to tighter bounds, with the scores unchanged."""
        return self._replace(lower=torch.maximum(self.lower, lower), upper=torch.minimum(self.upper, upper))


def _scores(interval: Interval) -> tuple[Tensor, Tensor]:
    """Returns the scores of the two bounds, drawn together by the margin."""
    low = torch.log(interval.lower) + MARGIN
    high = torch.log(interval.upper) - MARGIN
    return (low - interval.centre) / interval.spread, (high - interval.centre) / interval.spread


def encode(value: Tensor, interval: Interval) -> Tensor:
    """Maps values inside their interval to the real line.

    Arguments:
        value: The values, with shape :math:`(*)`.
        interval: Their intervals, broadcastable to :math:`(*)`.

    Returns:
        The free numbers, with shape :math:`(*)`; not finite where a value is outside its interval.

    >>> wide = Interval.between(torch.tensor(1.0).double(), torch.tensor(4.0).double())
    >>> bool(encode(torch.tensor(2.0).double(), wide).abs() < 1e-12)
    True
    """
    low, high = _scores(interval)
    score = (torch.log(value) - interval.centre) / interval.spread
    # The mirror image keeps every probability in the lower tail, where float64 resolves it.
    sign = torch.where(low + high > 0, -1.0, 1.0).to(score.dtype)
    first = torch.where(sign > 0, low, -high)
    last = torch.where(sign > 0, high, -low)
    score = score * sign
    share = (ndtr(score) - ndtr(first)) / (ndtr(last) - ndtr(first))
    rest = (ndtr(last) - ndtr(score)) / (ndtr(last) - ndtr(first))
    return sign * torch.where(share < 0.5, ndtri(share), -ndtri(rest))


def decode(free: Tensor, interval: Interval) -> Tensor:
    """Maps free numbers to values strictly inside their interval: the inverse of :func:`encode`.

    Arguments:
        free: The free numbers, with shape :math:`(*)`.
        interval: The intervals, broadcastable to :math:`(*)`.

    Returns:
        The values, with shape :math:`(*)`.
    """
    low, high = _scores(interval)
    sign = torch.where(low + high > 0, -1.0, 1.0).to(free.dtype)
    first = torch.where(sign > 0, low, -high)
    last = torch.where(sign > 0, high, -low)
    free = free * sign
    score = ndtri(ndtr(first) * ndtr(-free) + ndtr(last) * ndtr(free))
    score = torch.minimum(torch.maximum(score, first), last) * sign
    return torch.exp(interval.centre + interval.spread * score)


def _later(bounds: Tensor) -> Tensor:
    """Returns for each part the sum over the parts after it, with shape :math:`(*, k)`."""
    return bounds.flip(-1).cumsum(-1).flip(-1) - bounds


def _moving(parts: Interval, i: int, left: Tensor, later: tuple[Tensor, Tensor]) -> Interval:
    """Returns the bounds of part ``i`` that leave room for the parts after it."""
    part = Interval(*(field[..., i] for field in parts))
    return part.within(left - later[1][..., i], left - later[0][..., i])


def split(free: Tensor, total: Tensor, parts: Interval) -> Tensor:
    r"""Divides a whole into parts, each inside its own interval, that sum to it exactly.

    Arguments:
        free: The free numbers of all parts but the last, with shape :math:`(*, k-1)`.
        total: The whole, with shape :math:`(*)`.
        parts: The intervals, with fields of shape :math:`(*, k)`; see :func:`infeasible`.

    Returns:
        The parts, with shape :math:`(*, k)`.
    """
    later = _later(parts.lower), _later(parts.upper)
    left, values = total, []
    for i in range(parts.lower.shape[-1] - 1):
        values.append(decode(free[..., i], _moving(parts, i, left, later)))
        left = left - values[-1]
    return torch.stack([*values, left], dim=-1)


def join(values: Tensor, parts: Interval) -> Tensor:
    """Maps parts of a whole to free numbers: the inverse of :func:`split`.

    Arguments:
        values: The parts, with shape :math:`(*, k)`.
        parts: The intervals, with fields of shape :math:`(*, k)`.

    Returns:
        The free numbers of all parts but the last, with shape :math:`(*, k-1)`.
    """
    later = _later(parts.lower), _later(parts.upper)
    left, free = values.sum(-1), []
    for i in range(values.shape[-1] - 1):
        free.append(encode(values[..., i], _moving(parts, i, left, later)))
        left = left - values[..., i]
    return torch.stack(free, dim=-1)


def infeasible(total: Tensor, parts: Interval) -> Tensor:
    """Returns where the intervals cannot meet their whole: -1 too small a whole, +1 too large, else 0.

    Arguments:
        total: The whole, with shape :math:`(*)`.
        parts: The intervals, with fields of shape :math:`(*, k)`.
    """
    too_small = total < parts.lower.sum(-1) * (1 + MARGIN)
    too_large = total > parts.upper.sum(-1) * (1 - MARGIN)
    return too_large.to(torch.int8) - too_small.to(torch.int8)
