r"""A gray box: known equations with an unknown term inside, learnt from data.

.. math:: dx/dt = g(t, x) + E f(z), \qquad x(0) = x_0

with g known, f not, E saying where f enters, and z what f may depend on: some of the states, or the time as
:math:`\ln(1 + t/\tau)`. The term is a straight line and a network of one hidden layer,

.. math:: f(z) = s \odot \big(L \zeta + c + V \tanh(W \zeta + b)\big), \qquad \zeta = (z - m)/d,

whose inner weights W and b are drawn once, each unit bending somewhere within the inputs seen (an extreme
learning machine), so that f is linear in what is learnt, w = (L, c, V). These have normal priors of mean 0,
wide for the line, :math:`\alpha/\sqrt{h}` for the h units. What is learnt is the most probable w,

.. math:: \min_w \sum_i \big((x_i - y_i)/\sigma_i\big)^2 + \sum_j (w_j/\tau_j)^2,

by least squares with the exact Jacobian, and :math:`\alpha` by the evidence: how far f may leave the
straight line follows from the data and their noise, and nothing is left to tune to the data set.
:mod:`pbpk.inverse.graybox_pinn` gives the states a network of their own;
:mod:`pbpk.inverse.graybox_ude` integrates the equations (a universal differential equation).

The Jacobian is taken by complex steps, one column a weight, all columns in one batch: exact to rounding as
long as g is analytic (no ``abs``, ``clamp`` or comparison of states in it).

References:
    Rackauckas et al. (2020). Universal differential equations for scientific machine learning.
    https://arxiv.org/abs/2001.04385
    Squire, Trapp (1998). Using complex variables to estimate derivatives of real functions. SIAM Review
    40:110. https://doi.org/10.1137/S003614459631241X
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_STEP = 1e-30  # of the complex step: its error is its square
_WIDE = 100.0  # prior standard deviation of the straight line, in units of the term's scale
_STEEP = 1.5  # standard deviation of a unit's slope, the inputs standardised [ours]
_HUGE = 1e9  # what a residual is cut to where a trial solution explodes
_REACH = 1e3  # prior standard deviations: how far the first step may go
_FTOL = 1e-6  # of the cost: a smaller relative change ends the search
ALPHAS = (0.1, 1.0, 10.0)  # of which the evidence chooses [ours]


@dataclass(frozen=True)
class GrayBox:
    """Known equations with an unknown term.

    Attributes:
        known: Gives the known part of dx/dt at a time [h] and states of shape :math:`(*, n)`; it may be
            called with complex numbers.
        enters: The share of each of the m unknown terms in each equation, with shape :math:`(n, m)`.
        initial: The states at time 0, with shape :math:`(n)`.
        sees: The states that the term depends on, by position; empty for the time alone.
        clock: The time tau [h] in ln(1 + t/tau), what the term sees of the time.

    Raises:
        ValueError: If the shapes do not fit, or ``sees`` names a state that is not there.
    """

    known: Callable[[Any, Tensor], Tensor]
    enters: Tensor
    initial: Tensor
    sees: tuple[int, ...] = ()
    clock: float = 1.0

    def __post_init__(self) -> None:
        """Checks the shapes."""
        n = len(self.initial)
        if self.enters.ndim != 2 or len(self.enters) != n:
            raise ValueError(
                f"enters must have one row for each of the {n} states, but has shape "
                f"{tuple(self.enters.shape)}."
            )
        wrong = [state for state in self.sees if not 0 <= state < n]
        if wrong:
            raise ValueError(f"sees must name states 0 to {n - 1}, but has {wrong[0]}.")

    def inputs(self, t: Any, x: Tensor) -> Tensor:
        """Returns what the term sees, z, with shape (*, k)."""
        if self.sees:
            return x[..., list(self.sees)]
        now = torch.log1p(torch.as_tensor(t, dtype=torch.float64) / self.clock).to(x.dtype)
        return now.expand(x.shape[:-1]).unsqueeze(-1)

    def slope(self, t: Any, x: Tensor, f: Tensor) -> Tensor:
        """Returns dx/dt where the term is f, of shape (*, m)."""
        return self.known(t, x) + f @ self.enters.to(f.dtype).mT

    def solve(self, term: Callable[[Tensor], Tensor], times: Tensor, step: float, batch: int = 0) -> Tensor:
        """Integrates the equations by the classical Runge-Kutta method of order 4.

        Arguments:
            term: The unknown term, from z of shape (*, k) to (*, m).
            times: Output times [h], ascending, from 0 on, with shape :math:`(T)`.
            step: The longest step [h].
            batch: How many columns of complex steps ``term`` carries; 0 for none.

        Returns:
            The states, with shape :math:`(T, n)` or :math:`(T, batch, n)`.
        """
        from torchdiffeq import odeint

        x0 = self.initial.to(torch.complex128).expand(batch, -1) if batch else self.initial
        t = torch.cat([times.new_zeros(1), times]) if times[0] > 0 else times
        steps = grid(t, step)
        x = odeint(
            lambda now, x: self.slope(now, x, term(self.inputs(now, x))),
            x0,
            t,
            method="rk4",
            options={"grid_constructor": lambda *_: steps},
        )
        return x[len(t) - len(times) :]


def grid(times: Tensor, step: float) -> Tensor:
    """Divides each interval between the times evenly into steps no longer than ``step``."""
    pieces = [times[:1]]
    for a, b in itertools.pairwise(times):
        count = max(1, int(np.ceil(float(b - a) / step - 1e-9)))
        pieces.append(torch.linspace(float(a), float(b), count + 1, dtype=times.dtype)[1:])
    return torch.cat(pieces)


@dataclass(frozen=True)
class Term:
    """The network: k inputs, m outputs, h hidden units, their fixed inner weights, and the scales.

    Attributes:
        mean: The inputs' means, with shape :math:`(k)`.
        spread: Their standard deviations, with shape :math:`(k)`.
        size: The outputs' sizes, with shape :math:`(m)`.
        inner: The inner weights, their biases last, with shape :math:`(h, k + 1)`.
    """

    mean: Tensor
    spread: Tensor
    size: Tensor
    inner: Tensor

    @property
    def width(self) -> int:
        """The number of learnt weights of one output: the units, the line's slopes, its height."""
        return len(self.inner) + len(self.mean) + 1

    def prior(self, alpha: float) -> Tensor:
        """Returns the prior standard deviation of each weight, with shape (m * width)."""
        h = len(self.inner)
        one = torch.full((self.width,), _WIDE, dtype=torch.float64)
        one[:h] = alpha / math.sqrt(h)
        return one.repeat(len(self.size))

    def features(self, z: Tensor) -> Tensor:
        """Returns the units and the line's inputs at z of shape (*, k), with shape (*, width)."""
        zeta = (z - self.mean) / self.spread
        unit = torch.tanh(zeta @ self.inner[:, :-1].to(zeta.dtype).mT + self.inner[:, -1])
        return torch.cat([unit, zeta, torch.ones_like(zeta[..., :1])], -1)

    def __call__(self, w: Tensor, z: Tensor) -> Tensor:
        """Evaluates the term for weights (*, m * width) at inputs (*, k), with shape (*, m)."""
        each = w.unflatten(-1, (len(self.size), self.width))
        return (each * self.features(z).unsqueeze(-2)).sum(-1) * self.size


