"""The compiled form of :mod:`vpop.intervals`: one pass instead of thirty, many bodies at once.

What it takes and gives has the parts first, with shape (k, n): a loop over bodies then reads and writes
numbers that lie side by side. The same equations, one by one; no gradients.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from vpop.intervals import MARGIN
from vpop.normal_kernel import LOOP, exp, log, ndtr, ndtri


@njit(**LOOP)
def _decode(free, lower, upper, centre, spread, values):
    for j in range(len(values)):
        low, high = (log(lower[j]) - centre[j]) / spread[j], (log(upper[j]) - centre[j]) / spread[j]
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        sign = -1.0 if middle > 0.0 else 1.0
        first, last = -abs(middle) - half, -abs(middle) + half
        below, above = ndtr(first), ndtr(last)
        score = ndtri(below + (above - below) * ndtr(free[j] * sign))
        values[j] = exp(centre[j] + spread[j] * sign * min(max(score, first), last))


@njit(**LOOP)
def decode(free, lower, upper, centre, spread, values):
    """Fills values (n) from free numbers and the fields of their intervals, all of shape (n)."""
    _decode(free, lower * (1 + MARGIN), upper * (1 - MARGIN), centre, spread, values)


@njit(**LOOP)
def split(total, free, lower, upper, centre, spread, values):
    """Fills values (k, n) with parts of totals (n), from free numbers (k - 1, n) and intervals (k, n)."""
    k, n = values.shape
    least, most = np.zeros((k, n)), np.zeros((k, n))  # what the parts after each one sum to
    for i in range(k - 1, 0, -1):
        for j in range(n):
            least[i - 1, j] = least[i, j] + lower[i, j] * (1 + MARGIN)
            most[i - 1, j] = most[i, j] + upper[i, j] * (1 - MARGIN)
    left, low, high = total.copy(), np.empty(n), np.empty(n)
    for i in range(k - 1):
        for j in range(n):
            low[j] = max(lower[i, j] * (1 + MARGIN), left[j] - most[i, j])
            high[j] = min(upper[i, j] * (1 - MARGIN), left[j] - least[i, j])
        _decode(free[i], low, high, centre[i], spread[i], values[i])
        for j in range(n):
            left[j] -= values[i, j]
    values[k - 1] = left
