r"""The compiled form of :mod:`pbpk.resolvent`: sixteen bodies at a time, point by point.

The same elimination, leaves first. Complex numbers are pairs of vectors. It serves outlets that are leaves or
in the core; :mod:`pbpk.resolvent_adjoint` has their gradient. :func:`profiles` goes on to the
outputs while the transforms are in the cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from pbpk.lanes import (
    WIDE,
    WIDTH,
    largest,
    load,
    load_wide,
    magnitude,
    splat,
    splat_wide,
    store,
    store_wide,
)
from pbpk.resolvent_program import CORE

Floats = np.ndarray
Ints = np.ndarray


class _Space(NamedTuple):
    """Where the numbers of sixteen bodies are kept; a complex entry k is the rows 2k and 2k + 1."""

    a: Floats  # the slots
    products: Floats  # of the two slots of each pair
    scale: Floats  # the doses that scale the groups
    leaf: Floats  # 1 / |z - a|^2 of each leaf
    M: Floats  # the core
    b: Floats  # the inlets' right sides, then their solutions
    b_leaf: Floats  # what the inlets put into leaves
    row: Floats  # Re F and Im F, (outlets, groups, 2, K) flattened


_INSIDE: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_part: Any = njit(**_INSIDE)
_kernel: Any = njit(cache=True, nogil=True)


@_part
def _space(P, K, G):
    m, inlets, leaves = P.core, len(P.inlets), len(P.leaves)
    return _Space(
        np.zeros((P.slots, WIDE)),
        np.zeros((len(P.pairs), WIDE)),
        np.zeros((G, WIDE)),
        np.zeros((leaves, WIDE)),
        np.zeros((2 * m * m, WIDE)),
        np.zeros((2 * inlets * m, WIDE)),
        np.zeros((2 * inlets * leaves, WIDE)),
        np.zeros((len(P.outlets) * G * 2 * K, WIDE)),
    )


@_part
def _gather(P, S, rate, groups, amounts, low, width):
    """Fills the slots and the products of sixteen bodies; lanes without a body repeat the last one."""
    for slot in range(P.slots):
        store_wide(S.a, slot, splat_wide(0.0))
    for e in range(len(P.adding)):
        slot, t, sign = P.adding[e, 0], P.adding[e, 1], float(P.adding[e, 2])
        for lane in range(WIDE):
            S.a[slot, lane] += sign * rate[t, low + min(lane, width - 1)]
    for e in range(len(P.pairs)):
        store_wide(S.products, e, load_wide(S.a, P.pairs[e, 1]) * load_wide(S.a, P.pairs[e, 2]))
    for g in range(len(groups)):
        for lane in range(WIDE):
            S.scale[g, lane] = amounts[low + min(lane, width - 1), groups[g, 1]]


@_part
def _reciprocal(x, y):
    scale = 1.0 / (x * x + y * y)
    return x * scale, 0.0 - y * scale


@_part
def _own(P, S, n, x, y):
    """Returns 1 / (z - a) of a leaf."""
    scale = load_wide(S.leaf, n)
    return (x - load_wide(S.a, P.leaves[n])) * scale, (0.0 - y) * scale


@_part
def _leaves(P, S, x, y):
    """Fills 1 / |z - a|^2 of the leaves, two with one division."""
    count, square = len(P.leaves), splat_wide(y * y)
    for n in range(0, count - 1, 2):
        p, q = x - load_wide(S.a, P.leaves[n]), x - load_wide(S.a, P.leaves[n + 1])
        p, q = p * p + square, q * q + square
        both = 1.0 / (p * q)
        store_wide(S.leaf, n, both * q)
        store_wide(S.leaf, n + 1, both * p)
    if count % 2:
        p = x - load_wide(S.a, P.leaves[count - 1])
        store_wide(S.leaf, count - 1, 1.0 / (p * p + square))


@_part
def _core(P, S, x, y):
    """Fills the core's entries of zI - A without the leaves."""
    for e in range(len(P.entries)):
        i, j, slot = P.entries[e, 0], P.entries[e, 1], P.entries[e, 2]
        p, w = splat_wide(0.0), splat_wide(0.0)
        for f in range(P.entries[e, 3], P.entries[e, 4]):
            n = P.pairs[f, 0]
            term = load_wide(S.products, f) * load_wide(S.leaf, n)
            w += term
            p += term * (x - load_wide(S.a, P.leaves[n]))
        if slot >= 0:
            p += load_wide(S.a, slot)
        real, imaginary = 0.0 - p, y * w
        if i == j:
            real, imaginary = real + x, imaginary + y
        at = 2 * (i * P.core + j)
        store_wide(S.M, at, real)
        store_wide(S.M, at + 1, imaginary)


