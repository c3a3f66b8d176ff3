"""The compiled form of :mod:`vpop.intervals`: one pass instead of thirty, many bodies at once.

What it takes and gives has the parts first, with shape (k, n): a loop over bodies then reads and writes
numbers that lie side by side. The same equations, one by one; no gradients. A loop does so little that its
numbers stay in registers: one long loop over the same bodies takes a quarter more.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vpop.intervals import MARGIN
from vpop.normal_kernel import LOOP, exp, log, ndtr, ndtri


@njit(**LOOP)
def _mirrored(low, high, first, last, sign):
    for j in range(len(sign)):
        middle, half = 0.5 * (low[j] + high[j]), 0.5 * (high[j] - low[j])
        sign[j] = -1.0 if middle > 0.0 else 1.0
        first[j], last[j] = -abs(middle) - half, -abs(middle) + half


@njit(**LOOP)
def _probability(free, first, last, sign, p):
    for j in range(len(p)):
        below = ndtr(first[j])
        p[j] = below + (ndtr(last[j]) - below) * ndtr(free[j] * sign[j])


@njit(**LOOP)
def _score(p, first, last, sign, scores):
    for j in range(len(scores)):
        scores[j] = sign[j] * min(max(ndtri(p[j]), first[j]), last[j])


@njit(**LOOP)
def standing(free, low, high, scores):
    """Fills scores (n) from free numbers and the scores of the bounds between which they lie, each (n)."""
    work = np.empty((4, len(scores)))
    _mirrored(low, high, work[0], work[1], work[2])
    _probability(free, work[0], work[1], work[2], work[3])
    _score(work[3], work[0], work[1], work[2], scores)


@njit(**LOOP)
def _bounds(lower, upper, centre, spread, low, high):
    for j in range(len(low)):
        low[j], high[j] = (log(lower[j]) - centre[j]) / spread[j], (log(upper[j]) - centre[j]) / spread[j]


@njit(**LOOP)
def _value(scores, centre, spread, values):
    for j in range(len(values)):
        values[j] = exp(centre[j] + spread[j] * scores[j])


@njit(**LOOP)
def _decode(free, lower, upper, centre, spread, values):
    scores = np.empty((3, len(values)))
    _bounds(lower, upper, centre, spread, scores[0], scores[1])
    standing(free, scores[0], scores[1], scores[2])
    _value(scores[2], centre, spread, values)


@njit(**LOOP)
def decode(free, lower, upper, centre, spread, values):
    """Fills values (n) from free numbers and the fields of their intervals, all of shape (n)."""
    low, high = np.empty(len(values)), np.empty(len(values))
    for j in range(len(values)):
        low[j], high[j] = lower[j] * (1 + MARGIN), upper[j] * (1 - MARGIN)
    _decode(free, low, high, centre, spread, values)


@njit(**LOOP)
def _later(lower, upper, least, most):
    """Fills with what the parts after each one sum to, at least and at most, all with shape (k, n)."""
    k, n = least.shape
    for j in range(n):
        least[k - 1, j] = most[k - 1, j] = 0.0
    for i in range(k - 1, 0, -1):
        for j in range(n):
            least[i - 1, j] = least[i, j] + lower[i, j] * (1 + MARGIN)
            most[i - 1, j] = most[i, j] + upper[i, j] * (1 - MARGIN)


@njit(**LOOP)
def meets(total, lower, upper):
    """Tells whether parts between bounds (k, n) can sum to every one of some totals (n)."""
    least, most = np.zeros(len(total)), np.zeros(len(total))
    for i in range(len(lower)):
        for j in range(len(total)):
            least[j] += lower[i, j] * (1 + MARGIN)
            most[j] += upper[i, j] * (1 - MARGIN)
    met = True
    for j in range(len(total)):
        met &= least[j] <= total[j] <= most[j]
    return met


@njit(**LOOP)
def copied(source, target):
    """Fills target (n) with source (n): a loop compiles in no time, an assignment of arrays in seconds."""
    for j in range(len(target)):
        target[j] = source[j]


@njit(**LOOP)
def split(total, free, lower, upper, centre, spread, values):
    """Fills values (k, n) with parts of totals (n), from free numbers (k - 1, n) and intervals (k, n)."""
    k, n = values.shape
    least, most = np.empty((k, n)), np.empty((k, n))
    _later(lower, upper, least, most)
    left, low, high = values[k - 1], np.empty(n), np.empty(n)
    copied(total, left)
    for i in range(k - 1):
        for j in range(n):
            low[j] = max(lower[i, j] * (1 + MARGIN), left[j] - most[i, j])
            high[j] = min(upper[i, j] * (1 - MARGIN), left[j] - least[i, j])
        _decode(free[i], low, high, centre[i], spread[i], values[i])
        for j in range(n):
            left[j] -= values[i, j]
