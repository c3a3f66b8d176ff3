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

from vpop import compiled

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
    def around(
        cls, typical: Tensor, bounds: tuple[Tensor, Tensor], spread: Tensor | float = 0.25
    ) -> Interval:
        """Returns the interval between two bounds with the score centred on a typical value."""
        lower, upper = bounds
        centre = torch.log(typical).expand_as(lower)
        return cls(lower, upper, centre, torch.as_tensor(spread).to(lower).expand_as(lower))

    def within(self, lower: Tensor, upper: Tensor) -> Interval:
        """Returns the interval cut to tighter bounds, with the scores unchanged."""
        return self._replace(lower=torch.maximum(self.lower, lower), upper=torch.minimum(self.upper, upper))

    def inside(self) -> Interval:
        """Returns the interval with its bounds drawn together by the margin."""
        return self._replace(lower=self.lower * (1 + MARGIN), upper=self.upper * (1 - MARGIN))


def _tail(interval: Interval) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the scores of the two bounds and a sign, mirrored into the lower tail.

    There float64 resolves every probability, however far from the centre the interval lies.
    """
    low = (torch.log(interval.lower) - interval.centre) / interval.spread
    high = (torch.log(interval.upper) - interval.centre) / interval.spread
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    nearer = -middle.abs()
    return nearer - half, nearer + half, torch.copysign(torch.ones_like(middle), -middle)


def _encode(value: Tensor, interval: Interval) -> Tensor:
    first, last, sign = _tail(interval)
    score = sign * (torch.log(value) - interval.centre) / interval.spread
    share = (ndtr(score) - ndtr(first)) / (ndtr(last) - ndtr(first))
    rest = (ndtr(last) - ndtr(score)) / (ndtr(last) - ndtr(first))
    return sign * torch.where(share < 0.5, ndtri(share), -ndtri(rest))


def _decode(free: Tensor, interval: Interval) -> Tensor:
    first, last, sign = _tail(interval)
    score = ndtri(torch.lerp(ndtr(first), ndtr(last), ndtr(free * sign)))
    score = torch.minimum(torch.maximum(score, first), last) * sign
    return torch.exp(interval.centre + interval.spread * score)


def encode(value: Tensor, interval: Interval) -> Tensor:
    """Maps values inside their interval to the real line.

    Arguments:
        value: The values, with shape :math:`(*)`.
        interval: Their intervals, broadcastable to :math:`(*)`.

    Returns:
        The free numbers, with shape :math:`(*)`; not finite where a value is outside its interval.

    >>> one, two, four = torch.tensor([1.0, 2.0, 4.0]).double()
    >>> bool(encode(two, Interval.around(two, (one, four))).abs() < 1e-6)
    True
    """
    return _encode(value, interval.inside())


def decode(free: Tensor, interval: Interval) -> Tensor:
    """Maps free numbers to values strictly inside their interval: the inverse of :func:`encode`.

    Arguments:
        free: The free numbers, with shape :math:`(*)`.
        interval: The intervals, broadcastable to :math:`(*)`.

    Returns:
        The values, with shape :math:`(*)`.
    """
    if free.dim() == 1 and compiled.here(free, *interval):
        from vpop import intervals_kernel

        fields = (field.contiguous() for field in (free, *interval))
        return compiled.fill(intervals_kernel.decode, *fields, into=torch.empty_like(free))
    return _decode(free, interval.inside())


def _one_by_one(parts: Interval) -> tuple[list[Interval], list[tuple[Tensor, Tensor]]]:
    """Returns each part, and between what the parts after it sum to, with fields of shape :math:`(*)`."""
    fields = [field.movedim(-1, 0).contiguous() for field in parts]
    low, high = (bound.flip(0).cumsum(0).flip(0) - bound for bound in fields[:2])
    return [Interval(*part) for part in zip(*fields, strict=True)], list(zip(low, high, strict=True))


def split(free: Tensor, total: Tensor, parts: Interval) -> Tensor:
    r"""Divides a whole into parts, each inside its own interval, that sum to it exactly.

    Arguments:
        free: The free numbers of all parts but the last, with shape :math:`(*, k-1)`.
        total: The whole, with shape :math:`(*)`.
        parts: The intervals, with fields of shape :math:`(*, k)`; see :func:`infeasible`.

    Returns:
        The parts, with shape :math:`(*, k)`.
    """
    if free.dim() == 2 and compiled.here(free, total, *parts):
        from vpop import intervals_kernel

        first = (field.T.contiguous() for field in (free, *parts))
        divided = free.new_empty(parts.lower.shape[::-1])
        return compiled.fill(intervals_kernel.split, total, *first, into=divided).T
    each, later = _one_by_one(parts.inside())
    left, values = total, []
    for x, part, (low, high) in zip(free.movedim(-1, 0).contiguous(), each, later, strict=False):
        values.append(_decode(x, part.within(left - high, left - low)))
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
    each, later = _one_by_one(parts.inside())
    left, free = values.sum(-1), []
    for value, part, (low, high) in list(zip(values.movedim(-1, 0), each, later, strict=True))[:-1]:
        free.append(_encode(value, part.within(left - high, left - low)))
        left = left - value
    return torch.stack(free, dim=-1)


def infeasible(total: Tensor, parts: Interval) -> Tensor:
    """Returns where the intervals cannot meet their whole: -1 too small a whole, +1 too large, else 0.

    Arguments:
        total: The whole, with shape :math:`(*)`.
        parts: The intervals, with fields of shape :math:`(*, k)`.
    """
    parts = parts.inside()
    too_small = total < parts.lower.sum(-1)
    too_large = total > parts.upper.sum(-1)
    return too_large.to(torch.int8) - too_small.to(torch.int8)
