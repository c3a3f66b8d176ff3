"""The classifier test and its area under the curve, on samples whose answer is known."""

import numpy as np
import pytest
from scipy.stats import norm

from vpop.two_sample import auc, c2st


def normal(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2)) + shift


def test_auc_of_two_normals_a_standard_deviation_apart_is_that_of_the_books():
    found = auc(normal(4000, 0)[:, 0], normal(4000, 1)[:, 0] + 1.0)
    assert found.value == pytest.approx(norm.cdf(1 / 2**0.5), abs=0.012)
    assert found.low < norm.cdf(1 / 2**0.5) < found.high


def test_a_tie_counts_half():
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 2.0])).value == 0.5


def test_samples_of_one_row_each_have_an_interval_without_a_warning(recwarn):
    assert auc(np.array([1.0]), np.array([2.0])) == (1.0, 1.0, 1.0)
    assert not recwarn


def test_a_side_without_weight_is_refused():
    with pytest.raises(ValueError, match="one side has none"):
        auc(np.array([0.0, 1.0]), np.array([2.0]), np.zeros(2))


def test_a_weight_of_two_is_the_row_twice():
    a, b = normal(40, 0)[:, 0], normal(30, 1)[:, 0]
    twice = auc(np.concatenate([a, a[:10]]), b).value
    assert auc(a, b, np.where(np.arange(40) < 10, 2.0, 1.0)).value == pytest.approx(twice, abs=1e-12)


def test_trees_do_not_tell_a_sample_from_another_of_the_same_kind():
    found = c2st(normal(800, 0), normal(800, 1))
    assert found.low < 0.53 and found.high > 0.47


def test_trees_see_a_dependence_that_no_marginal_shows():
    real = normal(1000, 0)
    real[:, 1] = 0.9 * real[:, 0] + 0.44 * real[:, 1]
    assert c2st(real, normal(1000, 1), folds=2).value > 0.75


def test_weights_make_a_biased_sample_like_the_population():
    real, drawn = normal(1000, 0), normal(1000, 1)
    biased = np.concatenate([real, real[real[:, 0] > 0]])
    weights = np.where(biased[:, 0] > 0, 0.5, 1.0)
    persons = np.concatenate([np.arange(1000), np.flatnonzero(real[:, 0] > 0)])
    without, fair = (c2st(biased, drawn, w, groups=persons, folds=2).value for w in (None, weights))
    assert fair < without - 0.02


def test_a_person_who_comes_twice_is_not_recognised():
    """Copies in other folds would let trees learn by heart: one person, one fold."""
    real, drawn = np.repeat(normal(150, 0), 4, axis=0), normal(600, 1)
    persons = np.repeat(np.arange(150), 4)
    apart, together = (c2st(real, drawn, groups=who, folds=2).value for who in (None, persons))
    assert together < apart - 0.05