@dataclass(frozen=True)
class Learned:
    """What was learnt.

    Attributes:
        box: The equations.
        term: The network's shape.
        weights: Its weights, with shape :math:`(P)`.
        covariance: Their posterior covariance, linearised, with shape :math:`(P, P)`.
        times: Times [h] at which ``states`` are given, with shape :math:`(T)`.
        states: The fitted states, with shape :math:`(T, n)`.
        alpha: How far the term may leave the straight line, chosen by the evidence.
        cost: The sum of squared scaled residuals of the data.
        converged: Whether the optimiser's own criterion was met.
        seconds: How long it took [s].
    """

    box: GrayBox
    term: Term
    weights: Tensor
    covariance: Tensor
    times: Tensor
    states: Tensor
    alpha: float
    cost: float
    converged: bool
    seconds: float

    @property
    def inputs(self) -> Tensor:
        """What the term saw along the fitted curve, with shape (T, k)."""
        return torch.stack([self.box.inputs(t, x) for t, x in zip(self.times, self.states, strict=True)])

    def __call__(self, z: Tensor) -> Tensor:
        """Evaluates the learnt term at inputs (*, k), with shape (*, m)."""
        return self.term(self.weights, z)

    def sd(self, z: Tensor) -> Tensor:
        """Returns the posterior standard deviation of the term at inputs (T, k), with shape (T, m)."""
        J = torch.func.jacfwd(lambda w: self.term(w, z))(self.weights)
        return torch.einsum("tmp,pq,tmq->tm", J, self.covariance, J).clamp(min=0.0).sqrt()


