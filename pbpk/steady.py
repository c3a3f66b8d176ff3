r"""Steady state: what is there just before a dose that has always been repeated.

With a period :math:`\tau` the amounts just before the first dose of a period satisfy :math:`x = \Phi(x)`,
:math:`\Phi` being the solution of one period. For linear kinetics

.. math:: \Phi(x) = e^{A\tau} x + \Phi(0), \qquad x = (I - e^{A\tau})^{-1} \Phi(0)

exactly. Otherwise Newton's method finds it, :math:`x \leftarrow x + (I - E)^{-1} (\Phi(x) - x)`, where E is
:math:`\Phi'`, first that of the linear system with the intrinsic clearances at :math:`x`, then corrected
after every step by what :math:`\Phi` did (Broyden). What has left the body is counted from time 0.

References:
    Broyden (1965). A class of methods for solving nonlinear simultaneous equations. Math Comp 19:577.
    https://doi.org/10.1090/S0025-5718-1965-0198670-6
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from pbpk import linear
from pbpk.clocks import Engine
from pbpk.regimen import SAME_TIME, Regimen
from pbpk.system import System

_MOST = 60  # periods that are solved before a body counts as one without a steady state
_GUESSES = 40  # of the mean amounts of a period
_GROWING = 8  # guesses in a row that move further each time: there is no end
NO_STEADY_STATE = 4
"""The status of a body that has none, or in which none was found."""


def period(regimen: Regimen) -> float:
    """Returns the interval at which a whole regimen repeats [h].

    Raises:
        ValueError: If its doses do not all repeat at one interval, or do not fit into it.

    >>> period(Regimen.parse("10 mg po q12h x4 + 2 mg iv over 1 h at 6 h q12h x3"))
    12.0
    """
    intervals = {dose.interval for dose in regimen.doses}
    if len(intervals) != 1 or 0.0 in intervals:
        raise ValueError(
            "steady_state must have doses that all repeat at one interval, but the regimen is "
            f"'{regimen}'. Write it like '10 mg po q12h x2'."
        )
    tau = intervals.pop()
    for dose in regimen.doses:
        last = dose.first + dose.duration
        if last > tau + SAME_TIME or (last > tau - SAME_TIME and not dose.duration):
            raise ValueError(
                f"steady_state must have each dose begin and end inside the first {tau:g} h, but '{dose}' "
                f"ends at {last:g} h. Count time from another dose."
            )
    return tau


def steady_state(
    system: System, regimen: Regimen, amounts: Tensor, engine: Engine, rtol: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Computes the amounts just before time 0 of a regimen that has always been repeated.

    Arguments:
        system: The equations, with batch shape :math:`(B)`.
        regimen: Doses that repeat at one interval, at the same times in every body.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.
        engine: Solves a period from given amounts.
        rtol: Where an enzyme saturates, the tolerance of the amounts as a share of the largest.

    Returns:
        The amounts [mg], with shape :math:`(B, n)`, the sinks empty; differentiable for linear kinetics. And
        the status, with shape :math:`(B)`: 0, :data:`NO_STEADY_STATE`, or the engine's.

    Raises:
        ValueError: If an enzyme saturates and a gradient is asked for.
    """
    tau, m = period(regimen), system.inner
    once = Regimen(tuple(dataclasses.replace(dose, count=1, interval=0.0) for dose in regimen.doses))
    schedule = once.schedule([tau])
    empty = amounts.new_zeros(len(amounts), len(system.states))

    def after(x: Tensor) -> tuple[Tensor, Tensor]:
        initial = torch.nn.functional.pad(x, (0, empty.shape[1] - m))
        states, status = engine(system, schedule, amounts, initial)
        return states[:, 0, :m], status

    if system.linear:
        y, status = after(empty[:, :m])
        x, stuck = _fixed_point(system, tau, y)
    else:
        _refuse_gradient(system, amounts)
        with torch.no_grad():
            x, stuck, status = _newton(
                after, *_guess(system, once, amounts, tau), rtol, 1e-3 * amounts.sum(-1)
            )
    status = torch.where((status == 0) & stuck, NO_STEADY_STATE, status)
    return torch.nn.functional.pad(x, (0, empty.shape[1] - m)), status


def _refuse_gradient(system: System, amounts: Tensor) -> None:
    """Raises where a gradient is asked for that Newton's method does not give."""
    given = (system.rate, system.Vmax, system.Km, system.unbound, amounts)
    if torch.is_grad_enabled() and any(value.requires_grad for value in given):
        raise ValueError(
            "steady_state must have linear kinetics where a gradient is asked for, but an enzyme saturates. "
            "Simulate many doses instead, or compute under torch.no_grad()."
        )


