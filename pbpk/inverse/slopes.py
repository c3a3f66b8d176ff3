r"""Predictions and their exact derivatives, fast, for one theta at a time.

With :math:`A = V \Lambda V^{-1}` the exponential and its derivative in a direction :math:`\dot A` are

.. math:: e^{Ah} = V e^{\Lambda h} V^{-1}, \qquad
    \dot{(e^{Ah})} = V \big(\Phi \circ (V^{-1} \dot A V)\big) V^{-1}, \quad
    \Phi_{ij} = \frac{e^{\lambda_i h} - e^{\lambda_j h}}{\lambda_i - \lambda_j}

(Daletskii and Krein 1965; Najfeld and Havel 1995). Where the eigenvectors are nearly dependent, the
derivatives come from :meth:`InverseProblem.jacobian`, which needs none; and where the model is not linear.

References:
    Najfeld, Havel (1995). Derivatives of the matrix exponential and their computation. Adv Appl Math 16:321.
    https://doi.org/10.1006/aama.1995.1017
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.inverse.dual import Dual
from pbpk.inverse.problem import InverseProblem

_CONDITION = 1e7  # of the eigenvectors: beyond it the other way is taken


@dataclass(frozen=True)
class _Slope:
    """An array and its derivatives by theta: shapes (...) and (K, ...)."""

    at: np.ndarray
    by: np.ndarray


def predict(problem: InverseProblem, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the predictions (N) [mg/L] and their exact derivatives by theta (N, K) at one theta (K).

    >>> from pbpk.inverse import load_problem
    >>> problem = load_problem("one-compartment").problem()
    >>> theta = problem.theta(torch.tensor([3.0, 30.0], dtype=torch.float64))
    >>> fast, exact = predict(problem, theta.numpy()), problem.jacobian(theta)
    >>> bool(np.allclose(fast[1], exact[1].numpy(), rtol=1e-10))
    True
    """
    point = torch.from_numpy(np.ascontiguousarray(theta, dtype=np.float64))
    if not problem.model.linear:
        values, slopes = problem.jacobian(point)
        return values.numpy(), slopes.numpy()
    A, x0, R, doses = _assembled(problem, point)
    eigenvalues, V = np.linalg.eig(A.at)
    inverse, good = _inverse(V)
    if not good:
        values, slopes = problem.jacobian(point)
        return values.numpy(), slopes.numpy()
    line = problem.line
    E, dE = _exponentials(eigenvalues, V, inverse, A.by, np.array(line.distinct))
    x, X = x0.at, x0.by
    states, slopes_ = [], []
    for k in range(len(line.axis)):
        if k:
            step = line.which[k - 1]
            x, X = E[step] @ x, dE[step] @ x + X @ E[step].T
        states.append(x)
        slopes_.append(X)
        for change in line.changes[k]:
            x, X = _changed(x, X, change, doses)
        states.append(x)
        slopes_.append(X)
    place = 2 * np.array(line.place) + problem.seen.after.numpy()
    seen = np.array(states)[place], np.array(slopes_)[place]
    row = [problem.model.compartments.index(name) for name in problem.seen.compartment]
    f = np.einsum("in,in->i", seen[0], R.at[row])
    J = np.einsum("ikn,in->ik", seen[1], R.at[row]) + np.einsum("in,kin->ik", seen[0], R.by[:, row])
    return f, J


def _assembled(problem: InverseProblem, theta: Tensor) -> tuple[_Slope, _Slope, _Slope, list[_Slope]]:
    """Returns A, x0 and R with one more state, a pump, for each infusion; and what is given at once."""
    model, p = problem.linear, _parameters(problem, theta)
    infusions = [dose for dose in problem.given if dose.duration]
    at = {state: position for position, state in enumerate(model.states)}
    n = len(at) + len(infusions)
    inlets = model.inlets(p)
    rates = {(at[i], at[j]): rate for (i, j), rate in model.rates(p).items()}
    for pump, dose in enumerate(infusions):
        state, share = inlets[dose.compartment]
        rates[at[state], len(at) + pump] = share * (dose.amount / dose.duration)
    where = {name: row for row, name in enumerate(model.compartments)}
    reads = model.reads(p).items()
    R = {(where[name], at[state]): value for name, read in reads for state, value in read.items()}
    x0 = {(at[state],): value for state, value in model.initial(p).items()}
    jumps = [
        _filled(
            {(at[inlets[dose.compartment][0]],): inlets[dose.compartment][1] * dose.amount}, (n,), problem.K
        )
        for dose in problem.given
        if not dose.duration
    ]
    K = problem.K
    return _filled(rates, (n, n), K), _filled(x0, (n,), K), _filled(R, (len(where), n), K), jumps


def _parameters(problem: InverseProblem, theta: Tensor) -> dict[str, Any]:
    known = {name: float(value) for name, value in problem.known.items()}
    eye = np.eye(problem.K)
    values = zip(problem.unknowns, problem.values(theta).tolist(), eye, strict=True)
    return {**known, **{u.name: Dual(value, u.slope(value) * unit) for u, value, unit in values}}


def _filled(entries: Mapping[Any, Any], shape: tuple[int, ...], K: int) -> _Slope:
    at, by = np.zeros(shape), np.zeros((K, *shape))
    for place, number in entries.items():
        if isinstance(number, Dual):
            at[place] = number.value
            by[(slice(None), *place)] = number.slope
        else:
            at[place] = number
    return _Slope(at, by)


def _inverse(V: np.ndarray) -> tuple[np.ndarray, bool]:
    try:
        inverse = np.linalg.inv(V)
    except np.linalg.LinAlgError:
        return V, False
    size = np.abs(V).sum(0).max() * np.abs(inverse).sum(0).max()
    return inverse, bool(size < _CONDITION)


def _exponentials(
    eigenvalues: np.ndarray, V: np.ndarray, inverse: np.ndarray, dA: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns e^(Ah) (S, n, n) and its derivatives (S, K, n, n) for steps h (S)."""
    power = np.exp(eigenvalues * h[:, None])
    E = ((V * power[:, None, :]) @ inverse).real
    gap = (eigenvalues[:, None] - eigenvalues[None, :])[None] * h[:, None, None]
    near = np.abs(gap) < 1e-3
    quotient = (power[:, :, None] - power[:, None, :]) / np.where(near, 1.0, gap)
    series = power[:, None, :] * (1.0 + gap / 2 + gap**2 / 6 + gap**3 / 24 + gap**4 / 120)
    Phi = np.where(near, series, quotient) * h[:, None, None]
    G = inverse @ dA @ V
    return E, (V @ (Phi[:, None] * G[None]) @ inverse).real


def _changed(
    x: np.ndarray, X: np.ndarray, change: tuple[str, int], doses: list[_Slope]
) -> tuple[np.ndarray, np.ndarray]:
    kind, number = change
    if kind == "jump":
        return x + doses[number].at, X + doses[number].by
    x = x.copy()
    x[number] = 1.0 if kind == "on" else 0.0
    return x, X
