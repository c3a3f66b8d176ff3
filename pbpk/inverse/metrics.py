r"""Pharmacokinetic metrics of every compartment from a fit, with intervals.

On a fine grid of the exact solution from 0 to the last observation: the area under the curve, its maximum and
when that is. The half-life is that of the last observation's time, :math:`\ln 2 \, C / (-C')`, with
:math:`C' = R A x` exact; there is none where the concentration does not fall. Intervals are the 2.5 and 97.5
percentiles over draws of theta, in which a half-life that is none is infinite.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pbpk.inverse.problem import InverseProblem, solve
from pbpk.inverse.result import FitResult
from pbpk.regimen import Dose, Regimen

if TYPE_CHECKING:
    import pandas as pd

METRICS: tuple[str, ...] = ("AUC", "Cmax", "tmax", "t_half")
UNITS = {"AUC": "mg h/L", "Cmax": "mg/L", "tmax": "h", "t_half": "h"}
_POINTS = 250
_DRAWS = 100
_LEVELS = (0.025, 0.975)


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
    system = problem.system(theta)
    x = solve(system, time, torch.ones(len(time), dtype=torch.bool))
    C = (x @ system.R.mT).mT  # (*, m, T)
    area = torch.trapezoid(C, time, dim=-1)
    Cmax, at = C.max(-1)
    slope = (system.R @ (system.A @ x[..., -1:, :].mT)).squeeze(-1)
    falls = (slope < 0) & (C[..., -1] > 0)
    t_half = torch.where(falls, math.log(2.0) * C[..., -1] / -torch.where(falls, slope, -1.0), torch.nan)
    return torch.stack([area, Cmax, time[at], t_half], -1)


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
