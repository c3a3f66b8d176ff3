"""How observed profiles are read, screened and scored."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.midazolam_studies import counted, unsuitable
from experiments.observed import constant, dose_text, exposure, load_profiles, score

HEADER = (
    "model,profile,compound,species,route,dose,study,grouping,n_subjects,data_type,organ,compartment,formulation,"
    "food,t_admin_h,time,time_unit,value,unit,dimension,error,error_unit,error_type,mol_weight,lloq,source,time_h"
)
positive = st.floats(1e-6, 1e3)


def one_profile(tmp_path: Path, *, value: str, unit: str, dimension: str, lloq: str, error_type: str = ""):
    """Returns the profile of a file with one row, measured 1.5 h after a dose at 6 h."""
    row = (
        "Drug,name,Drug,Human,IV,2 mg,Study,arm,6,aggregated,Blood,Plasma,.,Fed,6.0,7.5,h,"
        f"{value},{unit},{dimension},,,{error_type},300,{lloq},Fig. 1,7.5"
    )
    path = tmp_path / "profiles.csv"
    path.write_text(f"{HEADER}\n{row}\n", encoding="utf-8")
    return load_profiles(path, "Drug")[0]


def test_mass_concentrations_and_their_limit_become_mg_per_L(tmp_path):
    profile = one_profile(tmp_path, value="5", unit="ng/ml", dimension="Concentration (mass)", lloq="1e-9")
    assert profile.value.tolist() == [0.005]
    assert np.isclose(profile.LLOQ, 0.001)  # 1e-9 kg/L


def test_molar_concentrations_and_their_limit_become_mg_per_L(tmp_path):
    profile = one_profile(tmp_path, value="2", unit="µmol/l", dimension="Concentration (molar)", lloq="0.01")
    assert profile.value.tolist() == pytest.approx([0.6])
    assert np.isclose(profile.LLOQ, 0.003)


def test_time_counts_from_the_dose(tmp_path):
    profile = one_profile(tmp_path, value="5", unit="mg/l", dimension="Concentration (mass)", lloq="")
    assert profile.time.tolist() == [1.5]
    assert profile.LLOQ == 0.0


def test_a_geometric_spread_goes_with_a_geometric_mean(tmp_path):
    how = {"value": "5", "unit": "mg/l", "dimension": "Concentration (mass)", "lloq": ""}
    assert one_profile(tmp_path, **how, error_type="GeometricStdDev").mean == "geometric"
    assert one_profile(tmp_path, **how, error_type="ArithmeticStdDev").mean == "arithmetic"


def test_doses_are_in_mg_and_a_range_is_its_middle():
    assert [dose_text(t) for t in ("10 µg", "3.0 - 4.0 mg", "0.05 mg/kg")] == [
        "0.01 mg",
        "3.5 mg",
        "0.05 mg/kg",
    ]


@given(st.lists(positive, min_size=1, max_size=9), st.floats(0.01, 100))
def test_a_constant_factor_is_the_AAFE_and_the_bias(observed, factor):
    scores = score(np.array(observed) * factor, observed)
    assert scores["AAFE"] == pytest.approx(max(factor, 1 / factor))
    assert scores["bias"] == pytest.approx(factor)


def test_exactly_twice_is_within_2_fold():
    assert score([2.0, 0.5], [1.0, 1.0])["within 2-fold"] == 1.0
    assert score([2.001], [1.0])["within 2-fold"] == 0.0


def test_a_prediction_of_zero_is_refused():
    with pytest.raises(ValueError, match="positive"):
        score([0.0], [1.0])


def test_by_mouth_the_area_begins_at_zero_and_in_a_vein_at_the_first_sample():
    time, value = np.array([1.0, 2.0]), np.array([2.0, 2.0])
    assert exposure(time, value, "po") == pytest.approx((3.0, 2.0))
    assert exposure(time, value, "iv") == pytest.approx((2.0, 2.0))


def test_the_constant_is_the_geometric_mean_of_the_other_studies_for_each_mg():
    values = [np.array([1.0, 100.0]), np.array([2.0, 8.0]), np.array([7.0])]
    said = constant(values, [1.0, 2.0, 1.0], ["A", "B", "A"])
    assert said[0].tolist() == pytest.approx([2.0, 2.0])  # of 1 and 4, for each of B's mg
    assert said[1].tolist() == pytest.approx([2 * 700 ** (1 / 3)] * 2)  # of 1, 100 and 7, for 2 mg


@pytest.mark.data
def test_each_profile_of_midazolam_is_compared_or_excluded_for_a_reason(data_folder):
    profiles = load_profiles(data_folder / "observed" / "human_profiles.csv", "Midazolam")
    kept = [profile for profile in profiles if not unsuitable(profile)]
    assert (len(profiles), len(kept)) == (115, 74)
    assert sum(len(counted(profile).time) for profile in kept) == 811
    assert {profile.analyte for profile in kept} == {"Midazolam"}


@pytest.mark.data
def test_bolus_points_count_from_a_quarter_hour_and_none_below_the_limit(data_folder):
    profiles = load_profiles(data_folder / "observed" / "human_profiles.csv", "Midazolam")
    for profile in map(counted, profiles):
        assert (profile.time > 0).all()
        assert (profile.value >= profile.LLOQ).all()
        if profile.route == "iv" and profile.study not in ("Gorski 1998", "Gorski 2003", "Quinney 2008"):
            assert (profile.time >= 0.25 - 1e-6).all()
