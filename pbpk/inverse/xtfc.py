r"""X-TFC: the solution in a basis that is linear in its outputs, whose weights are projected out.

.. math:: x_i(t) = x_i(0) + \text{doses} + s_i \sum_{kp} W_{ikp} \, \big(T_p(s_k(t)) - T_p(s_k(0))\big)

with Chebyshev's polynomials of the clocks of :mod:`pbpk.inverse.collocation`: it begins at the known state
whatever W is. At a given theta the weights are a linear least-squares problem of the scaled equations and the
observations together,

.. math:: \min_W \; \|(C - y)/\sigma\|^2 + \|(\dot x - A x - u)/(|A_{ii}| s_i \epsilon)\|^2,

so only theta is left to search: Gauss and Newton's method on the projected residual, in the free coordinates
(:mod:`pbpk.inverse.projection`). The tolerance :math:`\epsilon` begins loose, when the data alone
nearly fix the curve and the landscape is smooth, and is tightened until the equations hold. The noise is
sized by the observations, in the last rounds by the prediction. A search that runs into a bound begins anew,
half as far from the middle of the box.

References:
    Schiassi et al. (2021). Extreme theory of functional connections. Neurocomputing 457:334.
    https://doi.org/10.1016/j.neucom.2021.06.015
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.inverse import lsq
from pbpk.inverse.collocation import Collocation
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.projection import Basis, Equations, Priors, best, predicted
from pbpk.inverse.result import FitResult

_ROUNDS = ((1e-1, False), (1e-2, False), (1e-3, False), (1e-3, True), (1e-3, True))
"""A round each: the tolerance of the equations, relative; does the prediction size the noise? [ours]"""
_ATTEMPTS = 3  # searches that run into a bound are begun anew, each half as far from the middle of the box
_WORSE = 3.84  # of the deviance: a parameter at the end of its 95 % interval costs as much
_EDGE = 1e-3  # of the box: closer than this is on a bound
_CLOSE = 1e-5  # of theta: a smaller last step has converged


def fit(
    problem: InverseProblem,
    *,
    seed: int = 0,
    start: Tensor | None = None,
    degree: int = 20,
    reference: FitResult | None = None,
) -> FitResult:
    """Estimates the unknowns by collocation with variable projection.

    Arguments:
        problem: The problem, with observations.
        seed: Of the start.
        start: Where to begin, in free coordinates, with shape :math:`(K)`; drawn from the box by default.
        degree: The degree of the polynomials of each interval between two events.
        reference: A least-squares fit to hold the result against, or None.

    Returns:
        The estimate; its covariance is the inverse Fisher information there.
    """
    began = time.perf_counter()
    if start is None:
        start = problem.starts(1, torch.Generator().manual_seed(seed))[0]
    design = Collocation(problem, degree)
    projected = _Projected(design, degree)
    low, high = (bound.numpy() for bound in problem.box)
    theta = start.detach().numpy()
    for attempt in range(_ATTEMPTS):
        first = theta + (design.middle.numpy() - theta) * (1.0 - 0.5**attempt)
        run = _rounds(projected, first, low, high)
        if not on_bound(run.x, low, high):
            break
    result = finished("xtfc", problem, torch.from_numpy(run.x.copy()), bool(run.status > 0), began)
    return compared(result, reference)


def _rounds(projected: _Projected, theta: np.ndarray, low: np.ndarray, high: np.ndarray) -> Any:
    """Searches round by round; returns what scipy says of the last."""
    from scipy.optimize import least_squares

    inside = 1e-6 * (high - low)
    for tolerance, by_prediction in _ROUNDS:
        projected.set(tolerance, projected.design.sd(projected.prediction if by_prediction else None))
        run = least_squares(
            lambda theta: projected(theta)[0],
            np.clip(theta, low + inside, high - inside),
            jac=lambda theta: projected(theta)[1],
            bounds=(low, high),
            x_scale="jac",
            xtol=_CLOSE,
            ftol=1e-8,
            max_nfev=60,
        )
        projected(run.x)
        theta = run.x
    return run


def on_bound(theta: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    """Tells whether a search ran into a bound."""
    edge = _EDGE * (high - low)
    return bool(((theta - low < edge) | (high - theta < edge)).any())


def finished(
    method: str,
    problem: InverseProblem,
    theta: Tensor,
    converged: bool,
    began: float,
    spread: Tensor | float = 0.0,
) -> FitResult:
    """Returns a result whose covariance is the inverse of the exact Fisher information at theta.

    Arguments:
        method: The method's name.
        problem: The problem.
        theta: The estimate, with shape :math:`(K)`.
        converged: Whether the method's own criterion was met.
        began: When, by ``time.perf_counter`` [s].
        spread: The method's own error, a covariance (K, K) that is added.
    """
    f, J = lsq.at(problem, theta)
    scale = float(problem.noise_scale(f))
    return FitResult.gaussian(
        method,
        problem,
        theta,
        lsq.inverse(problem.information_of(f, J, scale=scale)) + spread,
        lsq.quantile(problem),
        converged=converged,
        seconds=time.perf_counter() - began,
        starts_converged=int(converged),
        scale=scale,
    )


def compared(result: FitResult, reference: FitResult | None) -> FitResult:
    """Adds how far a result is from a reference, and whether it ended on a bound or did not converge.

    One whose deviance is far above the reference's has not converged, whatever it says of itself.
    """
    said = list(result.messages)
    if reference is not None and not result.distance(reference)["cost"] < _WORSE:
        result = result.replace(converged=False, starts_converged=0)
    if not result.converged:
        said.append(f"{result.method} did not converge.")
    if result.on_bound:
        said.append(f"The estimate of {', '.join(result.on_bound)} is on its bound.")
    if reference is not None:
        apart = result.distance(reference)
        said.append(
            f"{result.method} is {apart['cost']:.3g} above least squares in deviance, and at most "
            f"{apart['parameters']:.2g} standard errors away in a parameter, after {result.seconds:.2g} s."
        )
    return result.replace(messages=tuple(said))


class _Projected:
    """The residual with the weights projected out, and its derivative, computed once per theta."""

    def __init__(self, design: Collocation, degree: int) -> None:
        self.design = design
        origin = _chebyshev(design.clocks(design.edges[:1] - 1.0)[0], degree)[0]
        at, slope = design.clocks(design.times)
        value, by_clock = _chebyshev(at, degree)
        seen = _chebyshev(design.clocks(design.problem.seen.time)[0], degree)[0]
        self.basis = Basis(value - origin, by_clock * np.repeat(slope.numpy(), degree, -1), seen - origin)
        self.priors = Priors(design.problem)
        self.prediction: np.ndarray | None = None

    def set(self, tolerance: float, sd: np.ndarray) -> None:
        """Sets the tolerance of the equations and the standard deviations of the observations."""
        freedom = self.basis.at.shape[1]
        self.equations, self.last = Equations(self.design, tolerance, freedom, sd), b""

    def __call__(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the projected residual and its derivative (rows, K)."""
        if theta.tobytes() != self.last:
            self.last, self.value = theta.tobytes(), self._project(theta)
        return self.value

    def _project(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, slopes = self.design.rows(theta)
        X, y = self.equations.linear(rows, self.basis)
        W, Q = best(X, y, len(rows.rate))
        J = self.equations.by_theta(rows, slopes, self.basis, W)
        self.prediction = predicted(rows, self.basis, W)
        r = np.concatenate([X @ W.ravel() - y, self.priors(theta)])
        return r, np.concatenate([J - Q @ (Q.T @ J), self.priors.slope])


def _chebyshev(clocks: Tensor, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns T_1 ... T_degree of each clock (T, S), and their slopes, each with shape (T, S * degree)."""
    angle = np.arccos(np.clip(clocks.numpy(), -1.0, 1.0))[..., None]
    p = np.arange(1, degree + 1)
    sine = np.sin(angle)
    ends = np.where(np.cos(angle) > 0, 1.0, (-1.0) ** (p + 1)) * p**2
    slope = np.where(sine < 1e-9, ends, p * np.sin(p * angle) / np.maximum(sine, 1e-12))
    return np.cos(p * angle).reshape(len(clocks), -1), slope.reshape(len(clocks), -1)
