r"""The gradient of :mod:`pbpk.resolvent_kernel`: what its transforms pass back to the rates and the doses.

With :math:`M = zI - A`, the column :math:`Y = M^{-1} e_{in}` and the adjoint
:math:`\lambda = M^{-T} \bar F` of an inlet, where :math:`\bar F = \sum_o (\bar F_{re} - i \bar F_{im}) e_o`
gathers the gradients of its outlets' real and imaginary parts times the doses,

.. math:: \bar A_{ij} = \sum_z \mathrm{Re}\,[\lambda_i Y_j].

Both are solved with the same factors. In the arrays of an inlet the core comes first, then the leaves, then
the source that the inlet is, if it is one. Numba compiles anew when this file changes, not when the other one
does.
"""

from __future__ import annotations

import numpy as np

from pbpk.lanes import WIDE, load_wide, splat_wide, store_wide
from pbpk.resolvent_kernel import (
    _add,
    _core,
    _eliminate,
    _enter,
    _gather,
    _kernel,
    _leaves,
    _own,
    _part,
    _reciprocal,
    _space,
    _substitute,
    _take,
)
from pbpk.resolvent_program import CORE


@_part
def _scale(x, row, c, d):
    """Multiplies an entry by c + id."""
    p, q = load_wide(x, row), load_wide(x, row + 1)
    store_wide(x, row, p * c - q * d)
    store_wide(x, row + 1, p * d + q * c)


@_part
def _fill_column(P, S, inlet, x, y, Y):
    """Copies an inlet's solution, and substitutes back for the leaves and the source."""
    m, leaves = P.core, len(P.leaves)
    for e in range(2 * m):
        store_wide(Y, e, load_wide(S.b, 2 * inlet * m + e))
    for n in range(leaves):
        at, there = 2 * (m + n), 2 * (inlet * leaves + n)
        store_wide(Y, at, load_wide(S.b_leaf, there))
        store_wide(Y, at + 1, load_wide(S.b_leaf, there + 1))
        for f in range(P.fed_of[n], P.fed_of[n + 1]):
            weight, j = load_wide(S.a, P.fed[f, 0]), 2 * P.fed[f, 1]
            _add(Y, at, weight * load_wide(Y, j), weight * load_wide(Y, j + 1))
        c, d = _own(P, S, n, x, y)
        _scale(Y, at, c, d)
    if P.inlets[inlet, 0] >= 0:
        c, d = _reciprocal(x - load_wide(S.a, P.inlets[inlet, 0]), splat_wide(y))
        store_wide(Y, 2 * (m + leaves), c)
        store_wide(Y, 2 * (m + leaves) + 1, d)


@_part
def _solve_core(P, S, L):
    """Solves with the transposed factors of the core."""
    m, M = P.core, S.M
    for k in range(m):
        at = 2 * (k * m + k)
        _scale(L, 2 * k, load_wide(M, at), load_wide(M, at + 1))
        for f in range(P.right_of[k], P.right_of[k + 1]):
            at = 2 * (k * m + P.right[f])
            p, q = load_wide(L, 2 * k), load_wide(L, 2 * k + 1)
            _take(L, 2 * P.right[f], load_wide(M, at), load_wide(M, at + 1), p, q)
    for k in range(m - 1, -1, -1):
        for e in range(P.below_of[k], P.below_of[k + 1]):
            at, i = 2 * (P.below[e] * m + k), 2 * P.below[e]
            _take(L, 2 * k, load_wide(M, at), load_wide(M, at + 1), load_wide(L, i), load_wide(L, i + 1))