def _fixed_point(system: System, tau: float, y: Tensor) -> tuple[Tensor, Tensor]:
    """Solves x = E x + y with E over one period; tells where there is none, because drug stays for ever."""
    m = system.inner
    A = system.matrix()
    stays, reached = linear.kept_for_ever(system, A[:, :m, :m].detach(), y.detach()[:, None])
    E = linear.exponential(A, tau)[:, :m, :m]
    E = torch.where(stays[:, None, :], torch.zeros_like(E), E)
    identity = torch.eye(m, dtype=E.dtype, device=E.device)
    x, failed = torch.linalg.solve_ex(identity - E, y.unsqueeze(-1))
    return x.squeeze(-1), (failed > 0) | (stays & reached[:, 0]).any(-1)


def _linear(system: System, rate: Tensor) -> System:
    """Returns the linear system in which the saturable transitions have rates [1/h] of shape (B, E)."""
    source = system.saturable_source
    return dataclasses.replace(
        system,
        source=torch.cat([system.source, source]),
        target=torch.cat([system.target, system.saturable_target]),
        driver=torch.cat([system.driver, source]),
        rate=torch.cat([system.rate, rate], -1),
        saturable_source=source[:0],
        saturable_target=source[:0],
        Vmax=rate[:, :0],
        Km=rate[:, :0],
        unbound=rate[:, :0],
    )


def _guess(system: System, once: Regimen, amounts: Tensor, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """Guesses the fixed point from linear systems.

    The clearances are those at the mean amounts of a period, which depend on them in turn. Where more is
    given than can be eliminated, the mean amounts grow without end.

    Returns:
        Amounts, (I - Phi')^-1 at them, and where there is no fixed point.
    """
    m, source = system.inner, system.saturable_source
    inlet = torch.tensor([system.inlet(dose.route) for dose in once.doses], device=amounts.device)
    given = amounts.new_zeros(len(amounts), m).index_add(-1, inlet, amounts)
    mean, moved = torch.zeros_like(given), torch.full_like(given[:, 0], torch.inf)
    times, grows = torch.zeros_like(moved), torch.zeros_like(moved, dtype=torch.bool)
    for _ in range(_GUESSES):
        Cu = system.unbound * mean[:, source]
        secant = _linear(system, system.Vmax * system.unbound / (system.Km + Cu))
        area = linear.exposure(secant, torch.zeros_like(given)[:, None], given[:, None])[:, 0]
        new = torch.where(grows[:, None], mean, 0.5 * mean + 0.5 * area / tau)
        before, moved = moved, (new - mean).abs().amax(-1)
        times = torch.where(moved >= before, times + 1, 0)
        grows = grows | ~torch.isfinite(moved) | ((times >= _GROWING) & (moved > 1e-6 * new.amax(-1)))
        mean = new
    Cu = system.unbound * mean[:, source]
    start = linear.solve(secant, once.schedule([tau]), amounts)[:, 0, :m]
    x, _ = _fixed_point(secant, tau, start)
    tangent = _linear(system, system.Vmax * system.Km * system.unbound / (system.Km + Cu) ** 2)
    E = linear.exponential(tangent.matrix(), tau)[:, :m, :m]
    identity = torch.eye(m, dtype=E.dtype, device=E.device)
    slope, failed = torch.linalg.inv_ex(identity - E)
    sound = (failed == 0) & torch.isfinite(slope).all((-1, -2)) & torch.isfinite(x).all(-1)
    sound &= ~grows
    return x.where(sound[:, None], 0.0).clamp(min=0.0), slope.where(sound[:, None, None], identity), grows


def _newton(
    after: Callable[[Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    G: Tensor,
    none: Tensor,
    rtol: float,
    most: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds x = Phi(x), but for ``most`` [mg], from a guess of x and of (I - Phi')^-1, where not ``none``.

    Returns:
        What was found, where it was not found, and the engine's status.
    """
    y, status = after(x)
    f, done = y - x, none
    for _ in range(_MOST):
        step = torch.einsum("bij,bj->bi", G, f)
        small = step.abs().amax(-1) <= rtol * (x + step).abs().amax(-1)
        done = done | (small & (f.abs().amax(-1) <= most))
        if bool((done | (status != 0)).all()):
            break
        new = torch.where(done[:, None], x, (x + step).clamp(min=0.0))
        y, failed = after(new)
        status = torch.where(done | (status != 0), status, failed)
        s, change = new - x, y - new - f
        Gy = torch.einsum("bij,bj->bi", G, change)
        sG = torch.einsum("bi,bij->bj", s, G)
        scale = (sG * change).sum(-1)
        sound = torch.isfinite(scale) & (scale.abs() > 1e-12 * s.square().sum(-1)) & ~done
        update = (s + Gy)[:, :, None] * sG[:, None, :] / scale.where(sound, 1.0)[:, None, None]
        G = G - update.where(sound[:, None, None], 0.0)
        x, f = new, y - new
    return x, none | ~done, status
