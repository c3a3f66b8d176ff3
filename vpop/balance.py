r"""Weights by which people have published figures, and a draw by weights.

Entropy balancing: of all weights that meet the figures, those that are nearest to equal in relative entropy,

.. math:: w_i \propto e^{\lambda \cdot (f(x_i) - t)}, \qquad \sum_i w_i f(x_i) = t,

with :math:`f` the value for a mean, its squared distance from the mean for an SD, and one or zero for a
median or a share. :math:`\lambda` minimises the convex :math:`\ln \sum_i e^{\lambda \cdot (f(x_i) - t)}`.
Figures that contradict each other by their rounding are met nearly: with the ridge
:math:`\tfrac{\epsilon}{2} |\lambda|^2` added, figure k is missed by :math:`\epsilon \lambda_k` SDs.
The draw is systematic in a random order, so that the chance of being among the n is :math:`n w_i` exactly.

References:
    Madow (1949) Ann Math Stat 20:333, the systematic draw. https://doi.org/10.1214/aoms/1177729988
    Hainmueller (2012) Polit Anal 20:25. https://doi.org/10.1093/pan/mpr025
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vpop.coordinates import Impossible

_ROOM = 1e-6  # of the SD in the pool: how far a figure may be missed,
_SLACK = 0.05  # and where there is a ridge


def systematic(weights: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Draws n different positions, each with the chance n times its weight, with shape (n,).

    Arguments:
        weights: The weights, which sum to 1 and are at most 1/n, with shape (pool,).
        n: How many.
        generator: The source of randomness.
    """
    order = generator.permutation(len(weights))
    upto = np.cumsum(weights[order])
    at = (generator.random() + np.arange(n)) / n * upto[-1]
    return generator.permutation(order[np.minimum(np.searchsorted(upto, at, side="right"), len(order) - 1)])


def balance(
    columns: Mapping[str, np.ndarray], targets: list[tuple[str, str, float]], ridge: float = 0.0
) -> np.ndarray:
    """Returns the weights nearest to equal that meet the targets; they sum to 1, with shape (pool,).

    Arguments:
        columns: The people of the pool, a column each with shape (pool,).
        targets: Column, statistic or value, and its figure.
        ridge: How willingly figures are missed, 0 for not at all.

    Raises:
        Impossible: If no weights do.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    size = len(columns["age"])
    if not targets:
        return np.full(size, 1.0 / size)
    wanted = {(c, s): t for c, s, t in targets}
    gaps = np.stack([_gap(columns, c, s, t, wanted) for c, s, t in targets], -1)
    _refuse_beyond(columns, targets, gaps)
    unit = gaps / gaps.std(0)

    def dual(shift: np.ndarray) -> tuple[float, np.ndarray]:
        tilt = unit @ shift
        value = logsumexp(tilt) + 0.5 * ridge * (shift @ shift)
        return float(value), softmax(tilt) @ unit + ridge * shift

    with np.errstate(all="ignore"):  # figures that exclude each other send the search to infinity
        found = minimize(dual, np.zeros(len(targets)), jac=True, method="BFGS", options={"gtol": 0.1 * _ROOM})
        weights = softmax(np.nan_to_num(unit @ found.x))
    missed = np.abs(weights @ unit)
    if not missed.max() < (_SLACK if ridge else _ROOM):
        column, statistic, target = targets[int(missed.argmax())]
        raise Impossible(
            f"a trial's figures must be possible together, but {column} {statistic} = {target:g} cannot be "
            f"met beside the others within the ranges ({_seen(columns, column)})."
        )
    return weights


def _refuse_beyond(
    columns: Mapping[str, np.ndarray], targets: list[tuple[str, str, float]], gaps: np.ndarray
) -> None:
    """Raises for a figure that no weights meet, everyone lying on one side of it."""
    for (column, statistic, target), gap in zip(targets, gaps.T, strict=True):
        if gap.min() > 0 or gap.max() < 0 or not gap.std() > 0:
            side = "below" if gap.min() > 0 else "above"
            raise Impossible(
                f"{column} {statistic} = {target:g} must be possible within the ranges, but lies {side} "
                f"everyone drawn there ({_seen(columns, column)}). Check its unit, or widen the ranges."
            )


def _gap(
    columns: Mapping[str, np.ndarray],
    column: str,
    statistic: str,
    target: float,
    wanted: Mapping[tuple[str, str], float],
) -> np.ndarray:
    """Returns for each person a number whose weighted mean is 0 where the figure is met."""
    values = columns[column]
    if values.dtype.kind not in "fiu":
        return (values == statistic) - target
    missing = ~np.isfinite(values)
    if missing.any():
        raise Impossible(
            f"{column} must be known of everyone to be matched, but is not of the youngest: give [age] a min."
        )
    if statistic == "mean":
        return values - target
    if statistic == "median":
        return (values <= target) - 0.5
    return (values - wanted[column, "mean"]) ** 2 - target**2


def _seen(columns: Mapping[str, np.ndarray], column: str) -> str:
    values = columns[column]
    if values.dtype.kind not in "fiu":
        return f"found: {', '.join(sorted(set(values.tolist())))}"
    return f"{column} from {values.min():.4g} to {values.max():.4g}"
