r"""What a law is, and for whom, from which numbers, its bands are made.

A law holds for a body where its quantity :math:`x` lies in a band :math:`[l, u]`. Widening a band by
:math:`w \ge 1` gives :math:`[l/w, uw]`, or :math:`[c - wh, c + wh]` with centre :math:`c` and half-width
:math:`h` where the law speaks of a difference from an expected value. The *residual* of a body is the
smallest :math:`w` that takes it in: at most 1 means that the law holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.laws.reference import between_sexes
from pbpk.physiology import Physiology

Bounds = tuple[Tensor, Tensor]
Number = Callable[[Physiology], Tensor]
Band = Callable[[Physiology], Bounds]

ADULT_AGE = 18.0  # year


@dataclass(frozen=True)
class Law:
    """One law: for whom it speaks, of which quantity, and the band that holds it.

    Attributes:
        id: ``"C26"``.
        title: A short name for tables.
        kind: P, J or R.
        unit: The unit of quantity and band.
        source: Where the band comes from.
        applies: Takes a :class:`Physiology`, returns for whom the law speaks, bool with shape :math:`(*)`.
        quantity: Takes a :class:`Physiology`, returns the quantity, with shape :math:`(*)`.
        band: Takes a :class:`Physiology`, returns the lower and the upper bound, each :math:`(*)`.
        difference: The band is a difference from an expected value, and widens about its centre.
        counted: False for what is reported beside the laws and never counted as a violation.
        any_species: The law holds for animals too.
        organ: The one organ whose mass the quantity measures, if it does.
        per_mass: The quantity over the mass of ``organ``.
        of_reference: The band over the reference mass of ``organ``, where it is a multiple of that.
    """

    id: str
    title: str
    kind: str
    unit: str
    source: str
    applies: Number
    quantity: Number
    band: Band
    difference: bool = False
    counted: bool = True
    any_species: bool = False
    organ: str | None = None
    per_mass: float = 1.0
    of_reference: tuple[float, float] | None = None

    def residual(self, p: Physiology) -> Tensor:
        """Returns how many times the band must be widened to hold each body, with shape :math:`(*)`.

        1 or less: the law holds. Infinite: no widening helps (the quantity is not a number, or
        negative). NaN: the law does not speak of this body. Differentiable where finite.
        """
        x, (lower, upper) = self.quantity(p), self.band(p)
        if self.difference:
            width = (x - (lower + upper) / 2).abs() / ((upper - lower) / 2)
        else:
            width = torch.maximum(lower / x, x / upper)
            width = torch.where(x > 0, width, torch.inf)
        width = torch.where(torch.isfinite(x) & ~torch.isnan(width), width, torch.inf)
        return torch.where(self.applies(p), width, torch.nan)


def everyone(p: Physiology) -> Tensor:
    """Returns True for each body."""
    return torch.ones_like(p.BW, dtype=torch.bool)


def adults(p: Physiology) -> Tensor:
    """Returns who is 18 years or older."""
    return p.age >= ADULT_AGE


def minors(p: Physiology) -> Tensor:
    """Returns who is younger than 18 years."""
    return p.age < ADULT_AGE


def from_age(years: float) -> Number:
    """Returns the function that tells who is ``years`` old or older."""
    return lambda p: p.age >= years


def under_age(years: float) -> Number:
    """Returns the function that tells who is younger than ``years``."""
    return lambda p: p.age < years


def either(condition: Number, yes: float, no: float) -> Number:
    """Returns the bound that is ``yes`` where the condition holds and ``no`` elsewhere."""
    return lambda p: torch.where(condition(p), yes, no).to(p.BW)


def always(bound: float) -> Number:
    """Returns the bound that is the same for everyone."""
    return lambda p: torch.full_like(p.BW, bound)


def band(lower: float | Number, upper: float | Number) -> Band:
    """Returns the band between two bounds, each a number or a function of the body."""
    low = lower if callable(lower) else always(lower)
    high = upper if callable(upper) else always(upper)
    return lambda p: (low(p), high(p))


def times(scale: Number, lower: float, upper: float) -> Band:
    """Returns the band from ``lower`` to ``upper`` times a size of the body."""

    def multiples(p: Physiology) -> Bounds:
        size = scale(p)
        return lower * size, upper * size

    return multiples


def by_sex(female: Band, male: Band) -> Band:
    """Returns a band for each sex; where the sex is unknown it lies between the two."""

    def between(p: Physiology) -> Bounds:
        lower, upper = (between_sexes(p.sex, f, m) for f, m in zip(female(p), male(p), strict=True))
        return lower, upper

    return between
