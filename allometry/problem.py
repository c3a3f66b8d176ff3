r"""What the networks of Neural Allometry are trained on: every fold's exact covariance, and the children.

For fold :math:`f` with what it may see, :math:`y`, the hierarchical model's prior mean :math:`\mu` and
covariance :math:`K`, and the networks' residual :math:`r_\theta`, the loss is

.. math:: \tfrac12 (y - \mu - r_\theta)^\top K^{-1} (y - \mu - r_\theta) + \frac{|\theta_{last}|^2}{2 s^2}
    + \frac{1}{2 \sigma^2} \sum_{children} (r_\theta(c) - r_\theta(c_{adult}) - d)^2,

where :math:`d` is what the growth law leaves of ICRP's children. Folds without people skip the last term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from allometry.clade import Clades
from allometry.consensus import Consensus
from allometry.flow import COORDINATES, Flow
from allometry.growth import children, growth
from allometry.hierarchical import NAMES, Hierarchical, observations, prior
from allometry.mammals import HEADS
from allometry.species import QUANTITIES
from allometry.taxonomy import TAXA, Taxon

_LAST_SD = 0.1  # s: how large the last layer may grow [ours]
_CHILD_SD = 0.15  # sigma: of ln of a child's quantity [ours]


def coordinates(x: Tensor, taxa: Sequence[Taxon], clades: Mapping[str, Clades], centre: Tensor) -> Tensor:
    """Returns where adults end on their paths, with shape (s, coordinates)."""
    c = x.new_zeros(len(x), COORDINATES)
    c[:, 0] = x - centre
    for i, head in enumerate(HEADS):
        mean, _, line = clades[head].at(x, taxa)
        c[:, 1 + i] = mean - line
    return c


class Problem:
    """The loss of all folds and members at once.

    Arguments:
        known: Every species.
        folds: The hierarchical models, one a fold.
        members: How many networks a fold.
    """

    def __init__(self, known: Consensus, folds: Sequence[Hierarchical], members: int) -> None:
        self.members = members
        taxa = tuple(TAXA[name] for name in known.species)
        y, var = observations(known)
        s, q, p = len(known.x), len(QUANTITIES), len(NAMES)
        self.precision = torch.zeros(len(folds), s * q, s * q, dtype=torch.float64)
        self.left = torch.zeros(len(folds), s * q, dtype=torch.float64)
        paths, self.human = [], torch.zeros(len(folds), dtype=torch.float64)
        self.at_human = known.species.index("human")
        organs = torch.arange(s * p).reshape(s, p)[:, :q].reshape(-1)
        for i, fold in enumerate(folds):
            seen = torch.tensor([name in fold.known.species for name in known.species])
            self.human[i] = float(seen[self.at_human])
            mean, cov = prior(known.x, taxa, fold.clades, fold.hyper, fold.known.x.mean())
            rows = (seen.unsqueeze(-1) & torch.isfinite(var))[:, :q].reshape(-1).nonzero().squeeze(-1)
            at = organs[rows]
            within = cov[at][:, at] + torch.diag(var.reshape(-1)[at])
            self.precision[i, rows.unsqueeze(-1), rows] = torch.linalg.inv(within)
            self.left[i, rows] = (y.reshape(-1) - mean)[at]
            paths.append(self._with_children(coordinates(known.x, taxa, fold.clades, fold.known.x.mean())))
        self.paths = torch.stack(paths).repeat_interleave(members, 0)
        self.s = s

    def _with_children(self, c: Tensor) -> Tensor:
        g, y, self.known_children = children()
        self.child = y - torch.stack([growth(value) for value in g.tolist()])
        young = c[self.at_human].expand(len(g), -1).clone()
        young[:, -1] = g
        return torch.cat([c, young])

    def loss(self, flow: Flow) -> Tensor:
        """Returns the penalised misfit, summed over folds and members."""
        found = flow(self.paths).unflatten(0, (-1, self.members))
        adults, young = found[..., : self.s, :], found[..., self.s :, :]
        left = self.left.unsqueeze(1) - adults.flatten(-2)
        misfit = 0.5 * torch.einsum("fmi,fij,fmj->", left, self.precision, left)
        grown = young - adults[..., self.at_human, :].unsqueeze(-2)
        wrong = (((grown - self.child) * self.known_children / _CHILD_SD) ** 2).sum((-1, -2))
        shrink = 0.5 * (flow.last**2).sum() / _LAST_SD**2
        return misfit + 0.5 * (self.human.unsqueeze(-1) * wrong).sum() + shrink
