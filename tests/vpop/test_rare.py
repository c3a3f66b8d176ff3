"""Rare requests: whom the screen finds are those whom drawing everybody finds."""

import re

import numpy as np
import pytest
import torch

from vpop import drawing, rare
from vpop.drawing import Drawing
from vpop.pcdm import PCDM
from vpop.rare import Search
from vpop.request import Request

WHERE = "HCT < 0.33 and age >= 20"  # 1 in 50
CHUNKS = 3


@pytest.fixture(scope="module")
def shipped() -> PCDM:
    return PCDM.load()


@pytest.fixture(autouse=True, scope="module")
def small_pilot():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_PILOT", 16_384)
        for name, value in {"_FIRST": 1024, "_TAIL": 1024, "_FULL": 256}.items():
            patch.setattr(rare, name, value)
        yield


def ages(model: PCDM, where: str = WHERE, threshold: float = rare.RARE) -> tuple[np.ndarray, Search]:
    """The ages, which tell people apart, of those found in the first chunks, and how they were found."""
    search = Search(Drawing(model, Request.make((0.0, 80.0), None, where, None), 20), 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rare, "RARE", threshold)
        found = [torch.empty(0)]
        for bodies in search:
            found.append(bodies.age)
            if search.chunks >= CHUNKS:
                break
    return torch.cat(found).numpy(), search


def test_a_request_that_only_gives_values_foretells_nothing(shipped):
    request = Request.make((0.0, 80.0), None, "FAT == 10 and M_adipose == 40", None)
    assert rare.Screen.fit(Drawing(shipped, request, 1)) is None


@pytest.fixture(scope="module")
def everybody(shipped) -> np.ndarray:
    return ages(shipped, threshold=0.0)[0]


@pytest.fixture(scope="module")
def searched(shipped) -> tuple[np.ndarray, Search]:
    return ages(shipped)


def check(everybody: np.ndarray, found: np.ndarray, search: Search) -> None:
    assert search.screen is not None and search.full < 0.6 * search.people
    both = np.isin(everybody, found)
    assert len(everybody) > 80 and both.mean() > 0.98
    assert np.isin(found[: both.sum()], everybody).all()


def test_the_people_found_are_those_whom_drawing_everybody_finds(everybody, searched):
    check(everybody, *searched)


def test_without_a_student_they_are_too(shipped, everybody, monkeypatch):
    monkeypatch.setattr(shipped, "student", None)
    check(everybody, *ages(shipped))


def test_an_ordinary_request_draws_everybody(shipped):
    cohort = shipped.sample(200, seed=4, where="BMI >= 30")
    assert "screened" not in cohort.provenance


def test_a_rare_cohort_says_how_it_was_found_and_begins_with_those_found_first(shipped, searched):
    cohort = shipped.sample(60, seed=4, where=WHERE)
    assert "people drawn in full" in cohort.provenance["screened"]
    assert (cohort.physiology.age.numpy() == searched[0][:60]).all()


def test_a_request_that_no_one_meets_is_refused_with_the_nearest(shipped, monkeypatch):
    monkeypatch.setattr(rare, "SCREENED_PATIENCE", 130)
    with pytest.raises(
        ValueError, match=r"by none of .* people drawn: .* The nearest has M_liver \d"
    ) as error:
        shipped.sample(5, where="age < 5 and M_liver > 3")
    assert "\n" not in str(error.value)


def test_of_thin_chunks_people_are_counted_and_not_chunks(shipped, monkeypatch):
    """Of these ages a chunk holds some twenty people; giving up is said of people who were drawn."""
    monkeypatch.setattr(rare, "PATIENCE", 1)
    monkeypatch.setattr(rare, "_TELLING", 10**9)  # no screen: everybody is drawn in full
    with pytest.raises(ValueError, match=r"by none of (\d+) people drawn") as error:
        shipped.sample(1, where="(age < 0.3 or age > 79.7) and eGFR < 7", steps=1)
    assert int(re.findall(r"none of (\d+) people", str(error.value))[0]) < rare.CHUNK // 4
