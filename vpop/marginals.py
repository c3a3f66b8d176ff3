r"""Each coordinate to a standard normal by a monotone map of about 200 knots with linear tails.

A map that stored its training data would leak people and could never draw a value beyond the most
extreme one; a few quantiles with straight tails do neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtri

from vpop import compiled

KNOTS = 200
_TAIL = 2e-3  # the outermost knots lie at this probability and its complement


def weighted_quantiles(values: Tensor, weights: Tensor, probabilities: Tensor) -> Tensor:
    """Computes quantiles of weighted values.

    Arguments:
        values: The values, with shape :math:`(n)`.
        weights: Their weights, non-negative, with shape :math:`(n)`.
        probabilities: The probabilities, ascending, with shape :math:`(k)`.

    Returns:
        The quantiles, interpolated between the mid-points of the weights, with shape :math:`(k)`.

    >>> ones = torch.ones(5)
    >>> weighted_quantiles(torch.arange(5.0), ones, torch.tensor([0.5]))
    tensor([2.])
    """
    values, order = values.sort()
    weights = weights[order] / weights.sum()
    middle = weights.cumsum(0) - weights / 2
    upper = torch.searchsorted(middle, probabilities).clamp(1, len(values) - 1)
    share = (probabilities - middle[upper - 1]) / (middle[upper] - middle[upper - 1]).clamp(min=1e-300)
    return torch.lerp(values[upper - 1], values[upper], share.clamp(0.0, 1.0))


def _interpolate(at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Evaluates, column by column, the line through the knots (x, y), extended beyond them.

    The tails continue with the slope of the outer twentieth of the knots: the last two alone are noise.
    """
    k = x.shape[-1]
    upper = torch.searchsorted(x, at).clamp(1, k - 1)
    x0, x1 = x.gather(-1, upper - 1), x.gather(-1, upper)
    y0, y1 = y.gather(-1, upper - 1), y.gather(-1, upper)
    inside = y0 + (at - x0) * (y1 - y0) / (x1 - x0)
    tail = _tail(k)
    below = y[:, :1] + (at - x[:, :1]) * (y[:, tail, None] - y[:, :1]) / (x[:, tail, None] - x[:, :1])
    above = y[:, -1:] + (at - x[:, -1:]) * (y[:, -1:] - y[:, -1 - tail, None]) / (
        x[:, -1:] - x[:, -1 - tail, None]
    )
    return torch.where(at < x[:, :1], below, torch.where(at > x[:, -1:], above, inside))


def _tail(knots: int) -> int:
    """Returns over how many knots the slope of a tail is taken."""
    return max(2, knots // 20) - 1


@dataclass(frozen=True)
class Marginals:
    """Monotone maps between coordinates and standard normal scores.

    Attributes:
        knots: The quantiles of each coordinate, strictly ascending, with shape :math:`(d, k)`.
    """

    knots: Tensor

    @classmethod
    def fit(cls, values: Tensor, weights: Tensor, knots: int = KNOTS) -> Marginals:
        """Learns the maps.

        Arguments:
            values: The coordinates, with shape :math:`(n, d)`; a value that is not finite is left out.
            weights: The weight of each row, with shape :math:`(n)`.
            knots: How many quantiles to keep.
        """
        probabilities = torch.special.ndtr(cls._scores(knots))
        columns = []
        for column in values.T:
            known = torch.isfinite(column)
            if int(known.sum()) < 2:  # a column that no one has
                columns.append(cls._scores(knots))
                continue
            quantiles = weighted_quantiles(column[known], weights[known], probabilities)
            # Ties (a haematocrit is rounded to 0.1 %) would make the map flat: tilt it by a trifle.
            span = (quantiles[-1] - quantiles[0]).clamp(min=1e-6)
            columns.append(quantiles + 1e-5 * span * torch.linspace(0, 1, knots).to(quantiles))
        return cls(torch.stack(columns))

    @staticmethod
    def _scores(knots: int) -> Tensor:
        end = -float(ndtri(torch.tensor(_TAIL, dtype=torch.float64)))
        return torch.linspace(-end, end, knots, dtype=torch.float64)

    def _each_score(self) -> Tensor:
        return self._scores(self.knots.shape[1]).expand_as(self.knots).contiguous()

    def encode(self, values: Tensor) -> Tensor:
        """Maps coordinates to normal scores, both with shape :math:`(n, d)`."""
        return _interpolate(values.T.contiguous(), self.knots, self._each_score()).T

    def decode(self, scores: Tensor) -> Tensor:
        """Maps normal scores to coordinates, both with shape :math:`(n, d)`."""
        k = self.knots.shape[1]
        end = float(self._scores(k)[-1])
        step, tail = 2.0 * end / (k - 1), _tail(k)
        if compiled.here(scores, self.knots):
            from vpop import knots_kernel

            return compiled.fill(
                knots_kernel.columns, scores, self.knots, end, tail, into=torch.empty_like(scores)
            )
        x = scores.T.contiguous()
        inside = x.clamp(-end, end)
        at = (inside + end) / step  # the knots' scores are even: no search
        lower = at.long().clamp(max=k - 2)
        found = torch.lerp(self.knots.gather(1, lower), self.knots.gather(1, lower + 1), at - lower)
        rise = self.knots[:, [tail, -1]] - self.knots[:, [0, -1 - tail]]
        slope = torch.where(x > 0, rise[:, 1:], rise[:, :1]) / (tail * step)
        return torch.addcmul(found, x - inside, slope).T
