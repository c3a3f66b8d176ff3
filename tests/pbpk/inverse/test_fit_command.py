"""``pbpk fit``, ``pbpk identify`` and ``pbpk sample``: what they write, and what they answer to bad input."""

from pathlib import Path

import pandas as pd
import pytest

from pbpk.__main__ import main
from pbpk.inverse import load_problem, read_nonmem
from pbpk.inverse.people import answers, estimates, problems
from pbpk.io import load_cohort

HEADER = "ID,TIME,DV,AMT,RATE,EVID,CMT\n"
DOSE = "a,0,0,100,0,1,plasma\n"
GOOD = "a,1,3.0,0,0,0,plasma\na,4,2.2,0,0,0,plasma\na,12,1.0,0,0,0,plasma\n"


def written(folder: Path, text: str) -> str:
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_sampled_data_set_is_fitted_and_everything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "d.csv", tmp_path / "out"
    assert (
        main(["sample", "brain4-b1", "--people", "2", "--spread", "0.2", "--seed", "3", "-o", str(data)]) == 0
    )
    assert main(["fit", "brain4-b1", str(data), "-o", str(out)]) == 0
    names = {"estimates.csv", "metrics.csv", "identifiability.csv", "methods.csv", "report.html"}
    assert {file.name for file in out.iterdir()} == names
    table = pd.read_csv(out / "estimates.csv")
    assert list(table.columns) == ["ID", "parameter", "estimate", "lower", "upper", "rse"]
    truth = pd.read_csv(tmp_path / "d-truth.csv").melt("ID", var_name="parameter").merge(table)
    assert ((truth["estimate"] / truth["value"] - 1).abs() < 4 * truth["rse"]).all() and len(truth) == 6
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == 3 and "Methods side by side" in page
    assert "PSb [L/h]" in page and "AUC [mg h/L]" in page and "Percentiles over the people" in page
    assert "PSe is known worst" in capsys.readouterr().out


def test_what_cannot_be_told_has_no_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "d.csv", tmp_path / "out"
    main(["sample", "brain4-paracetamol", "-o", str(data)])
    assert main(["fit", "brain4-paracetamol", str(data), "-o", str(out)]) == 0
    table = pd.read_csv(out / "estimates.csv").set_index("parameter")["estimate"]
    assert table["PSb + PSc"] == pytest.approx(2.8125, rel=0.06)
    assert table[["PSb", "PSc", "PSe"]].isna().all()
    done = pd.read_csv(out / "identifiability.csv").set_index("parameter")["done"]
    assert done["PSb"] == "in PSb + PSc" and done["PSe"].startswith("held at 300")
    assert "only PSb + PSc is estimated" in capsys.readouterr().out


