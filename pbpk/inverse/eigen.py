r"""Predictions of many parameter vectors at once, without a step from one observation to the next.

Between two events the input u is constant, and with :math:`A = V \Lambda V^{-1}`, :math:`z = V^{-1} x(t_k)`,
:math:`w = V^{-1} u`,

.. math:: x(t_k + h) = V \big( e^{\Lambda h} z + h \, \varphi(\Lambda h) \, w \big), \qquad
    \varphi(a) = (e^a - 1)/a,

so one small eigenvalue problem serves all times. Where the eigenvectors are nearly dependent or not real, the
answer comes from :meth:`InverseProblem.predict` instead.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

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
    system = problem.system(theta)
    values, vectors = torch.linalg.eig(system.A)
    V = vectors.real
    inverse, failed = torch.linalg.inv_ex(V)
    size = V.abs().sum(-2).amax(-1) * inverse.abs().sum(-2).amax(-1)
    bad = (failed != 0) | ~(size < _CONDITION) | (values.imag.abs().amax(-1) > 0)
    found = _all_at_once(problem, system, values.real, V, inverse)
    if bool(bad.any()):
        found[bad] = problem.predict(theta[bad])
    return found


def jacobian(problem: InverseProblem, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the predictions (B, N) and their derivatives by theta (B, N, K), by forward differences."""
    K = theta.shape[-1]
    moved = theta.unsqueeze(-2) + _STEP * torch.cat([theta.new_zeros(1, K), torch.eye(K, dtype=theta.dtype)])
    f = predict(problem, moved.flatten(0, 1)).unflatten(0, (len(theta), K + 1))
    return f[:, 0], ((f[:, 1:] - f[:, :1]) / _STEP).mT


def _all_at_once(
    problem: InverseProblem, system: object, values: Tensor, V: Tensor, inverse: Tensor
) -> Tensor:
    jumps, infusions = system.jumps, system.infusions  # type: ignore[attr-defined]
    seen, after = problem.seen.time, problem.seen.after
    last = float(seen.max())
    events = sorted({0.0, *(t for t, _ in jumps), *(t for a, b, _ in infusions for t in (a, b))})
    edges = [t for t in events if t <= last + _SAME] + [torch.inf]
    row = torch.tensor([problem.model.compartments.index(name) for name in problem.seen.compartment])
    reads = system.R[..., row, :] @ V  # type: ignore[attr-defined]
    z = (inverse @ system.x0.expand(*V.shape[:-1]).unsqueeze(-1)).squeeze(-1)  # type: ignore[attr-defined]
    found = torch.zeros(*V.shape[:-2], len(seen), dtype=V.dtype)
    for k, (begin, end) in enumerate(itertools.pairwise(edges)):
        for t, jump in jumps:
            z = z + (inverse @ jump.unsqueeze(-1)).squeeze(-1) if abs(t - begin) <= _SAME else z
        w = torch.zeros_like(z)
        for a, b, rate in infusions:
            w = w + (inverse @ rate.unsqueeze(-1)).squeeze(-1) if a - _SAME < begin < b - _SAME else w
        late = (seen > begin + _SAME) | ((seen - begin).abs() <= _SAME) & (after | (k == 0))
        here = late & ((seen < end - _SAME) | ((seen - end).abs() <= _SAME) & ~after)
        if bool(here.any()):
            times, place = seen[here].unique(return_inverse=True)
            state = _moved(values, z, w, times - begin)
            found[..., here] = (reads[..., here, :] * state[..., place, :]).sum(-1)
        if end < torch.inf:
            z = _moved(values, z, w, torch.tensor([end - begin], dtype=V.dtype))[..., 0, :]
    return found


def _moved(values: Tensor, z: Tensor, w: Tensor, h: Tensor) -> Tensor:
    """Returns the state in the eigenvectors' coordinates after times h (T), with shape (*, T, n)."""
    a = values.unsqueeze(-2) * h[:, None]
    quotient = torch.where(a.abs() < 1e-8, 1.0 + a / 2, torch.expm1(a) / torch.where(a == 0, 1.0, a))
    return a.exp() * z.unsqueeze(-2) + h[:, None] * quotient * w.unsqueeze(-2)
