import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from pbpk.__main__ import main
from pbpk.bodies import reference_body
from pbpk.io import save_cohort, to_frame
from pbpk.physiology import Cohort


def men(n=3) -> Cohort:
    p = reference_body("human", "M", 30)._each(lambda value: value.expand(n, *value.shape).clone())
    return Cohort(p, np.array([f"p{i}" for i in range(n)]), {"generator": "a test"})


@pytest.fixture
def lawful(tmp_path):
    save_cohort(men(), tmp_path / "lawful.csv")
    return tmp_path / "lawful.csv"


@pytest.fixture
def unlawful(tmp_path):
    cohort = men()
    M = cohort.physiology.M.clone()
    M[0, 7] *= 3  # the liver
    save_cohort(Cohort(cohort.physiology.replace(M=M), cohort.id), tmp_path / "unlawful.parquet")
    return tmp_path / "unlawful.parquet"


def refused(capsys, *arguments):
    """Runs a command that must exit with 2 and one line; returns the line."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "Traceback" not in err
    return err


def test_a_lawful_cohort_exits_with_0(lawful, capsys):
    assert main(["check", str(lawful)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Violation rate: 0.0 % of 3 bodies")


def test_a_violation_exits_with_1_and_names_the_law(unlawful, capsys):
    assert main(["check", str(unlawful)]) == 1
    out = capsys.readouterr().out
    assert "C26  liver mass / reference" in out
    assert out.splitlines()[-1].startswith("Violation rate: 33.3 % of 3 bodies")


def test_only_all_lists_the_laws_that_nobody_breaks(lawful, capsys):
    main(["check", str(lawful)])
    assert "C26" not in capsys.readouterr().out
    main(["check", str(lawful), "--all"])
    assert "C26" in capsys.readouterr().out


def test_a_stated_BMI_that_disagrees_is_counted_and_not_refused(tmp_path, capsys):
    to_frame(men()).assign(BMI=20.0).to_csv(tmp_path / "c.csv", index=False)
    assert main(["check", str(tmp_path / "c.csv")]) == 1
    assert "E3  stated BMI = BW / height^2" in capsys.readouterr().out


def test_the_tolerance_of_exact_laws_can_be_chosen(tmp_path):
    frame = to_frame(men()).drop(columns="BMI")
    frame["BW"] *= 1.0001
    frame.to_csv(tmp_path / "c.csv", index=False)
    assert main(["check", str(tmp_path / "c.csv")]) == 1
    assert main(["check", str(tmp_path / "c.csv"), "--tolerance", "0.001"]) == 0


def test_the_report_is_written_as_csv(unlawful, tmp_path):
    main(["check", str(unlawful), "-o", str(tmp_path / "report.csv")])
    table = pd.read_csv(tmp_path / "report.csv")
    liver = table[(table["law"] == "C26") & (table["group"] == "all")].iloc[0]
    assert liver["violated"] == 1 and liver["applicable"] == 3 and liver["share"] == pytest.approx(1 / 3)
    assert set(table["width"].dropna()) == {1.0, 1.1, 1.25, 1.5, 2.0}


def test_the_report_is_written_as_a_page_that_needs_no_other_file(unlawful, tmp_path):
    main(["check", str(unlawful), "-o", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "C26" in page and "cohort file, 3 bodies" in page
    assert "http" not in page and "src=" not in page


def test_a_report_of_another_kind_is_refused(unlawful, tmp_path, capsys):
    assert "suffix" in refused(capsys, "check", unlawful, "-o", tmp_path / "report.docx")


def test_a_report_that_cannot_be_written_is_refused(unlawful, tmp_path, capsys):
    assert "writable" in refused(capsys, "check", unlawful, "-o", tmp_path / "nowhere" / "report.csv")


def test_animals_are_held_to_the_laws_of_any_species(tmp_path, capsys):
    p = reference_body("rat")._each(lambda value: value[None])
    save_cohort(Cohort(p, np.array(["r"])), tmp_path / "rat.csv")
    assert main(["check", str(tmp_path / "rat.csv")]) == 0
    assert "C03, C05-C34: a law of the human body" in capsys.readouterr().out


def test_a_negative_tolerance_is_refused(lawful, capsys):
    assert "tolerance" in refused(capsys, "check", lawful, "--tolerance", "-1")


@pytest.mark.parametrize(("change", "words"), [
    (lambda frame: frame.drop(columns="M_liver"), "M_liver"),
    (lambda frame: frame.rename(columns={"M_liver": "M_livr"}), "M_livr"),
    (lambda frame: frame.assign(BW=frame["BW"] * 1000), "looks like g"),
    (lambda frame: frame.assign(height=frame["height"] / 100), "looks like m"),
    (lambda frame: frame.assign(height=frame["height"] * 10), "looks like mm"),
    (lambda frame: frame.assign(HCT=frame["HCT"] * 100), "looks like %"),
    (lambda frame: frame.assign(M_liver=-1.0), "'p0'"),
    (lambda frame: frame.assign(M_liver=float("nan")), "'p0'"),
    (lambda frame: frame.iloc[:0], "at least one row"),
    (lambda frame: frame.assign(id=["=1+1", "b", "c"]), "formula"),
    (lambda frame: frame.assign(BW="70,5"), "decimal"),
    (lambda frame: frame.assign(BW="heavy"), "'heavy'"),
    (lambda frame: frame.assign(id="same"), "repeats"),
    (lambda frame: frame.assign(sex="X"), "sex"),
    (lambda frame: frame.assign(species=["human", "human", "rat"]), "mixes"),
])  # fmt: skip
def test_a_bad_table_is_refused_in_one_line(change, words, tmp_path, capsys):
    change(to_frame(men())).to_csv(tmp_path / "bad.csv", index=False)
    assert words in refused(capsys, "check", tmp_path / "bad.csv")


def test_a_semicolon_csv_is_refused_in_one_line(tmp_path, capsys):
    to_frame(men()).to_csv(tmp_path / "bad.csv", index=False, sep=";", decimal=",")
    assert "semicolons" in refused(capsys, "check", tmp_path / "bad.csv")


@pytest.mark.parametrize("name", ["empty.csv", "empty.parquet", "none.csv", "cohort.xlsx"])
def test_a_file_that_is_no_table_is_refused_in_one_line(name, tmp_path, capsys):
    if name.startswith("empty"):
        (tmp_path / name).write_bytes(b"")
    assert name.split(".")[-1] in refused(capsys, "check", tmp_path / name)


def test_help_answers_in_half_a_second_without_torch():
    start = time.perf_counter()
    shown = subprocess.run([sys.executable, "-m", "pbpk", "--help"], capture_output=True, text=True)
    assert time.perf_counter() - start < 0.5 and "check" in shown.stdout
    code = "import sys, pbpk.__main__ as m\ntry: m.main(['check', '--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.data
def test_httks_table_is_judged_as_measured(data_folder, capsys):
    path = data_folder / "populations" / "httkpop_virtual_individuals_10k.csv"
    assert main(["check", str(path)]) == 1
    out = capsys.readouterr().out
    assert "httk population table" in out
    assert out.splitlines()[-1].startswith("Violation rate: 42.0 % of 10,000 bodies")
    assert torch.get_default_dtype() == torch.float32  # a command leaves the defaults as they were
