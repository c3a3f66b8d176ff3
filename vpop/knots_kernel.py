"""Straight lines between knots, compiled: one pass over people, each in their own row of a table.

The compiled form of what :mod:`vpop.growth`, :mod:`vpop.calibration` and :mod:`vpop.marginals` look up. No
gradients.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from vpop.normal_kernel import LOOP, part


@part
def _upper(knots, at):
    """Returns the position of the knot that ends the piece in which a number lies, or is continued."""
    upper = 1
    for k in range(1, len(knots) - 1):
        upper += at > knots[k]
    return upper


@njit(**LOOP)
def between(table, knots, sex, at, rows):
    """Fills rows (n, k) from a table (2, knots, k) by sex, and by where among the knots people are."""
    for i in range(len(rows)):
        upper = _upper(knots, at[i])
        share = (at[i] - knots[upper - 1]) / (knots[upper] - knots[upper - 1])
        low, high, row = table[int(sex[i]), upper - 1], table[int(sex[i]), upper], rows[i]
        for k in range(len(row)):
            row[k] = low[k] + share * (high[k] - low[k])


@part
def score_of(row, at, first, step):
    """Returns the score of a logarithm among the quantiles of a row."""
    upper = _upper(row, at)
    return first + step * (upper - 1 + (at - row[upper - 1]) / (row[upper] - row[upper - 1]))


@part
def log_of(row, score, first, step):
    """Returns the logarithm that stands at a score: the inverse of :func:`score_of`."""
    at = (score - first) / step
    low = min(max(int(at), 0), len(row) - 2)
    return row[low] + (at - low) * (row[low + 1] - row[low])


@njit(**LOOP)
def score(rows, value, first, step, scores):
    """Fills scores (n) with where the logarithms of values lie among the quantiles in rows (n, k)."""
    for i in range(len(scores)):
        scores[i] = score_of(rows[i], math.log(value[i]), first, step)


@njit(**LOOP)
def value(rows, scores, first, step, values):
    """Fills values (n) with those that stand at scores (n): the inverse of :func:`score`."""
    for i in range(len(values)):
        values[i] = math.exp(log_of(rows[i], scores[i], first, step))


@njit(**LOOP)
def transfer(x, source, target, moved):
    """Fills moved (n) with x, carried by straight lines from rows of the source (n, k) to the target's."""
    for i in range(len(x)):
        upper = _upper(source[i], x[i])
        low, high = source[i, upper - 1], source[i, upper]
        start, end = target[i, upper - 1], target[i, upper]
        if x[i] > high:
            moved[i] = end + (x[i] - high)
        else:
            slope = 1.0 if x[i] < low else (end - start) / (high - low)
            moved[i] = start + slope * (x[i] - low)


@njit(**LOOP)
def columns(scores, knots, end, tail, values):
    """Fills values (n, d) by each column's line through its knots (d, k) at even scores; straight tails."""
    k = knots.shape[1]
    step = 2.0 * end / (k - 1)
    rise = np.empty((2, len(knots)))
    for c in range(len(knots)):
        rise[0, c] = (knots[c, tail] - knots[c, 0]) / (tail * step)
        rise[1, c] = (knots[c, -1] - knots[c, k - 1 - tail]) / (tail * step)
    for i in range(len(scores)):
        for c in range(len(knots)):
            x = scores[i, c]
            inside = min(max(x, -end), end)
            at = (inside + end) / step
            low = min(int(at), k - 2)
            found = knots[c, low] + (at - low) * (knots[c, low + 1] - knots[c, low])
            values[i, c] = found + (x - inside) * rise[int(x > 0.0), c]
