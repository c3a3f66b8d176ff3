"""Distances between weighted samples, against scipy's for equal weights."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, spearmanr, wasserstein_distance

from vpop.distance import kolmogorov_smirnov, ranks, spearman, spearman_error, wasserstein

random = np.random.default_rng(0)
A, B = random.normal(size=300), random.normal(size=170) + 0.3


def test_kolmogorov_smirnov_is_that_of_scipy():
    assert kolmogorov_smirnov(A, B) == pytest.approx(ks_2samp(A, B).statistic, abs=1e-9)


def test_wasserstein_is_that_of_scipy_in_standard_deviations():
    assert wasserstein(A, B) == pytest.approx(wasserstein_distance(A, B) / A.std(), rel=1e-9)


@pytest.mark.parametrize("distance", [kolmogorov_smirnov, wasserstein])
def test_a_weight_of_three_is_the_value_three_times(distance):
    weights = np.where(np.arange(170) < 20, 3.0, 1.0)
    repeated = np.repeat(B, weights.astype(int))
    assert distance(A, B, None, weights) == pytest.approx(distance(A, repeated), abs=1e-12)


def test_a_missing_value_is_left_out():
    assert kolmogorov_smirnov(np.append(A, np.nan), B) == kolmogorov_smirnov(A, B)


def test_a_column_that_no_one_has_has_no_distance():
    assert np.isnan(kolmogorov_smirnov(np.full(3, np.nan), B))


def test_spearman_is_that_of_scipy():
    table = pd.DataFrame(random.normal(size=(200, 3)) @ random.normal(size=(3, 3)))
    assert np.allclose(spearman(table, np.ones(200)), spearmanr(table).statistic, atol=1e-12)


def test_spearman_of_columns_with_holes_is_that_of_the_rows_that_have_both():
    table = pd.DataFrame({"a": A, "b": A + random.normal(size=300)})
    table.loc[:99, "b"] = np.nan
    whole = table.dropna()
    assert spearman(table, np.ones(300))[0, 1] == pytest.approx(
        spearmanr(whole.a, whole.b).statistic, abs=0.01
    )


def test_equal_samples_have_no_spearman_error():
    table = pd.DataFrame({"a": A, "b": A**2})
    assert spearman_error(table, table, np.ones(300), np.ones(300)) == 0.0


def test_ties_share_a_rank():
    assert ranks(np.array([1.0, 1.0, 2.0]), np.ones(3)).tolist() == pytest.approx([1 / 3, 1 / 3, 5 / 6])
