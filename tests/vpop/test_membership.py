"""The attacks find a copy out, and find nothing where nothing leaks."""

import numpy as np
import pytest

from vpop.columns import Sample
from vpop.membership import by_distance, shadow_attack
from vpop.pcdm import PCDM


@pytest.fixture(scope="module")
def people() -> Sample:
    return Sample.of(PCDM.load().sample(600, seed=41))


@pytest.fixture(scope="module")
def strangers() -> Sample:
    return Sample.of(PCDM.load().sample(300, seed=42))


def test_a_model_that_copies_its_people_is_caught(people):
    assert shadow_attack(people, lambda part, seed: part, shadows=2).value > 0.99


def test_a_model_that_never_saw_them_leaks_nothing(people, strangers):
    found = shadow_attack(people, lambda part, seed: strangers, shadows=2)
    assert found.low < 0.5 < found.high


def test_nearness_tells_copied_people_and_no_others(people, strangers):
    members, others = people[np.arange(300)], people[np.arange(300, 600)]
    assert by_distance(members, members, others).value > 0.99
    fair = by_distance(strangers, members, others)
    assert fair.low < 0.5 < fair.high


def test_too_few_people_are_refused(people):
    with pytest.raises(ValueError, match="people must be at least 100, but are 20"):
        shadow_attack(people.some(20, 0), lambda part, seed: part)
