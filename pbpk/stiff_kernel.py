r"""The compiled form of :mod:`pbpk.stiff`: eight bodies at a time, each with its own step.

The same method on the same mesh. The pattern of the organ graph comes as tables (:class:`Program`), so that
one compiled kernel serves every graph and every list of saturable transitions, and is kept on disk. A lane
whose body is done takes the next body. States are renumbered in the order of elimination: row k of every
table is pivot k.

The gradient is the discrete adjoint on the accepted mesh. For one step, with
:math:`y_i = x + \sum_j a_{ij} U_j` and :math:`W U_i = f(y_i) + \sum_j (c_{ij}/h) U_j`, from the last stage to
the first

.. math::
    W^T \mu_i = \bar U_i, \quad \bar y_i = J(y_i)^T \mu_i, \quad
    \bar U_j \mathrel{+}= a_{ij} \bar y_i + (c_{ij}/h) \mu_i, \quad
    \bar A_{pq} \mathrel{+}= \mu_{i,p} (y_{i,q} + U_{i,q}),

the last from :math:`f(y_i)` and from :math:`J` in :math:`W = I/(h\gamma) - J`, whose saturable part also
depends on x. The states at the steps' beginnings are kept on a tape, the stages are computed again.

References:
    Daescu, Sandu, Carmichael (2003). Direct and adjoint sensitivity analysis of chemical kinetic systems with
    KPP: II. Atmos Environ 37:5097. https://doi.org/10.1016/j.atmosenv.2003.08.020
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from pbpk.lanes import WIDTH, largest, load, magnitude, splat, store
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
    TAPE_FULL,
    A,
    C,
)
from pbpk.sparse_lu import SparseLU

Ints = np.ndarray
Floats = np.ndarray
Entry = tuple[int, int]


class Program(NamedTuple):
    """The pattern of a graph as tables; rows and columns are positions in the order of elimination.

    ``slot`` is a place in the array of the matrix's values. The entries of the factors are listed four times
    as (slot, into, from): for the first half of a substitution grouped by what they add into, for the second
    in the order in which what they take from is known; and both for the transposed factors.
    """

    slots: int
    diagonal: Ints  # (n) slots
    into: Ints  # (N) the slot that each transition's rate is added to
    out: Ints  # (N) the slot that it is taken from
    matrix: Ints  # (., 3) slot, row and column of the matrix itself; a row's entries as far apart as can be
    first: Ints  # (., 3) of the lower factor
    first_group: Ints  # where each group begins, and the end
    last: Ints  # (., 3) of the upper factor
    back_first: Ints  # (., 3) of the upper factor, transposed
    back_group: Ints
    back_last: Ints  # (., 3) of the lower factor, transposed
    below: Ints  # the lower factor's slots by columns
    under: Ints  # (n + 1) where each column begins
    right: Ints  # the upper factor's slots by rows
    beside: Ints  # (n + 1) where each row begins
    update: Ints  # the slots that elimination changes, in the order in which it does
    source: Ints  # (E) of the saturable transitions
    target: Ints  # (E)
    source_slot: Ints  # (E) of the entry (source, source)
    target_slot: Ints  # (E) of the entry (target, source)


class Plan(NamedTuple):
    """A schedule as tables of S segments, T outputs and D doses."""

    length: Floats  # (S) [h]
    jump: Floats  # (S, D) what is given at each one's start
    rate: Floats  # (S, D) and infused during it [1/h]
    inlet: Ints  # (D) the position of the state that a dose enters
    output_segment: Ints  # (T) -1: at the very first instant
    output_time: Floats  # (T) since the segment's start [h]
    kept: Ints  # (s) the positions of the states that are wanted


class Bodies(NamedTuple):
    """The numbers of B bodies."""

    rate: Floats  # (B, N)
    Vmax: Floats  # (B, E)
    Km: Floats  # (B, E)
    unbound: Floats  # (B, E)
    amounts: Floats  # (B, D)
    initial: Floats  # (B, n), by position
    scale: Floats  # (B) the absolute tolerance [mg]


class Tape(NamedTuple):
    """Where each accepted step began; a capacity of 0 keeps nothing."""

    taken: Ints  # (B) how many steps
    x: Floats  # (B, capacity, n)
    t: Floats  # (B, capacity)
    h: Floats  # (B, capacity)
    segment: Ints  # (B, capacity)


def program(
    lu: SparseLU, source: Ints, target: Ints, driver: Ints, saturable_source: Ints, saturable_target: Ints
) -> tuple[Program, Ints]:
    """Lists what the kernel does for one graph.

    Arguments:
        lu: The elimination of the pattern.
        source: The sources of the linear transitions.
        target: Their targets.
        driver: The states that drive them.
        saturable_source: The sources of the saturable transitions.
        saturable_target: Their targets.

    Returns:
        The program, and the position of each state.
    """
    n, slot = lu.n, lu.pattern
    at = np.empty(n, dtype=np.int64)
    at[lu.order] = np.arange(n)
    places = {(int(at[i]), int(at[j])): s for (i, j), s in slot.items()}
    linear = {(int(at[t]), int(at[d])) for t, d in zip(target, driver, strict=True)}
    linear |= {(int(at[s]), int(at[d])) for s, d in zip(source, driver, strict=True)}

    def table(entries: Iterable[Entry], key: Callable[[Entry], Any], transposed: bool = False) -> Ints:
        ordered = sorted(entries, key=key)
        return _ints([(places[e], *(e[::-1] if transposed else e)) for e in ordered]).reshape(-1, 3)

    def group(entries: Ints) -> Ints:
        return _ints([*(k for k in range(len(entries)) if k == 0 or entries[k, 1] != entries[k - 1, 1]),
                      len(entries)])  # fmt: skip

    def apart(entry: Entry) -> float:
        row = sorted(e for e in linear if e[0] == entry[0])
        return (row.index(entry) + 0.5) / len(row)

    lower, upper = [e for e in places if e[0] > e[1]], [e for e in places if e[0] < e[1]]
    below, right = table(lower, lambda e: (e[1], e[0])), table(upper, lambda e: e)
    first, back = table(lower, lambda e: e), table(upper, lambda e: (e[1], e[0]), transposed=True)
    update = [
        places[i, j] for k in range(n) for i in below[below[:, 2] == k, 1] for j in right[right[:, 1] == k, 2]
    ]
    made = Program(
        len(slot),
        _ints([places[k, k] for k in range(n)]),
        _ints([slot[int(t), int(d)] for t, d in zip(target, driver, strict=True)]),
        _ints([slot[int(s), int(d)] for s, d in zip(source, driver, strict=True)]),
        table(linear, apart),
        first,
        group(first),
        table(upper, lambda e: (-e[1], e[0])),
        back,
        group(back),
        table(lower, lambda e: (-e[0], e[1]), transposed=True),
        below[:, 0].copy(),
        _ints(np.searchsorted(below[:, 2], np.arange(n + 1))),
        right[:, 0].copy(),
        _ints(np.searchsorted(right[:, 1], np.arange(n + 1))),
        _ints(update),
        at[saturable_source],
        at[saturable_target],
        _ints([slot[int(s), int(s)] for s in saturable_source]),
        _ints([slot[int(t), int(s)] for s, t in zip(saturable_source, saturable_target, strict=True)]),
    )
    return made, at


def _ints(numbers: object) -> Ints:
    return np.asarray(numbers, dtype=np.int64)


# What follows is compiled. Arrays of shape (rows, WIDTH) hold a lane's numbers in a column; `E`, (3E, WIDTH),
# holds Vmax, Km and unbound of each saturable transition. Loops, not slices: they compile faster.
_INSIDE: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called from compiled code only
_part: Any = njit(**_INSIDE)


@_part
def _fill(x, lane, value):
    for k in range(len(x)):
        x[k, lane] = value


@_part
def _put(x, lane, row):
    for k in range(len(x)):
        x[k, lane] = row[k]


@_part
def _factor(P, a, E, x, inverse_h, W):
    """Factors W = I / (h gamma) - J(x); the diagonal then holds inverse pivots."""
    for slot in range(P.slots):
        store(W, slot, 0.0 - load(a, slot))
    shift = inverse_h * (1.0 / GAMMA)
    for k in range(len(P.diagonal)):
        store(W, P.diagonal[k], load(W, P.diagonal[k]) + shift)
    count = len(P.source)
    for e in range(count):
        Km, unbound = load(E, count + e), load(E, 2 * count + e)
        sum_ = Km + unbound * load(x, P.source[e])
        slope = load(E, e) * Km * unbound / (sum_ * sum_)
        store(W, P.source_slot[e], load(W, P.source_slot[e]) + slope)
        store(W, P.target_slot[e], load(W, P.target_slot[e]) - slope)
    done = 0
    for k in range(len(P.diagonal)):
        inverse = 1.0 / load(W, P.diagonal[k])
        store(W, P.diagonal[k], inverse)
        for i in range(P.under[k], P.under[k + 1]):
            factor = load(W, P.below[i]) * inverse
            store(W, P.below[i], factor)
            for j in range(P.beside[k], P.beside[k + 1]):
                into = P.update[done]
                store(W, into, load(W, into) - factor * load(W, P.right[j]))
                done += 1
        for j in range(P.beside[k], P.beside[k + 1]):
            store(W, P.right[j], load(W, P.right[j]) * inverse)


@_part
def _substitute(first, group, last, diagonal, W, U, u):
    """Solves with the factors for rows from u of U, in place."""
    for g in range(len(group) - 1):
        row = u + first[group[g], 1]
        total = load(U, row)
        for e in range(group[g], group[g + 1]):
            total -= load(W, first[e, 0]) * load(U, u + first[e, 2])
        store(U, row, total)
    for k in range(len(diagonal)):
        store(U, u + k, load(U, u + k) * load(W, diagonal[k]))
    for e in range(len(last)):
        row = u + last[e, 1]
        store(U, row, load(U, row) - load(W, last[e, 0]) * load(U, u + last[e, 2]))


@_part
def _solve(P, a, E, W, Y, y, U, u):
    """Solves W U = U + A Y + saturable flows, for rows from y of Y and from u of U."""
    count, matrix = len(P.source), P.matrix
    for e in range(count):
        Cu = load(E, 2 * count + e) * load(Y, y + P.source[e])
        speed = load(E, e) * Cu / (load(E, count + e) + Cu)
        source, target = u + P.source[e], u + P.target[e]
        store(U, source, load(U, source) - speed)
        store(U, target, load(U, target) + speed)
    for e in range(len(matrix)):
        row = u + matrix[e, 1]
        store(U, row, load(U, row) + load(a, matrix[e, 0]) * load(Y, y + matrix[e, 2]))
    _substitute(P.first, P.first_group, P.last, P.diagonal, W, U, u)


@_part
def _stages(P, a, E, feed, x, inverse_h, W, Y, each, U):
    """Takes a step: the six stages in U, and their arguments in Y, each so many rows after the other."""
    n = len(P.diagonal)
    _factor(P, a, E, x, inverse_h, W)
    for k in range(n):
        store(Y, k, load(x, k))
        store(U, k, load(feed, k))
    _solve(P, a, E, W, Y, 0, U, 0)
    for k in range(n):
        U0 = load(U, k)
        store(Y, each + k, load(x, k) + A[1][0] * U0)
        store(U, n + k, load(feed, k) + inverse_h * (C[1][0] * U0))
    _solve(P, a, E, W, Y, each, U, n)
    for k in range(n):
        U0, U1 = load(U, k), load(U, n + k)
        store(Y, 2 * each + k, load(x, k) + A[2][0] * U0 + A[2][1] * U1)
        store(U, 2 * n + k, load(feed, k) + inverse_h * (C[2][0] * U0 + C[2][1] * U1))
    _solve(P, a, E, W, Y, 2 * each, U, 2 * n)
    for k in range(n):
        U0, U1, U2 = load(U, k), load(U, n + k), load(U, 2 * n + k)
        store(Y, 3 * each + k, load(x, k) + A[3][0] * U0 + A[3][1] * U1 + A[3][2] * U2)
        store(U, 3 * n + k, load(feed, k) + inverse_h * (C[3][0] * U0 + C[3][1] * U1 + C[3][2] * U2))
    _solve(P, a, E, W, Y, 3 * each, U, 3 * n)
    for k in range(n):
        U0, U1, U2, U3 = load(U, k), load(U, n + k), load(U, 2 * n + k), load(U, 3 * n + k)
        step = A[4][0] * U0 + A[4][1] * U1 + A[4][2] * U2 + A[4][3] * U3
        store(Y, 4 * each + k, load(x, k) + step)
        slope = C[4][0] * U0 + C[4][1] * U1 + C[4][2] * U2 + C[4][3] * U3
        store(U, 4 * n + k, load(feed, k) + inverse_h * slope)
    _solve(P, a, E, W, Y, 4 * each, U, 4 * n)
    for k in range(n):
        U0, U1, U2, U3, U4 = (
            load(U, k),
            load(U, n + k),
            load(U, 2 * n + k),
            load(U, 3 * n + k),
            load(U, 4 * n + k),
        )
        store(Y, 5 * each + k, load(Y, 4 * each + k) + U4)
        slope = C[5][0] * U0 + C[5][1] * U1 + C[5][2] * U2 + C[5][3] * U3 + C[5][4] * U4
        store(U, 5 * n + k, load(feed, k) + inverse_h * slope)
    _solve(P, a, E, W, Y, 5 * each, U, 5 * n)


@_part
def _load_body(P, bodies, body, a, E, lane):
    """Fills a lane with the rate matrix and the enzymes of a body, or with nothing for body -1."""
    _fill(a, lane, 0.0)
    count = len(P.source)
    for e in range(count):
        E[e, lane] = bodies.Vmax[body, e] if body >= 0 else 0.0
        E[count + e, lane] = bodies.Km[body, e] if body >= 0 else 1.0
        E[2 * count + e, lane] = bodies.unbound[body, e] if body >= 0 else 0.0
    if body >= 0:
        for t in range(len(P.into)):
            a[P.into[t], lane] += bodies.rate[body, t]
            a[P.out[t], lane] -= bodies.rate[body, t]


@_part
def _begin(plan, bodies, body, segment, x, feed, lane):
    """Gives a lane what its segment begins with."""
    _fill(feed, lane, 0.0)
    for d in range(len(plan.inlet)):
        x[plan.inlet[d], lane] += plan.jump[segment, d] * bodies.amounts[body, d]
        feed[plan.inlet[d], lane] += plan.rate[segment, d] * bodies.amounts[body, d]


@_part
def _first_step(P, a, E, feed, x, scale, end, lane):
    """Guesses a first step: one that moves the state by about one per cent."""
    count = len(P.source)
    slope = np.empty(len(x))
    for k in range(len(x)):
        slope[k] = feed[k, lane]
    for e in range(len(P.matrix)):
        slope[P.matrix[e, 1]] += a[P.matrix[e, 0], lane] * x[P.matrix[e, 2], lane]
    for e in range(count):
        Cu = E[2 * count + e, lane] * x[P.source[e], lane]
        flow = E[e, lane] * Cu / (E[count + e, lane] + Cu)
        slope[P.source[e]] -= flow
        slope[P.target[e]] += flow
    size, speed = 0.0, 0.0
    for k in range(len(x)):
        size, speed = max(size, abs(x[k, lane])), max(speed, abs(slope[k]))
    return min(0.01 * (size + scale) / (speed + scale), end)


@_part
def _judge(x, U, Y, kept, rtol, new, inside, one):
    """Finds the new states, their errors, and how the kept ones bend between the step's ends."""
    n = len(x)
    error, mark, scale = splat(0.0), splat(0.0), load(one, 1)
    for k in range(n):
        last, old = load(U, 5 * n + k), load(x, k)
        value = load(Y, k) + last
        store(new, k, value)
        share = magnitude(last) / (scale + rtol * largest(magnitude(old), magnitude(value)))
        error = largest(share, error)
        mark += share
    store(one, 2, error)
    store(one, 3, mark)
    for s in range(len(kept)):
        k = kept[s]
        U0, U1, U2 = load(U, k), load(U, n + k), load(U, 2 * n + k)
        U3, U4 = load(U, 3 * n + k), load(U, 4 * n + k)
        store(inside, 2 * s, D2[0] * U0 + D2[1] * U1 + D2[2] * U2 + D2[3] * U3 + D2[4] * U4)
        store(inside, 2 * s + 1, D3[0] * U0 + D3[1] * U1 + D3[2] * U2 + D3[3] * U3 + D3[4] * U4)


