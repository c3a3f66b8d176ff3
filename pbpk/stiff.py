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

Here :math:`f` is linear but for the saturable transitions, so that :math:`J` is the rate matrix plus one
number in the column of each one's source. Every body has its own time, step and error; the batch moves in
lockstep, and the bodies that are done leave it. Between two instants at which something is given, starts or
ends, f does not depend on time; at each of them the method restarts. Every such method keeps a linear
invariant: the total amount is conserved to rounding.

Gradients: steps and errors are not differentiated (a frozen mesh); everything else is ordinary autograd.

References:
    Hairer, Wanner (1996). Solving Ordinary Differential Equations II, 2nd ed., section VI.4 (RODAS).
    https://doi.org/10.1007/978-3-642-05221-7
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.regimen import Schedule
from pbpk.rodas import (
    D2,
    D3,
    GAMMA,
    GROW,
    SAFETY,
    SHRINK,
    SMALLEST,
    SOLVED,
    STEP_LIMIT,
    STEP_TOO_SMALL,
    A,
    C,
)
from pbpk.sparse_lu import SparseLU
from pbpk.topology import System

MANY = 1000
"""From so many bodies times segments on the compiled kernel is worth loading. PyTorch takes some 6 ms for
each; numba and the kernel load from disk in 1 s, the first compilation takes 12 s."""


