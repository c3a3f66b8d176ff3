"""The course of a simulation: bodies, doses and times, solved by one engine, chunk by chunk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pbpk import clocks, laplace, linear, stiff, volterra
from pbpk.regimen import Regimen, Schedule
from pbpk.simulation import IMPOSSIBLE, SOLVED
from pbpk.steady import steady_state
from pbpk.system import System

CHUNK = {"linear": 256, "laplace": 65536, "volterra": 4096, "stiff": 4096}
"""Bodies solved together: small matrices want to stay in the cache, laplace sees to that itself."""

STEPPING = {"laplace": "linear", "volterra": "stiff"}
"""What takes the place of an engine without time stepping."""

Progress = Callable[[int, int], None]
Part = Tensor | slice
"""Some of the bodies; a slice needs no copies."""

Prepared = Callable[[System, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Equations and doses to amounts, estimated errors, and status."""


@dataclass
class Outcome:
    """What came out, for B bodies; see :class:`pbpk.simulation.Simulation`."""

    engine: str
    amount: Tensor
    status: Tensor
    error: Tensor
    entered: Tensor
    bolus_time: Tensor
    bolus_amount: Tensor
    initial: Tensor | None


@dataclass(frozen=True)
class Course:
    """What is to be solved.

    Attributes:
        system: The equations, with batch shape :math:`(B)`.
        regimen: What is given.
        time: The output times [h], with shape :math:`(T)`.
        dose: The doses' amounts [mg], with shape :math:`(B, D)`.
        BW: The body weights [kg], with shape :math:`(B)`.
        kept: The positions of the s states that are wanted.
        engine: ``"linear"``, ``"laplace"``, ``"volterra"`` or ``"stiff"``.
        rtol: The tolerance.
        steady: Whether to begin at steady state.
    """

    system: System
    regimen: Regimen
    time: Tensor
    dose: Tensor
    BW: Tensor
    kept: list[int]
    engine: str
    rtol: float
    steady: bool
    schedule: Schedule = field(init=False)
    boluses: list[tuple[int, float]] = field(init=False)
    asked: list[float] = field(init=False)

    def __post_init__(self) -> None:
        """Lays out the regimen; the instants of intravenous boluses are outputs too."""
        last = float(self.time[-1])
        object.__setattr__(
            self,
            "boluses",
            [
                (number, start)
                for number, start in self.regimen.starts(last)
                if (dose := self.regimen.doses[number]).route == "iv" and not dose.duration and start < last
            ],
        )
        asked = sorted({*self.time.tolist(), *(start for _, start in self.boluses)})
        object.__setattr__(self, "asked", asked)
        object.__setattr__(self, "schedule", self.regimen.schedule(asked))

    def solve(self, possible: Tensor, chunk: int | None = None, progress: Progress | None = None) -> Outcome:
        """Solves the bodies that can be solved; the others' amounts are NaN.

        Arguments:
            possible: Which bodies those are, with shape :math:`(B)`.
            chunk: How many bodies are solved together.
            progress: Called with (bodies done, bodies in all) after each chunk.
        """
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be 1 or more, but is {chunk}. Leave it out for the usual one.")
        good = possible.nonzero().squeeze(-1)
        engine, prepared = self._prepared(good)
        status = torch.where(possible, SOLVED, IMPOSSIBLE)
        error = self.dose.new_full(status.shape, math.nan)
        if engine == "linear":
            error[good] = 0.0
        parts: list[tuple[Tensor, ...]] = []
        for part, last in _chunks(good, len(status), chunk or CHUNK[engine]):
            if prepared:
                x, error[part], status[part] = prepared(self.system[part], self.dose[part])
                parts.append(self._split(part, x))
            elif self.regimen.own_times:
                *both, initial, status[part] = self._on_own_clocks(part, engine)
                parts.append((*both, initial))
            else:
                initial, begun = self._initial(part, engine)
                x, solved, error[part] = self._from(engine, part, initial)
                status[part] = torch.where(begun == SOLVED, solved, begun)
                parts.append((*self._split(part, x), initial))
            if progress:
                progress(last + 1, len(status))
        return self._outcome(engine, good, status, error, parts)

    def _prepared(self, good: Tensor) -> tuple[str, Prepared | None]:
        """Prepares an engine without time stepping; returns the one that runs, and None if it is another."""
        if self.engine not in STEPPING:
            return self.engine, None
        all_ = len(good) == len(self.dose)
        system, dose = (self.system, self.dose) if all_ else (self.system[good], self.dose[good])
        given = system, self.schedule, dose, self.kept, self.rtol
        if self.engine == "laplace" and (transform := laplace.prepare(*given)):
            return "laplace", lambda system, dose: (
                *laplace.solve(transform, system, self.schedule, dose),
                torch.full_like(dose[:, 0], SOLVED, dtype=torch.long),
            )
        if self.engine == "volterra" and (mesh := volterra.prepare(*given)):
            return "volterra", lambda system, dose: volterra.solve(mesh, system, self.schedule, dose)
        return STEPPING[self.engine], None

    def _from(self, engine: str, part: Part, initial: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Solves bodies from initial amounts; returns amounts, status, and estimated error."""
        given = self.system[part], self.schedule, self.dose[part]
        if engine == "stiff":
            return stiff.solve(*given, rtol=self.rtol, atol=1e-3 * self.rtol, initial=initial, kept=self.kept)
        x, solved = self._engine(engine, self.rtol, self.kept)(*given, initial)
        return x, solved, torch.zeros_like(self.BW[part])

    def _engine(self, engine: str, rtol: float, kept: list[int] | None) -> clocks.Engine:
        """Returns an engine that starts from given amounts."""

        def solve(system: System, schedule: Schedule, dose: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
            if engine == "stiff":
                x, status, _ = stiff.solve(
                    system, schedule, dose, rtol=rtol, atol=1e-3 * rtol, initial=start, kept=kept
                )
                return x, status
            x = linear.solve(system, schedule, dose, start)
            return x if kept is None else x[..., kept], torch.zeros_like(dose[:, 0], dtype=torch.long)

        return solve

    def _initial(self, part: Part, engine: str) -> tuple[Tensor, Tensor]:
        """Returns what is there before time 0, and the status of finding it."""
        system, dose = self.system[part], self.dose[part]
        if not self.steady:
            return dose.new_zeros(len(dose), len(system.states)), torch.zeros_like(
                dose[:, 0], dtype=torch.long
            )
        return steady_state(
            system, self.regimen, dose, self._engine(engine, 0.1 * self.rtol, None), self.rtol
        )

    def _split(self, part: Part, x: Tensor) -> tuple[Tensor, Tensor]:
        """Splits what was solved into the outputs and the states just after each bolus."""
        index = {time: position for position, time in enumerate(self.asked)}
        at = [index[time] for time in self.time.tolist()]
        instants = sorted({start for _, start in self.boluses})
        peaks = x[:, [index[start] for start in instants]]
        inlet = self.system.inlet("iv")
        if inlet in self.kept:
            jump = self.dose.new_zeros(len(x), len(instants), len(self.kept))
            for number, start in self.boluses:
                jump[:, instants.index(start), self.kept.index(inlet)] += self.dose[part, number]
            peaks = peaks + jump
        return _rows(x, at), peaks

    def _on_own_clocks(self, part: Part, engine: str) -> tuple[Tensor, ...]:
        """Solves bodies with dose times of their own."""
        events = clocks.Events.of(self.regimen, self.BW)[part]
        routes = [dose.route for dose in self.regimen.doses]
        x, after, status = clocks.solve(
            self._engine(engine, self.rtol, None),
            self.system[part],
            events,
            self.time,
            self.dose[part],
            None,
            routes,
        )
        bolus = self._own_boluses()
        return x[..., self.kept], after[:, bolus][..., self.kept], x[:, 0], status

    def _own_boluses(self) -> list[int]:
        """Returns which events are boluses into the veins."""
        each = [dose for dose in self.regimen.doses for _ in range(dose.count)]
        return [k for k, dose in enumerate(each) if dose.route == "iv" and not dose.duration]

    def _outcome(
        self, engine: str, good: Tensor, status: Tensor, error: Tensor, parts: list[tuple[Tensor, ...]]
    ) -> Outcome:
        def whole(position: int, empty: Tensor) -> Tensor:
            values = [part[position] for part in parts] or [empty]
            value = torch.cat(values) if len(values) > 1 else values[0]
            if len(good) == len(status):
                return value
            lost = value.new_full((len(status), *value.shape[1:]), math.nan)
            return lost.index_copy(0, good, value)

        if self.regimen.own_times:
            events = clocks.Events.of(self.regimen, self.BW)
            entered, when = (
                events.entered(self.time, self.dose.shape[-1]),
                events.start[:, self._own_boluses()],
            )
        else:
            rows = self.regimen.schedule(self.time)
            entered = rows.given()[list(rows.output)].to(self.dose)
            instants = sorted({start for _, start in self.boluses})
            when = torch.tensor(instants, dtype=torch.float64).to(self.dose)
        none = self.dose.new_empty(0, len(self.time), len(self.kept))
        return Outcome(
            engine,
            whole(0, none),
            status,
            error,
            entered,
            when,
            whole(1, self.dose.new_empty(0, when.shape[-1], len(self.kept))),
            whole(2, self.dose.new_empty(0, len(self.system.states))) if self.steady else None,
        )


def _chunks(good: Tensor, total: int, size: int) -> Iterator[tuple[Part, int]]:
    """Divides the bodies that can be solved; says of each part which body is its last one."""
    if len(good) == total:
        for low in range(0, total, size):
            yield slice(low, low + size), min(low + size, total) - 1
    else:
        for part in good.split(size) if len(good) else ():
            yield part, int(part[-1])


def _rows(x: Tensor, ascending: list[int]) -> Tensor:
    """Returns rows (B, at, s) of (B, T, s), copied run by run, which is faster than one by one."""
    cuts = [0, *(k for k in range(1, len(ascending)) if ascending[k] != ascending[k - 1] + 1), len(ascending)]
    runs = [x[:, ascending[a] : ascending[b - 1] + 1] for a, b in itertools.pairwise(cuts)]
    return runs[0] if len(runs) == 1 else torch.cat(runs, 1)
