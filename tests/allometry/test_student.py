"""The Student distribution with gaps."""

import numpy as np
import pytest

from allometry.student import Student, fit


def test_with_many_degrees_of_freedom_the_condition_is_the_normal_regression() -> None:
    generator = np.random.default_rng(0)
    root = generator.normal(size=(4, 4))
    law = Student(generator.normal(size=4), root @ root.T + np.eye(4), 1e12)
    row = generator.normal(size=(1, 4))
    centre, scale = law.given(row, 3)
    slope = np.linalg.solve(law.scale[:3, :3], law.scale[:3, 3])
    assert centre[0] == pytest.approx(law.mean[3] + (row[0, :3] - law.mean[:3]) @ slope)
    assert scale[0] ** 2 == pytest.approx(law.scale[3, 3] - law.scale[3, :3] @ slope)


def test_the_target_is_never_looked_at() -> None:
    law = Student(np.zeros(2), np.array([[1.0, 0.5], [0.5, 1.0]]), 6.0)
    known, unknown = law.given(np.array([[1.0, 99.0]]), 1), law.given(np.array([[1.0, np.nan]]), 1)
    assert known == unknown


def test_a_row_without_anything_gets_the_marginal() -> None:
    law = Student(np.array([1.0, 2.0]), np.diag([4.0, 9.0]), 6.0)
    centre, scale = law.given(np.full((1, 2), np.nan), 1)
    assert (centre[0], scale[0]) == (2.0, 3.0)


def test_the_fit_recovers_a_law_through_gaps() -> None:
    generator = np.random.default_rng(1)
    truth = np.array([[1.0, 0.8, 0.6], [0.8, 1.5, 0.7], [0.6, 0.7, 1.2]])
    rows = generator.multivariate_normal([0.0, 1.0, 2.0], truth, 4000)
    rows[generator.random(rows.shape) < 0.3] = np.nan
    law = fit(rows[~np.isnan(rows).all(1)], np.eye(3), weight=1.0, dof=1e9)
    assert np.abs(law.scale - truth).max() < 0.1
    assert np.abs(law.mean - [0.0, 1.0, 2.0]).max() < 0.06


def test_an_outlier_moves_a_heavy_tailed_law_less() -> None:
    rows = np.random.default_rng(2).normal(size=(100, 2))
    rows[0] = 50.0
    robust, normal = fit(rows, np.eye(2), dof=4.0), fit(rows, np.eye(2), dof=1e9)
    assert np.abs(robust.mean).max() < 0.5 * np.abs(normal.mean).max()


def test_a_column_that_was_never_seen_tells_nothing() -> None:
    rows = np.random.default_rng(3).normal(size=(50, 2))
    with_empty = fit(np.column_stack([rows, np.full(50, np.nan)]), 0.5 + 0.5 * np.eye(3))
    known = np.array([[1.0, np.nan, np.nan], [1.0, np.nan, 9.0]])
    centre, _ = with_empty.given(known, 1)
    assert centre[0] == pytest.approx(centre[1]) and np.isfinite(centre).all()
