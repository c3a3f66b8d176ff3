"""The compiled engine of saturable kinetics as a function of tensors, with its gradient.

What :func:`pbpk.stiff.solve` calls where numba is at hand; :mod:`pbpk.stiff_kernel` holds the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk import stiff_kernel as kernel
from pbpk.regimen import Schedule
from pbpk.rodas import TAPE_FULL
from pbpk.sparse_lu import SparseLU
from pbpk.topology import System

_BLOCK = 1024  # bodies whose tapes are held at a time
_CAPACITY = 96  # steps of a tape for each segment at first


def solve(
    lu: SparseLU,
    system: System,
    schedule: Schedule,
    segments: list[tuple[int, int]],
    amounts: Tensor,
    initial: Tensor,
    kept: Sequence[int],
    tolerances: tuple[float, Tensor, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Solves a batch of systems on the CPU, in double precision.

    Arguments:
        lu: The elimination of the pattern.
        system: The equations, with batch shape :math:`(B)`.
        schedule: What is given and asked for, when.
        segments: Its stretches in which nothing is given, starts or ends, as pairs of instants.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.
        initial: The amounts at the first instant [mg], with shape :math:`(B, n)`.
        kept: The states that are wanted.
        tolerances: rtol, the absolute tolerance of each body [mg], and the limit of steps.

    Returns:
        The kept amounts at the output times [mg], with shape :math:`(B, T, s)`, the status, with shape
        :math:`(B)`, and the sums of the kept states' local errors [mg], with shape :math:`(B, s)`.
    """
    edges = (system.source, system.target, system.driver, system.saturable_source, system.saturable_target)
    program, at = kernel.program(lu, *(edge.numpy() for edge in edges))
    given = (system.rate, system.Vmax, system.Km, system.unbound, amounts, initial)
    return _Solve.apply(program, at, _plan(system, schedule, segments, at, kept), tolerances, *given)


def _plan(
    system: System, schedule: Schedule, segments: list[tuple[int, int]], at: np.ndarray, kept: Sequence[int]
) -> kernel.Plan:
    """Lays the schedule out for the kernel."""
    time = schedule.time.double().numpy()
    first = np.array([segment[0] for segment in segments], dtype=np.int64)
    last = np.array([segment[1] for segment in segments], dtype=np.int64)
    output = np.array(schedule.output, dtype=np.int64)
    of = np.where(output > 0, np.searchsorted(last, output), -1)
    start = time[first[of]] if len(first) else time[:1].repeat(len(output))
    return kernel.Plan(
        time[last] - time[first],
        schedule.jump[first].double().numpy(),
        schedule.rate[first].double().numpy(),
        at[[system.inlet(route) for route in schedule.route]],
        of,
        time[output] - start,
        at[list(kept)],
    )


class _Solve(torch.autograd.Function):
    """The solve, and the adjoint of what it did; steps and errors are not differentiated."""

    @staticmethod
    def forward(ctx: Any, program: Any, at: Any, plan: Any, tolerances: Any, *given: Tensor) -> Any:
        """Solves, block by block where a tape is needed."""
        rtol, scale, max_steps = tolerances
        values = [np.ascontiguousarray(value.detach().numpy()) for value in given]
        values[5] = values[5][:, np.argsort(at)]
        ctx.taped = any(ctx.needs_input_grad)
        ctx.program, ctx.at, ctx.plan = program, at, plan
        B, T = len(values[0]), len(plan.output_time)
        out, status = np.empty((B, T, len(plan.kept))), np.empty(B, dtype=np.int64)
        local = np.empty((B, len(plan.kept)))
        ctx.blocks = []
        for low in range(0, B, _BLOCK if ctx.taped else max(B, 1)):
            part = slice(low, low + _BLOCK) if ctx.taped else slice(0, B)
            bodies = kernel.Bodies(*[value[part] for value in [*values, scale.numpy()]])
            capacity = _CAPACITY * len(plan.length) if ctx.taped else 0
            while True:
                tape = _tape(len(bodies.rate), capacity, len(at))
                answer = (out[part], status[part], local[part])
                kernel.integrate(program, plan, bodies, rtol, max_steps, *answer, tape)
                if not (status[part] == TAPE_FULL).any():
                    break
                capacity *= 2
            if ctx.taped:
                longest = int(tape.taken.max(initial=0))
                tape = kernel.Tape(tape.taken, *(np.ascontiguousarray(v[:, :longest]) for v in tape[1:]))
                ctx.blocks.append((part, bodies, tape))
        ctx.status = status
        beside = torch.from_numpy(status), torch.from_numpy(local)
        ctx.mark_non_differentiable(*beside)
        return torch.from_numpy(out), *beside

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        """Runs the adjoint, block by block."""
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the stiff engine's gradient must not be differentiated again, but create_graph is True: its "
                "adjoint is compiled and has no derivative. Solve with compiled=False."
            )
        bar = np.ascontiguousarray(bars[0].numpy())
        parts = []
        for part, bodies, tape in ctx.blocks:
            gradient = kernel.Gradient(*(np.zeros_like(value) for value in bodies[:6]))
            kernel.pull(ctx.program, ctx.plan, bodies, tape, ctx.status[part], bar[part], gradient)
            parts.append(gradient._replace(initial=gradient.initial[:, ctx.at]))
        together = [torch.from_numpy(np.concatenate(field)) for field in zip(*parts, strict=True)]
        return None, None, None, None, *together


def _tape(B: int, capacity: int, n: int) -> kernel.Tape:
    return kernel.Tape(
        np.zeros(B, dtype=np.int64),
        np.empty((B, capacity, n)),
        np.empty((B, capacity)),
        np.empty((B, capacity)),
        np.empty((B, capacity), dtype=np.int64),
    )