@dataclass(frozen=True)
class _Equations:
    """The right-hand side of a batch with the state first: x has shape (n, B)."""

    lu: SparseLU
    into: Tensor  # (N + 2E) the rows of the rate matrix's entries, then sources and targets of the saturable
    columns: Tensor  # (N) their columns
    values: Tensor  # (N, B)
    source: Tensor  # (E) the states that drive the saturable transitions
    unbound: Tensor  # (E, B) Cu for each mg in the source
    Vmax: Tensor  # (E, B)
    Km: Tensor  # (E, B)
    feed: Tensor  # (n, B) what infusions add [mg/h]

    @classmethod
    def of(cls, system: System) -> _Equations:
        rows, columns, values = system.entries()
        n, B = len(system.states), values.shape[0]
        source = system.saturable_source
        into = torch.cat([rows, source, system.saturable_target])
        diagonal = list(range(n))  # of I / (h gamma)
        return cls(
            lu=SparseLU(
                n,
                into.tolist() + diagonal,
                [*columns.tolist(), *source.tolist() * 2, *diagonal],
                values.device,
            ),
            into=into,
            columns=columns,
            values=values.T.contiguous(),
            source=source,
            unbound=system.unbound.T,
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
        Cu = self.unbound * x.index_select(0, self.source)
        speed = self.Vmax * Cu / (self.Km + Cu)
        flows = torch.cat([self.values * x.index_select(0, self.columns), -speed, speed])
        return self.feed.index_add(0, self.into, flows)

    def inverse(self, x: Tensor, h: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns the solver of (I / (h gamma) - J(x)) U = b."""
        Cu = self.unbound * x.index_select(0, self.source)
        slope = self.Vmax * self.Km * self.unbound / (self.Km + Cu) ** 2
        diagonal = (1.0 / (GAMMA * h)).expand(len(x), -1)
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
    for a, c in zip(A[1:], C[1:5], strict=True):
        inside = x + _combine(a, U)
        U.append(invert(equations.f(inside) + _combine(c, U) / h))
    inside = inside + U[4]
    U.append(invert(equations.f(inside) + _combine(C[5], U) / h))
    return inside + U[5], U


def _inside(x: Tensor, new: Tensor, U: list[Tensor], s: Tensor) -> Tensor:
    """Returns the solution at the shares s of a step."""
    e, g = _combine(D2, U), _combine(D3, U)
    return (1.0 - s) * x + s * (new + (1.0 - s) * (e + s * g))


def solve(
    system: System,
    schedule: Schedule,
    amounts: Tensor,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 10_000,
    initial: Tensor | None = None,
    kept: Sequence[int] | None = None,
    compiled: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Solves a batch of systems with saturable enzymes, and says how well.

    Arguments:
        system: The equations, with batch shape :math:`(B)`.
        schedule: What is given and asked for, when.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.
        rtol: The relative tolerance of every amount in a step.
        atol: The absolute one, as a share of the body's largest dose.
        max_steps: How many steps a body may take between two events.
        initial: The amounts at the first instant, before what is given then [mg], with shape :math:`(B, n)`;
            0 by default.
        kept: The states that are wanted, all by default.
        compiled: Whether the compiled kernel shall do it (CPU, double precision, extra ``fast``) or PyTorch;
            by default the kernel where it can and the batch repays loading it. Both take the same steps.

    Returns:
        The amounts in the kept states at the output times [mg], with shape :math:`(B, T, s)`, the status,
        with shape :math:`(B)`, and the estimated error as a share of the peak, with shape :math:`(B)`. What
        comes after a body failed is NaN, and so is its error.

    Raises:
        ValueError: If ``compiled`` is asked for and cannot be.
    """
    kept = list(range(len(system.states)) if kept is None else kept)
    if _compiled(compiled, system, schedule):
        return _solve_compiled(system, schedule, amounts, (rtol, atol, max_steps), initial, kept)
    equations = _Equations.of(system)
    device = amounts.device
    inlet = torch.tensor([system.inlet(route) for route in schedule.route], device=device)
    x = system.rate.new_zeros(len(system.states), system.rate.shape[0]) if initial is None else initial.T
    status = torch.full((x.shape[1],), SOLVED, device=device)
    scale = _scale(amounts, atol)
    states, local = [x.T.unsqueeze(0)], torch.zeros_like(x)
    for first, last in segments(schedule):
        x = x.index_add(0, inlet, (schedule.jump[first].to(x) * amounts).T)
        feed = torch.zeros_like(x).index_add(0, inlet, (schedule.rate[first].to(x) * amounts).T)
        times = (schedule.time[first + 1 : last + 1] - schedule.time[first]).to(x)
        reached, failed, lost = _advance(equations.fed(feed), x, times, rtol, scale, max_steps)
        local = local + lost
        status = torch.where(status == SOLVED, failed, status)
        states.append(reached)
        x = reached[-1].T
    out = torch.cat(states)[list(schedule.output)][..., kept].transpose(0, 1)
    return out, status, _estimate(local[kept].T, out, rtol)


def _estimate(local: Tensor, out: Tensor, rtol: float) -> Tensor:
    """Estimates the error of profiles (B, T, s) from the sums of their steps' errors (B, s).

    U_6 is the error of the solution of order 3, at most rtol times the amount in a step. That of order 4,
    which is kept, is smaller by another power of the step, the fourth root of that [ours]; beside the true
    error the estimate is 3 to 13 times as large over a day and up to 200 times over a week of 16 doses, for
    what is lost in a step dies away with the drug and is summed nevertheless.
    """
    peak = out.detach().abs().amax(1).clamp(min=torch.finfo(out.dtype).tiny)
    return rtol**0.25 * (local / peak).amax(-1)


@functools.cache
def _kernel_is_there() -> bool:
    """Whether numba can be imported, and has somewhere to keep what it compiles."""
    try:
        import pbpk.stiff_compiled  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


def _compiled(wish: bool | None, system: System, schedule: Schedule) -> bool:
    """Decides who solves."""
    if wish is False or (wish is None and not _is_many(system, schedule)):
        return False
    why = ""
    if system.rate.device.type != "cpu" or system.rate.dtype != torch.float64:
        why = f"the bodies are {system.rate.dtype} on {system.rate.device}"
    elif not _kernel_is_there():
        why = "numba is missing. Install the extra 'fast'"
    if wish and why:
        raise ValueError(f"compiled must be False or None unless double precision, CPU and numba, but {why}.")
    return not why


def _is_many(system: System, schedule: Schedule) -> bool:
    loaded = "pbpk.stiff_compiled" in sys.modules
    return loaded or len(system.rate) * len(segments(schedule)) >= MANY


def _solve_compiled(
    system: System,
    schedule: Schedule,
    amounts: Tensor,
    settings: tuple[float, float, int],
    initial: Tensor | None,
    kept: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    from pbpk import stiff_compiled

    rtol, atol, max_steps = settings
    start = amounts.new_zeros(len(amounts), len(system.states)) if initial is None else initial
    scale = _scale(amounts, atol)
    lu, stretches = _Equations.of(system).lu, segments(schedule)
    out, status, local = stiff_compiled.solve(
        lu, system, schedule, stretches, amounts, start, kept, (rtol, scale, max_steps)
    )
    return out, status, _estimate(local, out, rtol)


def _scale(amounts: Tensor, atol: float) -> Tensor:
    """Returns the absolute tolerance of each body [mg]."""
    return atol * amounts.detach().amax(-1).clamp(min=torch.finfo(amounts.dtype).tiny)


def segments(schedule: Schedule) -> list[tuple[int, int]]:
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Integrates from 0 over ``times`` [h].

    Returns:
        The states there, (T, B, n), the status, and the sum of the local errors, (n, B).
    """
    end = float(times[-1])
    out = x.new_full((len(times), *x.T.shape), math.nan)
    status = torch.full((x.shape[1],), STEP_LIMIT, device=x.device)
    local = torch.zeros_like(x.detach())
    if not len(scale):
        return out, status, local
    who = torch.arange(x.shape[1], device=x.device)  # the bodies still on the way; so is all that follows
    t, due = torch.zeros_like(scale), torch.zeros_like(who)
    h = _first_step(equations, x, scale, end)
    was_accepted = torch.ones_like(who, dtype=torch.bool)
    for _ in range(max_steps):
        h = torch.minimum(h, end - t)
        new, U = _step(equations, x, h)
        error = _error(U[5], x, new, rtol, scale)
        accepted = error <= 1.0
        reach = torch.where(end - t - h <= SMALLEST * end, end, t + h)
        due = _record(out, who, due, times, torch.where(accepted, reach, -1.0), t, h, (x, new, U))
        local.index_add_(1, who, torch.where(accepted, U[5].detach().abs(), 0.0))
        x = torch.where(accepted, new, x)
        t = torch.where(accepted, reach, t)
        factor = (SAFETY * error**-0.25).clamp(SHRINK, GROW)
        h = h * torch.where(was_accepted, factor, factor.clamp(max=1.0))  # no growth after a rejection
        was_accepted = accepted
        done, stuck = t >= end, h < SMALLEST * end
        if bool((done | stuck).any()):
            status[who[stuck]], status[who[done]] = STEP_TOO_SMALL, SOLVED
            on = (~(done | stuck)).nonzero().squeeze(-1)
            equations, x, t, h, scale = equations.take(on), x[:, on], t[on], h[on], scale[on]
            who, due, was_accepted = who[on], due[on], was_accepted[on]
            if not len(who):
                break
    return out, status, local


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
