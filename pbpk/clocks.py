r"""Bodies on clocks of their own: doses that each body takes at its own times.

The instants of a body, those of its doses and of the outputs, are sorted; every body has equally many. All
bodies go from instant to instant together: an interval of length :math:`h_b` in body b is an interval of
length 1 on a clock that runs :math:`h_b` times as fast, with rates :math:`h_b k`. So any engine solves it,
and the result is differentiable in the times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.regimen import Regimen, Schedule
from pbpk.system import System

Engine = Callable[[System, Schedule, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes equations, a schedule, doses and what is there before; returns amounts (B, T, n) and status (B)."""


@dataclass(frozen=True)
class Events:
    """When something is given in each body.

    Attributes:
        dose: The number of the dose that each of the N events belongs to, with shape :math:`(N)`.
        start: When each event begins [h], with shape :math:`(B, N)`.
        duration: How long it takes [h], 0 for a bolus, with shape :math:`(N)`.
    """

    dose: Tensor
    start: Tensor
    duration: Tensor

    @classmethod
    def of(cls, regimen: Regimen, like: Tensor) -> Events:
        """Lists every event of a regimen for as many bodies as ``like`` has entries, in its precision."""
        first = regimen.times_of(like)
        each = [(d, k * dose.interval) for d, dose in enumerate(regimen.doses) for k in range(dose.count)]
        number = torch.tensor([d for d, _ in each], device=like.device)
        later = torch.tensor([shift for _, shift in each], dtype=torch.float64).to(like)
        duration = torch.tensor([regimen.doses[d].duration for d, _ in each], dtype=torch.float64).to(like)
        return cls(number, first[:, number] + later, duration)

    def entered(self, times: Tensor, doses: int) -> Tensor:
        """Returns how often each dose has been given before each time, in parts: (B, T, D)."""
        since = times[:, None] - self.start[:, None, :]
        part = (since / self.duration.clamp(min=torch.finfo(since.dtype).tiny)).clamp(0.0, 1.0)
        part = torch.where(self.duration > 0, part, (since > 0).to(since))
        return part.new_zeros(*part.shape[:2], doses).index_add(-1, self.dose, part)

    def __getitem__(self, which: Tensor | slice) -> Events:
        """Returns the events of some of the bodies."""
        return Events(self.dose, self.start[which], self.duration)


def solve(
    engine: Engine,
    system: System,
    events: Events,
    times: Tensor,
    amounts: Tensor,
    initial: Tensor | None,
    routes: list[str],
) -> tuple[Tensor, Tensor, Tensor]:
    """Solves a batch of bodies, each on its own clock.

    Arguments:
        engine: Solves one interval.
        system: The equations, with batch shape :math:`(B)`.
        events: When something is given.
        times: The output times [h], with shape :math:`(T)`.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.
        initial: The amounts at time 0 [mg], with shape :math:`(B, n)`, or None.
        routes: The route of each dose.

    Returns:
        The amounts at the output times, before what is given then [mg], with shape :math:`(B, T, n)`; those
        just after each event, with shape :math:`(B, N, n)`; and the status, with shape :math:`(B)`.
    """
    B, T, N = len(amounts), len(times), events.start.shape[1]
    inlet = torch.tensor([system.inlet(route) for route in routes], device=amounts.device)[events.dose]
    given = amounts[:, events.dose]
    bolus = events.duration == 0
    ends = events.start + events.duration
    asked = torch.cat([times.expand(B, T), events.start, ends[:, ~bolus]], -1)
    asked = torch.minimum(asked, times[-1])
    instants, order = torch.sort(asked, dim=-1, stable=True)  # an output comes before a dose at its time
    place = order.argsort(-1)
    start, end = place[:, T : T + N], place[:, T : T + N].clone()
    end[:, ~bolus] = place[:, T + N :]
    late = events.start.detach() >= times[-1]
    x = given.new_zeros(B, len(system.states)) if initial is None else initial
    status = torch.zeros(B, dtype=torch.long, device=x.device)
    previous, before, after = torch.zeros_like(instants[:, 0]), [], []
    flow = torch.zeros_like(given)
    largest = amounts.detach().amax(-1)
    for k in range(instants.shape[1]):
        h = instants[:, k] - previous
        if h.requires_grad or bool((h > 0).any()):  # a gradient passes even where no time does
            x, failed = _interval(engine, system.faster(h), x, (flow * h[:, None], inlet), largest)
            status = torch.where(status == 0, failed, status)
        previous = instants[:, k]
        before.append(x)
        x = x.index_add(-1, inlet, given * ((start == k) & bolus & ~late))
        flow = given / torch.where(bolus, 1.0, events.duration) * ((start <= k) & (k < end) & ~bolus)
        after.append(x)
    whole, jumped = torch.stack(before, 1), torch.stack(after, 1)
    n = whole.shape[-1]
    at = place[:, :T, None].expand(-1, -1, n)
    return whole.gather(1, at), jumped.gather(1, start[:, :, None].expand(-1, -1, n)), status


def _interval(
    engine: Engine, system: System, x: Tensor, feed: tuple[Tensor, Tensor], largest: Tensor
) -> tuple[Tensor, Tensor]:
    """Solves from 0 to 1; ``feed`` is what is infused meanwhile [mg], (B, N), and into which states (N).

    A second dose, which is never given, tells the engine how large doses are.
    """
    rate, inlet = feed
    infused = rate[:, inlet == system.inlet("iv")].sum(-1)
    like = x.new_zeros(2, 2)
    flows = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).to(like)
    schedule = Schedule(like[:, 0] + torch.arange(2).to(like), (1,), like, flows, ("iv", "iv"))
    states, status = engine(system, schedule, torch.stack([infused, largest], -1), x)
    return states[:, 0], status
