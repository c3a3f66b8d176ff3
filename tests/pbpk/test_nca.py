"""Noncompartmental analysis: closed forms, and what other programs print for a public data set."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.nca import CDISC, nca

REFERENCE = pd.read_csv(Path(__file__).parent.parent / "reference" / "nca_theophylline.csv")
SUBJECT_1 = (  # R datasets, Theoph: Boeckmann, Sheiner, Beal (1994) NONMEM users guide V
    [0.0, 0.25, 0.57, 1.12, 2.02, 3.82, 5.1, 7.03, 9.05, 12.12, 24.37],
    [0.74, 2.84, 6.57, 10.5, 9.66, 8.58, 8.36, 7.47, 6.89, 5.94, 3.28],
)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def reference(subject):
    return REFERENCE[REFERENCE.subject == subject].set_index("quantity")["value"]


def test_the_first_theophylline_subject_is_analysed_as_winnonlin_does():
    row = nca(tensor(SUBJECT_1[0]), tensor(SUBJECT_1[1]), dose=319.992).iloc[0]
    expected = reference(1)
    assert row["AUC"] == pytest.approx(expected["AUC"], abs=5e-8)
    assert row["lambda_z"] == pytest.approx(expected["lambda_z"], rel=1e-12)
    assert row["R2adj"] == pytest.approx(expected["R2adj"], abs=5e-8)
    assert (row["Cmax"], row["tmax"], row["n_lambda"]) == (10.5, 1.12, 3)
    assert row["AUCinf"] == pytest.approx(expected["AUC"] + 3.28 / expected["lambda_z"], abs=5e-8)
    assert row["CL/F"] == pytest.approx(319.992 / row["AUCinf"])


@pytest.mark.data
def test_all_twelve_theophylline_subjects_are_analysed_as_winnonlin_does(data_folder):
    table = pd.read_csv(data_folder / "pk" / "theo_sd.csv")
    samples = table[table.EVID == 0]
    for subject, profile in samples.groupby("ID"):
        row = nca(tensor(profile.TIME.to_numpy()), tensor(profile.DV.to_numpy())).iloc[0]
        for quantity, value in reference(subject).items():
            assert row[quantity] == pytest.approx(value, rel=1e-8, abs=6e-8), (subject, quantity)


@given(st.floats(0.5, 50), st.floats(0.01, 1.0), st.floats(1, 1000))
def test_one_exponential_gives_its_rate_volume_and_clearance(V, k, dose):
    time = torch.linspace(0, 5 / k, 40, dtype=torch.float64)
    row = nca(time, dose / V * torch.exp(-k * time), dose=dose, route="iv").iloc[0]
    exact = {
        "lambda_z": k,
        "t_half": math.log(2) / k,
        "AUCinf": dose / (V * k),
        "MRT": 1 / k,
        "CL": V * k,
        "Vss": V,
        "Vz": V,
    }
    assert row[list(exact)].to_dict() == pytest.approx(exact, rel=1e-9)


def test_an_infusion_gives_the_same_clearance_and_volume_as_a_bolus():
    V, k, T = 20.0, 0.3, 2.0
    time = torch.cat([torch.linspace(0, T, 4001), torch.linspace(T, 30, 2000)[1:]]).to(torch.float64)
    during = (1 - torch.exp(-k * time)) / (V * k * T)
    after = (math.exp(k * T) - 1) * torch.exp(-k * time) / (V * k * T)
    row = nca(time, 100 * torch.where(time <= T, during, after), dose=100.0, route="iv", duration=T).iloc[0]
    assert (row["CL"], row["Vss"], row["MRT"]) == pytest.approx((V * k, V, 1 / k), rel=1e-6)


def test_a_bolus_drawn_before_the_dose_is_extrapolated_back():
    time = tensor([0.0, 1.0, 2.0, 4.0, 6.0, 8.0])
    C = 10 * torch.exp(-0.25 * time)
    before = torch.cat([tensor([0.0]), C[1:]])
    pd.testing.assert_frame_equal(nca(time, before, 1.0, "iv"), nca(time, C, 1.0, "iv"), rtol=1e-12)


def test_the_terminal_slope_comes_after_the_maximum_and_after_the_last_dose():
    time = torch.linspace(0, 48, 97, dtype=torch.float64)
    C = torch.exp(-0.5 * time) + 3 * torch.exp(-0.1 * (time - 24)) * (time > 24)
    C = torch.where(time > 24, 3 * torch.exp(-0.1 * (time - 24)), C)
    assert nca(time, C, 1.0, "iv", after=24.0).iloc[0]["lambda_z"] == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize(
    "C", [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0], [0.0, 3.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
)
def test_a_profile_without_a_terminal_phase_has_no_half_life_but_an_area(C):
    row = nca(tensor([0.0, 1.0, 2.0, 3.0]), tensor(C), 1.0).iloc[0]
    assert math.isnan(row["t_half"]) and math.isnan(row["AUCinf"]) and math.isfinite(row["AUC"])


def test_the_area_ends_at_the_last_positive_concentration():
    row = nca(tensor([0.0, 1.0, 2.0, 3.0, 9.0]), tensor([2.0, 2.0, 2.0, 0.0, 0.0])).iloc[0]
    assert (row["AUC"], row["tlast"], row["Clast"]) == (4.0, 2.0, 2.0)


def test_a_batch_is_analysed_like_its_members_one_by_one():
    generator = torch.Generator().manual_seed(1)
    k = 0.05 + torch.rand(50, 1, generator=generator, dtype=torch.float64)
    time = torch.linspace(0, 24, 30, dtype=torch.float64)
    C = 5 * (torch.exp(-k * time) - torch.exp(-3 * k * time))
    together = nca(time, C, dose=torch.arange(1.0, 51.0))
    alone = pd.concat([nca(time, c, dose=d + 1.0) for d, c in enumerate(C)], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, rtol=1e-13)


def test_cdisc_names_are_codes_of_eight_letters_and_the_extrapolated_share_is_in_per_cent():
    time = torch.linspace(0, 10, 20, dtype=torch.float64)
    house = nca(time, torch.exp(-0.2 * time), 1.0, "iv").iloc[0]
    coded = nca(time, torch.exp(-0.2 * time), 1.0, "iv", names="CDISC").iloc[0]
    assert all(name.isupper() and len(name) <= 8 for name in coded.index)
    assert coded["AUCPEO"] == pytest.approx(100 * house["extrapolated"])
    assert coded["VSSO"] == house["Vss"] and coded["MRTIVIFO"] == house["MRT"]
    assert len(set(CDISC.values())) == len(CDISC)


@pytest.mark.parametrize(
    "arguments, named",
    [
        (([0.0, 1.0], [1.0, 2.0, 3.0]), "time"),
        (([0.0, 2.0, 1.0], [1.0, 2.0, 3.0]), "ascend"),
        (([0.0, 1.0], [1.0, 1.0], 1.0, "im"), "route"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        nca(tensor(arguments[0]), tensor(arguments[1]), *arguments[2:])
