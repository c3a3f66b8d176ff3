r"""One quantity of the mammals: a power law, and deviations that relatives share.

.. math:: \ln x_s = a + b \ln BW_s + \sum_{l} (u_{l(s)} + v_{l(s)} \ln BW_s) + g_s + \epsilon_s

The sum runs over the superorder, order, family and genus of species :math:`s`; :math:`u_l \sim N(0,
\sigma_l^2)`, :math:`v_l \sim N(0, \tau_l^2)`, a species' own :math:`g \sim N(0, \sigma^2)`, the noise of a
median of :math:`n` values :math:`N(0, s^2 / n)`. That is a Gaussian process whose kernel counts the taxa
that two species share. The variances are found by maximum posterior probability, the rest is exact; what is
learnt is the normal distribution of :math:`(a, b, u, v)`, and the weights keep no more: the law and the
effects of superorders, orders and families. The table of species is not in them, though the effect of a
family of which one species was measured comes close to that species' value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from allometry.mammals import Mammals
from allometry.taxonomy import LEVELS, UNKNOWN, Taxon

_START = (-1.0, -1.0, -1.5, -1.5, -2.0, -2.0, -3.0, -3.0, -1.5, -2.0)  # ln of the ten deviations
_WEAK = 0.05  # of the quadratic penalty on them, towards e^-1.5 [ours]
_FLAT = 25.0  # the variance of a and b before any data
_STEPS = 80
_KEPT = LEVELS[:-1]  # levels whose effects are kept: a genus is known by its family


@dataclass(frozen=True)
class Clades:
    r"""What was learnt of one quantity.

    Attributes:
        names: The taxa whose effects are known, as ``level:name``.
        centre: The mean of :math:`\ln BW` in training.
        mean: Of :math:`(a, b, u, v)`, with shape (2 + 2n,) for n names.
        cov: Its covariance, with shape (2 + 2n, 2 + 2n).
        sd: The deviations :math:`\sigma_l` then :math:`\tau_l` of the four levels, :math:`\sigma`,
            :math:`s`, with shape (10,).
    """

    names: tuple[str, ...]
    centre: float
    mean: Tensor
    cov: Tensor
    sd: Tensor

    def at(self, x: Tensor, taxa: Sequence[Taxon]) -> tuple[Tensor, Tensor, Tensor]:
        r"""Foretells the quantity of new species.

        Arguments:
            x: :math:`\ln BW` [kg], with shape (m,).
            taxa: Where they stand, m of them; what is unknown of a place is marginalised.

        Returns:
            The mean of :math:`\ln x` with shape (m,), its covariance with shape (m, m), and the line
            :math:`a + b \ln BW` of all mammals with shape (m,).
        """
        weight = self._weights(x - self.centre, taxa)
        line = weight.clone()
        line[:, 2:] = 0.0
        unseen = _unseen(x - self.centre, taxa, set(self.names), self.sd)
        return weight @ self.mean, weight @ self.cov @ weight.T + unseen, line @ self.mean

    def _weights(self, x: Tensor, taxa: Sequence[Taxon]) -> Tensor:
        position = {name: i for i, name in enumerate(self.names)}
        weight = x.new_zeros(len(taxa), 2 + 2 * len(self.names))
        weight[:, 0], weight[:, 1] = 1.0, x
        for row, taxon in enumerate(taxa):
            for name in _names(taxon):
                if name in position:
                    at = 2 + position[name]
                    weight[row, at], weight[row, at + len(self.names)] = 1.0, x[row]
        return weight


def _names(taxon: Taxon) -> list[str]:
    return [f"{level}:{name}" for level, name in zip(LEVELS, taxon.path, strict=True) if name != UNKNOWN]


def _unseen(x: Tensor, taxa: Sequence[Taxon], known: set[str], sd: Tensor) -> Tensor:
    """Returns the covariance of the effects of taxa that training has not seen, and of the species itself."""
    n, levels = len(taxa), len(LEVELS)
    cov = sd[2 * levels] ** 2 * torch.eye(n, dtype=x.dtype)
    outer = torch.outer(x, x)
    for level in range(levels):
        names = [f"{LEVELS[level]}:{taxon.path[level]}" for taxon in taxa]
        new = [
            taxon.path[level] == UNKNOWN or name not in known for name, taxon in zip(names, taxa, strict=True)
        ]
        same = torch.tensor(
            [
                [
                    new[i]
                    and new[j]
                    and (i == j or (names[i] == names[j] and taxa[i].path[level] != UNKNOWN))
                    for j in range(n)
                ]
                for i in range(n)
            ]
        ).to(x)
        cov = cov + same * (sd[level] ** 2 + sd[levels + level] ** 2 * outer)
    return cov


def same_taxon(taxa: Sequence[Taxon]) -> Tensor:
    """Returns at each of :data:`LEVELS` which species share a taxon, with shape (levels, n, n)."""
    codes = []
    for level in range(len(LEVELS)):
        labels = [taxon.path[level] or f"{UNKNOWN}{i}" for i, taxon in enumerate(taxa)]
        position = {label: i for i, label in enumerate(dict.fromkeys(labels))}
        codes.append([position[label] for label in labels])
    code = torch.tensor(codes)
    return (code.unsqueeze(-1) == code.unsqueeze(-2)).double()


def _kernel(x: Tensor, same: Tensor, sd: Tensor) -> Tensor:
    """Returns the covariance of :math:`a + b x + u + v x` with shape (n, n)."""
    levels = len(same)
    outer = torch.outer(x, x)
    intercepts = torch.einsum("l,lij->ij", sd[:levels] ** 2, same)
    slopes = torch.einsum("l,lij->ij", sd[levels : 2 * levels] ** 2, same)
    return _FLAT * (1.0 + outer) + intercepts + slopes * outer


def _noise(count: Tensor, sd: Tensor) -> Tensor:
    return sd[-2] ** 2 + sd[-1] ** 2 / count


def deviations(mammals: Mammals) -> Tensor:
    """Finds the ten deviations of the model by maximum posterior probability, with shape (10,)."""
    x, same = mammals.x - mammals.x.mean(), same_taxon(mammals.taxa)
    logs = torch.tensor(_START, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        sd = logs.exp()
        factor = torch.linalg.cholesky(_kernel(x, same, sd) + torch.diag(_noise(mammals.count, sd)))
        white = torch.linalg.solve_triangular(factor, mammals.y.unsqueeze(-1), upper=False)
        misfit = 0.5 * (white**2).sum() + factor.diagonal().log().sum()
        return misfit + _WEAK * ((logs + 1.5) ** 2).sum()

    optimiser = torch.optim.LBFGS([logs], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
    return logs.detach().exp()


def learn(mammals: Mammals, sd: Tensor | None = None) -> Clades:
    """Learns the law and the effects of the taxa from many species.

    Arguments:
        mammals: The species.
        sd: The ten deviations; None finds them.
    """
    sd = deviations(mammals) if sd is None else sd
    centre = mammals.x.mean()
    x = mammals.x - centre
    every = dict.fromkeys(name for taxon in mammals.taxa for name in _names(taxon))
    names = tuple(name for name in every if name.partition(":")[0] in _KEPT)
    empty = Clades(names, float(centre), torch.zeros(0), torch.zeros(0), sd)
    weight = empty._weights(x, mammals.taxa)
    level = [LEVELS.index(name.partition(":")[0]) for name in names]
    prior = torch.cat([sd.new_full((2,), _FLAT), sd[level] ** 2, sd[[len(LEVELS) + i for i in level]] ** 2])
    cov = _kernel(x, same_taxon(mammals.taxa), sd) + torch.diag(_noise(mammals.count, sd))
    gain = torch.linalg.solve(cov, weight * prior).T  # (weights, n)
    return Clades(names, float(centre), gain @ mammals.y, torch.diag(prior) - gain @ (weight * prior), sd)


def leave_one_out(mammals: Mammals, sd: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Foretells each species from all others, in closed form.

    .. math:: y_i - \mu_i = [K^{-1} y]_i / [K^{-1}]_{ii}, \quad \sigma_i^2 = 1 / [K^{-1}]_{ii}

    Returns:
        The errors :math:`\mu_i - y_i` and the standard deviations :math:`\sigma_i`, each with shape (n,).

    References:
        Rasmussen and Williams (2006). Gaussian Processes for Machine Learning, eqs 5.10-5.12.
    """
    sd = deviations(mammals) if sd is None else sd
    x = mammals.x - mammals.x.mean()
    cov = _kernel(x, same_taxon(mammals.taxa), sd) + torch.diag(_noise(mammals.count, sd))
    precision = torch.linalg.inv(cov)
    return -(precision @ mammals.y) / precision.diagonal(), precision.diagonal().rsqrt()
