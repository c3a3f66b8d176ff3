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


@part
def _share(knots, upper, at):
    """Returns how far a number is on the way to the knot that ends its piece."""
    return (at - knots[upper - 1]) / (knots[upper] - knots[upper - 1])


@part
def _on_the_way(low, high, share):
    return low + share * (high - low)


@njit(**LOOP)
def between(table, knots, sex, at, rows):
    """Fills rows (n, k) from a table (2, knots, k) by sex, and by where among the knots people are."""
    for i in range(len(rows)):
        upper = _upper(knots, at[i])
        share, row = _share(knots, upper, at[i]), rows[i]
        low, high = table[int(sex[i]), upper - 1], table[int(sex[i]), upper]
        for k in range(len(row)):
            row[k] = _on_the_way(low[k], high[k], share)


@njit(**LOOP)
def scaled(table, knots, sex, at, x, values):
    """Fills values (n, k) with centre + scale x, from a table (2, knots, 2 k): centres, then scales."""
    k = x.shape[1]
    for i in range(len(x)):
        upper = _upper(knots, at[i])
        share, row, own = _share(knots, upper, at[i]), values[i], x[i]
        low, high = table[int(sex[i]), upper - 1], table[int(sex[i]), upper]
        for c in range(k):
            scale = _on_the_way(low[k + c], high[k + c], share)
            row[c] = _on_the_way(low[c], high[c], share) + scale * own[c]


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


@part
def _transferred(x, low, high, start, end):
    """Returns where a straight line from low to start and from high to end takes x; 1 for 1 beyond."""
    slope = 1.0 if x < low else (end - start) / (high - low)
    return end + (x - high) if x > high else start + slope * (x - low)


@njit(**LOOP)
def transfer(source, target, knots, sex, at, x):
    """Carries the first k columns of x (n, d), in place, from quantiles (k, 2, knots, q) to a target's."""
    row = np.empty(source.shape[3])
    for i in range(len(x)):
        age, own = _upper(knots, at[i]), int(sex[i])
        share = _share(knots, age, at[i])
        for c in range(len(source)):
            low, high = source[c, own, age - 1], source[c, own, age]
            for q in range(len(row)):
                row[q] = _on_the_way(low[q], high[q], share)
            q = _upper(row, x[i, c])
            low, high = target[c, own, age - 1], target[c, own, age]
            start, end = _on_the_way(low[q - 1], high[q - 1], share), _on_the_way(low[q], high[q], share)
            x[i, c] = _transferred(x[i, c], row[q - 1], row[q], start, end)


@njit(**LOOP)
def columns(scores, knots, end, tail, values):
    """Fills values (n, d) by each column's line through its knots (d, k) at even scores; straight tails."""
    k = knots.shape[1]
    per_step = (k - 1) / (2.0 * end)  # a division for every number would take twice as long as all else
    below, above = np.empty(len(knots)), np.empty(len(knots))
    for c in range(len(knots)):
        below[c] = (knots[c, tail] - knots[c, 0]) * per_step / tail
        above[c] = (knots[c, -1] - knots[c, k - 1 - tail]) * per_step / tail
    for i in range(len(scores)):
        for c in range(len(knots)):
            x = scores[i, c]
            inside = min(max(x, -end), end)
            at = (inside + end) * per_step
            low = min(int(at), k - 2)
            found = _on_the_way(knots[c, low], knots[c, low + 1], at - low)
            values[i, c] = found + max(x - inside, 0.0) * above[c] + min(x - inside, 0.0) * below[c]
