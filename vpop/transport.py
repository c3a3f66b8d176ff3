r"""Transport: how a network's draws hang together, brought to how people do.

Of one sex and age, a network draws what is inside a body a few hundredths of a standard deviation too widely,
a one-step student more. The scores of :data:`vpop.coordinates.WHO`, u, may be given and stay as they are. Of
the others, v, the means :math:`B [1, u]` and the covariances C about them are known, in people (p) and in the
network's own draws (d); a draw moves from the one Gaussian to the other by the shortest way,

.. math:: v' = B_p [1, u] + T (v - B_d [1, u]), \quad
    T = C_d^{-1/2} \left(C_d^{1/2} C_p C_d^{1/2}\right)^{1/2} C_d^{-1/2}

and keeps whatever about it is not Gaussian. Maps stand at some ages of each sex, people between two ages.

References:
    Dowson, Landau (1982). The Frechet distance between multivariate normal distributions.
    J Multivariate Anal 12:450. https://doi.org/10.1016/0047-259X(82)90077-X
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vpop.calibration import Population
from vpop.coordinates import WHO
from vpop.growth import hats, place, stretch

AGES = (0.1, 1.5, 6.0, 14.0, 25.0, 45.0, 70.0)  # years
_GIVEN = 1 + len(WHO)
_DOUBT = 200.0  # [ours] bodies of an age that must speak for a change before it is half made


@dataclass(frozen=True)
class Transport:
    """Affine maps of scores by sex and age.

    Attributes:
        maps: By sex (female, male) and age (:data:`AGES`): takes [1, u, v] to v', with shape
            :math:`(2, 7, 1 + d, d - 4)`.
    """

    maps: Tensor

    @classmethod
    def fit(cls, drawn: Population, people: Population) -> Transport:
        """Learns the maps that give drawn scores the means and covariances of the people's."""
        ages = list(zip(*(hats(*_among_ages(some.age)).T for some in (drawn, people)), strict=True))
        maps = [
            _map(_moments(drawn, own, sex), _moments(people, theirs, sex))
            for sex in (0.0, 1.0)
            for own, theirs in ages
        ]
        return cls(torch.stack(maps).unflatten(0, (2, len(AGES))))

    def apply(self, scores: Tensor, people: Mapping[str, Tensor]) -> Tensor:
        """Moves drawn scores of people with sex and age, with shape :math:`(n, d)`; WHO's stay."""
        lower, share = place(*_among_ages(people["age"]))
        group = people["sex"].round().long() * len(AGES) + lower
        order = group.argsort(stable=True)  # those between the same two maps stand together
        maps = self.maps.to(scores).flatten(0, 1)
        sizes = torch.bincount(group, minlength=len(maps) - 1).tolist()
        rows = _with_one(scores).index_select(0, order).split(sizes)
        shares = share.to(scores)[order, None].split(sizes)
        found = [
            torch.lerp(some @ before, some @ after, own)
            for some, own, before, after in zip(rows, shares, maps[:-1], maps[1:], strict=True)
        ]
        moved = scores.clone()
        moved[order, len(WHO) :] = torch.cat(found)
        return moved


def _with_one(scores: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(scores[:, :1]), scores], -1)


def _among_ages(age: Tensor) -> tuple[Tensor, Tensor]:
    """Returns ages and :data:`AGES` on the scale of growth; ages beyond them come to their ends."""
    knots = stretch(torch.tensor(AGES, dtype=age.dtype))
    return stretch(age).clamp(knots[0], knots[-1]), knots


def _moments(population: Population, near: Tensor, sex: float) -> tuple[Tensor, float]:
    """Returns the mean of :math:`[1, x]^T [1, x]` near an age, and how many bodies speak for it."""
    weights = population.weights * near * (population.sex == sex)
    rows = _with_one(torch.nan_to_num(population.free))
    count = float(weights.sum() ** 2 / (weights**2).sum().clamp(min=1e-300))
    share = weights / weights.sum().clamp(min=1e-300)
    return (rows.T * share) @ rows, count


def _map(drawn: tuple[Tensor, float], people: tuple[Tensor, float]) -> Tensor:
    """Returns the map of one sex and age; nothing moves where no one is."""
    (own, n), (theirs, m) = drawn, people
    trust = 1.0 / (1.0 + _DOUBT * (1.0 / max(n, 1e-9) + 1.0 / max(m, 1e-9)))
    own = torch.lerp(torch.eye(len(own), dtype=own.dtype), own, n / (n + 1.0))
    (B_d, C_d), (B_p, C_p) = _line(own), _line(torch.lerp(own, theirs, trust))
    root = _power(C_d, 0.5)
    inverse = _power(C_d, -0.5)
    T = inverse @ _power(root @ C_p @ root, 0.5) @ inverse
    return torch.cat([B_p - B_d @ T, T])


def _line(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the regression on [1, u] and the covariance about it, shapes (5, d - 4) and (d - 4, d - 4)."""
    given, both = moments[:_GIVEN, :_GIVEN], moments[:_GIVEN, _GIVEN:]
    B = torch.linalg.solve(given + 1e-4 * torch.eye(_GIVEN, dtype=given.dtype), both)
    return B, moments[_GIVEN:, _GIVEN:] - both.T @ B


def _power(C: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(0.5 * (C + C.T))
    return (vectors * values.clamp(min=1e-6) ** exponent) @ vectors.T