@pytest.mark.data
def test_theophylline_is_fitted_in_whole_bodies(
    tmp_path: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the twelve people of a real data set: estimates, and a cohort that breaks no law."""
    whole = pd.read_csv(data_folder / "pk" / "theo_sd.csv")
    data, out = tmp_path / "theo.csv", tmp_path / "out"
    whole[whole["ID"] <= 2].to_csv(data, index=False)
    assert main(["fit", "theophylline", str(data), "-o", str(out)]) == 0
    table = pd.read_csv(out / "estimates.csv")
    assert len(table) == 6 and table["estimate"].notna().all()
    assert len(load_cohort(out / "cohort.csv")) == 2
    assert "0 % of the 2 fitted bodies break a law" in capsys.readouterr().out


@pytest.mark.data
def test_one_compartment_fits_theophylline_as_published(data_folder: Path) -> None:
    """CL 2.8 L/h and V 32 L in the fits of the data set by nlme (exp(1.01), exp(3.45)) and others."""
    recipe = load_problem("one-compartment-oral")
    asked = problems(recipe, read_nonmem(data_folder / "pk" / "theo_sd.csv", recipe.cmt))
    medians = estimates(answers(asked, ["lsq"])).groupby("parameter")["estimate"].median()
    assert medians["CL"] == pytest.approx(2.8, rel=0.1) and medians["V1"] == pytest.approx(32, rel=0.1)


def test_identify_says_which_samples_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["identify", "brain4-b0", "--observe", "spinal_csf"]) == 0
    said = capsys.readouterr().out
    assert "do not tell PSb" in said and "What would help" in said and "see brain_mass" in said


def test_identify_takes_short_names_and_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["identify", "brain4", "--observe", "brain,csf", "--times", "1,4,8,24", "-o", str(tmp_path / "i")]
    assert main(argv) == 0 and "All 3 parameters are identifiable" in capsys.readouterr().out
    assert (tmp_path / "i" / "identifiability.csv").exists()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (DOSE + "a,1,3.0,0,0,0,plasma\n", "at least as many observations as unknowns"),
        (DOSE + GOOD.replace("plasma", "cranial_csf"), "must be in a compartment of one-compartment"),
        (DOSE.replace("a,0", "a,2") + GOOD, "must not lie before the first dose"),
        (DOSE + GOOD.replace("2.2", "-2.2"), "DV must be a finite number of 0 or more"),
        (DOSE + GOOD.replace("2.2", "n/a"), "DV must hold numbers"),
        (DOSE + GOOD.replace("2.2", "0"), "below the limit"),
        (GOOD, "must have a dose"),
        (DOSE, "must have an observation"),
        (DOSE.replace(",1,plasma", ",4,plasma") + GOOD, "EVID must be 0"),
        (DOSE.replace("100", "0") + GOOD, "AMT of a dose must be above 0"),
        (DOSE + GOOD.replace("3.0", "3000").replace("2.2", "2200").replace("1.0", "1000"), "looks like ug/L"),
    ],
)
def test_bad_data_are_one_line_and_exit_code_2(
    rows: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["fit", "one-compartment", written(tmp_path, HEADER + rows), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not out.exists()


def test_all_values_below_the_limit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        HEADER.replace("CMT", "CMT,BLQ")
        + DOSE.replace("plasma", "plasma,0")
        + GOOD.replace("plasma", "plasma,1")
    )
    assert main(["fit", "one-compartment", written(tmp_path, rows), "-o", str(tmp_path / "o")]) == 2
    assert "above the limit" in capsys.readouterr().err


def test_a_unit_of_micrograms_is_converted(tmp_path: Path) -> None:
    rows = HEADER + DOSE + GOOD.replace("3.0", "3000").replace("2.2", "2200").replace("1.0", "1000")
    out = tmp_path / "o"
    assert main(["fit", "one-compartment", written(tmp_path, rows), "--unit", "ug/L", "-o", str(out)]) == 0
    assert 1 < pd.read_csv(out / "estimates.csv")["estimate"][0] < 5


def test_without_CMT_doses_and_observations_are_in_the_problems_own(tmp_path: Path) -> None:
    rows = "ID,TIME,DV,AMT\na,0,0,320\na,1,8,0\na,4,7,0\na,9,4.5,0\na,24,1.2,0\n"
    out = tmp_path / "o"
    assert main(["fit", "one-compartment-oral", written(tmp_path, rows), "-o", str(out)]) == 0
    assert pd.read_csv(out / "estimates.csv")["parameter"].tolist() == ["ka", "CL", "V1"]


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [("DVID", ("cp", "pca"), "DVID must name one kind"), ("SS", ("1", "0"), "SS must be 0")],
)
def test_what_would_be_misread_is_refused(
    header: str, row: tuple[str, str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (DOSE + GOOD).splitlines()
    text = "\n".join(f"{line},{row[k % 2]}" for k, line in enumerate(lines))
    data = written(tmp_path, HEADER.replace("\n", f",{header}\n") + text + "\n")
    assert main(["fit", "one-compartment", data, "-o", str(tmp_path / "o")]) == 2
    assert says in capsys.readouterr().err


def test_a_design_that_sees_nothing_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["identify", "brain4", "--times", "0"]) == 0
    assert "do not tell PSb (over 1e6 % CV), PSc (over 1e6 % CV) and PSe" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["fit", "brain4-b9", "DATA", "-o", "OUT"], "Did you mean 'brain4-b"),
        (["fit", "one-compartment", "DATA", "--method", "lsg", "-o", "OUT"], "Did you mean 'lsq'"),
        (["fit", "one-compartment", "nothing.csv", "-o", "OUT"], "nothing.csv must be a file"),
        (["fit", "one-compartment", "DATA", "-o", "FILE"], "-o must name a folder to write"),
        (["fit", "one-compartment", "DATA", "--unit", "kg", "-o", "OUT"], "unit must be one that converts"),
        (["identify", "one-compartment", "--observe", "brain"], "--observe must be one of"),
        (["identify", "one-compartment", "--times", "1,x"], "--times must be hours"),
        (["sample", "one-compartment", "--spread", "9", "-o", "OUT.csv"], "--spread must lie in"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    argv: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path, HEADER + DOSE + GOOD)
    (tmp_path / "file").touch()
    places = {
        "DATA": data,
        "FILE": str(tmp_path / "file"),
        "OUT": str(tmp_path / "out"),
        "OUT.csv": str(tmp_path / "out.csv"),
    }
    assert main([places.get(word, word) for word in argv]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model = ", "must be TOML"),
        ("model = 'three-compartment'\n[unknown]\nCL={}", "model must be one of"),
        ("model = 'one-compartment'", "at least one unknown"),
        ("model = 'one-compartment'\nnoize = 1\n[unknown]\nCL={}", "Did you mean 'noise'"),
        ("model = 'one-compartment'\n[unknown]\nCL={start='x'}", "unknown.CL.start as a number"),
        ("model = 'one-compartment'\n[unknown]\nKL={}\n[known]\nka=1.0", "must be one of CL"),
        ("model = 'one-compartment'\n[unknown]\nCL={}\n[known]\nka=1.0", "V1 is neither"),
        ("model = 'whole-body'\n[unknown]\nCLint={}", "must name a compound"),
        ("model = 'one-compartment'\n[unknown]\nCL={}\n[[dose]]\ntime=1.0", "each dose an amount"),
        ("model = 'brain4'\n[unknown]\nPSb={}", "must know the person's sex"),
    ],
)
def test_a_bad_problem_file_is_one_line_and_exit_code_2(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "problem.toml"
    path.write_text(text, encoding="utf-8")
    assert main(["fit", str(path), written(tmp_path, HEADER + DOSE + GOOD), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
