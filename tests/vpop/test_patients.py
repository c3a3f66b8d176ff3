"""Real people completed: what is known comes back, what is not is drawn, what cannot be is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from pbpk.io import save_cohort
from pbpk.laws import growth_band, violations
from pbpk.table import Table
from vpop.__main__ import main
from vpop.headings import in_canonical_units
from vpop.patients import Patients, asked, complete
from vpop.pcdm import PCDM

ROWS = pd.DataFrame(
    {
        "id": ["man", "girl", "woman", "infant"],
        "sex": ["M", "F", "F", "M"],
        "age": ["33", "8", "60", "0.5"],
        "race": ["", "", "Non-Hispanic Black", ""],
        "height": ["175", "128", "", ""],
        "BW": ["58", "", "80", ""],
        "BMI": ["", "24", "", ""],
        "HCT": ["", "", "0.38", ""],
        "SCR": ["", "", "0.9", ""],
    },
    dtype=object,
)


@pytest.fixture(scope="module")
def model() -> PCDM:
    return PCDM.load()


def patients(**changes) -> Patients:
    return Patients.of(Table("ward.csv", ROWS.assign(**changes)))


def test_what_is_known_comes_back_exactly_in_lawful_bodies(model):
    known = patients()
    cohort = complete(model, known, each=3, seed=1)
    assert violations(cohort, asked=asked(known, 3)).rate == 0.0
    assert cohort.id.tolist()[:4] == ["man_1", "man_2", "man_3", "girl_1"]
    assert cohort.physiology.BW[:3].eq(58).all() and cohort.physiology.SCR[6:9].eq(0.9).all()
    assert cohort.physiology.BMI[3:6].sub(24).abs().max() < 1e-12


def test_every_infant_whom_the_laws_allow_has_a_body(model):
    """Length and body-mass index anywhere between the laws' bounds, newborns above all."""
    n, generator = 300, torch.Generator().manual_seed(0)
    sex, age, at, of = torch.rand(4, n, generator=generator, dtype=torch.float64)
    sex, age = sex.round(), 1.3 * age**2
    low, high = growth_band("height", sex, age)
    height = torch.lerp(low, high, 0.001 + 0.998 * at)
    low, high = (bound.clamp(9.0, 27.0) for bound in growth_band("BMI", sex, age))
    BW = torch.lerp(low, high, 0.001 + 0.998 * of) * (height / 100.0) ** 2
    columns = {"sex": np.where(sex == 1, "M", "F"), "age": age, "height": height, "BW": BW}
    frame = pd.DataFrame(
        {"id": [f"p{i}" for i in range(n)], **{k: map(str, v.tolist()) for k, v in columns.items()}}
    )
    known = Patients.of(Table("ward.csv", frame))
    assert violations(complete(model, known, steps=1), asked=asked(known)).rate == 0.0


def test_who_is_over_80_keeps_the_age_and_stands_as_of_80(model):
    ages = [patients(age=["33", "8", age, "0.5"], M_liver=["", "", "", ""]) for age in ("80", "87.4")]
    eighty, older = (complete(model, known, each=20, seed=1) for known in ages)
    assert violations(older, asked=asked(ages[1], 20)).rate == 0.0
    assert older.physiology.age[40:60].eq(87.4).all()
    for name in ("CO", "GFR", "FAT"):
        medians = [getattr(c.physiology, name)[40:60].median() for c in (eighty, older)]
        assert medians[1] == pytest.approx(float(medians[0]), rel=0.15)


def test_all_whom_the_laws_forbid_are_named(model):
    known = patients(height=["175", "250", "260", ""], BMI=["", "", "", ""])
    with pytest.raises(ValueError, match=r"^patient 'girl': height must lie in .* Nor can 'woman'\.$"):
        complete(model, known, each=2)


def test_a_model_of_men_completes_no_women(model, monkeypatch):
    monkeypatch.setattr(model, "demographics", model.demographics.of_sex(1.0))
    with pytest.raises(ValueError, match="it knows M alone and F is asked for"):
        complete(model, patients())


def test_a_unit_in_brackets_is_read(tmp_path):
    ROWS.rename(columns={"BW": "BW [lb]"}).to_csv(tmp_path / "ward.csv", index=False)
    assert Patients.load(tmp_path / "ward.csv").given["BW"][0].item() == pytest.approx(58 * 0.45359237)


@pytest.mark.parametrize(
    ("heading", "cell", "name", "value"),
    [
        ("GFR [mL/min]", "100", "GFR", 6.0),
        ("GFR [mL/min/1.73m2]", "100", "GFR", 6.0 * (175 * 58 / 3600) ** 0.5 / 1.73),
        ("CO (L/min)", "5", "CO", 300.0),
        ("CO (L/min/m2)", "3", "CO", 180.0 * (175 * 58 / 3600) ** 0.5),
        ("FAT [%]", "20", "FAT", 11.6),
        ("M_liver [g]", "1500", "M_liver", 1.5),
    ],
)
def test_what_is_measured_inside_is_read_in_the_units_of_its_laboratory(heading, cell, name, value):
    table = Table("ward.csv", ROWS.assign(**{heading: [cell, "", "", ""]}))
    assert Patients.of(in_canonical_units(table)[0]).given[name][0].item() == pytest.approx(value)


