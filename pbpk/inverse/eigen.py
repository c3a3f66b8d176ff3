r"""Predictions of many parameter vectors at once, without a step from one observation to the next.

Between two events the input u is constant, and with :math:`A = V \Lambda V^{-1}`, :math:`z = V^{-1} x(t_k)`,
:math:`w = V^{-1} u`,

.. math:: x(t_k + h) = V \big( e^{\Lambda h} z + h \, \varphi(\Lambda h) \, w \big), \qquad
    \varphi(a) = (e^a - 1)/a,

so one small eigenvalue problem serves all times. Where the eigenvectors are nearly dependent, or the model is
not linear, the answer comes from :meth:`InverseProblem.predict` instead.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from pbpk.inverse.crowd import take
from pbpk.inverse.equations import Equations
from pbpk.inverse.problem import InverseProblem

_SAME = 1e-9  # h
_CONDITION = 1e8  # of the eigenvectors: beyond it the other way is taken
_STEP = 1e-6  # of the forward difference in theta: derivatives to about 1e-6


def predict(problem: InverseProblem, theta: Tensor) -> Tensor:
    """Returns the predictions of the observations [mg/L] at theta of shape (B, K), with shape (B, N).

    >>> from pbpk.inverse import load_problem
    >>> problem = load_problem("brain4-b1").problem()
    >>> theta = problem.starts(3, torch.Generator().manual_seed(0))
    >>> torch.allclose(predict(problem, theta), problem.predict(theta), rtol=1e-7)
    True
    """
    if not problem.model.linear:
        return problem.predict(theta)
    seen = problem.seen
    row = torch.tensor([problem.model.compartments.index(name) for name in seen.compartment])
    z, RV, bad = _coordinates(problem, theta, seen.time, seen.after)
    found = (RV[..., row, :] * z).sum(-1).real
    if len(bad):
        found[..., bad, :] = take(problem, bad).predict(theta[..., bad, :])
    return found


def concentration(problem: InverseProblem, theta: Tensor, times: Tensor) -> Tensor:
    """Returns the concentration of every compartment [mg/L] at theta (*, K), with shape (*, T, m).

    What is given at once at the very time is in, as in :meth:`InverseProblem.concentration`.
    """
    if not problem.model.linear:
        return problem.concentration(theta, times)
    after = torch.ones(len(times), dtype=torch.bool)
    z, RV, bad = _coordinates(problem, theta.reshape(-1, problem.K), times, after)
    found = (z @ RV.mT).real
    if len(bad):
        found[bad] = problem.concentration(theta.reshape(-1, problem.K)[bad], times)
    return found.unflatten(0, theta.shape[:-1]) if theta.ndim > 1 else found[0]


def jacobian(problem: InverseProblem, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the predictions (B, N) and their derivatives by theta (B, N, K), by forward differences.

    Each theta may be that of another person, see :mod:`pbpk.inverse.crowd`.
    """
    if not problem.model.linear:
        return problem.jacobian(theta)
    K = theta.shape[-1]
    moves = torch.cat([theta.new_zeros(1, K), torch.eye(K, dtype=theta.dtype)])
    f = predict(problem, theta + _STEP * moves.unsqueeze(-2))  # (1 + K, B, N)
    return f[0], ((f[1:] - f[0]) / _STEP).movedim(0, -1)


def _coordinates(
    problem: InverseProblem, theta: Tensor, times: Tensor, after: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the states in the eigenvectors' coordinates, and what is read of them.

    Arguments:
        problem: The problem.
        theta: Free coordinates, with shape :math:`(*, B, K)`.
        times: Times [h], in any order, with shape :math:`(T)`.
        after: Whether what is given at once at the very time is in, with shape :math:`(T)`.

    Returns:
        z with shape (*, B, T, n), R V with shape (*, B, m, n), and the positions in B of those for whom
        neither holds, because their eigenvectors are nearly dependent.
    """
    system = problem.system(theta)
    values, V = torch.linalg.eig(system.A)
    if not bool(values.imag.any()):
        values, V = values.real, V.real
    inverse, failed = torch.linalg.inv_ex(V)
    size = V.abs().sum(-2).amax(-1) * inverse.abs().sum(-2).amax(-1)
    bad = (failed != 0) | ~(size < _CONDITION)
    z = _course(system, values, inverse, times, after)
    return z, system.R.to(V.dtype) @ V, bad.reshape(-1, bad.shape[-1]).any(0).nonzero().squeeze(-1)


def _course(system: Equations, values: Tensor, inverse: Tensor, times: Tensor, after: Tensor) -> Tensor:
    """Follows the states in the eigenvectors' coordinates from event to event."""
    jumps, infusions = system.jumps, system.infusions
    last = float(times.max())
    events = sorted({0.0, *(t for t, _ in jumps), *(t for a, b, _ in infusions for t in (a, b))})
    edges = [t for t in events if t <= last + _SAME] + [torch.inf]
    z = _into(inverse, system.x0.expand(values.shape))
    found = values.new_zeros(*values.shape[:-1], len(times), values.shape[-1])
    for k, (begin, end) in enumerate(itertools.pairwise(edges)):
        for t, jump in jumps:
            z = z + _into(inverse, jump) if abs(t - begin) <= _SAME else z
        flowing = [rate for a, b, rate in infusions if a - _SAME < begin < b - _SAME]
        w = _into(inverse, torch.stack(flowing).sum(0)) if flowing else None
        late = (times > begin + _SAME) | ((times - begin).abs() <= _SAME) & (after | (k == 0))
        here = late & ((times < end - _SAME) | ((times - end).abs() <= _SAME) & ~after)
        if bool(here.any()):
            asked, place = times[here].unique(return_inverse=True)
            found[..., here, :] = _moved(values, z, w, asked - begin)[..., place, :]
        if end < torch.inf:
            z = _moved(values, z, w, times.new_tensor([end - begin]))[..., 0, :]
    return found


def _into(inverse: Tensor, x: Tensor) -> Tensor:
    """Returns states in the eigenvectors' coordinates."""
    return (inverse @ x.to(inverse.dtype).unsqueeze(-1)).squeeze(-1)


def _moved(values: Tensor, z: Tensor, w: Tensor | None, h: Tensor) -> Tensor:
    """Returns the state in the eigenvectors' coordinates after times h (T), with shape (*, T, n)."""
    a = values.unsqueeze(-2) * h[:, None]
    if w is None:
        return a.exp() * z.unsqueeze(-2)
    quotient = torch.where(a.abs() < 1e-8, 1.0 + a / 2, torch.expm1(a) / torch.where(a == 0, 1.0, a))
    return a.exp() * z.unsqueeze(-2) + h[:, None] * quotient * w.unsqueeze(-2)
