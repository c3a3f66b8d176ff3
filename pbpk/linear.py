r"""Linear kinetics: the exact solution by the matrix exponential.

Between two events :math:`x(t+h) = e^{Ah} x(t)`. The rate matrix :math:`A` of a system is essentially
nonnegative (an off-diagonal entry is a rate into a state) and its columns sum to zero (nothing is lost). With
:math:`d = \max_i |A_{ii}|` the matrix :math:`N = (A + dI) h / 2^s` is nonnegative with column sums
:math:`dh/2^s \le 1`, and

.. math:: e^{Ah} = \big(e^{-dh/2^s} e^{N}\big)^{2^s}

is a Taylor sum of nonnegative terms, then s squarings of nonnegative matrices: no cancellation anywhere, so
that every entry is accurate relative to itself and no amount can become negative. :math:`e^{Ah}` is the
transition matrix of a Markov chain, whose columns sum to 1 exactly; dividing by the computed sums replaces
the factor :math:`e^{-dh/2^s}` and keeps the total amount to rounding over any number of squarings.

An infusion is one more state, a pump, that holds the rate r [mg/h] and does not change: column
:math:`A_{ip} = 1` for the state i that it feeds. Its column sums grow as :math:`1 + h`; that is used
likewise.

References:
    Shao, Gao, Xue (2014). Aggressively truncated Taylor series method for accurate computation of
    exponentials of essentially nonnegative matrices. SIAM J Matrix Anal Appl 35:317.
    https://doi.org/10.1137/120894294
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pbpk.regimen import Schedule
from pbpk.topology import System

_DEGREE = 16  # of the Taylor sum: 1/17! = 3e-15 for column sums of at most 1
_SAME_STEP = 1e-13  # of the whole time span: steps closer than this share one exponential


def exponential(A: Tensor, h: float) -> Tensor:
    r"""Computes :math:`e^{Ah}` of rate matrices, entry by entry to rounding.

    Arguments:
        A: Essentially nonnegative matrices [1/h] with shape :math:`(*, n, n)`; their column sums c are 0, or
            1 for a pump.
        h: The time [h].

    Returns:
        The exponentials, nonnegative, with column sums :math:`1 + hc`, with shape :math:`(*, n, n)`.

    >>> A = torch.tensor([[-0.5, 0.0], [0.5, 0.0]], dtype=torch.float64)
    >>> torch.allclose(exponential(A, 2.0)[0, 0], torch.tensor(-1.0, dtype=torch.float64).exp(), rtol=1e-14)
    True
    """
    identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    growth = A.sum(-2, keepdim=True).round()  # 0 or 1 but for rounding
    d = A.diagonal(dim1=-2, dim2=-1).neg().amax(-1)[..., None, None]
    norm = h * float((d + growth.amax(-1, keepdim=True)).detach().max()) if A.numel() else 0.0
    squarings = max(0, math.ceil(math.log2(norm))) if norm > 0 else 0
    step = h / 2.0**squarings
    E = _taylor((A + d * identity) * step)
    E = E * ((1.0 + step * growth) / E.sum(-2, keepdim=True))
    for _ in range(squarings):
        E, step = E @ E, 2.0 * step
        E = E * ((1.0 + step * growth) / E.sum(-2, keepdim=True))
    return E


def _taylor(N: Tensor) -> Tensor:
    """Sums the Taylor series to degree 16 with six products (Paterson and Stockmeyer 1973)."""
    powers = [torch.eye(N.shape[-1], dtype=N.dtype, device=N.device), N]
    for _ in range(3):
        powers.append(powers[-1] @ N)
    total = powers[0] / math.factorial(_DEGREE)
    for block in range(_DEGREE // 4 - 1, -1, -1):
        part = sum(powers[k] / math.factorial(4 * block + k) for k in range(4))
        total = powers[4] @ total + part if block < _DEGREE // 4 - 1 else powers[4] * total + part
    return total


def _with_pump(A: Tensor, inlet: int) -> Tensor:
    """Appends a pump that feeds the state ``inlet`` at unit rate."""
    n = A.shape[-1]
    wider = torch.nn.functional.pad(A, (0, 1, 0, 1))
    feed = torch.zeros(n + 1, n + 1, dtype=A.dtype, device=A.device)
    feed[inlet, n] = 1.0
    return wider + feed


def distinct_steps(schedule: Schedule) -> tuple[list[float], list[int]]:
    """Returns the distinct steps of a schedule [h], and which of them each interval takes.

    >>> from pbpk.regimen import Regimen
    >>> distinct_steps(Regimen.parse("1 mg iv at 1.5 h").schedule([0, 1, 2, 3]))
    ([0.5, 1.0], [1, 0, 0, 1])
    """
    steps = torch.diff(schedule.time).tolist()
    same = _SAME_STEP * float(schedule.time[-1])
    distinct: list[float] = []
    for step in sorted(steps):
        if not distinct or step - distinct[-1] > same:
            distinct.append(step)
    nearest = [min(range(len(distinct)), key=lambda k: abs(distinct[k] - step)) for step in steps]
    return distinct, nearest


def solve(system: System, schedule: Schedule, amounts: Tensor, initial: Tensor | None = None) -> Tensor:
    """Solves a batch of linear systems exactly.

    Arguments:
        system: The equations, with batch shape :math:`(B)` and no saturable transition.
        schedule: What is given and asked for, when.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.
        initial: The amounts at the first instant, before what is given then [mg], with shape :math:`(B, n)`;
            0 by default.

    Returns:
        The amounts in every state at the output times [mg], with shape :math:`(B, T, n)`.
    """
    jump = by_inlet(system, schedule, schedule.jump, amounts)  # (K, B, n)
    rate = by_inlet(system, schedule, schedule.rate, amounts)
    A, n, pump = system.matrix(), len(system.states), system.inlet("iv")
    if schedule.infuses:
        A = _with_pump(A, pump)
    distinct, which = distinct_steps(schedule)
    E = _exponentials(A, distinct, _SAME_STEP * float(schedule.time[-1]))
    x = A.new_zeros(A.shape[0], n) if initial is None else initial
    states = [x.unsqueeze(-1)]
    for first, last in _runs(schedule, which):
        x = x + jump[first]
        if schedule.infuses:
            x = torch.cat([x, rate[first][:, pump : pump + 1]], -1)
        states.append(_march(E[which[first]], x, last - first)[:, :n])
        x = states[-1][..., -1]
    return torch.cat(states, -1)[..., list(schedule.output)].mT


def _exponentials(A: Tensor, ascending: list[float], same: float) -> list[Tensor]:
    """Computes one exponential a step; a step that is twice another one squares that one's."""
    E: list[Tensor] = []
    for h in ascending:
        half = [k for k, other in enumerate(ascending[: len(E)]) if abs(2 * other - h) < 2 * same]
        E.append(E[half[0]] @ E[half[0]] if half else exponential(A, h))
    return E


