r"""Profile likelihood: the lowest deviance at each value of one parameter, all others fitted again.

An interval is where the profile lies less than 3.84 above its minimum. It is not symmetric and may have no
end, unlike one from the Fisher information; the two can disagree in a curved valley, so both are reported.

References:
    Raue et al. (2009). Bioinformatics 25:1923. https://doi.org/10.1093/bioinformatics/btp358
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.inverse import lsq
from pbpk.inverse.reparameterise import hold
from pbpk.inverse.result import FitResult

THRESHOLD = 3.841458820694124
"""The 95 % quantile of chi-square with one degree of freedom."""
_REACH = 3.0  # standard errors either way
_WIDEST = 4.6  # in theta: a factor of 100 either way


@dataclass(frozen=True)
class Profile:
    """The profile of one parameter.

    Attributes:
        name: The parameter.
        value: Its values, with shape :math:`(P)`.
        rise: The deviance above the lowest, with shape :math:`(P)`.
    """

    name: str
    value: Tensor
    rise: Tensor

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval; an end is infinite, or 0, where the profile does not rise enough."""
        inside = (self.rise < THRESHOLD).nonzero().squeeze(-1)
        if not len(inside):
            return (float("nan"), float("nan"))
        first, last = int(inside[0]), int(inside[-1])
        low = 0.0 if first == 0 else self._crossing(first - 1, first)
        high = float("inf") if last == len(self.value) - 1 else self._crossing(last, last + 1)
        return low, high

    def _crossing(self, a: int, b: int) -> float:
        share = (THRESHOLD - self.rise[a]) / (self.rise[b] - self.rise[a])
        return float(self.value[a] + share * (self.value[b] - self.value[a]))


def profile(result: FitResult, name: str, points: int = 9) -> Profile:
    """Computes the profile of one parameter about a fit.

    Arguments:
        result: A fit, of least squares most often.
        name: One of its unknowns.
        points: How many values are tried, the estimate among them.
    """
    problem = result.problem
    k = problem.names.index(name)
    low, high = problem.box
    reach = min(_REACH * float(result.se[k].nan_to_num(1e9)), _WIDEST) or _WIDEST
    first, last = (
        max(float(low[k]), float(result.theta[k]) - reach),
        min(float(high[k]), float(result.theta[k]) + reach),
    )
    at = torch.linspace(first, last, points - 1, dtype=torch.float64)
    at = torch.cat([at, result.theta[k : k + 1]]).sort().values
    middle = int((at - result.theta[k]).abs().argmin())
    deviance = torch.empty_like(at)
    others = [j for j in range(problem.K) if j != k]
    for way in (range(middle, len(at)), range(middle - 1, -1, -1)):
        start = result.theta[others]
        for p in way:
            value = float(problem.unknowns[k].value(at[p]))
            held = hold(problem, {name: value})
            if held.K:
                fitted = lsq.fit(held, start=start, starts=1)
                start = fitted.theta
            else:
                start = result.theta[others]
            theta = result.theta.clone()
            theta[others], theta[k] = start, at[p]
            deviance[p] = problem.deviance(theta, result.scale)
    return Profile(name, problem.unknowns[k].value(at), deviance - deviance.min())
