r"""What measured values say of the rest of a body: lines learnt from bodies drawn without them.

Of bodies with free numbers x (:mod:`vpop.coordinates`) and logarithms y of what is measured, the gain
:math:`K = S_{xy} S_{yy}^{-1}` says by how much x moves with y, and a Gaussian how likely y is. An ensemble is
either one person's, or of people of many ages: then the means of y follow sex, race and age, and the
covariances sex and age, by straight lines between some ages.

References:
    Evensen (2003). The ensemble Kalman filter. Ocean Dyn 53:343. https://doi.org/10.1007/s10236-003-0036-9
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.physiology import RACES
from vpop.growth import hats, place, stretch

_STEP = 0.35  # [ours] on the scale of growth, between two ages at which lines are learnt
_LEAST = 1e-3  # [ours] of a standard deviation of y: what more is known of it is rounding
_FEW = 1e-2  # [ours] bodies' worth of doubt of a mean


@dataclass(frozen=True)
class Gains:
    """What values say of some people.

    Attributes:
        gain: By how much each free number moves with the logarithm of each value, with shape
            :math:`(n, d, q)`.
        mean: The mean of the logarithms, with shape :math:`(n, q)`.
        covariance: Their covariance, with shape :math:`(n, q, q)`.
    """

    gain: Tensor
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of_each(cls, x: Tensor, y: Tensor) -> Gains:
        """Learns from an ensemble of each person, shapes (n, k, d) and (n, k, q), y NaN if unknown."""
        mean = y.mean(1)
        shares = torch.full_like(y[..., 0], 1.0 / y.shape[1])
        return cls._learnt(x - x.mean(1, keepdim=True), torch.nan_to_num(y - mean[:, None]), shares, mean)

    @classmethod
    def _learnt(cls, x: Tensor, y: Tensor, shares: Tensor, mean: Tensor) -> Gains:
        """Learns from deviations of shapes (g, k, d) and (g, k, q), with shares (g, k) that sum to 1."""
        weighted = (y * shares[..., None]).mT
        covariance = weighted @ y
        doubt = y.shape[-1] * (shares**2).sum(-1, keepdim=True)  # of a covariance from so few
        ridge = covariance.diagonal(dim1=-2, dim2=-1) * doubt + _LEAST**2
        covariance = covariance + torch.diag_embed(ridge)
        return cls(torch.linalg.solve(covariance, weighted @ x).mT, mean, covariance)

    @classmethod
    def join(cls, parts: Sequence[Gains]) -> Gains:
        """Returns the gains of all people, in their order."""
        return cls(
            *(torch.cat(fields) for fields in zip(*(vars(part).values() for part in parts), strict=True))
        )

    def __getitem__(self, which: Tensor) -> Gains:
        """Returns those of the people that a mask or positions choose."""
        return Gains(self.gain[which], self.mean[which], self.covariance[which])

    def move(self, miss: Tensor) -> Tensor:
        """Returns by how much free numbers, shape (n, d), move for logarithms that are off, shape (n, q)."""
        return (self.gain @ miss[..., None])[..., 0]

    def distance(self, miss: Tensor) -> Tensor:
        """Returns how many standard deviations the logarithms are off, with shape (n)."""
        root = torch.linalg.cholesky(self.covariance)
        return torch.linalg.solve_triangular(root, miss[..., None], upper=False)[..., 0].norm(dim=-1)

    def log_density(self, y: Tensor) -> Tensor:
        """Returns the log density of logarithms, shape (n, q), with shape (n)."""
        return torch.distributions.MultivariateNormal(self.mean, self.covariance).log_prob(y)


@dataclass(frozen=True)
class GainsByAge:
    """What values say of people of any sex, race and age.

    Attributes:
        knots: The ages, on the scale of growth, with shape :math:`(k)`.
        table: Gains at each sex (female, male) and knot, shapes :math:`(2k, ...)`; the mean is a race's 0.
        races: By how much the mean of each race differs, by sex, with shape :math:`(2, r, q)`.
    """

    knots: Tensor
    table: Gains
    races: Tensor

    @classmethod
    def fit(cls, people: Mapping[str, Tensor], x: Tensor, y: Tensor) -> GainsByAge:
        """Learns from bodies of people, with free numbers (n, d) and logarithms (n, q)."""
        at = stretch(people["age"])
        first, last = float(at.min()), float(at.max())
        knots = torch.linspace(first, last, 1 + round((last - first) / _STEP), dtype=at.dtype)
        near = hats(at, knots)
        race = torch.nn.functional.one_hot(people["race"].clamp(min=0), len(RACES)).to(y)
        basis = torch.cat([near, race[:, 1:]], -1)
        parts, races = [], []
        for sex in (0.0, 1.0):
            own = people["sex"] == sex if bool((people["sex"] == sex).any()) else people["sex"] >= 0.0
            B, centre = basis[own], y[own].mean(0)
            both = torch.cat([x[own], y[own] - centre], -1)
            line = torch.linalg.solve(B.T @ B + _FEW * torch.eye(B.shape[1], dtype=B.dtype), B.T @ both)
            left_x, left_y = (both - B @ line).split([x.shape[1], y.shape[1]], -1)
            shares = near[own].T / near[own].sum(0)[:, None].clamp(min=_FEW)
            mean = line[:, x.shape[1] :]
            k = len(knots)
            parts.append(
                Gains._learnt(left_x.expand(k, -1, -1), left_y.expand(k, -1, -1), shares, mean[:k] + centre)
            )
            races.append(torch.cat([torch.zeros_like(mean[:1]), mean[k:]]))
        return cls(knots, Gains.join(parts), torch.stack(races))

    def at(self, people: Mapping[str, Tensor]) -> Gains:
        """Returns what the values say of each of some people."""
        at = stretch(people["age"]).clamp(self.knots[0], self.knots[-1])
        lower, share = place(at, self.knots)
        sex = people["sex"].round().long()
        rows = sex * len(self.knots) + lower
        upper = rows + int(len(self.knots) > 1)
        found = []
        for name in ("gain", "mean", "covariance"):
            value = getattr(self.table, name)
            weight = share.view(-1, *[1] * (value.dim() - 1))
            found.append(torch.lerp(value[rows], value[upper], weight))
        gain, mean, covariance = found
        return Gains(gain, mean + self.races[sex, people["race"].clamp(min=0)], covariance)
