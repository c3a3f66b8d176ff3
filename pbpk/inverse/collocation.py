r"""The equations of a problem written down at collocation points, for the solvers that never integrate.

Between two events (a dose, the begin or end of an infusion) the solution is smooth; over all of it, from
minutes to days, it is smooth in the logarithm of the time since the last event,

.. math:: s_k(t) = \ln\big(1 + (\min(\max(t, t_k), t_{k+1}) - t_k)/\tau\big),

one clock for each interval k, that stands still outside it; and :math:`1/\tau` a thirtieth of the fastest
rate of the known equations. A function of these clocks is continuous and bends sharply just where the
solution does.

Each equation is divided by its own rate :math:`|A_{ii}|` and by the size of its state at the time, so that a
residual reads as a relative error of the state: raw, the blood flow of 600/h swamps every other one. States
that do not depend on the unknowns (the plasma) are taken as they are, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.inverse.dual import Dual
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.structural import settled

_SAME = 1e-9  # h
_POINTS = 1.5  # collocation points a unit of degree
_SLOW = 30.0  # a clock's tau, in units of the fastest time constant: below it a state just follows [ours]
_MOST = 8  # free states
_LEAST = 1e-4  # of its size: no state is taken to be smaller


@dataclass(frozen=True)
class Rows:
    """What the collocation needs of the equations at one theta; F free states, M points, N observations.

    Attributes:
        A: The rates between free states, in their sizes and divided by their own rate, with shape (F, F).
        forcing: What else enters each free state, likewise, with shape (M, F).
        rate: The free states' own rates [1/h], with shape (F).
        R: What each observation reads of each free state, in its size [mg/L], with shape (N, F).
        rest: What it reads of the others and of what was there before [mg/L], with shape (N).
    """

    A: np.ndarray
    forcing: np.ndarray
    rate: np.ndarray
    R: np.ndarray
    rest: np.ndarray


class Collocation:
    """The design of a problem for collocation: intervals, points, sizes, weights."""

    def __init__(self, problem: InverseProblem, degree: int) -> None:
        self.problem = problem
        low, high = problem.box
        self.middle = (low + high) / 2
        system = problem.system(low)
        still = torch.tensor(settled(problem))
        self.free, self._bound = torch.nonzero(~still)[:, 0], torch.nonzero(still)[:, 0].numpy()
        last = float(problem.seen.time.max())
        events = [0.0, *(t for t, _ in system.jumps), *(t for a, b, _ in system.infusions for t in (a, b))]
        inner = sorted({round(t, 9) for t in events if 0.0 <= t < last - _SAME})
        if len(self.free) > _MOST:
            raise ValueError(
                f"a method that writes the equations down (xtfc, pinn) must have at most {_MOST} states that "
                f"follow an unknown, but {problem.model.name} has {len(self.free)}: an equation holds to a "
                "tolerance only, and the blood's swamps a clearance. Choose lsq, amortised or mcmc."
            )
        self.edges = torch.tensor([*inner, last], dtype=torch.float64)
        self.tau = _SLOW / float(system.A.diagonal()[self.free].abs().max())
        self.times = torch.cat([self._points(k, degree) for k in range(len(inner))])
        self.size = self._sizes()
        self._settle()

    def _settle(self) -> None:
        """Computes what does not depend on the unknowns."""
        problem, t = self.problem, self.problem.seen.time
        bolus = [dose.time for dose in problem.given if not dose.duration]
        infused = [(dose.time, dose.time + dose.duration) for dose in problem.given if dose.duration]
        self._after = [(self.times > when).numpy() for when in bolus]
        at = [(t - when).abs() <= _SAME for when in bolus]
        self._given = [
            ((t > when + _SAME) | (now & problem.seen.after)).numpy()
            for when, now in zip(bolus, at, strict=True)
        ]
        self._on = [((self.times >= a) & (self.times < b)).numpy() for a, b in infused]
        self._row = [problem.model.compartments.index(name) for name in problem.seen.compartment]
        self._x_there = problem.states(self.middle, self.times)[:, self._bound].numpy()
        self._x_seen = problem.states(self.middle, t, problem.seen.after)[:, self._bound].numpy()
        self.level = self._levels()

    def _levels(self) -> np.ndarray:
        """Returns how large each free state is at each point, as a share of its size, from the observations.

        Between observations it is interpolated in the logarithms; a state that was not seen is as large as
        the smallest seen.
        """
        problem = self.problem
        R = problem.system(self.middle).R[:, self.free]
        names = problem.model.compartments
        value = torch.where(problem.seen.limit > 0, problem.seen.limit, problem.seen.value).numpy()
        t, where = problem.seen.time.numpy(), np.array(problem.seen.compartment)
        found: dict[str, Any] = {}
        for name in set(problem.seen.compartment):
            own = (where == name) & (value > 0)
            if own.any():
                order = np.argsort(t[own], kind="stable")
                clock = np.log1p(t[own][order] / self.tau)
                level = np.log(value[own][order] / value[own].max())
                found[name] = np.exp(np.interp(np.log1p(self.times.numpy() / self.tau), clock, level))
        least = np.minimum.reduce([np.ones(len(self.times)), *found.values()])
        reader = [names[int(R[:, i].argmax())] for i in range(len(self.free))]
        columns: list[Any] = [found.get(name, least) for name in reader]
        return np.stack(columns, -1).clip(_LEAST, 1.0)

    def _points(self, k: int, degree: int) -> Tensor:
        """Returns Gauss's points of the clock of interval k, with the two ends just inside."""
        count = int(_POINTS * degree)
        x = -torch.cos((torch.arange(count, dtype=torch.float64) + 0.5) * math.pi / count)
        span = float(torch.log1p((self.edges[k + 1] - self.edges[k]) / self.tau))
        return self.edges[k] + self.tau * torch.expm1((x + 1.0) / 2.0 * span)

    def _sizes(self) -> Tensor:
        """Returns the size of each free state [mg]: its largest observation, or that of the others."""
        problem = self.problem
        seen = problem.seen.value.nan_to_num()
        names = problem.model.compartments
        largest = {
            name: max(
                v for v, where in zip(seen.tolist(), problem.seen.compartment, strict=True) if where == name
            )
            for name in set(problem.seen.compartment)
        }
        typical = max(float(np.median(list(largest.values()))), problem.floor, 1e-12)
        R = problem.system(self.middle).R[:, self.free]
        sizes = []
        for i in range(len(self.free)):
            row = int(R[:, i].argmax())
            read = float(R[row, i])
            value = max(largest.get(names[row], typical), 1e-3 * typical)
            sizes.append(value / read if read > 0 else sum(dose.amount for dose in problem.given) or 1.0)
        return torch.tensor(sizes, dtype=torch.float64)

    def clocks(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the clocks at times (T), and their slopes [1/h], each with shape (T, intervals).

        The clocks run from -1 to 1.
        """
        begin, end = self.edges[:-1], self.edges[1:]
        since = (torch.minimum(torch.maximum(t[:, None], begin), end) - begin) / self.tau
        span = torch.log1p((end - begin) / self.tau)
        runs = (t[:, None] > begin) & (t[:, None] < end)
        slope = torch.where(runs, 1.0 / (self.tau * (1.0 + since)), 0.0)
        return 2.0 * torch.log1p(since) / span - 1.0, 2.0 * slope / span

    def rows(self, theta: np.ndarray) -> tuple[Rows, list[Rows]]:
        """Returns the parts at theta (K), and their derivatives by each of its coordinates."""
        A, x0, R, rates, jumps = self._assembled(theta)
        free, size = self.free.numpy(), self.size.numpy()
        own = R[:, self._row]  # (1 + K, N, n)
        A_free = A[:, free][:, :, free]
        rate = -np.diagonal(A_free, axis1=1, axis2=2)
        there = x0[:, None, free] + sum(
            (
                when[None, :, None] * jump[:, None, free]
                for when, jump in zip(self._after, jumps, strict=True)
            ),
            start=np.zeros((1, 1, 1)),
        )
        start = x0[:, None, free] + sum(
            (
                when[None, :, None] * jump[:, None, free]
                for when, jump in zip(self._given, jumps, strict=True)
            ),
            start=np.zeros((1, 1, 1)),
        )
        forcing = sum(
            (on[None, :, None] * r[:, None, free] for on, r in zip(self._on, rates, strict=True)),
            start=np.zeros((1 + len(theta), len(self.times), len(free))),
        )
        forcing = forcing + _product(there, np.swapaxes(A_free, 1, 2))
        forcing = forcing + self._x_there @ np.swapaxes(A[:, free][:, :, self._bound], 1, 2)
        rest = _rowwise(own[..., free], start) + (own[..., self._bound] * self._x_seen).sum(-1)
        return self._scaled(A_free * size, forcing, rate, own[..., free] * size, rest)

    def _scaled(
        self, A: np.ndarray, forcing: np.ndarray, rate: np.ndarray, R: np.ndarray, rest: np.ndarray
    ) -> tuple[Rows, list[Rows]]:
        """Divides each equation by its rate and its state's size."""
        size = self.size.numpy()
        by = 1.0 / (rate[0] * size)
        slope = -rate[1:] / rate[0]  # of ln(by)
        A_by = np.concatenate(
            [A[:1] * by[:, None], A[1:] * by[:, None] + (A[0] * by[:, None]) * slope[..., None]]
        )
        forced = np.concatenate([forcing[:1] * by, forcing[1:] * by + forcing[0] * by * slope[:, None, :]])
        every = [Rows(A_by[k], forced[k], rate[k], R[k], rest[k]) for k in range(len(A))]
        return every[0], every[1:]

    def _assembled(
        self, theta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Returns A, x0, R, infusion rates, jumps: themselves, then their derivatives, (1 + K, ...)."""
        problem, K = self.problem, self.problem.K
        at = {state: position for position, state in enumerate(problem.linear.states)}
        unit = np.eye(K)
        values = problem.values(torch.from_numpy(np.array(theta))).tolist()
        p: dict[str, Any] = {name: float(value) for name, value in problem.known.items()}
        for u, value, direction in zip(problem.unknowns, values, unit, strict=True):
            p[u.name] = Dual(value, u.slope(value) * direction)
        model, n = problem.linear, len(at)
        rows = {name: row for row, name in enumerate(model.compartments)}
        A = _filled({(at[i], at[j]): v for (i, j), v in model.rates(p).items()}, (n, n), K)
        x0 = _filled({(at[state],): v for state, v in model.initial(p).items()}, (n,), K)
        reads = model.reads(p).items()
        R = _filled({(rows[m], at[x]): v for m, read in reads for x, v in read.items()}, (len(rows), n), K)
        rates: list[np.ndarray] = []
        jumps: list[np.ndarray] = []
        inlets = model.inlets(p)
        for dose in problem.given:
            state, share = inlets[dose.compartment]
            enters = _filled({(at[state],): share * dose.amount}, (n,), K)
            (rates if dose.duration else jumps).append(enters / (dose.duration or 1.0))
        return A, x0, R, rates, jumps

    def sd(self, prediction: np.ndarray | None = None) -> np.ndarray:
        """Returns the standard deviation of each observation [mg/L]: about a prediction, or about itself.

        About a prediction, noise of unknown size has the size that the residuals show.
        """
        problem = self.problem
        censored = problem.seen.limit > 0
        own = torch.where(censored, problem.seen.limit, problem.seen.value)
        about = own if prediction is None else torch.from_numpy(prediction).clamp(min=0.05 * own.abs())
        sd = problem.noise.sd(about, problem.floor)
        sd = sd * about.clamp(min=problem.floor) if problem.noise.kind == "log-normal" else sd
        sd = sd if prediction is None else sd * problem.noise_scale(about)
        return torch.where(censored, sd + problem.seen.limit / 2, sd).clamp(min=1e-300).numpy()

    @property
    def target(self) -> np.ndarray:
        """What each observation is held against [mg/L]: its value; half the limit where it is below one."""
        seen = self.problem.seen
        return torch.where(seen.limit > 0, seen.limit / 2, seen.value).numpy()


def _filled(entries: Mapping[tuple[int, ...], Any], shape: tuple[int, ...], K: int) -> np.ndarray:
    """Returns an array and, below it, its derivatives, with shape (1 + K, ...)."""
    full = np.zeros((1 + K, *shape))
    for place, number in entries.items():
        dual = isinstance(number, Dual)
        full[0][place] = number.value if dual else number
        for k in range(K if dual else 0):
            full[1 + k][place] = number.slope[k]
    return full


def _product(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Returns X Y and its derivatives; X of shape (1 + K, M, n), Y of shape (1 + K, n, m)."""
    return np.concatenate([X[:1] @ Y[:1], X[1:] @ Y[0] + X[0] @ Y[1:]])


def _rowwise(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Returns the sums of X times Y over the last axis, and their derivatives."""
    first = (X[:1] * Y[:1]).sum(-1)
    return np.concatenate([first, (X[1:] * Y[0] + X[0] * Y[1:]).sum(-1)])