@_part
def _solve_transposed(P, S, inlet, x, y, L):
    """Solves for the adjoint of an inlet, in place."""
    m = P.core
    for outlet in range(len(P.outlets)):
        n = P.outlets[outlet, 1]
        if P.outlets[outlet, 0] != CORE:
            c, d = _own(P, S, n, x, y)
            p, q = load_wide(L, 2 * (m + n)), load_wide(L, 2 * (m + n) + 1)
            p, q = p * c - q * d, p * d + q * c
            for f in range(P.fed_of[n], P.fed_of[n + 1]):
                weight = load_wide(S.a, P.fed[f, 0])
                _add(L, 2 * P.fed[f, 1], weight * p, weight * q)
    _solve_core(P, S, L)
    for n in range(len(P.leaves)):
        at = 2 * (m + n)
        for f in range(P.feeds_of[n], P.feeds_of[n + 1]):
            weight, i = load_wide(S.a, P.feeds[f, 0]), 2 * P.feeds[f, 1]
            _add(L, at, weight * load_wide(L, i), weight * load_wide(L, i + 1))
        c, d = _own(P, S, n, x, y)
        _scale(L, at, c, d)
    if P.inlets[inlet, 0] >= 0:
        at = 2 * (m + len(P.leaves))
        for e in range(P.inlets[inlet - 1, 1] if inlet > 0 else 0, P.inlets[inlet, 1]):
            i = 2 * (P.entering[e, 2] + (0 if P.entering[e, 1] == CORE else m))
            weight = load_wide(S.a, P.entering[e, 0])
            _add(L, at, weight * load_wide(L, i), weight * load_wide(L, i + 1))
        c, d = _reciprocal(x - load_wide(S.a, P.inlets[inlet, 0]), splat_wide(y))
        _scale(L, at, c, d)


@_part
def _gather_bars(P, S, groups, inlet, k, K, Y, L, scale_bar):
    """Fills the adjoint's right side for an inlet, and adds what its doses get."""
    G = len(groups)
    for e in range(len(L)):
        store_wide(L, e, splat_wide(0.0))
    for outlet in range(len(P.outlets)):
        at = 2 * (P.outlets[outlet, 1] + (0 if P.outlets[outlet, 0] == CORE else P.core))
        for g in range(G):
            if groups[g, 0] == inlet:
                row = (outlet * G + g) * 2 * K + k
                u, v, scale = load_wide(S.row, row), load_wide(S.row, row + K), load_wide(S.scale, g)
                _add(L, at, scale * u, 0.0 - scale * v)
                found = u * load_wide(Y, at) + v * load_wide(Y, at + 1)
                store_wide(scale_bar, g, load_wide(scale_bar, g) + found)


@_part
def _point(P, S, groups, x, y, k, K, Y, L, a_bar, scale_bar):
    """Adds what one point passes back to the slots and the doses."""
    _leaves(P, S, x, y)
    _core(P, S, x, y)
    _enter(P, S, x, y)
    _eliminate(P, S)
    _substitute(P, S, 0)
    for inlet in range(len(P.inlets)):
        _fill_column(P, S, inlet, x, y, Y)
        _gather_bars(P, S, groups, inlet, k, K, Y, L, scale_bar)
        _solve_transposed(P, S, inlet, x, y, L)
        for e in range(P.passing_of[inlet], P.passing_of[inlet + 1]):
            slot, i, j = P.passing[e, 0], 2 * P.passing[e, 1], 2 * P.passing[e, 2]
            found = load_wide(L, i) * load_wide(Y, j) - load_wide(L, i + 1) * load_wide(Y, j + 1)
            store_wide(a_bar, slot, load_wide(a_bar, slot) + found)


@_kernel
def pull(P, rate, z, groups, amounts, bar, rate_bar, amounts_bar):
    """Adds what the gradient bar of what ``columns`` fills passes to rate_bar (N, B), amounts_bar (B, D)."""
    S, K, B = _space(P, len(z), len(groups)), len(z), rate.shape[1]
    unknowns = 2 * (P.core + len(P.leaves) + 1)
    Y, L = np.zeros((unknowns, WIDE)), np.zeros((unknowns, WIDE))
    a_bar, scale_bar = np.zeros((P.slots, WIDE)), np.zeros((len(groups), WIDE))
    for low in range(0, B, WIDE):
        width = min(WIDE, B - low)
        _gather(P, S, rate, groups, amounts, low, width)
        for row in range(len(bar)):
            for lane in range(WIDE):
                S.row[row, lane] = bar[row, low + min(lane, width - 1)]
        a_bar[:], scale_bar[:] = 0.0, 0.0
        for k in range(K):
            _point(P, S, groups, z[k, 0], z[k, 1], k, K, Y, L, a_bar, scale_bar)
        for e in range(len(P.adding)):
            for lane in range(width):
                rate_bar[P.adding[e, 1], low + lane] += P.adding[e, 2] * a_bar[P.adding[e, 0], lane]
        for g in range(len(groups)):
            for lane in range(width):
                amounts_bar[low + lane, groups[g, 1]] += scale_bar[g, lane]
