"""Concentrations in animals, the body they are fitted in, and the human they are carried to."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from allometry.__main__ import main
from allometry.profiles import Profile, read_profiles
from allometry.translation import Fitted, carry, fit, kinetics, translate
from pbpk.bodies import reference_body
from pbpk.compound import Compound
from pbpk.simulate import simulate

DRUG = Compound("x", MW=300.0, logP=1.5, fup=0.3)
TIMES = torch.tensor([0.1, 0.3, 0.7, 1.5, 3.0, 6.0], dtype=torch.float64)


def made(species: str, CLint: float, factor: float, regimen: str = "5 mg/kg iv", fup: float = 0.3) -> Profile:
    """A profile without noise, simulated with a known clearance and factor."""
    body = reference_body(species)[None]
    values = [torch.tensor([value], dtype=torch.float64) for value in (CLint, factor)]
    drug = kinetics(DRUG, body[0], fup, values[0], values[1], "rodgers-rowland")
    C = simulate(body, drug, regimen, TIMES, engine="linear").concentration("plasma")[0]
    return Profile(species, regimen, TIMES, C, fup)


def test_a_fit_finds_what_the_profile_was_made_of() -> None:
    found = fit(DRUG, [made("rat", 1.2, 2.0), made("rat", 1.2, 2.0, "2 mg/kg iv over 0.05 h")])
    assert (found.CLint, found.factor) == (pytest.approx(1.2, rel=1e-4), pytest.approx(2.0, rel=1e-4))
    assert found.sd < 1e-5


def test_a_species_carried_to_itself_is_as_it_was() -> None:
    profile = made("rat", 1.2, 2.0)
    simulation, _ = translate(DRUG, [profile], "5 mg/kg iv", TIMES.tolist(), to="rat", fup=0.3)
    assert torch.allclose(simulation.concentration("plasma")[0], profile.concentration, rtol=1e-3)


def test_intrinsic_clearance_goes_with_three_quarters_of_the_weight() -> None:
    one = Fitted("rat", 0.25, 1.2, 1.0, 0.1, (0.1, 0.1))
    _, drug = carry([one], DRUG)
    assert drug.CLint.item() == pytest.approx(1.2 * (73.0 / 0.25) ** 0.75)


def test_a_clearance_that_the_profile_does_not_tell_hardly_counts() -> None:
    known = Fitted("rat", 0.25, 1.0, 1.0, 0.1, (0.1, 0.1))
    unknown = Fitted("mouse", 0.025, 1e6, 1.0, 0.1, (1e4, 0.1))
    both, alone = (carry(part, DRUG)[1].CLint.item() for part in ([known, unknown], [known]))
    assert both == pytest.approx(alone, rel=1e-3)


def test_a_clearance_that_the_flow_hides_stays_near_it_and_is_said_to_be_unsure() -> None:
    found = fit(DRUG, [made("rat", 1e6, 1.0)])
    per_flow = DRUG.fup * found.CLint / (0.25 * reference_body("rat").CO)
    assert 1.0 < per_flow < 1e5 and found.error[0] > 1.0


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ([], "must be of one species"),
        ([made("rat", 1.0, 1.0), made("dog", 1.0, 1.0)], "must be of one species, but are of dog, rat"),
    ],
)
def test_a_fit_is_of_one_species(profiles: list[Profile], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit(DRUG, profiles)


def write(folder: Path, text: str) -> Path:
    path = folder / "profiles.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_one_species_and_dose_are_one_sorted_profile(tmp_path: Path) -> None:
    text = HEAD.strip() + ",fu\nrat,5 mg/kg iv,2,1,0.4\nrat,5 mg/kg iv,1,3,0.4\ndog,1 mg iv,1,2,\n"
    rat, dog = read_profiles(write(tmp_path, text), fup=0.1)
    assert (rat.time.tolist(), rat.concentration.tolist(), rat.fup, dog.fup) == (
        [1.0, 2.0],
        [3.0, 1.0],
        0.4,
        0.1,
    )


def test_the_command_fits_and_writes_a_human(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"rat,5 mg/kg iv,{t},{c}\n" for t, c in ((0.5, 8.0), (1, 7.0), (3, 4.0), (6, 2.0)))
    table = write(tmp_path, "species,dose,time,concentration\n" + rows)
    out = tmp_path / "human.csv"
    assert main(["translate", str(table), "theophylline", "1 mg/kg iv", "-o", str(out)]) == 0
    found = pd.read_csv(out)
    assert found.columns.tolist() == ["time", "concentration"] and found["concentration"].max() > 0.5
    assert "human: AUC" in capsys.readouterr().out


HEAD = "species,dose,time,concentration\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("species,dose,time\nrat,1 mg iv,1\n", "must have a column 'concentration'"),
        (HEAD + "rta,1 mg iv,1,1\n", "Did you mean 'rat'?"),
        (HEAD + "rat,1 mg iv,1,0\n", "Profile.concentration must be positive"),
        (HEAD + "rat,some,1,1\n", "Write it like"),
        (HEAD + "rat,1 mg iv,1,1\nrat,1 mg iv,1,2\n", "time must not come twice"),
        (HEAD + "rat,1 mg iv,1,1\n", "at least 3 concentrations"),
        ("species,dose,time,concentration,fu\nrat,1 mg iv,1,1,40\n", "fu must lie in (0, 1]"),
        ("species,dose,time,concentration,fup\nrat,1 mg iv,1,1,0.4\n", "Name it 'fu'"),
        ("species,dose,time,concentration,BW\nrat,1 mg iv,1,1,0.2\nrat,1 mg iv,2,1,0.3\n", "0.2 and 0.3"),
        ("species,dose,time [kg],concentration\nrat,1 mg iv,1,1\n", "must convert to h, but is 'kg'"),
    ],
)
def test_bad_profiles_are_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    assert main(["translate", str(write(tmp_path, text)), "theophylline", "1 mg/kg iv"]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_elements_that_are_not_carried_are_refused() -> None:
    drug = Compound("x", MW=300.0, logP=1.5, fup=0.3, PS={"muscle": 4.0})
    with pytest.raises(ValueError, match="no elements here, but 'x' has PS"):
        translate(drug, [made("rat", 1.2, 2.0)], "5 mg/kg iv", [0.0, 1.0])


def test_a_heading_may_name_its_unit(tmp_path: Path) -> None:
    head = "species,dose,time [min],concentration [ug/mL],BW [g]\n"
    text = head + "rat,5 mg/kg iv,30,2,250\nrat,5 mg/kg iv,60,1,\n"
    (rat,) = read_profiles(write(tmp_path, text), fup=0.1)
    assert rat.time.tolist() == pytest.approx([0.5, 1.0]) and rat.concentration.tolist() == [2.0, 1.0]
    assert rat.BW is not None and abs(rat.BW - 0.25) < 1e-12