@_part
def _add(M, at, real, imaginary):
    store_wide(M, at, load_wide(M, at) + real)
    store_wide(M, at + 1, load_wide(M, at + 1) + imaginary)


@_part
def _take(M, at, a, b, c, d):
    """Subtracts (a + ib)(c + id) from an entry."""
    store_wide(M, at, load_wide(M, at) - (a * c - b * d))
    store_wide(M, at + 1, load_wide(M, at + 1) - (a * d + b * c))


@_part
def _enter(P, S, x, y):
    """Fills the right sides: what each inlet puts into the core, at once and through leaves."""
    for e in range(len(S.b)):
        store_wide(S.b, e, splat_wide(0.0))
    for e in range(len(S.b_leaf)):
        store_wide(S.b_leaf, e, splat_wide(0.0))
    first = 0
    for inlet in range(len(P.inlets)):
        real, imaginary = splat_wide(1.0), splat_wide(0.0)
        if P.inlets[inlet, 0] >= 0:
            real, imaginary = _reciprocal(x - load_wide(S.a, P.inlets[inlet, 0]), splat_wide(y))
        for e in range(first, P.inlets[inlet, 1]):
            slot, kind, at = P.entering[e, 0], P.entering[e, 1], P.entering[e, 2]
            p, q = real, imaginary
            if slot >= 0:
                p, q = p * load_wide(S.a, slot), q * load_wide(S.a, slot)
            if kind == CORE:
                _add(S.b, 2 * (inlet * P.core + at), p, q)
            else:
                _add(S.b_leaf, 2 * (inlet * len(P.leaves) + at), p, q)
                c, d = _own(P, S, at, x, y)
                p, q = p * c - q * d, p * d + q * c
                for f in range(P.feeds_of[at], P.feeds_of[at + 1]):
                    weight = load_wide(S.a, P.feeds[f, 0])
                    _add(S.b, 2 * (inlet * P.core + P.feeds[f, 1]), weight * p, weight * q)
        first = P.inlets[inlet, 1]


@_part
def _eliminate(P, S):
    """Eliminates the core, and the right sides with it: M then holds both factors, with inverse pivots."""
    m, M, b = P.core, S.M, S.b
    for k in range(m):
        at = 2 * (k * m + k)
        c, d = _reciprocal(load_wide(M, at), load_wide(M, at + 1))
        store_wide(M, at, c)
        store_wide(M, at + 1, d)
        for e in range(P.below_of[k], P.below_of[k + 1]):
            i = P.below[e]
            at = 2 * (i * m + k)
            p, q = load_wide(M, at), load_wide(M, at + 1)
            p, q = p * c - q * d, p * d + q * c
            store_wide(M, at, p)
            store_wide(M, at + 1, q)
            for f in range(P.right_of[k], P.right_of[k + 1]):
                j = P.right[f]
                at = 2 * (k * m + j)
                _take(M, 2 * (i * m + j), p, q, load_wide(M, at), load_wide(M, at + 1))
            for inlet in range(len(P.inlets)):
                if P.touched[inlet, k]:
                    at = 2 * (inlet * m + k)
                    _take(b, 2 * (inlet * m + i), p, q, load_wide(b, at), load_wide(b, at + 1))


@_part
def _substitute(P, S, first):
    """Substitutes back for the states of the core from a first one on."""
    m, M, b = P.core, S.M, S.b
    for inlet in range(len(P.inlets)):
        for k in range(m - 1, first - 1, -1):
            here = 2 * (inlet * m + k)
            p, q = load_wide(b, here), load_wide(b, here + 1)
            for f in range(P.right_of[k], P.right_of[k + 1]):
                at, there = 2 * (k * m + P.right[f]), 2 * (inlet * m + P.right[f])
                s, t, u, v = (
                    load_wide(M, at),
                    load_wide(M, at + 1),
                    load_wide(b, there),
                    load_wide(b, there + 1),
                )
                p -= s * u - t * v
                q -= s * v + t * u
            at = 2 * (k * m + k)
            c, d = load_wide(M, at), load_wide(M, at + 1)
            store_wide(b, here, p * c - q * d)
            store_wide(b, here + 1, p * d + q * c)