@_part
def _interpolate(s, x, new, inside, kept, lane, out):
    """Fills the kept states at the share s of a step."""
    for m in range(len(kept)):
        bend = inside[2 * m, lane] + s * inside[2 * m + 1, lane]
        out[m] = (1.0 - s) * x[kept[m], lane] + s * (new[kept[m], lane] + (1.0 - s) * bend)


@njit(cache=True, nogil=True)
def integrate(P, plan, bodies, rtol, max_steps, out, status, local, tape):
    """Solves all bodies: fills ``out`` (B, T, s), ``status`` (B), the local errors' sums (B, s), the tape."""
    n, count, B = len(P.diagonal), len(P.source), len(status)
    T, S, capacity = len(plan.output_time), len(plan.length), tape.h.shape[1]
    a, W = np.zeros((P.slots, WIDTH)), np.zeros((P.slots, WIDTH))
    E = np.zeros((3 * count, WIDTH))
    x, Y = np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    feed, new, U = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((6 * n, WIDTH))
    inside = np.zeros((2 * len(plan.kept), WIDTH))
    # rows of one number a lane: 0 h, 1 the absolute tolerance, 2 the error, 3 a mark of what is no number
    one = np.ones((4, WIDTH))
    body, segment = np.full(WIDTH, -1), np.zeros(WIDTH, np.int64)
    due, steps = np.zeros(WIDTH, np.int64), np.zeros(WIDTH, np.int64)
    t, fresh = np.zeros(WIDTH), np.zeros(WIDTH, np.bool_)
    steady = np.ones(WIDTH, np.bool_)
    waiting = 0
    active = 0
    for lane in range(WIDTH):
        _load_body(P, bodies, -1, a, E, lane)
    while True:
        for lane in range(WIDTH):  # a free lane takes the next body
            while body[lane] < 0 and waiting < B:
                b = waiting
                waiting += 1
                due[lane] = 0
                while due[lane] < T and plan.output_segment[due[lane]] < 0:
                    for s in range(len(plan.kept)):
                        out[b, due[lane], s] = bodies.initial[b, plan.kept[s]]
                    due[lane] += 1
                status[b] = SOLVED
                for s in range(len(plan.kept)):
                    local[b, s] = 0.0
                if S > 0:
                    body[lane], segment[lane], fresh[lane] = b, 0, True
                    _put(x, lane, bodies.initial[b])
                    one[1, lane] = bodies.scale[b]
                    _load_body(P, bodies, b, a, E, lane)
                    active += 1
        if active == 0:
            return
        for lane in range(WIDTH):
            if body[lane] >= 0:
                end = plan.length[segment[lane]]
                if fresh[lane]:
                    fresh[lane], steady[lane] = False, True
                    t[lane], steps[lane] = 0.0, 0
                    _begin(plan, bodies, body[lane], segment[lane], x, feed, lane)
                    one[0, lane] = _first_step(P, a, E, feed, x, one[1, lane], end, lane)
                one[0, lane] = min(one[0, lane], end - t[lane])
        _stages(P, a, E, feed, x, 1.0 / load(one, 0), W, Y, 0, U)
        _judge(x, U, Y, plan.kept, rtol, new, inside, one)
        for lane in range(WIDTH):
            b = body[lane]
            if b < 0:
                continue
            end, h = plan.length[segment[lane]], one[0, lane]
            share = max(one[2, lane], 1e-10) if one[3, lane] < np.inf else 1e10
            steps[lane] += 1
            factor = min(max(SAFETY / np.sqrt(np.sqrt(share)), SHRINK), GROW)
            one[0, lane] = h * (factor if steady[lane] else min(factor, 1.0))
            steady[lane] = share <= 1.0
            failed = SOLVED
            if steady[lane]:
                start, kept_steps = t[lane], tape.taken[b]
                t[lane] = end if end - start - h <= SMALLEST * end else start + h
                while (
                    due[lane] < T
                    and plan.output_segment[due[lane]] == segment[lane]
                    and plan.output_time[due[lane]] <= t[lane]
                ):
                    s = (plan.output_time[due[lane]] - start) / h
                    _interpolate(s, x, new, inside, plan.kept, lane, out[b, due[lane]])
                    due[lane] += 1
                if capacity > 0:
                    if kept_steps == capacity:
                        failed = TAPE_FULL
                    else:
                        for k in range(n):
                            tape.x[b, kept_steps, k] = x[k, lane]
                        tape.t[b, kept_steps], tape.h[b, kept_steps] = start, h
                        tape.segment[b, kept_steps] = segment[lane]
                for m in range(len(plan.kept)):
                    local[b, m] += abs(U[5 * n + plan.kept[m], lane])
                tape.taken[b] += 1
                for k in range(n):
                    x[k, lane] = new[k, lane]
            if failed == SOLVED and t[lane] < end:
                if one[0, lane] < SMALLEST * end:
                    failed = STEP_TOO_SMALL
                elif steps[lane] >= max_steps:
                    failed = STEP_LIMIT
            if failed != SOLVED:
                status[b] = failed
                for o in range(due[lane], T):
                    for m in range(len(plan.kept)):
                        out[b, o, m] = np.nan
            elif t[lane] >= end:
                segment[lane] += 1
                fresh[lane] = True
            if failed != SOLVED or segment[lane] == S:
                body[lane] = -1
                active -= 1
                _fill(x, lane, 0.0)
                _fill(feed, lane, 0.0)
                _fill(one, lane, 1.0)
                _load_body(P, bodies, -1, a, E, lane)


