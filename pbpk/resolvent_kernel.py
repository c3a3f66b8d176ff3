r"""The compiled form of :mod:`pbpk.resolvent`: eight bodies at a time, point by point.

The same elimination, leaves first; the core that remains, a handful of states, is eliminated as a dense
matrix. Complex numbers are pairs of vectors. It serves outlets that are leaves or in the core; no gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from pbpk.lanes import WIDTH, load, splat, store
from pbpk.resolvent import Resolvent

Ints = np.ndarray
CORE, LEAF, SOURCE = 0, 1, 2


class Program(NamedTuple):
    """The elimination as tables; states of the core and leaves are numbered by their position among these."""

    slots: int
    core: int  # how many states it has
    into: Ints  # (N) the slot that each transition's rate is added to, or -1
    out: Ints  # (N) the slot that it is taken from, or -1
    entries: Ints  # (., 3) of the core: slot, row, column
    leaves: Ints  # the slot of each leaf's diagonal
    feeds: Ints  # (., 3) slot, leaf, and the state of the core that it feeds
    fed: Ints  # (., 3) slot, leaf, and the state of the core that feeds it
    pairs: Ints  # (., 5) leaf, its two slots, and the entry of the core that they add to
    inlets: Ints  # (., 3) kind, position or slot of the diagonal, and where its targets end in `entering`
    entering: Ints  # (., 3) of sources: slot, kind of the target, and its position
    outlets: Ints  # (., 2) kind and position


def program(resolvent: Resolvent, source: Ints, target: Ints, driver: Ints) -> Program | None:
    """Lists what the kernel does, or returns None where it cannot.

    Arguments:
        resolvent: The elimination.
        source: The sources of the transitions.
        target: Their targets.
        driver: The states that drive them.
    """
    slot = resolvent.slots
    core = {k: number for number, (k, _, _) in enumerate(resolvent.order)}
    leaves = resolvent.leaves
    place = {k: (CORE, number) for k, number in core.items()} | {k: (LEAF, n) for k, n in leaves.items()}
    if not core or not all(k in place for k in resolvent.outlets):
        return None
    inlets: list[tuple[int, int, int]] = []
    entering: list[tuple[int, int, int]] = []
    for k in resolvent.inlets:
        if k in place:
            inlets.append((*place[k], len(entering)))
        elif k in resolvent.sources:
            entering += [(s, *place[i]) for (i, j), s in slot.items() if j == k and i in place]
            inlets.append((SOURCE, slot[k, k], len(entering)))
        else:  # from here no path leads to an outlet: a source of nothing
            inlets.append((SOURCE, 0, len(entering)))
    feeds = [(s, leaves[j], core[i]) for (i, j), s in slot.items() if j in leaves and i in core]
    fed = [(s, leaves[i], core[j]) for (i, j), s in slot.items() if i in leaves and j in core]
    return Program(
        len(slot),
        len(core),
        _ints([slot.get((int(t), int(d)), -1) for t, d in zip(target, driver, strict=True)]),
        _ints([slot.get((int(s), int(d)), -1) for s, d in zip(source, driver, strict=True)]),
        _table([(s, core[i], core[j]) for (i, j), s in slot.items() if i in core and j in core], 3),
        _ints([slot[k, k] for k in leaves]),
        _table(feeds, 3),
        _table(fed, 3),
        _table([(n, s, t, i, j) for s, n, i in feeds for t, m, j in fed if n == m], 5),
        _table(inlets, 3),
        _table(entering, 3),
        _table([place[k] for k in resolvent.outlets], 2),
    )


def _ints(numbers: list[int]) -> Ints:
    return np.asarray(numbers, dtype=np.int64)


def _table(rows: list[Any], width: int) -> Ints:
    return np.asarray(rows, dtype=np.int64).reshape(-1, width)


# What follows is compiled. A complex entry k of an array is its rows 2k (real) and 2k + 1 (imaginary).
_INSIDE: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_part: Any = njit(**_INSIDE)


@_part
def _reciprocal(x, y):
    scale = 1.0 / (x * x + y * y)
    return x * scale, 0.0 - y * scale


@_part
def _take(M, k, a, b, c, d):
    """Subtracts (a + ib)(c + id) from entry k of M."""
    store(M, 2 * k, load(M, 2 * k) - (a * c - b * d))
    store(M, 2 * k + 1, load(M, 2 * k + 1) - (a * d + b * c))


@_part
def _eliminate(P, a, products, x, y, M, own):
    """Eliminates the leaves, then the core: M then holds factors, and inverse pivots on its diagonal."""
    m = P.core
    for e in range(2 * m * m):
        store(M, e, splat(0.0))
    for e in range(len(P.entries)):
        store(M, 2 * (P.entries[e, 1] * m + P.entries[e, 2]), 0.0 - load(a, P.entries[e, 0]))
    for k in range(m):
        store(M, 2 * (k * m + k), x + load(M, 2 * (k * m + k)))
        store(M, 2 * (k * m + k) + 1, splat(y))
    for n in range(len(P.leaves)):
        real, imaginary = _reciprocal(x - load(a, P.leaves[n]), splat(y))
        store(own, 2 * n, real)
        store(own, 2 * n + 1, imaginary)
    for e in range(len(P.pairs)):
        at, n, product = 2 * (P.pairs[e, 3] * m + P.pairs[e, 4]), P.pairs[e, 0], load(products, e)
        store(M, at, load(M, at) - product * load(own, 2 * n))
        store(M, at + 1, load(M, at + 1) - product * load(own, 2 * n + 1))
    for k in range(m):
        at = 2 * (k * m + k)
        c, d = _reciprocal(load(M, at), load(M, at + 1))
        store(M, at, c)
        store(M, at + 1, d)
        for i in range(k + 1, m):
            at = 2 * (i * m + k)
            p, q = load(M, at), load(M, at + 1)
            real, imaginary = p * c - q * d, p * d + q * c
            store(M, at, real)
            store(M, at + 1, imaginary)
            for j in range(k + 1, m):
                right = 2 * (k * m + j)
                _take(M, i * m + j, real, imaginary, load(M, right), load(M, right + 1))


@_part
def _enter(P, a, own, kind, at, real, imaginary, b, b_leaf):
    """Puts an amount into a state, and what a leaf passes on into the core."""
    if kind == CORE:
        store(b, 2 * at, load(b, 2 * at) + real)
        store(b, 2 * at + 1, load(b, 2 * at + 1) + imaginary)
    else:
        store(b_leaf, 2 * at, load(b_leaf, 2 * at) + real)
        store(b_leaf, 2 * at + 1, load(b_leaf, 2 * at + 1) + imaginary)
        c, d = load(own, 2 * at), load(own, 2 * at + 1)
        for e in range(len(P.feeds)):
            if P.feeds[e, 1] == at:
                weight, i = load(a, P.feeds[e, 0]), P.feeds[e, 2]
                store(b, 2 * i, load(b, 2 * i) + weight * (real * c - imaginary * d))
                store(b, 2 * i + 1, load(b, 2 * i + 1) + weight * (real * d + imaginary * c))


@_part
def _column(P, a, x, y, M, own, inlet, b, b_leaf):
    """Solves for one inlet: the core's states in b; b_leaf keeps what entered the leaves."""
    m = P.core
    for e in range(2 * m):
        store(b, e, splat(0.0))
    for e in range(2 * len(P.leaves)):
        store(b_leaf, e, splat(0.0))
    kind, at = P.inlets[inlet, 0], P.inlets[inlet, 1]
    if kind == SOURCE:
        real, imaginary = _reciprocal(x - load(a, at), splat(y))
        for e in range(P.inlets[inlet - 1, 2] if inlet > 0 else 0, P.inlets[inlet, 2]):
            rate = load(a, P.entering[e, 0])
            _enter(P, a, own, P.entering[e, 1], P.entering[e, 2], rate * real, rate * imaginary, b, b_leaf)
    else:
        _enter(P, a, own, kind, at, splat(1.0), splat(0.0), b, b_leaf)
    for k in range(m):
        for i in range(k + 1, m):
            at = 2 * (i * m + k)
            _take(b, i, load(M, at), load(M, at + 1), load(b, 2 * k), load(b, 2 * k + 1))
    for k in range(m - 1, -1, -1):
        for j in range(k + 1, m):
            at = 2 * (k * m + j)
            _take(b, k, load(M, at), load(M, at + 1), load(b, 2 * j), load(b, 2 * j + 1))
        p, q, at = load(b, 2 * k), load(b, 2 * k + 1), 2 * (k * m + k)
        store(b, 2 * k, p * load(M, at) - q * load(M, at + 1))
        store(b, 2 * k + 1, p * load(M, at + 1) + q * load(M, at))


