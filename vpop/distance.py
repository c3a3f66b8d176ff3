r"""How far two weighted samples are apart: column by column, and in how columns hang together.

With :math:`F, G` the distribution functions of a column in the two samples,

.. math:: KS = \max_x |F(x) - G(x)|, \quad W_1 = \int |F(x) - G(x)|\,dx

the Wasserstein distance in units of the real column's standard deviation. The Spearman error is the mean
absolute difference of two matrices of rank correlations.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def _steps(
    first: np.ndarray, second: np.ndarray, w: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns all values in order, and F - G at each of them."""
    values = np.concatenate([first, second])
    order = np.argsort(values, kind="stable")
    change = np.concatenate([w / w.sum(), -v / v.sum()])[order]
    return values[order], np.cumsum(change)


def kolmogorov_smirnov(
    first: np.ndarray, second: np.ndarray, w: np.ndarray | None = None, v: np.ndarray | None = None
) -> float:
    """Returns the largest difference of two distribution functions; NaN are left out.

    Arguments:
        first: The values of the one sample, with shape :math:`(n)`.
        second: The values of the other, with shape :math:`(m)`.
        w: The weights of the one, equal by default, with shape :math:`(n)`.
        v: The weights of the other, with shape :math:`(m)`.

    >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([1.0, 2.0, 1.0, 2.0]))
    0.0
    """
    first, second, w, v = _present(first, second, w, v)
    if not len(first) or not len(second):
        return float("nan")
    values, gap = _steps(first, second, w, v)
    last = np.append(values[1:] != values[:-1], True)  # a difference counts where the value changes
    return float(np.abs(gap[last]).max().round(12))


def wasserstein(
    first: np.ndarray, second: np.ndarray, w: np.ndarray | None = None, v: np.ndarray | None = None
) -> float:
    """Returns the area between two distribution functions, in SDs of the first; arguments as above."""
    first, second, w, v = _present(first, second, w, v)
    if not len(first) or not len(second):
        return float("nan")
    values, gap = _steps(first, second, w, v)
    SD = float(np.sqrt(np.average((first - np.average(first, weights=w)) ** 2, weights=w)))
    return float((np.abs(gap[:-1]) * np.diff(values)).sum() / SD) if SD > 0 else float("nan")


def _present(first: np.ndarray, second: np.ndarray, w: np.ndarray | None, v: np.ndarray | None) -> tuple:
    out = []
    for values, weights in ((first, w), (second, v)):
        known = ~np.isnan(values)
        out.append((values[known], np.ones(int(known.sum())) if weights is None else weights[known]))
    return out[0][0], out[1][0], out[0][1], out[1][1]


def ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the weighted rank of each value, in (0, 1); ties share one; NaN stays."""
    result = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    _, place = np.unique(values[known], return_inverse=True)
    at = np.bincount(place, weights[known])
    result[known] = ((np.cumsum(at) - at / 2) / at.sum())[place]
    return result


def spearman(frame: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """Returns the matrix of weighted rank correlations, each over the rows that have both columns."""
    R = np.stack([ranks(frame[name].to_numpy(float), weights) for name in frame], 1)
    known = ~np.isnan(R)
    W = weights[:, None] * known
    X = np.where(known, R, 0.0)
    total = W.T @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (W * X).T @ known / total  # of the row's column over the rows that the other has too
        cross = X.T @ (weights[:, None] * X) / total - mean * mean.T
        square = (W * X**2).T @ known / total - mean**2
        return cross / np.sqrt(square * square.T)


def spearman_error(first: pd.DataFrame, second: pd.DataFrame, w: np.ndarray, v: np.ndarray) -> float:
    """Returns the mean absolute difference of the rank correlations of two samples, off the diagonal."""
    gap = np.abs(spearman(first, w) - spearman(second, v))
    return float(np.nanmean(gap[np.triu_indices(len(gap), 1)]))