_A = np.zeros((6, 6))
_C = np.zeros((6, 6))
for _i in range(6):
    _A[_i, : min(_i, 4)] = A[min(_i, 4)]
    _C[_i, :_i] = C[_i]
_A[5, 4] = 1.0


class Gradient(NamedTuple):
    """What :func:`pull` returns of each body: the gradient with respect to the fields of that name."""

    rate: Floats  # (B, N)
    Vmax: Floats  # (B, E)
    Km: Floats  # (B, E)
    unbound: Floats  # (B, E)
    amounts: Floats  # (B, D)
    initial: Floats  # (B, n), by position


@_part
def _pull_saturable(P, E, Y, y, U, u, mu, back, E_bar, slope_bar):
    """Adds what the saturable flows at Y and the slopes in W pass back for one stage."""
    count = len(P.source)
    for e in range(count):
        Vmax, Km, unbound = load(E, e), load(E, count + e), load(E, 2 * count + e)
        amount = load(Y, y + P.source[e])
        inverse = 1.0 / (Km + unbound * amount)
        gain = (load(mu, P.target[e]) - load(mu, P.source[e])) * inverse
        Cu = unbound * amount
        store(E_bar, e, load(E_bar, e) + gain * Cu)
        store(E_bar, count + e, load(E_bar, count + e) - gain * Vmax * Cu * inverse)
        share = gain * Vmax * Km * inverse
        store(E_bar, 2 * count + e, load(E_bar, 2 * count + e) + share * amount)
        store(back, P.source[e], load(back, P.source[e]) + share * unbound)
        gain = load(mu, P.target[e]) - load(mu, P.source[e])
        store(slope_bar, e, load(slope_bar, e) + gain * load(U, u + P.source[e]))


