r"""Pharmacokinetic metrics of every compartment from a fit, with intervals.

On a fine grid of the solution from 0 to the last observation: the area under the curve, its maximum and when
that is, by a parabola through the three highest neighbours; where something is given or ends, the curve has a
corner, and the grid itself is taken. The half-life is that of the last thousandth of the time,
:math:`\ln 2 \, h / \ln(C(t - h)/C(t))`; there is none where the concentration does not fall. Intervals are
the 2.5 and 97.5 percentiles over draws of theta, in which a half-life that is none is infinite.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pbpk.inverse import eigen
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult
from pbpk.regimen import Dose, Regimen

if TYPE_CHECKING:
    import pandas as pd

METRICS: tuple[str, ...] = ("AUC", "Cmax", "tmax", "t_half")
UNITS = {"AUC": "mg h/L", "Cmax": "mg/L", "tmax": "h", "t_half": "h"}
_POINTS = 250
_DRAWS = 100
_LEVELS = (0.025, 0.975)
_SAME = 1e-9  # h
_LAST = 1e-3  # of the time: what the half-life is taken over


def grid(problem: InverseProblem, points: int = _POINTS) -> Tensor:
    """Returns times [h] from 0 to the last observation, finer after doses, with shape (T)."""
    last = float(problem.seen.time.max())
    doses = tuple(Dose(d.time, d.amount, d.duration) for d in problem.given) or (Dose(0.0, 1.0),)
    return Regimen(doses).times(last, points)


def measure(problem: InverseProblem, theta: Tensor, points: int = _POINTS) -> Tensor:
    """Returns the metrics of every compartment.

    Arguments:
        problem: The problem.
        theta: Free coordinates, with shape :math:`(*, K)`.
        points: About how many times the grid has.

    Returns:
        AUC [mg h/L], Cmax [mg/L], tmax [h] and t_half [h] of each compartment, with shape :math:`(*, m, 4)`.
    """
    time = grid(problem, points)
    h = _LAST * time[-1]
    C = eigen.concentration(problem, theta, torch.cat([time, time[-1:] - h])).mT  # (*, m, T + 1)
    C, before = C[..., :-1], C[..., -1]
    last = C[..., -1]
    falls = (last < before) & (last > 0)
    fall = torch.where(falls, before / torch.where(falls, last, 1.0), math.e).log()
    t_half = torch.where(falls, math.log(2.0) * h / fall, torch.nan)
    return torch.stack([torch.trapezoid(C, time, dim=-1), *_highest(C, time, _corners(problem)), t_half], -1)


def _corners(problem: InverseProblem) -> Tensor:
    """Returns when something is given, begins or ends [h]."""
    instants = {t for dose in problem.given for t in (dose.time, dose.time + dose.duration)}
    return torch.tensor(sorted(instants), dtype=torch.float64)


def _highest(C: Tensor, time: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the maximum of concentrations (*, T) and its time [h], each with shape (*)."""
    peak, at = C.max(-1)
    smooth = torch.cdist(time[:, None], corners[:, None]).amin(-1) > _SAME if len(corners) else time > -1.0
    inside = smooth[at] & (at > 0) & (at < len(time) - 1)
    i = at.clamp(1, len(time) - 2)
    a, b = time[i] - time[i - 1], time[i + 1] - time[i]
    left, right = (peak - C.gather(-1, (i + k).unsqueeze(-1)).squeeze(-1) for k in (-1, 1))
    # C = peak + s d - c d^2 at a distance d
    c = (left / a + right / b) / (a + b)
    s = (left * b / a - right * a / b) / (a + b)
    inside = inside & (c > 0)
    d = torch.where(inside, s / (2.0 * torch.where(inside, c, 1.0)), 0.0)
    return peak + torch.where(inside, 0.5 * s * d, 0.0), time[at] + d


def _quantiles(many: Tensor, levels: Tensor) -> Tensor:
    """Returns quantiles over draws; one without a half-life counts as one whose half-life has no end."""
    endless = torch.where(torch.isnan(many), torch.inf, many)
    found = torch.quantile(endless, levels, dim=0)
    return torch.where(torch.isnan(found), torch.inf, found)


def metrics(result: FitResult, seed: int = 0, draws: int = _DRAWS) -> pd.DataFrame:
    """Returns the metrics of a fit as a table: ID, compartment, metric, unit, estimate, lower, upper.

    Arguments:
        result: The fit.
        seed: Of the draws.
        draws: How many draws of theta the intervals rest on.
    """
    import pandas as pd

    problem = result.problem
    theta = result.sample(draws, torch.Generator().manual_seed(seed))
    best, many = measure(problem, result.theta), measure(problem, theta)
    levels = torch.tensor(_LEVELS, dtype=torch.float64)
    lower, upper = _quantiles(many, levels)
    rows = [
        (problem.name, where, metric, UNITS[metric], *(float(v[m, k]) for v in (best, lower, upper)))
        for m, where in enumerate(problem.model.compartments)
        for k, metric in enumerate(METRICS)
    ]
    columns = ["ID", "compartment", "metric", "unit", "estimate", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns)
