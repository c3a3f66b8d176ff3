r"""Curves that are linear in their weights, and the weights projected out.

With a basis :math:`\phi_p(t)` of F curves :math:`x_i = s_i \sum_p W_{ip} \phi_p` the scaled rows of
:mod:`pbpk.inverse.collocation` and the observations are linear in W,

.. math:: r = X(\theta) W - y(\theta),

so the best W is a linear least-squares problem, and what is left to search follows from the projected
residual with Kaufman's derivative: that at a fixed W, less what the columns of X explain.

References:
    Kaufman (1975). A variable projection method for solving separable nonlinear least squares problems. BIT
    15:49. https://doi.org/10.1007/BF01932995
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pbpk.inverse.collocation import Collocation, Rows
from pbpk.inverse.problem import InverseProblem


@dataclass(frozen=True)
class Basis:
    """P functions of the time that are 0 at time 0.

    Attributes:
        at: Their values at the collocation points, with shape (M, P).
        slope: Their slopes there [1/h], with shape (M, P).
        seen: Their values at the observations, with shape (N, P).
    """

    at: np.ndarray
    slope: np.ndarray
    seen: np.ndarray


class Equations:
    """The equations and the observations of a design, each divided by its tolerance.

    Arguments:
        design: The design.
        tolerance: That of the equations, as a share of the state.
        freedom: How many functions of the basis share the points of the design.
        sd: The standard deviations of the observations [mg/L], with shape (N).
    """

    def __init__(self, design: Collocation, tolerance: float, freedom: float, sd: np.ndarray) -> None:
        self.weight = 1.0 / tolerance / np.sqrt(len(design.times) / freedom) / design.level.T  # (F, M)
        self.target, self.sd = design.target, sd

    def linear(self, rows: Rows, basis: Basis) -> tuple[np.ndarray, np.ndarray]:
        """Returns X, of shape (F M + N, F P), and y."""
        (M, P), F = basis.at.shape, len(rows.rate)
        physics = -np.einsum("ij,mp->imjp", rows.A, basis.at)
        for i in range(F):
            physics[i, :, i, :] += basis.slope / rows.rate[i]
        data = np.einsum("nj,np->njp", rows.R / self.sd[:, None], basis.seen)
        physics *= self.weight[..., None, None]
        y = (self.weight * rows.forcing.T).ravel(), (self.target - rows.rest) / self.sd
        return np.concatenate([physics.reshape(F * M, -1), data.reshape(-1, F * P)]), np.concatenate(y)

    def by_theta(self, rows: Rows, slopes: Sequence[Rows], basis: Basis, W: np.ndarray) -> np.ndarray:
        """Returns the derivatives of X W - y by theta at weights W (F, P), with shape (F M + N, K)."""
        x, x_dot, x_seen = basis.at @ W.T, basis.slope @ W.T, basis.seen @ W.T
        columns = []
        for slope in slopes:
            change = -x_dot * slope.rate / rows.rate**2 - x @ slope.A.T - slope.forcing
            seen = ((slope.R * x_seen).sum(-1) + slope.rest) / self.sd
            columns.append(np.concatenate([(self.weight * change.T).ravel(), seen]))
        return np.stack(columns, -1)

    def by_function(self, rows: Rows, moved: Basis, W: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Returns the derivatives of X W by numbers each of which moves one function of the basis.

        Arguments:
            rows: The equations.
            moved: How each of Z numbers moves its function, in place of the functions.
            W: The weights, with shape (F, P).
            which: The function that each number moves, with shape (Z).

        Returns:
            The derivatives, with shape (F M + N, Z).
        """
        own = W[:, which]  # (F, Z)
        change = (own / rows.rate[:, None])[:, None] * moved.slope - (rows.A @ own)[:, None] * moved.at
        physics = (self.weight[..., None] * change).reshape(-1, len(which))
        return np.concatenate([physics, (rows.R @ own) * moved.seen / self.sd[:, None]])


def predicted(rows: Rows, basis: Basis, W: np.ndarray) -> np.ndarray:
    """Returns the predictions of the observations [mg/L] at weights W (F, P), with shape (N)."""
    return (rows.R * (basis.seen @ W.T)).sum(-1) + rows.rest


def best(X: np.ndarray, y: np.ndarray, F: int, stiffness: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Solves for the weights.

    Arguments:
        X: The linear part, with shape (R, F P).
        y: The right-hand side, with shape (R).
        F: The number of curves.
        stiffness: One over the prior standard deviation of a weight; 0 for none.

    Returns:
        W with shape (F, P), and an orthonormal basis Q of the rows' part of X and the prior, (R, F P).
    """
    rows = len(X)
    if stiffness:
        X = np.concatenate([X, stiffness * np.eye(X.shape[1])])
    Q, T = np.linalg.qr(X)
    return np.linalg.solve(T, Q[:rows].T @ y).reshape(F, -1), Q[:rows]


class Priors:
    """The rows of the unknowns' priors."""

    def __init__(self, problem: InverseProblem) -> None:
        known = [(k, u) for k, u in enumerate(problem.unknowns) if u.mean is not None and u.sd is not None]
        self.which = [k for k, _ in known]
        self.centre = np.array([float(u.free(torch.tensor(u.mean, dtype=torch.float64))) for _, u in known])
        self.slope = np.zeros((len(known), problem.K))
        for row, (k, unknown) in enumerate(known):
            self.slope[row, k] = 1.0 / (unknown.sd or 1.0)

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        """Returns the rows at theta (K)."""
        return self.slope[:, self.which] @ (theta[self.which] - self.centre)