@_part
def _pull_slope(P, E, x, slope_bar, E_bar, x_bar):
    """Adds what the slopes Vmax Km u / (Km + u x)^2 pass back."""
    count = len(P.source)
    for e in range(count):
        Vmax, Km, unbound = load(E, e), load(E, count + e), load(E, 2 * count + e)
        Cu = unbound * load(x, P.source[e])
        inverse = 1.0 / (Km + Cu)
        share = load(slope_bar, e) * inverse * inverse
        store(E_bar, e, load(E_bar, e) + share * Km * unbound)
        bend = share * Vmax * (Cu - Km) * inverse
        store(E_bar, count + e, load(E_bar, count + e) + bend * unbound)
        store(E_bar, 2 * count + e, load(E_bar, 2 * count + e) - bend * Km)
        bend = 2.0 * share * Vmax * Km * unbound * unbound * inverse
        store(x_bar, P.source[e], load(x_bar, P.source[e]) - bend)
        store(slope_bar, e, splat(0.0))


@_part
def _pull_stages(P, a, E, x, inverse_h, W, Y, U, U_bar, mu, back, x_bar, a_bar, E_bar, slope_bar, feed_bar):
    """Passes U_bar, and the gradient of the new state in its last stage, back through one step."""
    n, matrix = len(P.diagonal), P.matrix
    for i in range(5, -1, -1):
        u = i * n
        for k in range(n):
            bar = load(U_bar, u + k)
            store(mu, k, bar)
            store(back, k, bar if i == 5 else splat(0.0))
        _substitute(P.back_first, P.back_group, P.back_last, P.diagonal, W, mu, 0)
        for e in range(len(matrix)):
            slot, row, column = matrix[e, 0], matrix[e, 1], matrix[e, 2]
            weight = load(mu, row)
            store(back, column, load(back, column) + load(a, slot) * weight)
            store(a_bar, slot, load(a_bar, slot) + weight * (load(Y, u + column) + load(U, u + column)))
        _pull_saturable(P, E, Y, u, U, u, mu, back, E_bar, slope_bar)
        for k in range(n):
            weight, value = load(mu, k), load(back, k)
            store(feed_bar, k, load(feed_bar, k) + weight)
            store(x_bar, k, load(x_bar, k) + value)
            weight = weight * inverse_h
            for j in range(i):
                store(U_bar, j * n + k, load(U_bar, j * n + k) + _C[i, j] * weight + _A[i, j] * value)
    _pull_slope(P, E, x, slope_bar, E_bar, x_bar)


