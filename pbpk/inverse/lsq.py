r"""Least squares on the exact solution: the default, and what every other method is held against.

1. From each start: weighted least squares of the logarithms by scipy's trust region (Branch, Coleman, Li
   1999) in theta, with exact derivatives. Weights come from the observations. Logarithms lead home from far
   away, where concentrations themselves are flat in the parameters.
2. From the best optimum: Fisher scoring on the deviance itself, whose weights follow the prediction, until it
   falls no more. So the estimate is the maximum of likelihood times prior.
3. The covariance is the inverse Fisher information; the intervals are normal in theta, or Student's where the
   size of the noise was estimated too.

References:
    Branch, Coleman, Li (1999). A subspace, interior, and conjugate gradient method for large-scale
    bound-constrained minimization problems. SIAM J Sci Comput 21:1. https://doi.org/10.1137/S1064827595289108
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.inverse import slopes
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult

_SAME_OPTIMUM = 1e-3  # of the deviance: starts that end so close to the best one found it
_TOLERANCE = 1e-8
_AGREE = 2  # starts that end at the best optimum are enough
_ROUNDS = 60  # of Fisher scoring
_SMALL = 1e-4  # of a standard error: steps below it end the scoring
_ROUNDING = 1e-2  # of a standard error: a step below it may find no lower deviance, for rounding alone


@dataclass
class _Rows:
    """The weighted residuals of a problem and their derivatives, computed once per theta."""

    problem: InverseProblem

    def __post_init__(self) -> None:
        """Takes the weights from the observations."""
        problem = self.problem
        self.below = (problem.seen.limit > 0).numpy()
        value = torch.where(problem.seen.limit > 0, problem.seen.limit, problem.seen.value)
        self.value = value.clamp(min=problem.floor).numpy()
        sd = problem.noise.sd(value, problem.floor).numpy()
        self.sd = sd if problem.noise.kind == "log-normal" else sd / self.value
        self.last: tuple[bytes, np.ndarray, np.ndarray] | None = None

    def __call__(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows (N + priors) and their derivatives (N + priors, K)."""
        key = theta.tobytes()
        if self.last is None or self.last[0] != key:
            self.last = (key, *self._rows(theta))
        return self.last[1], self.last[2]

    def _rows(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        f, J = slopes.predict(self.problem, theta)
        above = f > self.problem.floor
        f = np.where(above, f, self.problem.floor)
        r, slope = np.log(f / self.value) / self.sd, above / (f * self.sd)
        if self.below.any():
            r, slope = _censored(r, slope, self.below)
        extra, directions = _prior(self.problem, theta)
        return np.concatenate([r, extra]), np.concatenate([J * slope[:, None], directions])


def _censored(r: np.ndarray, slope: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replaces rows below the limit by the root of minus twice the log-probability to be there."""
    from scipy.special import log_ndtr

    z = np.where(below, -r, 0.0)
    log_p = log_ndtr(z)
    root = np.sqrt(-2.0 * log_p)
    hazard = np.exp(-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - log_p)
    return np.where(below, root, r), np.where(below, hazard / np.maximum(root, 1e-12), 1.0) * slope


def _prior(problem: InverseProblem, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, directions = [], []
    for k, unknown in enumerate(problem.unknowns):
        if unknown.mean is not None and unknown.sd is not None:
            centre = float(unknown.free(torch.tensor(unknown.mean, dtype=torch.float64)))
            rows.append((theta[k] - centre) / unknown.sd)
            directions.append(np.eye(problem.K)[k] / unknown.sd)
    return np.array(rows), np.array(directions).reshape(-1, problem.K)


def fit(
    problem: InverseProblem,
    *,
    seed: int = 0,
    start: Tensor | None = None,
    starts: int = 10,
    reference: FitResult | None = None,
) -> FitResult:
    """Estimates the unknowns by least squares.

    Arguments:
        problem: The problem, with observations.
        seed: Of the random starts.
        start: A first start in free coordinates, with shape :math:`(K)`; that of the unknowns by default.
        starts: How many starts there are at most; further ones are drawn uniformly from the box. They end
            once the best optimum was found twice, or three times where all were drawn.
        reference: Not used.

    Returns:
        The estimate.

    >>> from pbpk.inverse import load_problem
    >>> recipe = load_problem("one-compartment")
    >>> noisy = recipe.simulated(seed=1)
    >>> {name: round(value, 1) for name, value in fit(noisy).estimates.items()}
    {'CL': 3.1, 'V1': 29.3}
    """
    begin = time.perf_counter()
    firsts, informed = _starts(problem, seed, start, starts)
    runs = _searched(problem, firsts, _AGREE if informed else _AGREE + 1)
    best = min(runs, key=lambda run: run.cost)
    theta, scale, covariance, converged = _refined(problem, torch.from_numpy(best.x.copy()))
    result = FitResult.gaussian(
        "lsq",
        problem,
        theta,
        covariance,
        quantile=quantile(problem),
        converged=bool(best.status > 0) and converged,
        seconds=time.perf_counter() - begin,
        starts=len(runs),
        starts_converged=_agreeing(runs),
        scale=scale,
    )
    return _with_bounds_said(result)


def _searched(problem: InverseProblem, firsts: Sequence[Tensor], enough: int) -> list[Any]:
    """Returns scipy's searches from the starts in turn, until so many of them end at the best optimum."""
    from scipy.optimize import least_squares

    rows = _Rows(problem)
    low, high = (bound.numpy() for bound in problem.box)
    inside = 1e-6 * (high - low)
    runs: list[Any] = []
    for first in firsts:
        run = least_squares(
            lambda theta: rows(theta)[0],
            np.clip(first.numpy(), low + inside, high - inside),
            jac=lambda theta: rows(theta)[1],
            bounds=(low, high),
            x_scale="jac",
            xtol=_TOLERANCE,
            ftol=_TOLERANCE,
            gtol=_TOLERANCE,
            max_nfev=200,
        )
        runs.append(run)
        if _agreeing(runs) >= enough:
            break
    return runs


def _agreeing(runs: Sequence[Any]) -> int:
    """Returns how many searches ended at the best optimum."""
    best = min(run.cost for run in runs)
    return sum(bool(run.cost <= best + _SAME_OPTIMUM + _SAME_OPTIMUM * best) for run in runs)


def _starts(
    problem: InverseProblem, seed: int, start: Tensor | None, count: int
) -> tuple[list[Tensor], bool]:
    """Returns the starts, and whether the first was given and not drawn."""
    drawn = problem.starts(count, torch.Generator().manual_seed(seed))
    if start is None and all(unknown.start is not None for unknown in problem.unknowns):
        start = problem.theta({unknown.name: unknown.start for unknown in problem.unknowns})  # type: ignore[misc]
    if start is None:
        return list(drawn), False
    return [start.detach(), *drawn[: count - 1]], True


def _refined(problem: InverseProblem, theta: Tensor) -> tuple[Tensor, float, Tensor, bool]:
    """Goes on to the lowest deviance by Fisher scoring.

    Returns:
        The estimate (K), the factor on the noise's size, the covariance (K, K), and whether it settled.
    """
    low, high = problem.box
    point = at(problem, theta)
    scale, converged = float(problem.noise_scale(point[0])), False
    for _ in range(_ROUNDS):
        f, J = point
        gradient = _gradient(problem, theta, f, J, scale)
        F = problem.information_of(f, J, scale=scale)
        at_edge = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
        step = _solved(F, -0.5 * gradient, ~at_edge)
        deviance = problem.deviance_of(f, scale) + problem.penalty(theta)
        small = bool((step @ F @ step) < _SMALL**2)
        for halving in range(8):
            tried = torch.minimum(torch.maximum(theta + step * 0.5**halving, low), high)
            after = at(problem, tried)
            if problem.deviance_of(after[0], scale) + problem.penalty(tried) <= deviance:
                theta, point = tried, after
                break
        else:
            converged = bool((step @ F @ step) < _ROUNDING**2)
            break
        before, scale = scale, float(problem.noise_scale(point[0]))
        if small and abs(scale / before - 1.0) < 1e-6:
            converged = True
            break
    F = problem.information_of(*point, scale=scale)
    return theta, scale, inverse(F), converged


def at(problem: InverseProblem, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the predictions (N) and their derivatives (N, K) at theta (K)."""
    f, J = slopes.predict(problem, theta.numpy())
    return torch.from_numpy(f), torch.from_numpy(J)


def _gradient(problem: InverseProblem, theta: Tensor, f: Tensor, J: Tensor, scale: float) -> Tensor:
    f = f.detach().requires_grad_()
    theta = theta.detach().requires_grad_()
    total = problem.deviance_of(f, scale)
    penalty = problem.penalty(theta)
    (by_f,) = torch.autograd.grad(total, f)
    by_theta = torch.autograd.grad(penalty, theta)[0] if penalty.requires_grad else torch.zeros_like(theta)
    return by_f @ J + by_theta


def _solved(F: Tensor, right: Tensor, free: Tensor) -> Tensor:
    """Solves for the step of the free coordinates, in the scale of each; a flat direction does not move."""
    size = F.diagonal().clamp(min=1e-300).rsqrt()
    scaled = F * size * size.unsqueeze(-1)
    mask = free.to(F)
    scaled = scaled * mask * mask.unsqueeze(-1)
    inverse = torch.linalg.pinv(scaled, hermitian=True, rtol=1e-12)
    return size * (inverse @ (size * right * mask)) * mask


def inverse(F: Tensor) -> Tensor:
    """Returns the inverse information; infinite along what the data do not tell."""
    size = F.diagonal().clamp(min=1e-300).rsqrt()
    values, vectors = torch.linalg.eigh(F * size * size.unsqueeze(-1))
    inverse = (vectors / values.clamp(min=1e-14)) @ vectors.mT
    return inverse * size * size.unsqueeze(-1)


def quantile(problem: InverseProblem) -> float:
    """Returns the 97.5 % quantile: the normal one, or Student's where the noise was estimated."""
    from scipy.special import ndtri, stdtrit

    free = int((problem.seen.limit <= 0).sum()) - problem.K
    return float(ndtri(0.975) if problem.noise.known else stdtrit(max(free, 1), 0.975))


def _with_bounds_said(result: FitResult) -> FitResult:
    """Says which estimates are on a bound, and gives those the whole range as their interval."""
    on = result.on_bound
    if not on:
        return result
    wide = torch.tensor([name in on for name in result.problem.names])
    low, high = (result.problem.values(bound) for bound in result.problem.box)
    said = f"The estimate of {', '.join(on)} is on its bound: the data ask for more than the range allows."
    return result.replace(
        lower=torch.where(wide, low, result.lower),
        upper=torch.where(wide, high, result.upper),
        messages=(*result.messages, said),
    )
