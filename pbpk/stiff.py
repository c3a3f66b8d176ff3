r"""Saturable kinetics: a batched adaptive Rosenbrock method, Rodas4.

For :math:`dx/dt = f(x)` with Jacobian :math:`J` one step of size :math:`h` solves six linear systems with one
matrix,

.. math::
    \Big(\frac{I}{h\gamma} - J\Big) U_i =
    f\Big(x + \sum_{j<i} a_{ij} U_j\Big) + \sum_{j<i} \frac{c_{ij}}{h} U_j, \qquad i = 1, \dots, 6,

and :math:`x_{new} = x + \sum_j a_{6j} U_j + U_6` with :math:`a_{6j} = a_{5j}` and :math:`a_{65} = 1`. The
method is L-stable, of order 4; :math:`U_6` is the difference to an embedded solution of order 3 and serves
as the error. At :math:`t + sh` the solution is
:math:`(1-s) x + s (x_{new} + (1-s)(e + s g))`, :math:`e = \sum_j d_{2j} U_j`, :math:`g = \sum_j d_{3j} U_j`.

Here :math:`f` is linear but for the saturable enzymes, so that :math:`J` is the rate matrix plus one number
in the liver's column. Every body has its own time, step and error; the batch moves in lockstep, and the
bodies that are done leave it. Between two instants at which something is given, starts or ends, f does not
depend on time; at each of them the method restarts. Every such method keeps a linear invariant: the total
amount is conserved to rounding.

Gradients: steps and errors are not differentiated (a frozen mesh); everything else is ordinary autograd.

References:
    Hairer, Wanner (1996). Solving Ordinary Differential Equations II, 2nd ed., section VI.4 (RODAS).
    https://doi.org/10.1007/978-3-642-05221-7
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.regimen import Schedule
from pbpk.sparse_lu import SparseLU
from pbpk.topology import System

SOLVED, STEP_LIMIT, STEP_TOO_SMALL = 0, 2, 3
"""What :func:`solve` says of a body. 1 is kept for bodies that cannot be simulated at all."""

# The coefficients of RODAS (Hairer and Wanner's Fortran code, METH = 1), checked against two independent
# transcriptions: OrdinaryDiffEq.jl (Rodas4Tableau) and Numerical Recipes, 3rd ed. (StepperRoss). The tests
# verify the orders that they give.
_GAMMA = 0.25
_A = (
    (),
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
)
_C = (
    (),
    (-5.6688,),
    (-2.430093356833875, -0.2063599157091915),
    (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
    (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
    (8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054),
)
_D2 = (10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662)
_D3 = (-0.6762803392801253, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872)

_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 6.0
_SMALLEST = 1e-14  # of the segment: a step below this is lost in the rounding of time


@dataclass(frozen=True)
class _Equations:
    """The right-hand side of a batch with the state first: x has shape (n, B)."""

    lu: SparseLU
    into: Tensor  # (N + 2) the rows of the rate matrix's entries, then where saturable metabolism acts
    columns: Tensor  # (N) their columns
    values: Tensor  # (N, B)
    liver: int
    unbound: Tensor  # (B) Cu for each mg in the liver
    Vmax: Tensor  # (E, B)
    Km: Tensor  # (E, B)
    feed: Tensor  # (n, B) what infusions add [mg/h]

    @classmethod
    def of(cls, system: System) -> _Equations:
        rows, columns, values = system.entries()
        n, B = len(system.states), values.shape[0]
        liver, metabolised = system.position("liver"), system.position("metabolised")
        into = [*rows.tolist(), liver, metabolised]
        diagonal = list(range(n))  # of I / (h gamma)
        return cls(
            lu=SparseLU(n, into + diagonal, [*columns.tolist(), liver, liver, *diagonal], values.device),
            into=torch.tensor(into, device=values.device),
            columns=columns,
            values=values.T.contiguous(),
            liver=liver,
            unbound=system.unbound,
            Vmax=system.Vmax.T,
            Km=system.Km.T,
            feed=values.new_zeros(n, B),
        )

    def take(self, which: Tensor) -> _Equations:
        """Returns the equations of some of the bodies."""
        names = ("values", "unbound", "Vmax", "Km", "feed")
        fields = {name: getattr(self, name)[..., which] for name in names}
        return _Equations(**{**self.__dict__, **fields})

    def fed(self, feed: Tensor) -> _Equations:
        """Returns the equations with other infusions."""
        return _Equations(**{**self.__dict__, "feed": feed})

    def f(self, x: Tensor) -> Tensor:
        """Returns dx/dt."""
        Cu = self.unbound * x[self.liver]
        speed = (self.Vmax * Cu / (self.Km + Cu)).sum(0, keepdim=True)
        flows = torch.cat([self.values * x.index_select(0, self.columns), -speed, speed])
        return self.feed.index_add(0, self.into, flows)

    def inverse(self, x: Tensor, h: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns the solver of (I / (h gamma) - J(x)) U = b."""
        Cu = self.unbound * x[self.liver]
        slope = (self.Vmax * self.Km * self.unbound / (self.Km + Cu) ** 2).sum(0, keepdim=True)
        diagonal = (1.0 / (_GAMMA * h)).expand(len(x), -1)
        LU = self.lu.factor(self.lu.gather(torch.cat([-self.values, slope, -slope, diagonal])))
        return lambda b: self.lu.solve(LU, b)


