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
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.inverse import lsq
from pbpk.inverse.collocation import Collocation, Rows
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.projection import Basis, Equations, Priors, best, predicted
from pbpk.inverse.result import FitResult
from pbpk.inverse.structural import settled
from pbpk.inverse.xtfc import compared, finished, on_bound

VARIANTS: tuple[str, ...] = ("improved", "published")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sin": torch.sin,
    "swish": torch.nn.functional.silu,
}
_ROUNDS = ((1e-1, False), (1e-2, False), (3e-3, False), (3e-3, True), (1e-3, True))
"""A round each: the tolerance of the equations, relative; does the prediction size the noise? [ours]"""
_ATTEMPTS = 2  # searches that run into a bound are begun anew, half as far from the middle of the box
_STEEP = 2.0  # a unit's slope: over its clock, from -1 to 1, it turns once [ours]
_STILL = 0.5  # standard errors: a last round that moves the estimate by less has converged
_AS_GOOD = 3.84  # of the loss, twice: networks so close to the best one are as good
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
        The estimate; its covariance is the inverse Fisher information there, and how far networks differ.

    Raises:
        ValueError: If there is no such variant.
    """
    choose("variant", variant, VARIANTS)
    generator = torch.Generator().manual_seed(seed)
    if start is None:
        start = problem.starts(1, generator)[0]
    solve = improved if variant == "improved" else published
    began = time.perf_counter()
    theta, converged, spread = solve(problem, start.detach(), generator, **options)
    name = "pinn" if variant == "improved" else "pinn (published)"
    return compared(finished(name, problem, theta, converged, began, spread), reference)


def improved(
    problem: InverseProblem,
    start: Tensor,
    generator: torch.Generator,
    *,
    networks: int = 2,
    width: int = 24,
    degree: int = 20,
    evaluations: int = 40,
) -> tuple[Tensor, bool, Tensor]:
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
        The estimate, whether the last round hardly moved it, and the covariance of the networks whose loss is
        about as low.
    """
    design = Collocation(problem, degree)
    runs = [_trained(_Network(design, width, generator), start, evaluations) for _ in range(networks)]
    best = min(runs, key=lambda run: run.cost)
    good = [run.theta for run in runs if 2.0 * (run.cost - best.cost) < _AS_GOOD]
    spread = torch.cov(torch.stack(good, -1)) if len(good) > 1 else torch.zeros((), dtype=torch.float64)
    se = lsq.inverse(problem.information(best.theta)).diagonal().sqrt()
    return best.theta, bool((best.moved.abs() < _STILL * se).all()), spread


@dataclass(frozen=True)
class _Trained:
    """What a network ended with: theta (K), by how much the last round moved it, and half its loss."""

    theta: Tensor
    moved: Tensor
    cost: float


def _trained(network: _Network, start: Tensor, evaluations: int) -> _Trained:
    """Trains one network round by round."""
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
            before, theta, inner = theta, run.x[:K], run.x[K:]
        if not on_bound(theta, low, high):
            break
    return _Trained(torch.from_numpy(theta.copy()), torch.from_numpy(theta - before), float(run.cost))


