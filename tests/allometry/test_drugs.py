"""Tables of drugs, and the command ``allometry predict``."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from allometry.__main__ import main
from allometry.drugs import read_drugs


def write(folder: Path, text: str) -> Path:
    path = folder / "drugs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_unit_in_brackets_is_converted(tmp_path: Path) -> None:
    drugs = read_drugs(write(tmp_path, "drug,rat_CL (L/h/kg),dog_Vss [mL/kg]\na,0.6,500\n"))
    assert drugs.column("CL", "rat")[0] == pytest.approx(10.0)
    assert drugs.column("Vss", "dog")[0] == pytest.approx(0.5)


def test_other_columns_and_empty_cells_are_left_alone(tmp_path: Path) -> None:
    drugs = read_drugs(write(tmp_path, "drug,rat_CL,dog_CL,comment\na,5,,fine\n"))
    assert np.isnan(drugs.column("CL", "dog")[0]) and np.isnan(drugs.column("CL", "monkey")[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("drug,rat_CL\na,-3\n", "rat_CL must be a finite number of 0 or more"),
        ("drug,rat_CL\na,0\n", "rat_CL must lie in (0, 10000], but 'a' has 0. It is in mL/min/kg"),
        ("drug,rat_CL\na,fast\n", "rat_CL must hold numbers"),
        ("drug,rat_CL,rat_fu\na,3,40\n", "rat_fu must lie in (0, 1], but 'a' has 40. It is a fraction"),
        ("drug,rta_CL\na,3\n", "Did you mean 'rat_CL'?"),
        ("drug,hamster_CL\na,3\n", "must name species among human, monkey"),
        ("drug,rat_CL [kg]\na,3\n", "the unit of 'rat_CL [kg]' must convert to 'mL/min/kg'"),
        ("drug,rat_CL []\na,3\n", "the unit of 'rat_CL []' must convert to 'mL/min/kg'"),
        ("drug,rat_CL,rat_CL [L/h/kg]\na,3,3\n", "must have one column rat_CL"),
        ("name,rat_CL\na,3\n", "must have a column 'drug'"),
        ("drug,human_CL\na,3\n", "must have a column of an animal's clearance or volume"),
        ("drug,rat_CL\n,3\n", "drug must name each row"),
        ("drug,rat_CL\n", "must hold at least one row"),
    ],
)
def test_a_wrong_table_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    out = tmp_path / "human.csv"
    assert main(["predict", str(write(tmp_path, text)), "-o", str(out)]) == 2
    err = capsys.readouterr().err
    assert words.replace("'mL/min/kg'", "mL/min/kg") in err and err.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "magic"], "method must be one of learned, fixed"),
        (["--level", "0.42"], "level must be one of 0.5, 0.8, 0.9, 0.95"),
        (["--dose", "0"], "dose must be a positive number of mg/kg"),
        (["-o", "x.txt"], "suffix of x.txt must be one of .csv"),
        (["-o", "no/such/human.csv"], "must lie in a folder"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["predict", str(write(tmp_path, "drug,rat_CL\na,3\n")), *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1


def test_the_command_writes_the_table_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path, "drug,rat_CL,dog_CL,rat_Vss,rat_NOAEL,target_AUC\na,40,,1.2,50,3\nb,,8,,,\n")
    out = tmp_path / "human.csv"
    assert main(["predict", str(table), "-o", str(out), "--dose", "1"]) == 0
    found = pd.read_csv(out)
    assert found.columns[:4].tolist() == ["drug", "human_CL", "human_CL_lower", "human_CL_upper"]
    assert (found["human_CL_lower"] < found["human_CL"]).all()
    assert found["human_AUC"][0] == pytest.approx(1e3 / 60.0 / found["human_CL"][0])
    assert found["target_dose"][0] == pytest.approx(3.0 / found["human_AUC"][0])
    assert found["starting_dose"][0] == pytest.approx(50.0 * 6.0 / 37.0 / 10.0)
    assert "no Vss of rat, dog or monkey" in found["note"][1] and np.isnan(found["human_Vss"][1])
    assert capsys.readouterr().out.startswith("human values with 90 % intervals")


def test_the_report_is_one_page_with_its_figures_inside(tmp_path: Path) -> None:
    table = write(tmp_path, "drug,rat_CL,dog_CL,rat_Vss\n<b>a</b>,40,,1.2\nb,,,3\n")
    page = tmp_path / "page.html"
    assert main(["predict", str(table), "--report", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "data:image/png" in text and "http" not in text and "&lt;b&gt;" in text and "<b>a</b>" not in text