@dataclass(frozen=True)
class Series:
    """Observed states: one row a time, one column a state.

    Attributes:
        times: Times [h], ascending, with shape :math:`(T)`.
        value: The observed states; NaN where one was not seen; with shape :math:`(T, n)`.
        sd: Their standard deviations, with a shape that broadcasts to that.

    Raises:
        ValueError: If nothing was seen, the times do not ascend from 0 on, or a deviation is not above 0.
    """

    times: Tensor
    value: Tensor
    sd: Tensor

    def __post_init__(self) -> None:
        """Checks times and deviations."""
        if not len(self.times) or float(self.times[0]) < 0 or bool((self.times.diff() <= 0).any()):
            raise ValueError("times must ascend from 0 or later. Sort them and merge repeats.")
        if not bool(self.seen.any()):
            raise ValueError("value must hold an observation, but all are NaN.")
        sd = self.sd.expand_as(self.value)[self.seen]
        if not bool((sd > 0).all()):
            raise ValueError(f"sd must be above 0, but is {float(sd.min()):g}.")

    @property
    def seen(self) -> Tensor:
        """Which entries were observed, with shape (T, n)."""
        return self.value.isfinite()

    def residuals(self, x: Tensor) -> Tensor:
        """Returns the scaled residuals of states (T, n) or (T, batch, n); shape (N) or (batch, N)."""
        seen, sd = self.seen, self.sd.expand_as(self.value)
        if x.ndim == 3:
            return ((x.movedim(1, 0) - self.value) / sd)[:, seen]
        return ((x - self.value) / sd)[seen]


def shape(box: GrayBox, series: Series, hidden: int, seed: int) -> Term:
    """Draws the inner weights and chooses the scales: inputs standardised, outputs of the size of dx/dt."""
    times = torch.cat([series.times.new_zeros(1), series.times])
    x = torch.cat([box.initial[None], series.value])
    z = torch.stack([box.inputs(t, row) for t, row in zip(times, x, strict=True)])
    few = z.isfinite().sum(0) < 3  # an input that was not seen: about as large as it began
    z = torch.where(few, (z[0] * torch.linspace(0.0, 1.0, len(z), dtype=z.dtype)[:, None]), z)
    centre = z.nanmean(0)
    spread = (z - centre).square().nansum(0) / (z.isfinite().sum(0) - 1)
    spread = spread.sqrt().clamp(min=1e-12)
    rise = (x.diff(dim=0).abs() / times.diff().clamp(min=1e-12)[:, None]).nan_to_num().amax(0)
    size = (rise[:, None] * (box.enters != 0)).amax(0).clamp(min=1e-12)
    generator = torch.Generator().manual_seed(seed)
    low, high = ((z - centre) / spread).nan_to_num().aminmax(dim=0)
    steep = _STEEP * torch.randn(hidden, z.shape[1], generator=generator, dtype=z.dtype)
    bend = low + (high - low) * torch.rand(hidden, z.shape[1], generator=generator, dtype=z.dtype)
    inner = torch.cat([steep, -(steep * bend).sum(-1, keepdim=True)], -1)
    return Term(centre, spread, size, inner)


@dataclass(frozen=True)
class Found:
    """Most probable weights (P), their covariance (P, P), the data's cost, and the log evidence."""

    weights: Tensor
    covariance: Tensor
    cost: float
    evidence: float
    converged: bool


def most_probable(
    residuals: Callable[[Tensor], Tensor], prior: Tensor, first: Tensor, evaluations: int = 60
) -> Found:
    """Finds the most probable weights, and how probable the data are under their prior (Laplace).

    Arguments:
        residuals: From complex weights (B, P) to scaled residuals (B, N).
        prior: The prior standard deviations of the weights, with shape :math:`(P)`.
        first: Where to begin, with shape :math:`(P)`.
        evaluations: How many evaluations the search may take.

    Returns:
        What was found.
    """
    from scipy.optimize import least_squares

    step = _STEP * torch.diag(prior)
    slopes: dict[bytes, np.ndarray] = {}

    def value(u: np.ndarray) -> np.ndarray:
        weights = torch.from_numpy(u) * prior
        r = residuals(torch.complex(weights.expand_as(step), step))
        slopes.clear()
        J = torch.cat([r.imag.mT / _STEP, torch.eye(len(prior), dtype=prior.dtype)])
        slopes[u.tobytes()] = J.nan_to_num().clamp(-_HUGE, _HUGE).numpy()
        return torch.cat([r[0].real, weights / prior]).nan_to_num(_HUGE).clamp(-_HUGE, _HUGE).numpy()

    def jacobian(u: np.ndarray) -> np.ndarray:
        if u.tobytes() not in slopes:
            value(u)
        return slopes[u.tobytes()]

    with np.errstate(over="ignore"):
        found = least_squares(
            value,
            (first / prior).numpy(),
            jacobian,
            method="trf",
            x_scale=_REACH,
            max_nfev=evaluations,
            ftol=_FTOL,
        )
    J = torch.from_numpy(found.jac)
    curvature = J.mT @ J
    evidence = -float(found.cost) - 0.5 * float(torch.logdet(curvature))
    return Found(
        weights=torch.from_numpy(found.x) * prior,
        covariance=prior[:, None] * torch.linalg.inv(curvature) * prior,
        cost=float((found.fun[: -len(prior)] ** 2).sum()),
        evidence=evidence,
        converged=bool(found.status > 0),
    )
