r"""The laws that a model of bodies has to beat, on a species that they have not seen.

- *nearest species*: the species nearest in body weight, scaled by the fixed exponents.
- *fixed exponents*: the mean over the species of what the fixed exponents make of each.
- *free power law*: the least-squares line of :math:`\ln x` on :math:`\ln BW` over the species.

The deviation of a new species from a line of n species is Student's, with the line's own uncertainty in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from allometry.consensus import Consensus
from allometry.power import fixed_exponents
from allometry.species import QUANTITIES

Z90 = 1.6448536269514722
"""Standard deviations of a normal distribution on either side of its mean that hold 90 % of it."""

_T90 = {3: 2.3534, 4: 2.1318, 5: 2.0150, 6: 1.9432}  # Student's t at 95 %, one-sided: standard tables


@dataclass(frozen=True)
class Score:
    """The errors of one model.

    Attributes:
        model: Its name.
        seed: Of its training; None where nothing is random.
        mean: The logarithms foretold, with shape (s, q).
        sd: Their standard deviation, with shape (s, q); NaN where the model gives none.
    """

    model: str
    seed: int | None
    mean: Tensor
    sd: Tensor


def power_scores(known: Consensus) -> list[Score]:
    """Scores the laws without a prior: nearest species, fixed and free exponents."""

    def free(fold: Consensus, x: Tensor) -> tuple[Tensor, Tensor]:
        return _line(fold, x, None)

    def fixed(fold: Consensus, x: Tensor) -> tuple[Tensor, Tensor]:
        return _line(fold, x, fixed_exponents())

    def switch(fold: Consensus, x: Tensor) -> tuple[Tensor, Tensor]:
        near = (fold.x - x).abs().unsqueeze(-1).where(torch.isfinite(fold.sd), torch.inf).argmin(0)
        at = torch.arange(len(QUANTITIES))
        mean = fold.y[near, at] + fixed_exponents() * (x - fold.x[near])
        return mean, torch.full_like(mean, torch.nan)

    laws = {"nearest species": switch, "fixed exponents": fixed, "free power law": free}
    return [_power_score(known, name, law) for name, law in laws.items()]


def _power_score(
    known: Consensus, name: str, law: Callable[[Consensus, Tensor], tuple[Tensor, Tensor]]
) -> Score:
    every = range(len(known.x))
    pairs = [law(known[[j for j in every if j != i]], known.x[i]) for i in every]
    return Score(name, None, torch.stack([mean for mean, _ in pairs]), torch.stack([sd for _, sd in pairs]))


def _line(fold: Consensus, x: Tensor, exponent: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the least-squares line of each quantity at x, and the deviation of a new species from it."""
    w = torch.isfinite(fold.sd).double()
    n = w.sum(0)
    mean_x, mean_y = (w * fold.x.unsqueeze(-1)).sum(0) / n, (w * fold.y).sum(0) / n
    dx, dy = w * (fold.x.unsqueeze(-1) - mean_x), w * (fold.y - mean_y)
    spread = (dx**2).sum(0)
    b = (dx * dy).sum(0) / spread if exponent is None else exponent
    free = n - (2 if exponent is None else 1)
    variance = ((dy - b * dx) ** 2).sum(0) / free
    more = 1.0 + 1.0 / n + (0.0 if exponent is not None else (x - mean_x) ** 2 / spread)
    student = torch.tensor([_T90[int(k)] for k in free]) / Z90
    return mean_y + b * (x - mean_x), student * (variance * more).sqrt()
