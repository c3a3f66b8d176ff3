import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vpop.demographics import Demographics


def population() -> Demographics:
    generator = torch.Generator().manual_seed(0)
    age = torch.rand(5000, generator=generator, dtype=torch.float64) * 88.0
    sex = (torch.rand(5000, generator=generator) < 0.25).double()
    race = torch.randint(0, 5, (5000,), generator=generator)
    return Demographics.fit(sex, race, age.clamp(max=80.0), torch.ones(5000).double())


@given(st.floats(0, 79), st.floats(0.01, 20))
def test_ages_lie_in_the_range_asked_for(low, width):
    people = population().draw(200, torch.Generator().manual_seed(1), (low, min(low + width, 80.0)))
    assert people["age"].min() >= low and people["age"].max() <= low + width


def test_shares_are_those_of_the_reference():
    people = population().draw(20_000, torch.Generator().manual_seed(2))
    assert abs(people["sex"].mean() - 0.25) < 0.02
    assert abs((people["age"] < 40).double().mean() - 40 / 88) < 0.02


def test_eighty_stands_for_eighty_and_over():
    people = population().draw(20_000, torch.Generator().manual_seed(3))
    assert abs((people["age"] == 80.0).double().mean() - 8 / 88) < 0.01


def test_an_age_without_people_is_refused():
    with pytest.raises(ValueError, match=r"age must overlap \[0, 80\]"):
        population().draw(1, torch.Generator(), (90.0, 99.0))


def test_ages_that_a_model_has_not_learnt_are_named():
    adults = Demographics.fit(
        *(torch.zeros(9), torch.zeros(9).long(), torch.linspace(20, 60, 9)), torch.ones(9)
    )
    with pytest.raises(ValueError, match=r"age must overlap \[20, 61\], .* learnt, but is 2:12"):
        adults.draw(1, torch.Generator(), (2.0, 12.0))


def test_one_exact_age_is_met():
    people = population().draw(10, torch.Generator(), (33.3, 33.3))
    assert (people["age"] == 33.3).all()


def test_a_sex_that_nobody_has_is_refused():
    men = population().of_sex(1.0)
    assert men.sexes() == ["M"] and population().sexes() == ["F", "M"]
    with pytest.raises(ValueError, match="it knows M alone and F is asked for"):
        men.of_sex(0.0)