@_part
def _pull_output(s, bar, kept, lane, x_bar, new_bar, e_bar, g_bar):
    """Passes an output at the share s of a step back to the states at its ends and their bends."""
    for o in range(len(kept)):
        k = kept[o]
        x_bar[k, lane] += (1.0 - s) * bar[o]
        new_bar[k, lane] += s * bar[o]
        e_bar[k, lane] += s * (1.0 - s) * bar[o]
        g_bar[k, lane] += s * s * (1.0 - s) * bar[o]


@_part
def _write_gradient(P, a_bar, E_bar, adjoint, lane, b, gradient):
    """Writes what has come together for a body."""
    for transition in range(len(P.into)):
        into, out = P.into[transition], P.out[transition]
        gradient.rate[b, transition] = a_bar[into, lane] - a_bar[out, lane]
    count = len(P.source)
    for e in range(count):
        gradient.Vmax[b, e] = E_bar[e, lane]
        gradient.Km[b, e] = E_bar[count + e, lane]
        gradient.unbound[b, e] = E_bar[2 * count + e, lane]
    for k in range(len(adjoint)):
        gradient.initial[b, k] = adjoint[k, lane]


@njit(cache=True, nogil=True)
def pull(P, plan, bodies, tape, status, out_bar, gradient):
    """Passes the gradient of the outputs back to the bodies' numbers; bodies that failed get zero."""
    n, count, B = len(P.diagonal), len(P.source), len(status)
    a, W, a_bar = np.zeros((P.slots, WIDTH)), np.zeros((P.slots, WIDTH)), np.zeros((P.slots, WIDTH))
    E, E_bar = np.zeros((3 * count, WIDTH)), np.zeros((3 * count, WIDTH))
    x, feed, slope_bar = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((count, WIDTH))
    Y, U, U_bar = np.zeros((6 * n, WIDTH)), np.zeros((6 * n, WIDTH)), np.zeros((6 * n, WIDTH))
    mu, back, x_bar, feed_bar = (
        np.zeros((n, WIDTH)),
        np.zeros((n, WIDTH)),
        np.zeros((n, WIDTH)),
        np.zeros((n, WIDTH)),
    )
    adjoint, h = np.zeros((n, WIDTH)), np.ones((1, WIDTH))
    e_bar, g_bar = np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    body, segment = np.full(WIDTH, -1), np.full(WIDTH, -1)
    due, step = np.zeros(WIDTH, np.int64), np.zeros(WIDTH, np.int64)
    waiting, active = 0, 0
    for lane in range(WIDTH):
        _load_body(P, bodies, -1, a, E, lane)
    while True:
        for lane in range(WIDTH):  # a free lane takes the next body
            while body[lane] < 0 and waiting < B:
                b = waiting
                waiting += 1
                if status[b] == SOLVED and tape.taken[b] > 0:
                    body[lane], segment[lane], step[lane] = b, -1, tape.taken[b] - 1
                    due[lane] = len(plan.output_time) - 1
                    for sums in (adjoint, a_bar, E_bar, feed_bar):
                        _fill(sums, lane, 0.0)
                    _load_body(P, bodies, b, a, E, lane)
                    active += 1
                elif status[b] == SOLVED:
                    _pull_start(plan, gradient, out_bar, b, len(plan.output_time) - 1)
        if active == 0:
            return
        for lane in range(WIDTH):
            b = body[lane]
            for sums in (x_bar, e_bar, g_bar):
                _fill(sums, lane, 0.0)
            if b < 0:
                continue
            m = step[lane]
            _put(x, lane, tape.x[b, m])
            h[0, lane] = tape.h[b, m]
            if segment[lane] != tape.segment[b, m]:
                segment[lane] = tape.segment[b, m]
                _fill(feed, lane, 0.0)
                for d in range(len(plan.inlet)):
                    feed[plan.inlet[d], lane] += plan.rate[segment[lane], d] * bodies.amounts[b, d]
            while (
                due[lane] >= 0
                and plan.output_segment[due[lane]] == segment[lane]
                and plan.output_time[due[lane]] > tape.t[b, m]
            ):
                s = (plan.output_time[due[lane]] - tape.t[b, m]) / h[0, lane]
                _pull_output(s, out_bar[b, due[lane]], plan.kept, lane, x_bar, adjoint, e_bar, g_bar)
                due[lane] -= 1
        inverse_h = 1.0 / load(h, 0)
        _stages(P, a, E, feed, x, inverse_h, W, Y, n, U)
        for k in range(n):
            for j in range(5):
                store(U_bar, j * n + k, D2[j] * load(e_bar, k) + D3[j] * load(g_bar, k))
            store(U_bar, 5 * n + k, load(adjoint, k))
        _pull_stages(
            P, a, E, x, inverse_h, W, Y, U, U_bar, mu, back, x_bar, a_bar, E_bar, slope_bar, feed_bar
        )
        for lane in range(WIDTH):
            b, m = body[lane], step[lane]
            if b < 0:
                continue
            for k in range(n):
                adjoint[k, lane] = x_bar[k, lane]
            if m == 0 or tape.segment[b, m - 1] != segment[lane]:
                for d in range(len(plan.inlet)):
                    k = plan.inlet[d]
                    gradient.amounts[b, d] += plan.jump[segment[lane], d] * adjoint[k, lane]
                    gradient.amounts[b, d] += plan.rate[segment[lane], d] * feed_bar[k, lane]
                _fill(feed_bar, lane, 0.0)
            step[lane] -= 1
            if m == 0:
                _write_gradient(P, a_bar, E_bar, adjoint, lane, b, gradient)
                _pull_start(plan, gradient, out_bar, b, due[lane])
                body[lane] = -1
                active -= 1
                for sums in (x, feed, adjoint):
                    _fill(sums, lane, 0.0)
                h[0, lane] = 1.0
                _load_body(P, bodies, -1, a, E, lane)


@_part
def _pull_start(plan, gradient, out_bar, b, due):
    """Adds what the outputs before anything happened pass to the initial amounts."""
    for output in range(due + 1):
        for o in range(len(plan.kept)):
            gradient.initial[b, plan.kept[o]] += out_bar[b, output, o]