@_part
def _outlet(P, S, inlet, kind, at, x, y):
    """Returns a state of the core or of a leaf."""
    if kind == CORE:
        at = 2 * (inlet * P.core + at)
        return load_wide(S.b, at), load_wide(S.b, at + 1)
    there = 2 * (inlet * len(P.leaves) + at)
    p, q = load_wide(S.b_leaf, there), load_wide(S.b_leaf, there + 1)
    for f in range(P.fed_of[at], P.fed_of[at + 1]):
        weight, j = load_wide(S.a, P.fed[f, 0]), 2 * (inlet * P.core + P.fed[f, 1])
        p += weight * load_wide(S.b, j)
        q += weight * load_wide(S.b, j + 1)
    c, d = _own(P, S, at, x, y)
    return p * c - q * d, p * d + q * c


@_part
def _transform(P, S, z, groups):
    """Fills Re F and Im F of sixteen bodies for the groups' inlets, times their doses."""
    K, G = len(z), len(groups)
    for k in range(K):
        x, y = z[k, 0], z[k, 1]
        _leaves(P, S, x, y)
        _core(P, S, x, y)
        _enter(P, S, x, y)
        _eliminate(P, S)
        _substitute(P, S, P.first)
        for outlet in range(len(P.outlets)):
            for g in range(G):
                p, q = _outlet(P, S, groups[g, 0], P.outlets[outlet, 0], P.outlets[outlet, 1], x, y)
                scale, at = load_wide(S.scale, g), (outlet * G + g) * 2 * K + k
                store_wide(S.row, at, scale * p)
                store_wide(S.row, at + K, scale * q)


@_kernel
def columns(P, rate, z, groups, amounts, out):
    """Fills out (outlets * groups * 2K, B) with Re F and Im F for the groups' inlets, times their doses.

    The points z come as (K, 2), the rates as (N, B), the groups as pairs of inlet and dose (G, 2), the doses'
    amounts as (B, D). B need not be a multiple of the lanes.
    """
    S, B = _space(P, len(z), len(groups)), rate.shape[1]
    for low in range(0, B, WIDE):
        width = min(WIDE, B - low)
        _gather(P, S, rate, groups, amounts, low, width)
        _transform(P, S, z, groups)
        for row in range(len(out)):
            for lane in range(width):
                out[row, low + lane] = S.row[row, lane]


@_part
def _product(row, first, weight, line):
    """Multiplies the transforms from a first row on by the weights: four bodies, eight outputs at a time."""
    panels, R, _ = weight.shape
    flat = weight.reshape(panels * R, WIDTH)
    for panel in range(panels):
        for lane in range(0, WIDE, 4):
            one, two, three, four = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
            for r in range(R):
                w = load(flat, panel * R + r)
                one += w * row[first + r, lane]
                two += w * row[first + r, lane + 1]
                three += w * row[first + r, lane + 2]
                four += w * row[first + r, lane + 3]
            store(line, lane * panels + panel, one)
            store(line, (lane + 1) * panels + panel, two)
            store(line, (lane + 2) * panels + panel, three)
            store(line, (lane + 3) * panels + panel, four)


@_part
def _largest(line, first, end, ends):
    """Returns the largest magnitude in some vectors."""
    most = splat(0.0)
    for at in range(first, end):
        most = largest(magnitude(load(line, at)), most)
    store(ends, 0, most)
    found = 0.0
    for lane in range(WIDTH):
        found = max(found, ends[0, lane])
    return found


@_kernel
def profiles(P, rate, z, groups, amounts, weight, checks, noise, x, share):
    """Fills x (outlets, B, T) with profiles, and share (B) with what the fits differ by, of the peak.

    The weights come as (panels, groups * 2K, 8): eight outputs in each panel, those of the checks in the last
    ones. What is below 0 by no more than ``noise`` times the peak becomes 0. The rest is as in
    :func:`columns`.
    """
    outlets, B, T = x.shape
    panels, R, _ = weight.shape
    S = _space(P, len(z), len(groups))
    line, ends = np.zeros((WIDE * panels, WIDTH)), np.zeros((1, WIDTH))
    flat = line.reshape(WIDE, panels * WIDTH)
    tiny = np.finfo(np.float64).tiny
    for low in range(0, B, WIDE):
        width = min(WIDE, B - low)
        _gather(P, S, rate, groups, amounts, low, width)
        _transform(P, S, z, groups)
        for outlet in range(outlets):
            _product(S.row, outlet * R, weight, line)
            for lane in range(width):
                at = lane * panels
                peak = max(_largest(line, at, at + panels - checks, ends), tiny)
                off = _largest(line, at + panels - checks, at + panels, ends) / peak
                if flat[lane, 0] != flat[lane, 0]:
                    off = np.nan
                if outlet == 0 or off > share[low + lane] or off != off:
                    share[low + lane] = off
                lowest = -noise * peak
                for t in range(T):
                    value = flat[lane, t]
                    x[outlet, low + lane, t] = 0.0 if value < 0.0 and value >= lowest else value
