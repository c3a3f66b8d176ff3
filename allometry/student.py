r"""A multivariate Student distribution learnt from rows with gaps, and what it says of a gap.

With :math:`\nu` degrees of freedom, :math:`O` the p observed columns of a row and
:math:`\delta = (z_O-\mu_O)^\top \Sigma_{OO}^{-1} (z_O-\mu_O)`, a missing column t given the others is Student
with :math:`\nu+p` degrees of freedom and

.. math:: m = \mu_t + \Sigma_{tO}\Sigma_{OO}^{-1}(z_O-\mu_O), \quad
          s^2 = \frac{\nu+\delta}{\nu+p} (\Sigma_{tt} - \Sigma_{tO}\Sigma_{OO}^{-1}\Sigma_{Ot})

The fit is expectation-maximisation: gaps enter by their conditional mean and variance, so that nothing is
imputed and no row is dropped; a row far from the others counts less. The scale is shrunk towards a prior.

References:
    Liu, Rubin (1995). ML estimation of the t distribution using EM and its extensions, ECM and ECME.
        Stat Sinica 5:19-39: the weights and the update with missing values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_FEWEST = 2  # values that a column is learnt from

STEPS = 60
"""Steps of expectation-maximisation: more change no prediction by 0.1 %."""


@dataclass(frozen=True)
class Student:
    """A multivariate Student distribution.

    Attributes:
        mean: Its centre, with shape (d,).
        scale: Its scale matrix, with shape (d, d).
        dof: Its degrees of freedom.
    """

    mean: Array
    scale: Array
    dof: float

    def given(self, rows: Array, target: int) -> tuple[Array, Array]:
        """Returns what rows with gaps say of one column, whose own values are not looked at.

        Arguments:
            rows: The rows, NaN where not observed, with shape (n, d).
            target: The position of the column asked for.

        Returns:
            The centre and the scale of the conditional distribution, each with shape (n,).

        >>> pair = Student(np.zeros(2), np.array([[1.0, 0.8], [0.8, 1.0]]), 1e9)
        >>> centre, scale = pair.given(np.array([[1.0, np.nan]]), target=1)
        >>> float(centre[0]), round(float(scale[0]), 6)
        (0.8, 0.6)
        """
        rows = rows.copy()
        rows[:, target] = np.nan
        centre, scale = np.empty(len(rows)), np.empty(len(rows))
        for which, seen in _patterns(rows):
            deviation = rows[np.ix_(which, seen)] - self.mean[seen]
            inner, cross = self.scale[np.ix_(seen, seen)], self.scale[seen, target]
            weights = np.linalg.solve(inner, cross)
            distance = (deviation * np.linalg.solve(inner, deviation.T).T).sum(1)
            centre[which] = self.mean[target] + deviation @ weights
            left = self.scale[target, target] - cross @ weights
            scale[which] = np.sqrt(left * (self.dof + distance) / (self.dof + seen.sum()))
        return centre, scale


def fit(rows: Array, correlation: Array, weight: float = 2.0, dof: float = 6.0) -> Student:
    """Learns the distribution of rows with gaps.

    Arguments:
        rows: The rows, NaN where not observed, with shape (n, d).
        correlation: The correlation the scale is shrunk towards, with shape (d, d).
        weight: How many rows that prior is worth.
        dof: The degrees of freedom, which are given and not learnt.

    Returns:
        The distribution.
    """
    known = (~np.isnan(rows)).sum(0) >= _FEWEST  # of any other column nothing is learnt: it tells nothing
    mean, spread = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    mean[known], spread[known] = np.nanmean(rows[:, known], 0), np.nanstd(rows[:, known], 0)
    correlation = np.where(known[:, None] & known, correlation, np.eye(len(known)))
    rows = np.where(known, rows, np.nan)
    prior = correlation * np.outer(spread, spread)
    scale = np.diag(spread**2)
    patterns = list(_patterns(rows))
    for _ in range(STEPS):
        mean, scatter = _step(rows, patterns, mean, scale, dof)
        scale = (scatter + weight * prior) / (len(rows) + weight)
    return Student(mean, scale, dof)


def _patterns(rows: Array) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Gives each pattern of gaps once: the positions of its rows, and which columns are seen."""
    seen = ~np.isnan(rows)
    patterns, kind = np.unique(seen, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        yield np.flatnonzero(kind.reshape(-1) == number), pattern


def _step(rows: Array, patterns: list, mean: Array, scale: Array, dof: float) -> tuple[Array, Array]:
    """Returns the next mean, and the weighted scatter about it with the variance of the gaps."""
    filled, weights = rows.copy(), np.ones(len(rows))
    spread_of_gaps = np.zeros_like(scale)
    for which, seen in patterns:
        gap = ~seen
        deviation = rows[np.ix_(which, seen)] - mean[seen]
        inner = scale[np.ix_(seen, seen)]
        distance = (deviation * np.linalg.solve(inner, deviation.T).T).sum(1)
        weights[which] = (dof + seen.sum()) / (dof + distance)
        slopes = np.linalg.solve(inner, scale[np.ix_(seen, gap)])
        filled[np.ix_(which, gap)] = mean[gap] + deviation @ slopes
        left = scale[np.ix_(gap, gap)] - scale[np.ix_(gap, seen)] @ slopes
        spread_of_gaps[np.ix_(gap, gap)] += len(which) * left
    mean = (weights[:, None] * filled).sum(0) / weights.sum()
    deviation = filled - mean
    return mean, (weights[:, None] * deviation).T @ deviation + spread_of_gaps
