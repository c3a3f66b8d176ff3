"""The published rules of interspecies scaling."""

import math

import numpy as np
import pytest

from allometry.drugs import Drugs
from allometry.first_dose import recommended_start
from allometry.scaling import (
    METHODS,
    WEIGHT,
    _life_span,
    fcim,
    fixed,
    liver_flow,
    rule_of_exponents,
    simple,
    single,
)


def drug(**values: float) -> Drugs:
    found = {tuple(reversed(name.split("_"))): np.array([value]) for name, value in values.items()}
    return Drugs(np.array(["x"], dtype=object), found)


def power(exponent: float, a: float = 20.0) -> Drugs:
    """A drug whose clearance follows a W^exponent mL/min exactly."""
    return drug(**{f"{s}_CL": a * WEIGHT[s] ** (exponent - 1.0) for s in ("rat", "dog", "monkey")})


def test_an_exact_three_quarters_law_is_scaled_alike_by_fixed_single_and_simple() -> None:
    human = 20.0 * 70.0**-0.25
    for method in (fixed, single, simple):
        assert method(power(0.75), "CL")[0] == pytest.approx(human)


@pytest.mark.parametrize("exponent", [0.4, 0.6, 0.7])
def test_a_small_exponent_is_simple_allometry(exponent: float) -> None:
    assert rule_of_exponents(power(exponent), "CL") == pytest.approx(simple(power(exponent), "CL"))


def test_larger_exponents_lower_the_prediction_by_life_span_and_by_brain() -> None:
    for exponent in (0.85, 1.1):
        assert rule_of_exponents(power(exponent), "CL")[0] < simple(power(exponent), "CL")[0]


def test_the_life_span_potential_of_a_human_is_93_years() -> None:
    assert _life_span("human") == pytest.approx(93.4, rel=0.06)  # 93.4 with Sacher's brain of 1.53 kg


def test_the_fu_corrected_intercept_follows_its_formula() -> None:
    known = Drugs(power(0.6).name, power(0.6).values | drug(rat_fu=0.2, human_fu=0.1).values)
    assert fcim(known, "CL")[0] == pytest.approx(33.35 * (20.0 / 2.0) ** 0.770 / 70.0)


def test_a_clearance_at_the_livers_flow_stays_at_the_livers_flow() -> None:
    from allometry.scaling import _liver_flow

    at_flow = _liver_flow("dog") / 0.06
    assert liver_flow(drug(dog_CL=at_flow), "CL")[0] == pytest.approx(_liver_flow("human") / 0.06)


@pytest.mark.parametrize("method", METHODS)
def test_a_drug_with_nothing_has_no_prediction(method: str) -> None:
    assert math.isnan(METHODS[method](drug(rat_fu=0.5), "CL")[0])


def test_one_species_gives_no_free_exponent() -> None:
    assert math.isnan(simple(drug(rat_CL=3.0), "CL")[0])


def test_the_starting_dose_is_a_tenth_of_the_lowest_equivalent() -> None:
    # FDA (2005): 15 mg/kg in dogs is 8 mg/kg in people, 50 mg/kg in rats is 8 mg/kg
    start = recommended_start(drug(rat_NOAEL=50.0, dog_NOAEL=15.0))[0]
    assert start == pytest.approx(0.8, rel=0.02)