class _Network:
    """x(t) = x(0) + size * V (tanh(W s(t) + b) - tanh(W s(0) + b)), its rows and their derivatives."""

    def __init__(self, design: Collocation, width: int, generator: torch.Generator) -> None:
        self.design, self.width = design, width
        clocks, slopes = design.clocks(design.times)
        self.s, self.s_dot = _with(clocks.numpy(), 1.0), _with(slopes.numpy(), 0.0)
        self.s_seen = _with(design.clocks(design.problem.seen.time)[0].numpy(), 1.0)
        self.origin = np.append(-np.ones(clocks.shape[1]), 1.0)
        self.first = _first(width, clocks.shape[1], generator)
        self.priors = Priors(design.problem)
        self.prediction: np.ndarray | None = None

    def set(self, tolerance: float, sd: np.ndarray) -> None:
        """Sets the tolerance of the equations and the standard deviations of the observations."""
        self.equations, self.last = Equations(self.design, tolerance, self.width / 2, sd), b""

    def __call__(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the projected rows and their derivatives by theta and inner weights."""
        if u.tobytes() != self.last:
            self.last, self.value = u.tobytes(), self._project(u)
        return self.value

    def _project(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        K = self.design.problem.K
        rows, slopes = self.design.rows(u[:K])
        basis, moved = self.units(u[K:])
        X, y = self.equations.linear(rows, basis)
        V, Q = best(X, y, len(rows.rate), 1.0 / _FREEDOM)
        J = self.slopes(rows, slopes, basis, moved, V)
        self.prediction = predicted(rows, basis, V)
        r = np.concatenate([X @ V.ravel() - y, self.priors(u[:K]), u[K:] / _FREEDOM])
        free = np.eye(len(u))[K:] / _FREEDOM
        own = np.pad(self.priors.slope, ((0, 0), (0, len(u) - K)))
        return r, np.concatenate([J - Q @ (Q.T @ J), own, free])

    def units(self, inner: np.ndarray) -> tuple[Basis, Basis]:
        """Returns the units less what they are at time 0, and how each inner weight moves its own."""
        weights = inner.reshape(self.width, -1)
        phi, start = np.tanh(self.s @ weights.T), np.tanh(weights @ self.origin)
        seen, steep = np.tanh(self.s_seen @ weights.T), self.s_dot @ weights.T
        one, one_seen, one_start = 1.0 - phi**2, 1.0 - seen**2, 1.0 - start**2
        two = -2.0 * phi * one
        at_start = one_start[:, None] * self.origin
        moved = Basis(
            one[..., None] * self.s[:, None] - at_start,
            (two * steep)[..., None] * self.s[:, None] + one[..., None] * self.s_dot[:, None],
            one_seen[..., None] * self.s_seen[:, None] - at_start,
        )
        flat = (part.reshape(len(part), -1) for part in (moved.at, moved.slope, moved.seen))
        return Basis(phi - start, one * steep, seen - start), Basis(*flat)

    def slopes(self, rows: Rows, slopes: list[Rows], basis: Basis, moved: Basis, V: np.ndarray) -> np.ndarray:
        """Returns the derivatives of the rows by theta and the inner weights, at fixed output weights V."""
        which = np.repeat(np.arange(self.width), len(self.origin))
        by_theta = self.equations.by_theta(rows, slopes, basis, V)
        return np.concatenate([by_theta, self.equations.by_function(rows, moved, V, which)], 1)


def _with(columns: np.ndarray, last: float) -> np.ndarray:
    """Returns columns with one more, of a number: what a bias multiplies."""
    return np.concatenate([columns, np.full((len(columns), 1), last)], 1)


def _first(width: int, clocks: int, generator: torch.Generator) -> np.ndarray:
    """Draws inner weights and biases: each unit turns once, somewhere within one interval."""
    own = torch.arange(width) % clocks
    bend = 2.2 * torch.rand(width, generator=generator, dtype=torch.float64) - 1.1
    steep = _STEEP * (0.5 + torch.rand(width, generator=generator, dtype=torch.float64))
    W = torch.zeros(width, clocks, dtype=torch.float64)
    W[torch.arange(width), own] = steep
    return torch.cat([W, (-steep * bend)[:, None]], 1).flatten().numpy()


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
) -> tuple[Tensor, bool, Tensor]:
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
        The estimate, whether the loss had settled (fell by less than 1 % in the last tenth of L-BFGS), and 0:
        one network has no spread.

    Raises:
        ValueError: If there is no such activation.
    """
    choose("activation", activation, ACTIVATIONS)
    shape = [1, *[width] * depth, len(settled(problem)) - sum(settled(problem))]
    layers = [
        torch.randn(b, a + 1, generator=generator, dtype=torch.float64) / (a + 1) ** 0.5
        for a, b in itertools.pairwise(shape)
    ]
    loss = _Published(problem, start, layers, weights, ACTIVATIONS[activation], points)
    value = _descend(loss, torch.optim.Adam(loss.trained, lr=rate), adam)
    second = torch.optim.LBFGS(loss.trained, max_iter=max(1, lbfgs // 10), line_search_fn="strong_wolfe")
    history = [*value[-1:], *_descend(loss, second, 10 if lbfgs else 0)]
    flat = len(history) > 1 and abs(history[-1] - history[-2]) < 0.01 * abs(history[-2])
    return problem.theta(loss.inside().detach()), bool(flat), torch.zeros((), dtype=torch.float64)


def _descend(loss: Callable[[], Tensor], optimiser: torch.optim.Optimizer, steps: int) -> list[float]:
    """Makes some steps; returns the loss before each."""

    def closure() -> float:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return float(value.detach())

    return [float(optimiser.step(closure)) for _ in range(steps)]


class _Published:
    """The published loss: an MLP of the time gives the concentrations of the free states."""

    def __init__(
        self,
        problem: InverseProblem,
        start: Tensor,
        layers: list[Tensor],
        weights: Sequence[float],
        activation: Callable[[Tensor], Tensor],
        points: int,
    ) -> None:
        self.problem, self.layers, self.weights, self.activation = problem, layers, weights, activation
        self.values = problem.values(start).clone()
        self.trained = [self.values, *layers]
        for tensor in self.trained:
            tensor.requires_grad_()
        system, still = problem.system(start), torch.tensor(settled(problem))
        self.free, self.bound = torch.nonzero(~still)[:, 0], torch.nonzero(still)[:, 0]
        self.end = float(problem.seen.time.max())
        self.t = torch.linspace(0.0, self.end, points, dtype=torch.float64)
        self.driven = problem.states(start, self.t)[:, self.bound].detach()
        self.driven_seen = problem.states(start, problem.seen.time, problem.seen.after)[
            :, self.bound
        ].detach()
        self.forcing = system.input(self.t)[:, self.free]
        self.row = [problem.model.compartments.index(name) for name in problem.seen.compartment]
        read = system.R[:, self.free].amax(0)
        self.V = 1.0 / torch.where(read > 0, read, 1.0).detach()

    def inside(self) -> Tensor:
        """Returns the unknowns' values within their bounds, with shape (K)."""
        low, high = (self.problem.values(edge) for edge in self.problem.box)
        return torch.minimum(torch.maximum(self.values, low), high)

    def concentrations(self, time: Tensor) -> Tensor:
        """Returns the network's concentrations at times (T), with shape (T, F)."""
        h = time[:, None] / self.end
        for layer in self.layers[:-1]:
            h = self.activation(h @ layer[:, :-1].mT + layer[:, -1])
        return h @ self.layers[-1][:, :-1].mT + self.layers[-1][:, -1]

    def __call__(self) -> Tensor:
        """Returns the weighted sum of the data's, the initial condition's and the equations' losses."""
        problem, free, bound, V = self.problem, self.free, self.bound, self.V
        at = problem.system(problem.theta(self.inside()))
        C, C_dot, *_ = torch.func.jvp(self.concentrations, (self.t,), (torch.ones_like(self.t),))
        flow = (C * V) @ at.A[free][:, free].mT + self.driven @ at.A[free][:, bound].mT + self.forcing
        residual = C_dot - flow / V
        R = at.R[self.row]
        seen = self.concentrations(problem.seen.time) * V
        prediction = (R[:, free] * seen).sum(-1) + (R[:, bound] * self.driven_seen).sum(-1)
        data = (prediction - problem.seen.value).square().mean()
        initial = (self.concentrations(self.t[:1])[0] - at.x0[free] / V).square().mean()
        parts = (data, initial, residual.square().mean())
        return sum((w * part for w, part in zip(self.weights, parts, strict=True)), start=data.new_zeros(()))