def _runs(schedule: Schedule, which: list[int]) -> list[tuple[int, int]]:
    """Groups the intervals into runs of equal steps in which nothing is given and no rate changes."""
    runs: list[tuple[int, int]] = []
    for k, step in enumerate(which):
        goes_on = (
            k > 0
            and step == which[k - 1]
            and not bool(schedule.jump[k].any())
            and bool((schedule.rate[k] == schedule.rate[k - 1]).all())
        )
        runs.append((runs.pop()[0] if goes_on else k, k + 1))
    return runs


def _march(E: Tensor, x: Tensor, steps: int) -> Tensor:
    """Returns E x, E^2 x, ... as columns, (B, n, steps), doubling their number with each product."""
    columns, power = (E @ x.unsqueeze(-1)), E
    while (done := columns.shape[-1]) < steps:
        columns = torch.cat([columns, power @ columns[..., : steps - done]], -1)
        power = power @ power if 2 * done < steps else power
    return columns


def by_inlet(system: System, schedule: Schedule, per_dose: Tensor, amounts: Tensor) -> Tensor:
    """Distributes what each dose gives over the states that it enters, with shape (K, B, n)."""
    inlet = torch.tensor([system.inlet(route) for route in schedule.route], device=amounts.device)
    given = per_dose.to(amounts)[:, None, :] * amounts  # (K, B, D)
    empty = given.new_zeros(*given.shape[:2], len(system.states))
    return empty.index_add(-1, inlet, given)


def exposure(system: System, x: Tensor, given: Tensor) -> Tensor:
    r"""Computes the exact integral of every inner state from zero to now, from the state now.

    Over the states that are not sinks :math:`dx/dt = A x + u`, hence
    :math:`\int_0^t x \, ds = A^{-1} (x(t) - x(0) - \int_0^t u \, ds)`: no quadrature. With :math:`x(t) = 0`
    it is the integral to infinity of all that was there and was given.

    Arguments:
        system: The equations, with batch shape :math:`(B)`.
        x: The amounts in the inner states [mg], with shape :math:`(B, T, m)`.
        given: What was in each of them at zero and has entered it by then [mg], with shape
            :math:`(B, T, m)`.

    Returns:
        The integrals [mg h], with shape :math:`(B, T, m)`; infinite where drug stays for ever.
    """
    A = system.matrix()[..., : system.inner, : system.inner]
    stays, reached = kept_for_ever(system, A.detach(), given.detach())
    A = torch.where(stays[:, None, :], -torch.eye(system.inner, dtype=A.dtype, device=A.device), A)
    solution = torch.linalg.solve_ex(A, (x - given).mT)[0].mT
    return torch.where(stays[:, None, :] & reached, torch.inf, solution)


def kept_for_ever(system: System, A: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the states from which no path leads out, and those that what is given reaches.

    Arguments:
        system: The equations, with batch shape :math:`(B)`.
        A: Their rate matrices without the sinks [1/h], with shape :math:`(B, m, m)`.
        given: What has entered each inner state [mg], with shape :math:`(B, T, m)`.

    Returns:
        Two masks, with shapes :math:`(B, m)` and :math:`(B, T, m)`.
    """
    m = system.inner
    leaves = torch.zeros_like(A[:, 0])
    into_sink = system.target >= m
    leaves = leaves.index_add(-1, system.driver[into_sink], system.rate.detach()[:, into_sink]) > 0
    edges = A > 0
    if bool((edges == edges[:1]).all()) and bool((leaves == leaves[:1]).all()):  # one body for all
        edges, leaves = edges[:1], leaves[:1]
    path = (edges.to(A) + torch.eye(m, dtype=A.dtype, device=A.device)).clamp(max=1.0)
    for _ in range(max(m - 1, 1).bit_length()):
        path = (path @ path).clamp(max=1.0)  # entry (i, j): drug comes from j to i
    stays = (path.mT @ leaves.to(A).unsqueeze(-1)).squeeze(-1) == 0
    reached = (given != 0).to(A) @ path.mT > 0
    return stays.expand(len(A), -1), reached
