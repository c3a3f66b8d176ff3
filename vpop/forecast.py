r"""How far inside a request a person will be, foretold from the noise of which her body is made.

A body is a function of who a person is and of standard normal noise :math:`z`. By how much it meets a
request, its slack :math:`s` (:meth:`vpop.where.Where.slack`), is foretold by a line whose slopes depend on
sex and age,

.. math:: f = \beta \cdot d + \sum_k m_k \, (\alpha_k + \gamma_k \cdot z)

with :math:`d` what the network is told of a person and :math:`m` one, sex, and bumps of age. What foretells,
the line or a body drawn roughly, is judged by people whose slack is known: around :math:`a + b f` it is
normal with the spread :math:`\sigma` of what is left. So :math:`P(s \ge 0) = \Phi((a + b f)/\sigma)` says how
many of those who qualify lie below any forecast, and there it is cut. [ours]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vpop.denoise import YOUNGEST, Denoiser
from vpop.intervals import ndtr

LOST = 3e-4  # the share of those who qualify that a cut may lose
_BUMPS = (-1.0, 0.0, 1.0, 2.0, 3.0, 3.7, 4.3)  # ln years
_RIDGE = 1.0  # people's worth of belief that a slope is 0


@dataclass(frozen=True)
class Line:
    """A line in the noise, other for each sex and age.

    Attributes:
        base: What counts whatever the noise, with shape :math:`(p)`.
        slopes: With shape :math:`(k, 1 + d)`.
    """

    base: Tensor
    slopes: Tensor

    @classmethod
    def fit(cls, people: Mapping[str, Tensor], noise: Tensor, slack: Tensor, weights: Tensor) -> Line:
        """Learns the line by weighted least squares; n people, noise of shape (n, d)."""
        described, bumps = Denoiser.describe(**people), _bumps(people)
        products = (bumps[:, :, None] * _with_one(noise.double())[:, None, :]).flatten(1)
        features = torch.cat([described, products], 1)
        weighted = features * weights[:, None]
        ridge = _RIDGE * torch.eye(features.shape[1], dtype=torch.float64)
        found = torch.linalg.solve(weighted.T @ features + ridge, weighted.T @ slack)
        p = described.shape[1]
        return cls(found[:p], found[p:].reshape(bumps.shape[1], -1).float())

    def __call__(self, people: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """Returns the forecast of n people, with shape :math:`(n)`."""
        told = Denoiser.describe(**people) @ self.base
        return told + (_bumps(people) * (_with_one(noise) @ self.slopes.T)).sum(-1)


def _with_one(noise: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(noise[:, :1]), noise], 1)


def _bumps(people: Mapping[str, Tensor]) -> Tensor:
    """Returns one, sex and the bumps of age, with shape :math:`(n, k)`."""
    log_age = torch.log(people["age"].clamp(min=YOUNGEST))[:, None]
    sex = 2.0 * people["sex"][:, None] - 1.0
    centres = torch.tensor(_BUMPS, dtype=torch.float64)
    return torch.cat([torch.ones_like(sex), sex, torch.exp(-((log_age - centres) ** 2))], 1)


@dataclass(frozen=True)
class Trust:
    """What the slack of people is, given a forecast: normal around a + b f, with spread sigma."""

    a: Tensor
    b: Tensor
    sigma: Tensor

    @classmethod
    def fit(cls, forecast: Tensor, slack: Tensor) -> Trust:
        """Learns from people of whom both are known, with shape :math:`(n)`."""
        away = forecast - forecast.mean()
        b = (away @ slack) / (away @ away).clamp(min=1e-12)
        a = slack.mean() - b * forecast.mean()
        error = slack - a - b * forecast
        return cls(a, b, error.square().mean().sqrt().clamp(min=1e-6))

    def cut(self, forecast: Tensor, least: float, kept: float, caution: float = 1.0) -> float:
        """Returns the forecast below which lie at most :data:`LOST` of those with a slack of ``least``.

        Arguments:
            forecast: Of people as they are drawn, with shape :math:`(n)`.
            least: The slack that is wanted.
            kept: The share of people that lies above whatever is believed.
            caution: What the spread is multiplied by, where errors have longer tails than the normal.
        """
        rising = forecast.sort().values
        qualify = ndtr((self.a + self.b * rising - least) / (caution * self.sigma))
        below = int((qualify.cumsum(0) <= LOST * qualify.sum()).sum())
        return float(rising[min(below, int((1.0 - kept) * len(rising)))])
