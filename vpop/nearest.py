r"""Nearest neighbours: are drawn people where real ones are, and are real ones reached?

On columns turned into normal scores of the real sample, with :math:`B_k(x)` the ball around x that reaches
its k-th neighbour in its own sample:

- precision: the share of drawn rows inside some :math:`B_k` of a real one (are they believable?);
- recall: the share of real rows inside some :math:`B_k` of a drawn one (is everyone reached?);
- coverage: the share of real rows whose own :math:`B_k` holds a drawn one.

References:
    Kynkaanniemi, Karras, Laine, Lehtinen, Aila (2019). Improved precision and recall metric.
    https://arxiv.org/abs/1904.06991
    Naeem, Oh, Uh, Choi, Yoo (2020). Reliable fidelity and diversity metrics. https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

NEIGHBOURS = 5


class Reach(NamedTuple):
    """Precision, recall and coverage, shares in [0, 1]."""

    precision: float
    recall: float
    coverage: float


def scores(frame: pd.DataFrame, of: pd.DataFrame) -> np.ndarray:
    """Turns columns into normal scores by the ranks of ``of``; a missing value becomes 0 and a flag."""
    columns = []
    for name in of:
        real = np.sort(of[name].dropna().to_numpy(float))
        value = frame[name].to_numpy(float)
        below, upto = np.searchsorted(real, value), np.searchsorted(real, value, "right")
        score = norm.ppf(((below + upto) / 2 + 0.5) / (len(real) + 1))
        columns.append(np.where(np.isnan(value), 0.0, score))
        if of[name].isna().any():
            columns.append(3.0 * np.isnan(value))
    return np.stack(columns, 1)


def reach(real: np.ndarray, drawn: np.ndarray, k: int = NEIGHBOURS) -> Reach:
    """Returns precision, recall and coverage of drawn rows.

    Arguments:
        real: The real rows, comparable columns, with shape :math:`(n, d)`.
        drawn: The drawn rows, with shape :math:`(m, d)`.
        k: How many neighbours make a ball.

    >>> points = np.random.default_rng(0).normal(size=(200, 2))
    >>> reach(points, points).coverage, reach(points, points + 50.0).precision
    (1.0, 0.0)
    """
    from sklearn.neighbors import NearestNeighbors

    def within(centres: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns which points lie in some centre's ball, and which balls hold a point."""
        radius = NearestNeighbors(n_neighbors=k + 1).fit(centres).kneighbors(centres)[0][:, k]
        inside = np.zeros(len(points), dtype=bool)
        holds = np.zeros(len(centres), dtype=bool)
        for start in range(0, len(points), 500):
            part = points[start : start + 500]
            square = (part**2).sum(1)[:, None] + (centres**2).sum(1) - 2.0 * part @ centres.T
            hit = square <= radius**2 + 1e-9
            inside[start : start + 500] = hit.any(1)
            holds |= hit.any(0)
        return inside, holds

    believable, covered = within(real, drawn)
    reached, _ = within(drawn, real)
    return Reach(float(believable.mean()), float(reached.mean()), float(covered.mean()))


def nearest(points: np.ndarray, among: np.ndarray, k: int = 1) -> np.ndarray:
    """Returns the distances from each point to its k nearest rows, with shape :math:`(n, k)`."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k).fit(among).kneighbors(points)[0]
