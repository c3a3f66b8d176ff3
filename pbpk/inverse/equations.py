r"""The equations of a problem at a theta, and their exact solution.

Between two events :math:`x(t+h) = e^{A h} x(t)`; an infusion is a further state, a pump, that holds its rate.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pbpk.inverse.parts import Given

_SAME = 1e-9  # h: instants closer than this are one


@dataclass(frozen=True)
class Equations:
    r"""The equations at a theta: :math:`dx/dt = A x + u(t)`, :math:`C = R x`.

    Attributes:
        states: The names of the n states.
        A: The rate matrix [1/h], with shape :math:`(*, n, n)`.
        R: The concentration of each of the m compartments per mg in each state [1/L], :math:`(*, m, n)`.
        x0: The state before anything is given, with shape :math:`(*, n)`.
        jumps: What is given at once: (time [h], what is added to the state, with shape :math:`(*, n)`).
        infusions: What is given over time: (begin [h], end [h], rate [mg/h] with shape :math:`(*, n)`).
        given: The doses, those at once in the order of ``jumps``, the others in that of ``infusions``.
    """

    states: tuple[str, ...]
    A: Tensor
    R: Tensor
    x0: Tensor
    jumps: list[tuple[float, Tensor]]
    infusions: list[tuple[float, float, Tensor]]
    given: tuple[Given, ...]

    def input(self, time: Tensor) -> Tensor:
        """Returns the infused rate u [mg/h] at times [h] of shape :math:`(T)`, with shape (*, T, n)."""
        u = self.x0.new_zeros(*self.x0.shape[:-1], len(time), len(self.states))
        for begin, end, rate in self.infusions:
            u = u + ((time >= begin) & (time < end)).to(u)[:, None] * rate.unsqueeze(-2)
        return u


@dataclass(frozen=True)
class Timeline:
    """The instants at which something happens or is asked for.

    Attributes:
        axis: The instants [h], ascending.
        changes: What happens at each: ("jump", number), ("on", position of the pump) or ("off", position).
        distinct: The distinct steps between instants [h].
        which: Which of them each step is.
        place: The position of each time that was asked for.
    """

    axis: list[float]
    changes: list[list[tuple[str, int]]]
    distinct: list[float]
    which: list[int]
    place: list[int]


def timeline(given: Sequence[Given], n: int, times: Tensor) -> Timeline:
    """Lays doses and times on one axis, which begins at 0 or with what comes first.

    Arguments:
        given: The doses; those over time have a pump each, in order, behind the n states.
        n: The number of states.
        times: The times that are asked for [h], with shape :math:`(T)`.
    """
    asked = times.tolist()
    at_once, over_time = ([d for d in given if bool(d.duration) == slow] for slow in (False, True))
    events = [(dose.time, ("jump", number)) for number, dose in enumerate(at_once)]
    for pump, dose in enumerate(over_time):
        events += [(dose.time, ("on", n + pump)), (dose.time + dose.duration, ("off", n + pump))]
    last = max(asked, default=0.0)
    events = [event for event in events if event[0] <= last + _SAME]
    axis: list[float] = []
    for time in sorted([0.0, *asked, *(time for time, _ in events)]):
        if not axis or time - axis[-1] > _SAME:
            axis.append(time)

    def position(time: float) -> int:
        return min(bisect.bisect_left(axis, time - _SAME), len(axis) - 1)

    changes: list[list[tuple[str, int]]] = [[] for _ in axis]
    for time, change in events:
        changes[position(time)].append(change)
    steps = [round(b - a, 9) for a, b in pairwise(axis)]
    distinct = sorted(set(steps))
    which = [distinct.index(step) for step in steps]
    return Timeline(axis, changes, distinct, which, [position(time) for time in asked])


def solve(system: Equations, times: Tensor, after: Tensor, line: Timeline | None = None) -> Tensor:
    r"""Solves the equations exactly.

    Arguments:
        system: The equations, with batch shape :math:`(*)`.
        times: Times [h], in any order, with shape :math:`(T)`.
        after: Whether what is given at once at the very time is in, with shape :math:`(T)`.
        line: The timeline of these doses and times, if it is known already.

    Returns:
        The states [mg], with shape :math:`(*, T, n)`.
    """
    n, pumps = len(system.states), len(system.infusions)
    line = timeline(system.given, n, times) if line is None else line
    unit = torch.eye(n + pumps, dtype=system.A.dtype)
    A = torch.nn.functional.pad(system.A, (0, pumps, 0, pumps))
    for pump, (_, _, rate) in enumerate(system.infusions):
        A = A + torch.nn.functional.pad(rate, (0, pumps)).unsqueeze(-1) * unit[n + pump]
    steps = torch.tensor(line.distinct, dtype=A.dtype)
    E = torch.linalg.matrix_exp(A.unsqueeze(-3) * steps[:, None, None]).unbind(-3) if line.distinct else ()
    x = torch.nn.functional.pad(system.x0, (0, pumps)).unsqueeze(-1)
    states = []
    for k, changes in enumerate(line.changes):
        x = E[line.which[k - 1]] @ x if k else x
        states.append(x)
        for kind, number in changes:
            if kind == "jump":
                x = x + torch.nn.functional.pad(system.jumps[number][1], (0, pumps)).unsqueeze(-1)
            else:
                pump_state = unit[:, number : number + 1]
                x = x * (1.0 - pump_state) + (pump_state if kind == "on" else 0.0)
        states.append(x)
    place = 2 * torch.tensor(line.place, dtype=torch.long) + after.long()
    return torch.cat(states, -1)[..., :n, place].mT