def _combine(weights: tuple[float, ...], U: list[Tensor]) -> Tensor:
    total = weights[0] * U[0]
    for weight, stage in zip(weights[1:], U[1:], strict=False):
        total = torch.add(total, stage, alpha=weight)
    return total


def _step(equations: _Equations, x: Tensor, h: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Takes one step; returns the new state and the stages, of which the last is the error."""
    invert = equations.inverse(x, h)
    U = [invert(equations.f(x))]
    for a, c in zip(_A[1:], _C[1:5], strict=True):
        inside = x + _combine(a, U)
        U.append(invert(equations.f(inside) + _combine(c, U) / h))
    inside = inside + U[4]
    U.append(invert(equations.f(inside) + _combine(_C[5], U) / h))
    return inside + U[5], U


def _inside(x: Tensor, new: Tensor, U: list[Tensor], s: Tensor) -> Tensor:
    """Returns the solution at the shares s of a step."""
    e, g = _combine(_D2, U), _combine(_D3, U)
    return (1.0 - s) * x + s * (new + (1.0 - s) * (e + s * g))


def solve(
    system: System,
    schedule: Schedule,
    amounts: Tensor,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 10_000,
) -> tuple[Tensor, Tensor]:
    """Solves a batch of systems with saturable enzymes.

    Arguments:
        system: The equations, with batch shape :math:`(B)`.
        schedule: What is given and asked for, when.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.
        rtol: The relative tolerance of every amount in a step.
        atol: The absolute one, as a share of the body's largest dose.
        max_steps: How many steps a body may take between two events.

    Returns:
        The amounts at the output times [mg], with shape :math:`(B, T, n)`, and the status, with shape
        :math:`(B)`. What comes after a body failed is NaN.
    """
    equations = _Equations.of(system)
    device = amounts.device
    inlet = torch.tensor([system.inlet(route) for route in schedule.route], device=device)
    x = system.rate.new_zeros(len(system.states), system.rate.shape[0])
    status = torch.full((x.shape[1],), SOLVED, device=device)
    scale = atol * amounts.detach().amax(-1).clamp(min=torch.finfo(x.dtype).tiny)
    states = [x.T.unsqueeze(0)]
    for first, last in _segments(schedule):
        x = x.index_add(0, inlet, (schedule.jump[first].to(x) * amounts).T)
        feed = torch.zeros_like(x).index_add(0, inlet, (schedule.rate[first].to(x) * amounts).T)
        times = (schedule.time[first + 1 : last + 1] - schedule.time[first]).to(x)
        reached, failed = _advance(equations.fed(feed), x, times, rtol, scale, max_steps)
        status = torch.where(status == SOLVED, failed, status)
        states.append(reached)
        x = reached[-1].T
    return torch.cat(states)[list(schedule.output)].transpose(0, 1), status


def _segments(schedule: Schedule) -> list[tuple[int, int]]:
    """Returns the stretches of the axis inside which nothing is given, starts or ends."""
    last = len(schedule.time) - 1
    cuts = [
        k
        for k in range(1, last)
        if schedule.jump[k].any() or (schedule.rate[k] != schedule.rate[k - 1]).any()
    ]
    return list(zip([0, *cuts], [*cuts, last], strict=True)) if last else []


def _advance(
    equations: _Equations, x: Tensor, times: Tensor, rtol: float, scale: Tensor, max_steps: int
) -> tuple[Tensor, Tensor]:
    """Integrates from 0 over ``times`` [h]; returns the states there, (T, B, n), and the status."""
    end = float(times[-1])
    out = x.new_full((len(times), *x.T.shape), math.nan)
    status = torch.full((x.shape[1],), STEP_LIMIT, device=x.device)
    who = torch.arange(x.shape[1], device=x.device)  # the bodies still on the way; so is all that follows
    t, due = torch.zeros_like(scale), torch.zeros_like(who)
    h = _first_step(equations, x, scale, end)
    was_accepted = torch.ones_like(who, dtype=torch.bool)
    for _ in range(max_steps):
        h = torch.minimum(h, end - t)
        new, U = _step(equations, x, h)
        error = _error(U[5], x, new, rtol, scale)
        accepted = error <= 1.0
        reach = torch.where(end - t - h <= _SMALLEST * end, end, t + h)
        due = _record(out, who, due, times, torch.where(accepted, reach, -1.0), t, h, (x, new, U))
        x = torch.where(accepted, new, x)
        t = torch.where(accepted, reach, t)
        factor = (_SAFETY * error**-0.25).clamp(_SHRINK, _GROW)
        h = h * torch.where(was_accepted, factor, factor.clamp(max=1.0))  # no growth after a rejection
        was_accepted = accepted
        done, stuck = t >= end, h < _SMALLEST * end
        if bool((done | stuck).any()):
            status[who[stuck]], status[who[done]] = STEP_TOO_SMALL, SOLVED
            on = (~(done | stuck)).nonzero().squeeze(-1)
            equations, x, t, h, scale = equations.take(on), x[:, on], t[on], h[on], scale[on]
            who, due, was_accepted = who[on], due[on], was_accepted[on]
            if not len(who):
                break
    return out, status


def _record(
    out: Tensor,
    who: Tensor,
    due: Tensor,
    times: Tensor,
    reach: Tensor,
    t: Tensor,
    h: Tensor,
    step: tuple[Tensor, Tensor, list[Tensor]],
) -> Tensor:
    """Writes what each body's step has passed into ``out``; returns the next output that is due."""
    x, new, U = step
    while True:
        next_time = times[due.clamp(max=len(times) - 1)]
        at = ((due < len(times)) & (next_time <= reach)).nonzero().squeeze(-1)
        if not len(at):
            return due
        s = (next_time[at] - t[at]) / h[at]
        value = _inside(x[:, at], new[:, at], [stage[:, at] for stage in U[:5]], s)
        out.index_put_((due[at], who[at]), value.T)
        due = due.index_add(0, at, torch.ones_like(at))


def _error(U: Tensor, x: Tensor, new: Tensor, rtol: float, scale: Tensor) -> Tensor:
    """Returns the largest error of a body's amounts in units of what is allowed; no number counts as huge."""
    with torch.no_grad():
        allowed = scale + rtol * torch.maximum(x.abs(), new.abs())
        return (U / allowed).abs().amax(0).nan_to_num(nan=1e10, posinf=1e10).clamp(min=1e-10)


def _first_step(equations: _Equations, x: Tensor, scale: Tensor, end: float) -> Tensor:
    """Guesses a first step: one that moves the state by about one per cent."""
    with torch.no_grad():
        speed = equations.f(x).abs().amax(0)
        return (0.01 * (x.abs().amax(0) + scale) / (speed + scale)).clamp(max=end)
