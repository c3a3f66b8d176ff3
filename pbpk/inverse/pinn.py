r"""Physics-informed neural networks: the published kind, and one that converges.

Both write the states as a network of the time and minimise, over its weights and the unknowns together, the
misfit of the data plus the residual of the equations at collocation points.

``published`` (PBPK-iPINN): an MLP of the time, three losses with weights,

.. math:: w_d \, \overline{(C - y)^2} + w_0 \, \overline{(C(0) - C_0)^2} + w_r \, \overline{(\dot C - f)^2},

the unknowns as they are, Adam and then L-BFGS.

``improved``: a layer of tanh units that sees the clocks of :mod:`pbpk.inverse.collocation` (the logarithm of
the time since each event), begins at the known state whatever its weights, and has the scaled rows of that
module, each divided by its own rate and by the size of its state at the time; the unknowns in free
coordinates. The output weights, in which all rows are linear, are projected out (Golub and Pereyra); the
inner weights, biases and unknowns are searched together by least squares (scipy's trust region) with the
exact Jacobian. The equations are tightened round by round, so that their weight adapts.

References:
    Raissi, Perdikaris, Karniadakis (2019). Physics-informed neural networks. J Comput Phys 378:686.
    https://doi.org/10.1016/j.jcp.2018.10.045
    PBPK-iPINNs (2025): inverse physics-informed neural networks for physiologically based pharmacokinetic
    brain models. https://arxiv.org/abs/2509.12666
    Golub, Pereyra (1973). The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate. SIAM J Numer Anal 10:413. https://doi.org/10.1137/0710036
    Cyr et al. (2020). Robust training and initialization of deep neural networks: an adaptive basis
    viewpoint. https://arxiv.org/abs/1912.04862
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.inverse.collocation import Collocation
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult
from pbpk.inverse.xtfc import compared, finished, on_bound

VARIANTS: tuple[str, ...] = ("improved", "published")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sin": torch.sin,
    "swish": torch.nn.functional.silu,
}
_ROUNDS = ((1e-1, False), (1e-2, False), (3e-3, False), (3e-3, True))
"""A round each: the tolerance of the equations, relative; does the prediction size the noise? [ours]"""
_ATTEMPTS = 2  # searches that run into a bound are begun anew, half as far from the middle of the box
_STEEP = 2.0  # a unit's slope: over its clock, from -1 to 1, it turns once [ours]
_FREEDOM = 1e3  # prior standard deviation of a weight: keeps units that nothing determines from running off


def fit(
    problem: InverseProblem,
    *,
    seed: int = 0,
    start: Tensor | None = None,
    variant: str = "improved",
    reference: FitResult | None = None,
    **options: Any,
) -> FitResult:
    """Estimates the unknowns with a physics-informed network.

    Arguments:
        problem: The problem, with observations.
        seed: Of the network, and of the start.
        start: Where to begin, in free coordinates, with shape :math:`(K)`; drawn from the box by default.
        variant: One of :data:`VARIANTS`.
        reference: A least-squares fit to hold the result against, or None.
        options: Those of the variant: see :func:`improved` and :func:`published`.

    Returns:
        The estimate; its covariance is the inverse Fisher information there.

    Raises:
        ValueError: If there is no such variant.
    """
    choose("variant", variant, VARIANTS)
    generator = torch.Generator().manual_seed(seed)
    if start is None:
        start = problem.starts(1, generator)[0]
    solve = improved if variant == "improved" else published
    began = time.perf_counter()
    theta, converged = solve(problem, start.detach(), generator, **options)
    name = "pinn" if variant == "improved" else "pinn (published)"
    return compared(finished(name, problem, theta, converged, began), reference)


def improved(
    problem: InverseProblem,
    start: Tensor,
    generator: torch.Generator,
    *,
    networks: int = 2,
    width: int = 32,
    degree: int = 30,
    evaluations: int = 40,
) -> tuple[Tensor, bool]:
    """Solves by least squares over all weights and unknowns together.

    Arguments:
        problem: The problem.
        start: Free coordinates, with shape :math:`(K)`.
        generator: Of the first weights.
        networks: How many networks are trained from the same start; the one of the lowest loss is kept.
        width: The number of tanh units.
        degree: Two thirds of the number of collocation points between two events.
        evaluations: How many evaluations a round may take.

    Returns:
        The estimate, and whether the last round met its own criterion.
    """
    design = Collocation(problem, degree)
    runs = [_trained(_Network(design, width, generator), start, evaluations) for _ in range(networks)]
    best = min(runs, key=lambda run: run.cost)
    return torch.from_numpy(best.x[: problem.K].copy()), bool(best.status > 0)


def _trained(network: _Network, start: Tensor, evaluations: int) -> Any:
    """Trains one network round by round; returns what scipy says of the last."""
    from scipy.optimize import least_squares

    design, K = network.design, network.design.problem.K
    low, high = (bound.numpy() for bound in design.problem.box)
    inside = 1e-6 * (high - low)
    free = np.full(len(network.first), np.inf)
    bounds = np.concatenate([low, -free]), np.concatenate([high, free])
    for attempt in range(_ATTEMPTS):
        theta = start.numpy() + (design.middle - start).numpy() * (1.0 - 0.5**attempt)
        inner = network.first
        for tolerance, by_prediction in _ROUNDS:
            network.set(tolerance, design.sd(network.prediction if by_prediction else None))
            run = least_squares(
                lambda u: network(u)[0],
                np.concatenate([np.clip(theta, low + inside, high - inside), inner]),
                jac=lambda u: network(u)[1],
                bounds=bounds,
                x_scale="jac",
                ftol=1e-4,
                xtol=1e-6,
                max_nfev=evaluations,
            )
            network(run.x)
            theta, inner = run.x[:K], run.x[K:]
        if not on_bound(theta, low, high):
            break
    return run


class _Network:
    """x(t) = x(0) + size * V (tanh(W s(t) + b) - tanh(W s(0) + b)), its rows and their derivatives."""

    def __init__(self, design: Collocation, width: int, generator: torch.Generator) -> None:
        self.design, self.width = design, width
        clocks, slopes = design.clocks(design.times)
        self.s, self.s_dot = clocks.numpy(), slopes.numpy()
        self.s_seen = design.clocks(design.problem.seen.time)[0].numpy()
        self.S, self.F = self.s.shape[1], len(design.free)
        own = torch.arange(width) % self.S  # each unit turns within one interval
        bend = 2.2 * torch.rand(width, generator=generator, dtype=torch.float64) - 1.1
        steep = _STEEP * (0.5 + torch.rand(width, generator=generator, dtype=torch.float64))
        W = torch.zeros(width, self.S, dtype=torch.float64)
        W[torch.arange(width), own] = steep
        self.first = torch.cat([W, (-steep * bend)[:, None]], 1).flatten().numpy()
        self.prediction: np.ndarray | None = None
        self.priors = [
            (k, float(u.free(torch.tensor(u.mean, dtype=torch.float64))), u.sd)
            for k, u in enumerate(design.problem.unknowns)
            if u.mean is not None and u.sd is not None
        ]

    def set(self, tolerance: float, sd: np.ndarray) -> None:
        """Sets the tolerance of the equations and the standard deviations of the observations."""
        M = len(self.s)
        self.weight = 1.0 / tolerance / np.sqrt(M / (self.width / 2)) / self.design.level.T  # (F, M)
        self.sd, self.last = sd, b""

    def units(self, inner: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns the units less what they are at time 0, and their first two derivatives, each (T, h)."""
        weights = inner.reshape(self.width, self.S + 1)
        phi = np.tanh(s @ weights[:, :-1].T + weights[:, -1])
        origin = np.tanh(weights[:, -1] - weights[:, :-1].sum(1))
        return phi - origin, 1.0 - phi**2, -2.0 * phi * (1.0 - phi**2), 1.0 - origin**2

    def __call__(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the projected rows and their derivatives by theta and inner weights."""
        if u.tobytes() != self.last:
            self.last, self.value = u.tobytes(), self._project(u)
        return self.value

    def _project(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        none = np.zeros(self.F * self.width)
        r, J = self._rows(np.concatenate([u, none]))
        Q, T = np.linalg.qr(J[:, len(u) :])
        outer = -np.linalg.solve(T, Q.T @ r)
        r, J = self._rows(np.concatenate([u, outer]))
        moved = J[:, : len(u)]
        return r, moved - Q @ (Q.T @ moved)

    def _rows(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        K, h, F, S = self.design.problem.K, self.width, self.F, self.S
        theta, inner, V = u[:K], u[K : K + h * (S + 1)], u[K + h * (S + 1) :].reshape(F, h)
        rows, slopes = self.design.rows(theta)
        W = inner.reshape(h, S + 1)[:, :-1]
        phi, one, two, origin = self.units(inner, self.s)
        a_dot = self.s_dot @ W.T
        phi_dot = one * a_dot
        seen, seen_one, _, _ = self.units(inner, self.s_seen)
        x, x_dot, x_seen = phi @ V.T, phi_dot @ V.T, seen @ V.T  # (M, F), (M, F), (N, F)

        def equations(x: np.ndarray, x_dot: np.ndarray) -> np.ndarray:
            """Applies the equations to columns (..., M, F); returns (..., F * M)."""
            left = x_dot / rows.rate - x @ rows.A.T
            return (self.weight * np.swapaxes(left, -1, -2)).reshape(*x.shape[:-2], -1)

        def observed(x: np.ndarray) -> np.ndarray:
            return (rows.R * x).sum(-1) / self.sd

        r = np.concatenate(
            [
                equations(x, x_dot) - (self.weight * rows.forcing.T).ravel(),
                observed(x_seen) + (rows.rest - self.design.target) / self.sd,
            ]
        )
        J = np.empty((len(r), len(u)))
        physics = F * len(self.s)
        for k, slope in enumerate(slopes):
            change = -x_dot * slope.rate / rows.rate**2 - x @ slope.A.T - slope.forcing
            J[:physics, k] = (self.weight * change.T).ravel()
            J[physics:, k] = ((slope.R * x_seen).sum(-1) + slope.rest) / self.sd
        ones, zeros = np.ones((len(self.s), 1)), np.zeros((len(self.s), 1))
        s, s_dot = np.concatenate([self.s, ones], 1), np.concatenate([self.s_dot, zeros], 1)
        s_seen = np.concatenate([self.s_seen, np.ones((len(self.s_seen), 1))], 1)
        s0 = np.append(-np.ones(S), 1.0)
        # by inner weights, axes (h, S + 1, time, F)
        d = one.T[:, None, :] * s.T[None] - (origin[:, None] * s0)[..., None]
        d_dot = two.T[:, None] * a_dot.T[:, None] * s.T[None] + one.T[:, None] * s_dot.T[None]
        d_seen = seen_one.T[:, None] * s_seen.T[None] - (origin[:, None] * s0)[..., None]
        by_V = V.T[:, None, None, :]
        inside = equations(d[..., None] * by_V, d_dot[..., None] * by_V).reshape(h * (S + 1), -1)
        J[:physics, K : K + len(inside)] = inside.T
        J[physics:, K : K + len(inside)] = observed(d_seen[..., None] * by_V).reshape(h * (S + 1), -1).T
        # by output weights, axes (F, h, time, F)
        unit = np.eye(F)[:, None, None, :]
        outside = equations(phi.T[None, ..., None] * unit, phi_dot.T[None, ..., None] * unit)
        J[:physics, K + len(inside) :] = outside.reshape(F * h, -1).T
        J[physics:, K + len(inside) :] = observed(seen.T[None, ..., None] * unit).reshape(F * h, -1).T
        self.prediction = (rows.R * x_seen).sum(-1) + rows.rest
        extra = np.concatenate(
            [np.array([(theta[k] - m) / sd for k, m, sd in self.priors]), u[K:] / _FREEDOM]
        )
        directions = np.zeros((len(extra), len(u)))
        for row, (k, _, sd) in enumerate(self.priors):
            directions[row, k] = 1.0 / sd
        directions[len(self.priors) :, K:] = np.eye(len(u) - K) / _FREEDOM
        return np.concatenate([r, extra]), np.concatenate([J, directions])


def published(
    problem: InverseProblem,
    start: Tensor,
    generator: torch.Generator,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0),
    activation: str = "tanh",
    width: int = 32,
    depth: int = 3,
    points: int = 200,
    rate: float = 1e-3,
    adam: int = 3000,
    lbfgs: int = 300,
) -> tuple[Tensor, bool]:
    """Solves as published: three weighted losses, Adam, then L-BFGS.

    Arguments:
        problem: The problem.
        start: Free coordinates, with shape :math:`(K)`.
        generator: Of the first weights.
        weights: Those of the data, the initial condition and the residual.
        activation: One of :data:`ACTIVATIONS`.
        width: The number of units of a layer.
        depth: The number of hidden layers.
        points: The number of collocation points, even in time.
        rate: Adam's learning rate.
        adam: The number of its steps.
        lbfgs: The number of L-BFGS's steps.

    Returns:
        The estimate, and whether the loss had settled: it fell by less than 1 % in the last tenth of L-BFGS.

    Raises:
        ValueError: If there is no such activation.
    """
    choose("activation", activation, ACTIVATIONS)
    act = ACTIVATIONS[activation]
    system = problem.system(start)
    free, bound = torch.nonzero(~system.settled)[:, 0], torch.nonzero(system.settled)[:, 0]
    end = float(problem.seen.time.max())
    t = torch.linspace(0.0, end, points, dtype=torch.float64)
    driven = problem.states(start, t)[:, bound].detach()
    driven_seen = problem.states(start, problem.seen.time, problem.seen.after)[:, bound].detach()
    forcing = system.input(t)[:, free]
    row = [problem.model.compartments.index(name) for name in problem.seen.compartment]
    V = 1.0 / torch.where(system.R[:, free].amax(0) > 0, system.R[:, free].amax(0), 1.0).detach()
    shapes = [1, *[width] * depth, len(free)]
    layers = [
        torch.randn(b, a + 1, generator=generator, dtype=torch.float64) / (a + 1) ** 0.5
        for a, b in itertools.pairwise(shapes)
    ]
    values = problem.values(start).clone()
    trained = [values, *layers]
    for tensor in trained:
        tensor.requires_grad_()
    low, high = (problem.values(edge) for edge in problem.box)

    def concentrations(time: Tensor) -> Tensor:
        h = time[:, None] / end
        for layer in layers[:-1]:
            h = act(h @ layer[:, :-1].mT + layer[:, -1])
        return h @ layers[-1][:, :-1].mT + layers[-1][:, -1]

    def loss() -> Tensor:
        inside = torch.minimum(torch.maximum(values, low), high)
        at = problem.system(problem.theta(inside))
        C, C_dot, *_ = torch.func.jvp(concentrations, (t,), (torch.ones_like(t),))
        flow = (C * V) @ at.A[free][:, free].mT + driven @ at.A[free][:, bound].mT + forcing
        residual = C_dot - flow / V
        R = at.R[row]
        seen = concentrations(problem.seen.time) * V
        prediction = (R[:, free] * seen).sum(-1) + (R[:, bound] * driven_seen).sum(-1)
        data = (prediction - problem.seen.value).square().mean()
        initial = (concentrations(t[:1])[0] - at.x0[free] / V).square().mean()
        return weights[0] * data + weights[1] * initial + weights[2] * residual.square().mean()

    first = torch.optim.Adam(trained, lr=rate)
    for _ in range(adam):
        first.zero_grad()
        value = loss()
        value.backward()
        first.step()
    history: list[float] = [float(value.detach())] if adam else []
    second = torch.optim.LBFGS(trained, max_iter=max(1, lbfgs // 10), line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        second.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(10 if lbfgs else 0):
        history.append(float(second.step(closure).detach()))
    settled = len(history) > 1 and abs(history[-1] - history[-2]) < 0.01 * abs(history[-2])
    inside = torch.minimum(torch.maximum(values.detach(), low), high)
    return problem.theta(inside), bool(settled)