@_part
def _outlet(P, a, own, kind, at, b, b_leaf):
    """Returns a state of the core or of a leaf."""
    if kind == CORE:
        return load(b, 2 * at), load(b, 2 * at + 1)
    p, q = load(b_leaf, 2 * at), load(b_leaf, 2 * at + 1)
    for e in range(len(P.fed)):
        if P.fed[e, 1] == at:
            weight, j = load(a, P.fed[e, 0]), P.fed[e, 2]
            p += weight * load(b, 2 * j)
            q += weight * load(b, 2 * j + 1)
    c, d = load(own, 2 * at), load(own, 2 * at + 1)
    return p * c - q * d, p * d + q * c


@njit(cache=True, nogil=True)
def columns(P, rate, z, groups, amounts, out):
    """Fills out (outlets, groups, 2, K, B) with Re F and Im F for the groups' inlets, times their doses.

    The points z come as (K, 2), the rates as (B, N), the groups as pairs of inlet and dose (G, 2), the doses'
    amounts as (B, D). B need not be a multiple of the lanes.
    """
    B, m, G = len(rate), P.core, len(groups)
    scale = np.zeros((G, WIDTH))
    a, products = np.zeros((P.slots, WIDTH)), np.zeros((len(P.pairs), WIDTH))
    M, own = np.zeros((2 * m * m, WIDTH)), np.zeros((2 * len(P.leaves), WIDTH))
    b, b_leaf = np.zeros((2 * m, WIDTH)), np.zeros((2 * len(P.leaves), WIDTH))
    found = np.zeros((2, WIDTH))
    for low in range(0, B, WIDTH):
        width = min(WIDTH, B - low)
        for slot in range(P.slots):
            store(a, slot, splat(0.0))
        for lane in range(WIDTH):
            body = low + min(lane, width - 1)
            for g in range(G):
                scale[g, lane] = amounts[body, groups[g, 1]]
            for t in range(len(P.into)):
                if P.into[t] >= 0:
                    a[P.into[t], lane] += rate[body, t]
                if P.out[t] >= 0:
                    a[P.out[t], lane] -= rate[body, t]
        for e in range(len(P.pairs)):
            store(products, e, load(a, P.pairs[e, 1]) * load(a, P.pairs[e, 2]))
        for k in range(len(z)):
            x, y = z[k, 0], z[k, 1]
            _eliminate(P, a, products, x, y, M, own)
            for inlet in range(len(P.inlets)):
                _column(P, a, x, y, M, own, inlet, b, b_leaf)
                for outlet in range(len(P.outlets)):
                    real, imaginary = _outlet(
                        P, a, own, P.outlets[outlet, 0], P.outlets[outlet, 1], b, b_leaf
                    )
                    for g in range(G):
                        if groups[g, 0] == inlet:
                            store(found, 0, load(scale, g) * real)
                            store(found, 1, load(scale, g) * imaginary)
                            for lane in range(width):
                                out[outlet, g, 0, k, low + lane] = found[0, lane]
                                out[outlet, g, 1, k, low + lane] = found[1, lane]