@pytest.mark.parametrize(("height", "BW", "BMI"), [("175", "58", ""), ("175", "", "20"), ("", "58", "20")])
def test_a_person_s_size_is_read_from_any_two_of_height_weight_and_bmi(height, BW, BMI):
    cells = {"height": height, "BW": BW, "BMI": BMI, "GFR [mL/min/1.73m2]": "100", "FAT [%]": "20"}
    table = Table(
        "ward.csv",
        pd.DataFrame({"id": ["man"], "sex": ["M"], "age": ["33"]} | {k: [v] for k, v in cells.items()}),
    )
    given = Patients.of(in_canonical_units(table)[0]).given
    surface = (given["height"] * given["BW"] / 3600) ** 0.5
    assert given["GFR"].item() == pytest.approx(6.0 * surface.item() / 1.73)
    assert given["FAT"].item() == pytest.approx(0.2 * given["BW"].item())


INSIDE = {
    "GFR": ["6.2", "", "4.1", ""],
    "FAT": ["", "", "33", ""],
    "M_liver": ["", "1.1", "", ""],
}


def test_what_is_known_inside_comes_back_exactly_beside_those_of_whom_it_is_not(model):
    known = patients(**INSIDE)
    cohort = complete(model, known, each=2, seed=1, steps=1)
    assert violations(cohort, asked=asked(known, 2)).rate == 0.0
    body = cohort.physiology
    assert body.GFR[:2].eq(6.2).all() and body.mass("liver")[2:4].eq(1.1).all()
    assert body.FAT[4:6].eq(33).all() and body.FAT[0] != body.FAT[1]
    assert body.height[4] != body.height[5]  # of her only the weight is known


def test_a_child_of_two_years_has_the_creatinine_that_was_measured(model):
    known = patients(age=["33", "2", "60", "0.5"], BMI="", height="", SCR=["", "0.3", "", ""])
    assert complete(model, known, steps=1).physiology.SCR[1] == 0.3


def test_a_cohort_of_the_model_given_back_is_itself(model, tmp_path):
    cohort = model.sample(5, seed=3, age=(18, 80), steps=1)
    save_cohort(cohort, tmp_path / "cohort.csv")
    again = complete(model, Patients.load(tmp_path / "cohort.csv"), steps=1).physiology
    assert torch.equal(again.M, cohort.physiology.M) and torch.equal(again.Q, cohort.physiology.Q)


def test_what_is_unknown_differs_between_the_bodies_of_a_patient(model):
    body = complete(model, patients(), each=20, seed=2).physiology
    assert body.mass("liver")[:20].std() > 0.05
    assert body.height[40:60].std() > 2  # the woman's, of whom only the weight is known


def test_a_patient_is_the_same_whoever_is_beside_it_or_not_asked_again(model):
    first, again = (complete(model, patients(), seed=3).physiology.M for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": ["175", "38", "", ""]}, r"patient 'girl': height must lie in .* by law C11"),
        ({"BW": ["58", "", "400", ""]}, r"none makes 400 kg a lawful BMI at 60 years: 'woman'"),
        ({"BW": ["58", "60", "80", ""]}, "row 'girl' says 24 beside 60 kg"),
        ({"age": ["33", "8", "95", "0.5"]}, "at most 90 years"),
        ({"height": ["1.75", "1.28", "", ""]}, "height must be in cm"),
        ({"sex": ["M", "F", "x", "M"]}, "sex of row 'woman' must be one of M, F"),
        ({"race": ["", "Martian", "", ""]}, "race of row 'girl'"),
        ({"M_liver": ["1.5", "4", "", ""]}, r"patient 'girl': M_liver must lie in .* by law C26, but 4 is"),
        ({"SCR": ["", "", "", "0.3"]}, r"patient 'infant': SCR must be given from 2 years on"),
        ({"FAT": ["50", "", "", ""]}, r"patient 'man': FAT must lie in .* to be believed, but 50 is"),
        ({"M_liver": ["1500", "1100", "", ""]}, "M_liver must be in kg"),
    ],
)
def test_what_no_person_can_be_is_refused_by_name(model, changes, words):
    with pytest.raises(ValueError, match=words):
        complete(model, patients(**changes), steps=1)


def test_the_command_writes_the_bodies_and_refuses_a_second_say(tmp_path, capsys):
    table, out = tmp_path / "ward.csv", tmp_path / "bodies.csv"
    ROWS.to_csv(table, index=False)
    assert main(["sample", "--given", str(table), "-n", "2", "-o", str(out)]) == 0
    assert len(pd.read_csv(out, comment="#")) == 8
    out.unlink()
    assert main(["sample", "--given", str(table), "--age", "3:4", "-o", str(out)]) == 2
    assert "--age must not stand beside --given" in capsys.readouterr().err
    assert not out.exists()
