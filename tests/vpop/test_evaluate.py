"""The evaluation: what it says of a perfect and of a bad sample, what it writes, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pbpk.io import save_cohort
from pbpk.physiology import Cohort
from vpop.__main__ import main
from vpop.columns import Sample, covariates, everything, hard
from vpop.conditional import conditional, crps
from vpop.evaluate import compare_columns, evaluate
from vpop.evaluate_files import like
from vpop.pcdm import PCDM


@pytest.fixture(scope="module")
def model() -> PCDM:
    return PCDM.load()


@pytest.fixture(scope="module")
def people(model) -> Cohort:
    return model.sample(500, seed=21)


@pytest.fixture(scope="module")
def files(tmp_path_factory, people, model):
    folder = tmp_path_factory.mktemp("evaluate")
    save_cohort(people, folder / "real.parquet")
    save_cohort(model.sample(220, seed=22), folder / "drawn.csv")
    return folder


@pytest.fixture(scope="module")
def answer(files) -> int:
    """The exit code of one evaluation, whose files the tests read."""
    call = [str(files / "drawn.csv"), "--reference", str(files / "real.parquet"), "-n", "220"]
    return main(["evaluate", *call, "-o", str(files / "out")])


@pytest.fixture(scope="module")
def figures(files, answer) -> pd.DataFrame:
    return pd.read_csv(files / "out" / "figures.csv")


def test_the_command_writes_tables_numbers_and_a_page(files, answer):
    assert answer == 0
    written = {file.name for file in (files / "out").iterdir()}
    tables = {"figures.csv", "columns.csv", "violations.csv", "sweep.csv"}
    assert written == tables | {"evaluation.json", "report.html"}
    numbers = json.loads((files / "out" / "evaluation.json").read_text())
    assert {row["figure"] for row in numbers["figures"]} >= {"precision", "KS, midazolam CL"}
    page = (files / "out" / "report.html").read_text()
    assert page.count("<img ") == 5 and 'src="http' not in page


def test_people_of_the_same_model_are_not_told_apart(figures):
    assert figures[figures.figure.str.startswith("C2ST")].drawn.max() < 0.62


def test_every_distance_stands_beside_a_floor_of_its_size(figures):
    rows = figures[figures.figure.str.startswith(("KS", "Wasserstein", "Spearman", "C2ST"))]
    assert len(rows) == 10 and rows.floor.notna().all() and (rows.drawn < 2.0 * rows.floor + 0.1).all()


def test_people_who_are_twice_as_heavy_are_found_out(people):
    body = people.physiology.replace(BW=2.0 * people.physiology.BW)
    samples = {
        "real": Sample.of(people),
        "drawn": Sample.of(Cohort(body, people.id)),
        "floor": Sample.of(people),
    }
    table = compare_columns(samples).set_index("column")
    assert table.KS["BW"] > 0.3 and table.KS["M_liver"] == 0.0 and table["KS floor"].max() == 0.0


def test_people_are_drawn_of_the_ages_and_sexes_that_judge(model):
    ward = Sample.of(model.sample(60, seed=3, age=(20.5, 59.0), sex="M"))
    drawn = like(model, ward, 300, 1).physiology
    assert (drawn.sex == 1).all() and drawn.age.min() >= 20 and drawn.age.max() <= 60
    everyone = Sample.of(model.sample(3000, seed=3))
    assert like(model, everyone, 5, 1).provenance["conditions"] == "0 <= age <= 80"


def test_what_was_drawn_for_a_person_covers_the_person(model, people):
    """The model's own people: 90 % must be 90 %, within the noise of 80 people."""
    inside = conditional(model, Sample.of(people).some(80, 0), draws=25).set_index("column")
    assert inside.coverage.mean() == pytest.approx(0.90, abs=0.03)
    assert (inside["CRPS of the others"] > inside.CRPS)[["M_liver", "M_muscle", "CO", "FAT"]].all()


def test_crps_of_a_normal_is_that_of_the_books():
    draws = np.random.default_rng(0).normal(size=(4000, 3))
    truth = np.array([-1.0, 0.0, 2.0])
    exact = [0.60244, 0.23370, 1.45279]  # Gneiting and Raftery (2007), equation 21
    assert crps(draws, truth) == pytest.approx(exact, abs=0.02)


def test_covariates_are_what_a_survey_would_have(people):
    table = covariates(people.physiology)
    assert table.SCR[table.age < 12].isna().all() and table.HCT[table.age < 1].isna().all()
    assert np.allclose(table.height * 10, (table.height * 10).round())


def test_hard_columns_are_more_than_all(people):
    assert set(everything(people.physiology)) < set(hard(people.physiology))


def test_the_second_body_of_a_person_belongs_to_the_person(people):
    cohort = Cohort(people.physiology[torch.arange(3)], np.array(["S-7-1", "S-7-2", "S-8-1"]), {"copies": 2})
    assert Sample.of(cohort).persons.tolist() == ["S-7", "S-7", "S-8"]


def test_people_with_one_body_each_are_as_many_as_their_names(people):
    cohort = Cohort(people.physiology[torch.arange(2)], np.array(["S-1", "S-2"]))
    assert Sample.of(cohort).persons.tolist() == ["S-1", "S-2"]


def test_a_handful_of_people_is_refused(people):
    some, everyone = people[np.arange(50)], Sample.of(people)
    with pytest.raises(
        ValueError, match="the drawn cohort must hold at least 200 lawful people, but holds 50"
    ):
        evaluate(some, everyone, everyone)
    with pytest.raises(
        ValueError, match=r"the reference must hold at least 400 .* as the floor, but holds 50"
    ):
        evaluate(people, Sample.of(some))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["drawn.csv", "--model", "m.safetensors"], "--model must be left out beside a cohort file"),
        (["drawn.csv", "-n", "10"], "-n must be at least 200, but is 10"),
        (["drawn.csv", "--part", "test"], "part must be left out for a cohort file"),
        (["nobody.csv"], "nobody.csv"),
    ],
)
def test_a_bad_call_is_one_line(files, capsys, arguments, words):
    given = [str(files / a) if a.endswith(".csv") else a for a in arguments]
    call = ["evaluate", *given, "--reference", str(files / "real.parquet"), "-o", str(files / "bad")]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (files / "bad").exists()
