"""Precision, recall and coverage where the answer is known."""

import numpy as np
import pandas as pd

from vpop.nearest import nearest, reach, scores

random = np.random.default_rng(0)
REAL = random.normal(size=(400, 3))


def test_other_people_of_the_same_kind_are_believable_and_reach_everyone():
    found = reach(REAL, random.normal(size=(400, 3)))
    assert min(found) > 0.85


def test_one_person_copied_is_believable_and_reaches_no_one():
    found = reach(REAL, np.repeat(REAL[:1], 400, axis=0))
    assert found.precision == 1.0 and found.recall < 0.02 and found.coverage < 0.1


def test_half_of_the_people_missing_halves_the_recall():
    drawn = random.normal(size=(400, 3))
    drawn[:, 0] = np.abs(drawn[:, 0]) + 0.5
    assert reach(REAL, drawn).recall < 0.65


def test_scores_are_normal_and_a_hole_is_flagged():
    table = pd.DataFrame({"a": np.exp(REAL[:, 0]), "b": np.where(REAL[:, 1] > 0, REAL[:, 1], np.nan)})
    points = scores(table, table)
    assert points.shape == (400, 3) and abs(points[:, 0].std() - 1.0) < 0.05
    assert set(points[:, 2]) == {0.0, 3.0}


def test_the_nearest_of_a_copy_is_itself():
    assert nearest(REAL, REAL)[:, 0].max() == 0.0
