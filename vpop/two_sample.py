r"""Can a classifier tell drawn people from real ones? The two-sample test by boosted trees (C2ST).

Trees are trained on one part of both samples and score the other part, in turn. What is reported is the
area under the curve, the probability that a drawn row scores higher than a real one,

.. math:: AUC = P(s_{drawn} > s_{real}) + \tfrac12 P(s_{drawn} = s_{real})

0.5 where no tree sees a difference, 1 where every row is told apart. Both samples weigh the same in all;
within the real one the survey's weights hold. Marginals can look perfect while the AUC is 0.8.

References:
    Lopez-Paz, Oquab (2017). Revisiting classifier two-sample tests. https://arxiv.org/abs/1610.06545
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FOLDS = 5
_RESAMPLES = 200
_BINS = 255


class Interval(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def c2st(
    real: np.ndarray,
    drawn: np.ndarray,
    weights: np.ndarray | None = None,
    seed: int = 0,
    groups: np.ndarray | None = None,
    drawn_weights: np.ndarray | None = None,
    drawn_groups: np.ndarray | None = None,
    folds: int = FOLDS,
) -> Interval:
    """Returns the AUC of boosted trees that tell drawn rows from real ones, each row scored unseen.

    Arguments:
        real: The real rows, NaN where missing, with shape :math:`(n, d)`.
        drawn: The drawn rows, with shape :math:`(m, d)`.
        weights: The weights of the real rows, with shape :math:`(n)`; None for equal ones.
        seed: The seed of the folds and of the resampling.
        groups: Which person each real row belongs to, with shape :math:`(n)`: one person, one fold.
        drawn_weights: The weights of the drawn rows, with shape :math:`(m)`.
        drawn_groups: As ``groups``, of the drawn rows: a model that copies may draw one person twice.
        folds: Into how many parts the rows are split.

    Returns:
        The AUC, with the 95 % interval of a bootstrap over the scored rows (it does not count that other
        training folds would have made other trees).

    >>> generator = np.random.default_rng(0)
    >>> same = c2st(generator.normal(size=(500, 2)), generator.normal(size=(500, 2)))
    >>> apart = c2st(generator.normal(size=(500, 2)), generator.normal(size=(500, 2)) + 1.0)
    >>> abs(same.value - 0.5) < 0.06, apart.value > 0.8
    (True, True)
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    random = np.random.default_rng(seed)
    rows = _binned(np.concatenate([real, drawn]))
    label = np.repeat([0, 1], [len(real), len(drawn)])
    shares = [
        np.full(len(sample), 1.0 / len(sample)) if own is None else own / own.sum()
        for sample, own in ((real, weights), (drawn, drawn_weights))
    ]
    share = np.concatenate(shares)
    fold = np.concatenate(
        [_folds(len(real), folds, random, groups), _folds(len(drawn), folds, random, drawn_groups)]
    )
    score = np.empty(len(rows))
    for held in range(folds):
        out = fold == held
        trees = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
        trees.fit(rows[~out], label[~out], sample_weight=share[~out] * len(rows))
        # A rank within the fold: scores of different trees are not on one scale.
        score[out] = _ranks(trees.decision_function(rows[out]))
    return auc(score[label == 0], score[label == 1], shares[0], shares[1], seed)


def _binned(rows: np.ndarray) -> np.ndarray:
    """Replaces values by the number of their quantile, as the trees would, and sooner."""
    columns = []
    for column in rows.T:
        edges = np.unique(np.nanquantile(column, np.linspace(0, 1, _BINS)[1:-1]))
        columns.append(np.where(np.isnan(column), np.nan, np.searchsorted(edges, column, side="right")))
    return np.stack(columns, 1)


def _folds(n: int, folds: int, random: np.random.Generator, groups: np.ndarray | None) -> np.ndarray:
    if groups is None:
        return random.permutation(n) % folds
    _, member = np.unique(groups, return_inverse=True)
    return (random.permutation(member.max() + 1) % folds)[member]


def _ranks(score: np.ndarray) -> np.ndarray:
    _, rank, count = np.unique(score, return_inverse=True, return_counts=True)
    return ((np.cumsum(count) - count / 2)[rank]) / len(score)


def auc(
    negative: np.ndarray,
    positive: np.ndarray,
    weights: np.ndarray | None = None,
    positive_weights: np.ndarray | None = None,
    seed: int = 0,
) -> Interval:
    """Returns the probability that a positive scores above a negative, with a 95 % bootstrap interval.

    Arguments:
        negative: The scores of the negatives, with shape :math:`(n)`.
        positive: The scores of the positives, with shape :math:`(m)`.
        weights: The weights of the negatives, with shape :math:`(n)`.
        positive_weights: The weights of the positives, with shape :math:`(m)`.
        seed: The seed of the bootstrap.

    >>> auc(np.array([0.0, 1.0]), np.array([2.0, 3.0])).value
    1.0
    """
    first = np.ones(len(negative)) if weights is None else weights
    second = np.ones(len(positive)) if positive_weights is None else positive_weights
    if not first.sum() > 0 or not second.sum() > 0:
        raise ValueError("auc must have rows of positive weight on both sides, but one side has none.")
    scores, place = np.unique(np.concatenate([negative, positive]), return_inverse=True)
    below, above = place[: len(negative)], place[len(negative) :]

    def area(a: np.ndarray, b: np.ndarray) -> float:
        at = np.bincount(below, a, len(scores))
        less = np.cumsum(at) - at / 2
        return float((less[above] * b).sum() / (a.sum() * b.sum()))

    random = np.random.default_rng(seed)
    resampled = [area(_resampled(first, random), _resampled(second, random)) for _ in range(_RESAMPLES)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(area(first, second), float(low), float(high))


def _resampled(weights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the weights times how often each row is drawn; drawn anew where no row is."""
    while True:
        drawn = weights * random.poisson(1.0, len(weights))
        if drawn.sum() > 0:
            return drawn
