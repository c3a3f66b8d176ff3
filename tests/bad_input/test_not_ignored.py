"""Nothing that a user wrote is passed over in silence: it is read, refused, or named as not read."""

from pathlib import Path

import numpy as np
import pytest

from pbpk.inverse.nonmem import read_nonmem
from tests.bad_input.commands import Change, Refused, cell, table, write
from vpop.__main__ import main

PERSON = "id,sex,age,{}\nA,M,30,{}\n"
BAND = "sex,from_age,to_age,quantity,mean,{}\nM,20,80,height,176,7\nM,20,80,BW,80,12\n"
DOSED = "ID,TIME,DV,AMT,EVID\n1,0,,320,1\n1,1,8,,0\n1,4,{},,0\n1,9,5,,0\n"


@pytest.mark.parametrize(
    ("heading", "value", "name"),
    [("Height", "170", "height"), ("weight [lb]", "170", "BW [lb]"), ("hct", "0.4", "HCT")],
)
def test_a_patients_column_under_another_name(heading: str, value: str, name: str, refused: Refused) -> None:
    write("ward.csv", PERSON.format(heading, value))
    argv = ["vpop", "sample", "--given", "ward.csv", "-o", "people.csv"]
    refused(argv, "would not be read", repr(heading), f"Name it {name!r}")


def test_columns_that_are_not_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write("ward.csv", PERSON.format("ward,bed", "4,5"))
    assert main(["sample", "--given", "ward.csv", "-o", "people.csv"]) == 0
    assert "columns not read: ward, bed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change", [lambda f: f.rename(columns={"BMI": "bmi"}), lambda f: f.rename(columns={"FAT": "fat"})]
)
def test_a_bodys_column_under_another_name(change: Change, refused: Refused) -> None:
    write("bodies.csv", table(lambda frame: change(frame.assign(FAT=15.0))))
    refused(["pbpk", "check", "bodies.csv"], "would not be read", "Name it")


def test_a_populations_column_under_another_name(refused: Refused) -> None:
    write("people.csv", BAND.format("SD"))
    refused(["vpop", "sample", "--population", "people.csv", "-o", "out.csv"], "'SD'", "Name it 'sd'")


def test_flags_and_files_that_would_not_be_used(refused: Refused) -> None:
    write("bodies.csv", table())
    beside = ["pbpk", "sample", "theophylline", "--cohort", "bodies.csv", "--people", "7", "-o", "out.csv"]
    refused(beside, "--people must not stand beside --cohort")
    refused(["pbpk", "sample", "brain4", "-o", "out.parquet"], "suffix", ".csv", "'.parquet'")
    moved = ["vpop", "project", "bodies.csv", "--distances", "far.xlsx", "-o", "out.csv"]
    refused(moved, "--distances", ".csv", "'.xlsx'")
    refused(["pbpk", "check", "bodies.csv", "--tolerance", "inf"], "tolerance", "finite")


def test_bodies_of_whom_none_can_be_solved_are_refused_with_the_reason(refused: Refused) -> None:
    write("bodies.csv", table(lambda f: cell("M_liver", 0.0)(f)[1:2]))
    refused(
        ["pbpk", "simulate", "bodies.csv", "midazolam", "7.5 mg po", "-o", "out"], "missing or impossible"
    )


@pytest.mark.parametrize("blank", ["", ".", "nan"])
def test_an_observation_without_a_value_is_left_out_and_said_to_be(tmp_path: Path, blank: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(DOSED.format(blank))
    (person,) = read_nonmem(path, default=("depot", "plasma"))
    assert person.seen.time.tolist() == [1.0, 9.0]
    assert person.messages == ("Observations without DV are left out.",)


def test_a_concentration_beyond_all_matter_is_refused(refused: Refused) -> None:
    write("data.csv", DOSED.format(np.float64(1e300)))
    refused(
        ["pbpk", "fit", "theophylline", "data.csv", "-o", "out"], "DV must be at most 1e+06 mg/L", "--unit"
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--age", "20", "--where", "age > 30"], "no age of 20:20 satisfies 'age > 30'"),
        (["--sex", "M", "--where", "sex == 'F'"], "must not contradict what is given"),
    ],
)
def test_flags_that_contradict_each_other(more: list[str], words: str, refused: Refused) -> None:
    refused(["vpop", "sample", *more, "-o", "people.csv"], words)
