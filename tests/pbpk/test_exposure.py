"""The command ``pbpk simulate``: what it writes, how it exits, and what it refuses in one line."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from pbpk.__main__ import main
from pbpk.io import save_cohort
from pbpk.physiology import Cohort


@pytest.fixture
def cohort_file(people, tmp_path):
    bodies = people(12, seed=2)
    ids = np.array([f"p{k}" for k in range(12)], dtype=object)
    save_cohort(Cohort(bodies, ids, {"generator": "a test", "seed": 2}), tmp_path / "cohort.csv")
    return tmp_path / "cohort.csv"


def simulate(tmp_path, *arguments, output="out"):
    return main(["simulate", *map(str, arguments), "-o", str(tmp_path / output)])


def test_a_cohort_leaves_exposure_quantiles_and_a_report(cohort_file, tmp_path, capsys):
    code = simulate(tmp_path, cohort_file, "midazolam", "0.1 mg/kg po", "--outputs", "plasma,liver")
    assert code == 0
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"exposure.csv", "quantiles.csv", "report.html"}
    exposure = pd.read_csv(tmp_path / "out" / "exposure.csv")
    assert list(exposure.columns) == ["id", "Cmax", "tmax", "AUC", "AUCinf", "t_half", "CL", "Vss", "F"]
    assert exposure["id"].tolist() == [f"p{k}" for k in range(12)]
    assert np.isfinite(exposure.drop(columns="id")).all(axis=None)
    quantiles = pd.read_csv(tmp_path / "out" / "quantiles.csv")
    assert list(quantiles.columns) == ["time", "output", "p5", "p25", "p50", "p75", "p95"]
    assert quantiles.output.unique().tolist() == ["plasma", "liver"] and quantiles.time.max() == 24
    peak = quantiles[quantiles.output == "plasma"].p50.max()
    assert peak == pytest.approx(exposure.Cmax.median(), rel=0.1)
    assert f"{exposure.Cmax.median():.3g}" in capsys.readouterr().out


def test_the_report_is_one_page_with_its_figures_inside(cohort_file, tmp_path):
    simulate(tmp_path, cohort_file, "midazolam", "1 mg iv", "--hours", "6")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for said in ("a test", "midazolam", "1 mg iv", "Median, 50 %", "AUCinf [mg h/L]"):
        assert said in page


def test_a_species_name_is_its_reference_body(tmp_path):
    assert simulate(tmp_path, "human", "midazolam", "7.5 mg po", "--hours", "12", "--points", "30") == 0
    assert pd.read_csv(tmp_path / "out" / "exposure.csv")["id"].tolist() == ["human"]


def test_a_body_that_cannot_be_solved_is_left_out_and_makes_the_exit_code_1(people, tmp_path, capsys):
    bodies = people(3)
    ill = bodies.replace(CO=bodies.CO * torch.tensor([1.0, 3.0, 1.0]))
    cohort = Cohort(ill, np.array(["a", "b", "c"], dtype=object))
    save_cohort(cohort, tmp_path / "c.parquet")
    assert simulate(tmp_path, tmp_path / "c.parquet", "midazolam", "1 mg iv") == 1
    exposure = pd.read_csv(tmp_path / "out" / "exposure.csv").set_index("id")
    assert exposure.loc["b"].isna().all() and exposure.loc[["a", "c"]].notna().all(axis=None)
    assert "not solved: 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["human", "midazolam", "7.5 mg pox"], "Dose.route"),
        (["human", "midazolan", "7.5 mg po"], "Did you mean 'midazolam'"),
        (["humam", "midazolam", "7.5 mg po"], "Did you mean 'human'"),
        (["nobody.csv", "midazolam", "7.5 mg po"], "nobody.csv"),
        (["human", "midazolam", "7.5 mg po", "--outputs", "plasma,livr"], "Did you mean 'liver'"),
        (["human", "midazolam", "7.5 mg po", "--hours", "-3"], "hours"),
        (["human", "midazolam", "7.5 mg po", "--clearance", "guessed"], "clearance"),
        (["human", "midazolam", "7.5 mg po", "--graph", "round"], "--graph"),
        (["human", "midazolam", "7.5 mg po", "--Kp", "magic"], "magic"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_no_folder(arguments, named, tmp_path, capsys):
    assert simulate(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_output_folder_in_the_way_of_a_file_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert simulate(tmp_path, "human", "midazolam", "1 mg iv", output="taken/out") == 2
    assert "taken" in capsys.readouterr().err


def test_a_failure_while_writing_leaves_nothing_behind(cohort_file, tmp_path, monkeypatch, capsys):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pbpk.report.render", full)
    assert simulate(tmp_path, cohort_file, "midazolam", "1 mg iv", "--hours", "2") == 2
    assert "disk is full" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
