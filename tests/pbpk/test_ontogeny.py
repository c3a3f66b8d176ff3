"""Maturation: the published values at birth, half way and in the adult, without a step between."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.ontogeny import HEPATIC, gut_maturation, maturation, microsomal_protein

AGES = torch.linspace(0.0, 90.0, 90001, dtype=torch.float64)


def plateau(enzyme: str) -> float:
    profile = HEPATIC[enzyme]
    aged = profile.cap**profile.slope
    rise = aged / (profile.age50**profile.slope + aged)
    return profile.birth + (profile.top - profile.birth) * rise


@pytest.mark.parametrize(
    ("enzyme", "birth", "age50", "top"),  # Salem 2014; Johnson 2006
    [("CYP3A4", 0.11, 0.64, 1.06), ("CYP2C9", 0.17, 0.0157, 0.98), ("CYP2D6", 0.036, 0.1, 1.0)],
)
def test_a_published_profile_is_met_at_birth_and_half_way_to_its_maximum(enzyme, birth, age50, top):
    assert float(maturation(enzyme, 0.0)) * plateau(enzyme) == pytest.approx(birth)
    assert float(maturation(enzyme, age50)) * plateau(enzyme) == pytest.approx((birth + top) / 2.0)


def test_cyp1a2_rises_to_its_peak_at_three_years_and_falls_to_the_adult_at_eighteen():
    assert float(maturation("CYP1A2", 0.0)) == pytest.approx(0.24)
    assert float(maturation("CYP1A2", 0.36)) == pytest.approx((0.24 + 1.71) / 2.0)
    activity = maturation("CYP1A2", AGES)
    assert float(AGES[activity.argmax()]) == pytest.approx(3.0, abs=2e-3)
    assert float(activity.max()) == pytest.approx(1.67, abs=5e-3)
    assert float(maturation("CYP1A2", 18.0)) == 1.0


def test_cyp3a4_of_salem_reaches_the_adult_in_early_childhood():
    assert 0.8 < float(maturation("CYP3A4", 1.3)) < 0.9
    assert float(maturation("CYP3A4", 5.0)) > 0.97


@pytest.mark.parametrize("enzyme", [*HEPATIC, "other"])
def test_the_adult_is_one(enzyme):
    assert torch.allclose(maturation(enzyme, AGES[AGES >= 25.0]), torch.ones(()).double(), atol=0.0)


@pytest.mark.parametrize("enzyme", HEPATIC)
def test_maturation_has_no_step_after_the_first_week(enzyme):
    ages = AGES[20:]
    steps = maturation(enzyme, ages).diff().abs() / ages.diff() * 1e-3
    assert float(steps.max()) < 0.02  # per 0.001 year; the steepest, UGT1A9, matures in days


@pytest.mark.parametrize("enzyme", [name for name in HEPATIC if name != "CYP1A2"])
@given(ages=st.tuples(st.floats(0.0, 90.0), st.floats(0.0, 90.0)))
def test_an_older_child_has_no_less_of_an_enzyme(enzyme, ages):
    young, old = maturation(enzyme, torch.tensor(sorted(ages)).double())
    assert float(old) >= float(young) - 1e-12


def test_an_unknown_age_counts_as_adult():
    assert float(maturation("CYP3A4", float("nan"))) == 1.0


def test_an_unknown_enzyme_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'CYP3A4'"):
        maturation("CYP3A", 1.0)


def test_the_gut_wall_matures_from_0_42():
    assert float(gut_maturation(0.0)) == pytest.approx(0.42 / (0.42 + 0.639 * 18.0 / 20.357))
    assert float(gut_maturation(30.0)) == 1.0


@pytest.mark.parametrize(("age", "mg"), [(0.17, 25.7), (18.0, 37.9), (28.0, 40.2), (60.0, 32.0)])
def test_microsomal_protein_follows_barter(age, mg):
    assert float(microsomal_protein(age)) == pytest.approx(mg, rel=0.01)


def test_microsomal_protein_does_not_turn_up_in_old_age():
    assert bool((microsomal_protein(AGES[AGES > 30.0]).diff() <= 1e-12).all())
