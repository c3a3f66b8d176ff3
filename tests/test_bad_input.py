"""Bad input, whatever the command: one line that says what to do, exit code 2, and nothing left behind."""

import importlib
import json
import os
import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from pbpk.bodies import reference_body
from pbpk.io import save_cohort, to_frame
from pbpk.physiology import Cohort

DOSE = "7.5 mg po"
ARM = f'[[arm]]\nname = "oral"\ncompound = "midazolam"\ndose = "{DOSE}"\n'
PEOPLE = "[people]\nn = 2\n"
COMPOUND = """
[values.MW]
value = 300
unit = "g/mol"
[values.logP]
value = 2
[values.fup]
value = 0.1
"""
SHIPPED = Path(__file__).parent.parent / "vpop" / "data" / "pcdm.safetensors"

Refused = Callable[..., str]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path under a folder, with the bytes of the files."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command in an empty folder and asserts that it refuses; returns what it said."""
    monkeypatch.chdir(tmp_path)

    def run(argv: list[str], *words: str) -> str:
        command, *arguments = argv
        before = contents(tmp_path)
        capsys.readouterr()
        try:
            code = importlib.import_module(f"{command}.__main__").main(arguments)
        except SystemExit as left:
            code = left.code
        out, err = capsys.readouterr()
        assert code == 2, (code, out, err)
        assert out == "" and err.endswith("\n") and len(err.splitlines()) == 1, err
        assert err.startswith(command) and len(err) < 1000 and "Traceback" not in err
        assert [word for word in words if word not in err] == [], err
        assert contents(tmp_path) == before
        return err

    return run


def cohort(n: int = 3, species: str = "human") -> Cohort:
    body = reference_body(species)
    tensors = {name: torch.stack([value] * n) for name, value in body.tensors().items()}
    return Cohort(body.replace(**tensors), np.array([f"P{i}" for i in range(n)], dtype=object))


def table(change: Change = lambda frame: frame) -> str:
    return change(to_frame(cohort()).astype(object)).to_csv(index=False)


def scaled(column: str, factor: float) -> Change:
    return lambda frame: frame.assign(**{column: frame[column].astype(float) * factor})


def cell(column: str, value: object) -> Change:
    """Puts a value into the second row."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[1, column] = value
        return frame

    return change


def write(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def simulate(cohort: str = "human", drug: str = "midazolam", dose: str = DOSE, *more: str) -> list[str]:
    return ["pbpk", "simulate", cohort, drug, dose, "-o", "out", *more]


def sample(*more: str) -> list[str]:
    return ["vpop", "sample", "-n", "2", *more, "-o", "people.csv"]


def readers(name: str) -> list[list[str]]:
    """Every command that reads a cohort file."""
    write("reader.toml", f'[people]\ncohort = "{name}"\n{ARM}')
    return [
        ["pbpk", "check", name],
        simulate(name),
        ["vpop", "fit", "--reference", name, "-o", "model.safetensors"],
        ["vpop", "study", "reader.toml", "-o", "out"],
    ]


TABLES: dict[str, tuple[Change, list[str]]] = {
    "a missing column": (lambda f: f.drop(columns="M_liver"), ["must have a column 'M_liver'", "Add"]),
    "a misspelt column": (lambda f: f.rename(columns={"M_liver": "M_livr"}), ["Rename", "'M_livr'"]),
    "an unknown organ": (lambda f: f.assign(M_tail=1.0), ["'M_tail'", "The nearest is"]),
    "weight in g": (scaled("BW", 1000), ["BW must be in kg", "73,000 looks like g", "Divide it by 1000"]),
    "height in m": (scaled("height", 0.01), ["height must be in cm", "1.76 looks like m", "Multiply"]),
    "liver in g": (scaled("M_liver", 1000), ["M_liver must be in kg", "looks like g", "Divide it by 1000"]),
    "output in L/min": (scaled("CO", 1 / 60), ["CO must be in L/h", "looks like L/min", "Multiply it by 60"]),
    "haematocrit in %": (scaled("HCT", 100), ["HCT must be a fraction", "looks like %", "Divide it by 100"]),
    "age in months": (scaled("age", 12), ["age must be in years", "looks like month", "Divide it by 12"]),
    "a negative mass": (cell("M_liver", -1.0), ["M_liver", "0 or more", "'P1'", "has -1", "Correct"]),
    "a mass of NaN": (cell("M_liver", "nan"), ["M_liver", "0 or more", "'P1'", "no value", "Correct"]),
    "a blank mass": (cell("M_liver", ""), ["M_liver", "0 or more", "'P1'", "no value", "Correct"]),
    "an infinite mass": (cell("M_liver", "inf"), ["M_liver", "finite", "'P1'", "inf", "Correct"]),
    "a decimal comma": (cell("BW", "70,5"), ["BW must hold numbers", "'P1'", "'70,5'", "as a point"]),
    "a word for a number": (cell("GFR", "good"), ["GFR must hold numbers", "'P1'", "'good'", "Write"]),
    "a formula": (cell("race", '=HYPERLINK("x")'), ["must hold values", "'race'", "'=HYPERLINK", "Export"]),
    "a formula for a number": (cell("BW", "=A1+70"), ["must hold values", "'BW'", "'=A1+70'", "Export"]),
    "a formula for a name": (cell("id", "@SUM(A1)"), ["must hold values", "'id'", "'@SUM(A1)'", "Export"]),
    "a repeated name": (cell("id", "P0"), ["id must name each body once", "repeats 'P0' (row 2)"]),
    "a mixed species": (cell("species", "rat"), ["species must be the same", "'human', 'rat'", "Split"]),
    "a misspelt race": (cell("race", "Othr"), ["race of row 'P1'", "'Othr'", "Did you mean 'Other'?"]),
    "another word for a sex": (cell("sex", "male"), ["sex must be M or F", "'P1'", "'male'"]),
    "a repeated column": (lambda f: pd.concat([f, f[["BW"]]], axis=1), ["each column once", "'BW'"]),
    "only a header": (lambda f: f[:0], ["at least one row", "only a header"]),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_a_table_with(case: str, refused: Refused) -> None:
    change, words = TABLES[case]
    write("bodies.csv", table(change))
    for argv in readers("bodies.csv"):
        refused(argv, *words)


GOOD = table()
FILES: dict[str, tuple[str, str | bytes, list[str]]] = {
    "an empty CSV": ("a.csv", "", ["a.csv must hold a header and rows", "is empty"]),
    "an empty Parquet": ("a.parquet", "", ["a.parquet must be a Parquet file", "0 bytes", "Write it again"]),
    "a binary CSV": ("a.csv", bytes(range(256)) * 9, ["a.csv must be UTF-8 text", "Save it as CSV UTF-8"]),
    "a binary Parquet": ("a.parquet", bytes(range(256)) * 9, ["must be a Parquet file", "Write it"]),
    "semicolons": ("a.csv", GOOD.replace(".", "@").replace(",", ";").replace("@", ","),
                   ["separate columns by commas and decimals by points", "semicolons", "Export it again"]),
    "decimal commas": ("a.csv", "\n".join([GOOD.splitlines()[0], *GOOD.replace(".", ",").splitlines()[1:]]),
                       ["cells in each row", "line 2", "Look for a decimal comma"]),
    "tabs": ("a.csv", GOOD.replace(",", "\t"), ["separate columns by commas", "tabs", "Export it again"]),
    "a cut row": ("a.csv", GOOD[:-100], ["cells in each row", "line 4", "missing quote"]),
    "an open quote": ("a.csv", GOOD.replace("human", '"human', 1), ["a.csv must be a CSV", "unexpected end"]),
    "a suffix that no one reads": ("a.xlsx", "PK", [".csv", ".parquet", ".xlsx"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_cohort_file_with(case: str, refused: Refused) -> None:
    name, content, words = FILES[case]
    write(name, content)
    for argv in readers(name):
        refused(argv, *words)


def test_a_cohort_file_that_is_not_there_or_is_a_folder(refused: Refused) -> None:
    Path("folder.csv").mkdir()
    for argv in readers("absent.csv"):
        refused(argv, "absent.csv must be a file", "there is none", "Check the path")
    for argv in [*readers("folder.csv")[:2], readers("folder.csv")[3]]:
        refused(argv, "folder.csv must be a file", "is a folder", "Name a file in it")
    for argv in readers("x" * 5000 + ".csv"):
        refused(argv, "name too long")


@pytest.mark.parametrize("said", ["{half", "[1]", b"\xff"])
def test_a_parquet_file_with_damaged_provenance(said: str | bytes, refused: Refused) -> None:
    import pyarrow.parquet

    save_cohort(cohort(), "a.parquet")
    stored = pyarrow.parquet.read_table("a.parquet").replace_schema_metadata({"provenance": said})
    pyarrow.parquet.write_table(stored, "a.parquet")
    for argv in readers("a.parquet"):
        refused(argv, "a.parquet must state its provenance", "damaged", "Write it again")


@pytest.mark.parametrize("asked", ['"hello"', '{"tail": 3}', '{"BW": "heavy"}', '{"BW": [1, 2]}'])
def test_a_cohort_file_that_says_nonsense_of_what_was_asked_for(asked: str, refused: Refused) -> None:
    write("a.csv", f"# asked: {asked}\n{GOOD}")
    refused(["pbpk", "check", "a.csv"], "asked must")


COMPOUNDS: dict[str, tuple[str, list[str]]] = {
    "fup in %": (COMPOUND.replace("0.1", "10"), ["fup must lie in (0, 1]", "has 10", "divide it by 100"]),
    "a negative fup": (COMPOUND.replace("0.1", "-0.1"), ["fup must lie in (0, 1]", "-0.1"]),
    "a fup of NaN": (COMPOUND.replace("0.1", "nan"), ["fup must lie in (0, 1]", "nan"]),
    "a fup with a unit": (COMPOUND + 'unit = "%"', ["fup without a unit", "'%'"]),
    "fup as text": (COMPOUND.replace("0.1", '"0.1"'), ["fup as a number", "'0.1'"]),
    "a decimal comma": (COMPOUND.replace("0.1", "0,1"), ["drug.toml must be TOML", "line 8"]),
    "MW in kg/mol": (COMPOUND.replace("300", "0.3"), ["MW must lie in [10, 1e+06]", "0.3", "It is in g/mol"]),
    "MW with no unit": (COMPOUND.replace('unit = "g/mol"', ""), ["MW a unit", "g/mol", "has none"]),
    "MW in a wrong unit": (COMPOUND.replace("g/mol", "kg"), ["drug.toml MW", "converts to 'g/mol'", "'kg'"]),
    "an unreadable unit": (COMPOUND.replace("g/mol", "(((("), ["MW", "converts to 'g/mol'", "'(((('"]),
    "an endless number": (COMPOUND.replace("300", "9" * 400), ["MW as a number below 1e308"]),
    "a longer number": (COMPOUND.replace("300", "9" * 9000), ["drug.toml must be TOML"]),
    "no fup": (COMPOUND.replace("fup", "BP"), ["drug.toml must give fup", "Add [values.fup]"]),
    "an unknown key": (COMPOUND + "valu = 1", ["unknown key 'valu'", "Did you mean 'value'?"]),
    "an unknown value": (COMPOUND.replace("fup", "fub"), ["unknown key 'fub'", "Did you mean"]),
    "an unknown enzyme": (COMPOUND + "[enzymes.CYP3A5]\nshare = 1", ["'CYP3A5'", "Did you mean 'CYP3A4'?"]),
    "enzymes that are no table": ("enzymes = 3\n" + COMPOUND, ["[enzymes] must be a table", "is 3"]),
    "measurements that are no list": ("in-vitro = 3\n" + COMPOUND, ["[[in-vitro]]", "has 3"]),
    "a permeability of 0": (COMPOUND + '[values.Caco2]\nvalue = 0\nunit = "cm/s"', ["Caco2", "Check"]),
    "a name that is no text": ("name = 3\n" + COMPOUND, ["name as one line of text", "has 3"]),
    "a thousand brackets": ("a = " + 5000 * "[", ["drug.toml must be TOML", "recursion"]),
    "nothing in it": ("", ["drug.toml must give MW", "Add [values.MW]"]),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPOUNDS)
def test_a_compound_file_with(case: str, refused: Refused) -> None:
    content, words = COMPOUNDS[case]
    write("drug.toml", content)
    write("study.toml", PEOPLE + ARM.replace("midazolam", "drug.toml"))
    refused(simulate(drug="drug.toml"), *words)
    refused(["vpop", "study", "study.toml", "-o", "out"], *words)


@pytest.mark.parametrize(
    ("drug", "words"),
    [
        ("midazolm", ["compound must be one of", "'midazolm'", "Did you mean 'midazolam'?"]),
        ("мидазолам", ["compound must be one of", "'мидазолам'"]),
        ("x" * 5000, ["compound must be one of", "..."]),
        ("absent.toml", ["compound must be a file", "absent.toml is not there", "Check the path"]),
        ("folder.toml", ["compound must be a file", "folder.toml is a folder", "Name a file"]),
        ("binary.toml", ["compound must be text in UTF-8", "binary.toml", "Save it"]),
        ("a\0.toml", ["compound must be readable", "null byte", "Check the path"]),
    ],
)
def test_a_compound_that_cannot_be_found_or_read(drug: str, words: list[str], refused: Refused) -> None:
    Path("folder.toml").mkdir()
    write("binary.toml", b"\xff\xfe\x00")
    refused(simulate(drug=drug), *words)


DOSES: dict[str, list[str]] = {
    "": ["the amount", "Write it like"],
    "7.5": ["the amount", "'7.5'", "Write it like '7.5 mg po'"],
    "7,5 mg po": ["the amount", "'7,5 mg po'", "Write it like"],
    "-5 mg po": ["the amount", "'-5 mg po'", "Write it like"],
    "nan mg po": ["the amount", "'nan mg po'", "Write it like"],
    "1e400 mg po": ["Dose.amount must be finite", "inf"],
    "7.5 mgg po": ["the amount", "'7.5 mgg po'", "Write it like"],
    "7.5 mg": ["the route (iv or po)", "'7.5 mg'", "Write it like"],
    "7.5 mg sc": ["Dose.route must be one of iv, po", "'sc'"],
    "7.5 mg po q12h": ["must say how often", "Add 'x7'"],
    "7.5 mg po q12h x0": ["Dose.count must be at least 1", "count is 0"],
    "5 mg iv q12h x9999999999": ["Dose.count must be at most 1,000,000", "Check"],
    "5 mg iv q12h x" + "9" * 5000: ["Dose.count must be at most 1,000,000", "Check"],
    "5 mg/h iv": ["must say how long", "Add 'over 12 h'"],
    "5 mg iv over -2 h": ["'over -2 h'", "Write it like"],
    "5 mg iv over 1e300 d": ["Dose.duration must be finite"],
    "7.5 mg po at 1e9 h": ["none is given by 24 h"],
    "7.5 mg po over 2 h": ["Dose.duration must be 0 for a dose by mouth", "2 h"],
    "пять мг": ["the amount", "'пять мг'", "Write it like"],
    "(" * 10_000: ["the amount", "...", "Write it like"],
    '__import__("os")': ["the amount", "Write it like"],
}


@pytest.mark.parametrize("dose", DOSES, ids=lambda dose: dose[:20])
def test_a_dose_that_cannot_be_read_or_given(dose: str, refused: Refused) -> None:
    refused(simulate("human", "midazolam", dose), *DOSES[dose])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--hours", "nan"], ["hours must be positive", "nan"]),
        (["--hours", "inf"], ["hours must be positive", "inf"]),
        (["--hours", "-1"], ["hours must be positive", "-1"]),
        (["--hours", "1e300"], ["hours must be positive", "1e+06", "1e+300"]),
        (["--hours", "a day"], ["--hours", "float", "'a day'"]),
        (["--points", "1e9"], ["--points", "int", "'1e9'"]),
        (["--points", "1000000000"], ["points", "at most 100,000", "1000000000", "fewer"]),
        (["--points", "-5"], ["points must be at least 2", "-5"]),
        (["--outputs", "plasma,livr"], ["--outputs must be one of", "'livr'", "Did you mean 'liver'?"]),
        (["--outputs", "plasma,"], ["--outputs must be one of", "''"]),
        (["--outputs", "plasma,plasma"], ["--outputs must name each output once", "'plasma'"]),
        (["--clearance", "in-vivo"], ["clearance must be one of", "Did you mean 'in-vitro'?"]),
        (["--graph", "hole-body"], ["--graph must be one of", "Did you mean 'whole-body'?"]),
        (["--Kp", "rogers"], ["must be one of", "Did you mean 'rodgers-rowland'?"]),
        (["--nonsense"], ["unrecognized arguments: --nonsense", "--help"]),
        (["two\nlines"], ["unrecognized arguments: two lines", "--help"]),
        (["-o", ""], ["-o/--output", "must name a file or a folder", "''"]),
        (["-o", "a\0b"], ["-o/--output", "must name a file or a folder"]),
    ],
)
def test_a_simulation_with(more: list[str], words: list[str], refused: Refused) -> None:
    refused(simulate("human", "midazolam", DOSE, *more), *words)


def test_bodies_in_which_the_compound_was_not_measured(refused: Refused) -> None:
    save_cohort(cohort(1, "rat"), "rats.csv")
    for argv in [*readers("rats.csv")[1::2], simulate("rat")]:
        refused(argv, "species must be 'human'", "'rat'", "Give a compound measured in that species")
    refused(readers("rats.csv")[2], "at least 50 people", "rat", "Give a larger cohort")
    refused(simulate("humn"), "COHORT must be", "'humn'", "Did you mean 'human'?")


def test_a_population_of_one_is_too_small_to_learn_from(refused: Refused) -> None:
    save_cohort(cohort(1), "one.csv")
    refused(readers("one.csv")[2], "--reference must hold at least 50 people", "one.csv holds 1", "larger")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["COMMAND", "--help"]),
        (["nonsense"], ["invalid choice: 'nonsense'", "--help"]),
        (["\0"], ["invalid choice", "--help"]),
        (["-o"], ["COMMAND", "--help"]),
    ],
)
@pytest.mark.parametrize("command", ["pbpk", "vpop", "allometry"])
def test_no_such_command(command: str, argv: list[str], words: list[str], refused: Refused) -> None:
    refused([command, *argv], *words)


@pytest.mark.parametrize(
    "argv", [simulate()[:5], ["vpop", "sample"], ["vpop", "fit", "--reference", "a.csv"]], ids=lambda a: a[1]
)
def test_no_place_to_write_to(argv: list[str], refused: Refused) -> None:
    refused(argv, "required: -o/--output", "--help")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["ratt", "human"], ["FROM must be one of", "'ratt'", "Did you mean 'rat'?"]),
        (["rat", "humn"], ["TO must be one of", "'humn'", "Did you mean 'human'?"]),
        (["rat", "rat"], ["must be another species", "'rat'"]),
        (["rat", "human", "--BW", "nan"], ["--BW: must be a positive number of kg", "nan"]),
        (["rat", "human", "--BW", "-70"], ["--BW: must be a positive number of kg", "-70"]),
        (["rat", "human", "--BW", "70000"], ["BW must be in kg", "within a factor 200", "70000", "Check"]),
        (["rat", "mouse", "--BW", "25"], ["BW must be in kg", "mouse", "25", "Check its unit"]),
        (["rat", "human", "--BW", "70,5"], ["--BW: must be a positive number of kg", "'70,5'"]),
        (["rat", "human", "--method", "powr"], ["method must be one of", "Did you mean 'power'?"]),
        (["rat", "human", "-o", "a.xlsx"], ["suffix of a.xlsx must be one of .csv, .parquet", "'.xlsx'"]),
        (["rat", "human", "-o", ""], ["-o/--output", "must name a file", "''"]),
        (["x" * 9000, "human"], ["FROM must be one of", "..."]),
    ],
)  # fmt: skip
def test_a_map_with(more: list[str], words: list[str], refused: Refused) -> None:
    refused(["allometry", "map", *more], *words)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-n", "-3"], ["-n", "whole number from 1", "'-3'"]),
        (["-n", "many"], ["-n", "whole number from 1", "'many'"]),
        (["-n", "²"], ["-n", "whole number from 1", "'²'"]),
        (["-n", "1000000000000"], ["-n", "to 10,000,000"]),
        (["--seed", "x"], ["--seed", "whole number from 0", "'x'"]),
        (["--seed", "9" * 30], ["--seed", "whole number from 0"]),
        (["--age", "65:18"], ["age must be a range inside 0:80", "65:18"]),
        (["--age", "a:b"], ["--age", "FROM:TO", "'a:b'"]),
        (["--age", "nan:5"], ["age must be a range inside 0:80", "nan:5"]),
        (["--age", "18:200"], ["age must be a range inside 0:80", "18:200"]),
        (["--sex", "X"], ["--sex", "'X'"]),
    ],
)
def test_a_sample_with(more: list[str], words: list[str], refused: Refused) -> None:
    refused(sample(*more), *words)


WHERE: dict[str, list[str]] = {
    "age >= 200": ["'age >= 200' is not", "age lies in [0, 80]"],
    "BMI == 5 and height == 180": ["'BMI == 5' is not", "BMI lies in", "C09", "C10"],
    "height == 1.80": ["'height == 1.8' is not", "height lies in", "C11"],
    "BW == 70000": ["'BW == 70000' is not", "BW lies in", "C10"],
    "HCT > 45": ["'HCT > 45' is not", "HCT lies in [0.2, 0.6]", "C08"],
    "M_liver < 0": ["'M_liver < 0' is not", "M_liver lies in [0"],
    "M_liver > 1800": ["'M_liver > 1800' is not", "M_liver lies in [0"],
    "age > 60 and age < 50": ["'age < 50' contradicts"],
    "age >= 200 or age < -1": ["met by someone", "Widen it"],
    "agee > 3": ["column must be one of", "'agee'", "Did you mean 'age'?"],
    "M_livr > 1": ["column must be one of", "Did you mean 'M_liver'?"],
    "возраст > 3": ["column must be one of", "'возраст'"],
    'sex == "X"': ["sex must be one of F, M", "'X'"],
    "sex == 3": ["sex is text", "for example"],
    "age = 3": ["'age = 3' cannot be read", "use '=='"],
    "": ["cannot be read", "for example"],
    "1 / 0 > 1": ["must compare a column", "'1 / 0 > 1'", "for example"],
    'age > "a" + 1': ["numbers with numbers"],
    "age > 3; import os": ["cannot be read", "for example"],
    '__import__("os").system("touch hacked")': ["where may hold columns", "__import__", "for example"],
    "age.__class__ == 3": ["where may hold columns", "age.__class__", "for example"],
    "(lambda: age)() > 1": ["where may hold columns", "lambda", "for example"],
    "(" * 10_000 + "age > 1" + ")" * 10_000: ["cannot be read", "...", "for example"],
    "not " * 10_000 + "age > 1": ["cannot be read", "..."],
    "x" * 20_000 + " > 1": ["column must be one of", "..."],
    "\0": ["cannot be read", "for example"],
}


@pytest.mark.parametrize("where", WHERE, ids=lambda where: where[:24])
def test_a_request_that_is_impossible_or_unreadable(where: str, refused: Refused) -> None:
    refused(sample("--where", where), *WHERE[where])


STUDIES: dict[str, tuple[str, list[str]]] = {
    "an unknown key": ("naem = 'x'\n" + PEOPLE + ARM, ["'naem'", "Did you mean 'name'?"]),
    "an unknown key of people": ("[people]\nages = [1, 2]\n" + ARM, ["[people]", "Did you mean 'age'?"]),
    "an unknown key of an arm": (PEOPLE + ARM + "doze = 1", ["[[arm]]", "'doze'", "Did you mean 'dose'?"]),
    "n as text": ('[people]\nn = "many"\n' + ARM, ["n must be a whole number", "'many'"]),
    "n as truth": ("[people]\nn = true\n" + ARM, ["n must be a whole number", "True"]),
    "n of nobody": ("[people]\nn = 0\n" + ARM, ["n must be from 1", "is 0"]),
    "n of everybody": ("[people]\nn = 8000000000\n" + ARM, ["n must be from 1 to 10000000", "8000000000"]),
    "one age": ("[people]\nage = 5\n" + ARM, ["age must be two numbers, [18, 65] say", "is 5"]),
    "ages as words": ('[people]\nage = ["a", "b"]\n' + ARM, ["age must be two numbers", "['a', 'b']"]),
    "ages the wrong way": ("[people]\nage = [65, 18]\n" + ARM, ["age must be a range inside 0:80", "65:18"]),
    "an impossible request": (PEOPLE + 'where = "age >= 200"\n' + ARM, ["'age >= 200' is not", "[0, 80]"]),
    "a sex of X": (PEOPLE + 'sex = "X"\n' + ARM, ["sex must be one of F, M", "'X'"]),
    "negative hours": (PEOPLE + ARM + "hours = -1", ["hours must be positive", "-1"]),
    "hours of NaN": (PEOPLE + ARM + "hours = nan", ["hours must be positive", "nan"]),
    "hours as text": (PEOPLE + ARM + 'hours = "24"', ["hours must be a number", "'24'"]),
    "no arm": (PEOPLE, ["at least one [[arm]]", "name, compound and dose"]),
    "one arm in single brackets": (PEOPLE + ARM.replace("[[arm]]", "[arm]"), ["at least one [[arm]]"]),
    "two arms of one name": (PEOPLE + ARM + ARM, ["a name of its own", "['oral', 'oral']"]),
    "an arm of no name": (PEOPLE + ARM.replace('"oral"', '""'), ["name must be one line", "''"]),
    "no dose": (PEOPLE + ARM.replace("dose", "# dose"), ["[[arm]] must have the key 'dose'"]),
    "an unreadable dose": (PEOPLE + ARM.replace(DOSE, "7.5"), ["the amount", "Write it like"]),
    "a dose after the end": (PEOPLE + ARM.replace(DOSE, DOSE + " at 99 h"), ["before hours, 24", "99 h"]),
    "an unknown compound": (PEOPLE + ARM.replace("midazolam", "midazolm"), ["Did you mean 'midazolam'?"]),
    "an unknown clearance": (PEOPLE + ARM + 'clearance = "vitro"', ["Did you mean 'in-vitro'?"]),
    "people drawn and read": ('[people]\nn = 7\ncohort = "a.csv"\n' + ARM, ["not come with cohort", "n "]),
    "a name that leaves the folder": ('name = "../x"\n' + PEOPLE + ARM, ["one folder under runs/", "'../x'"]),
    "a name that is no text": ("name = 3\n" + PEOPLE + ARM, ["name must be one line of text", "is 3"]),
    "no TOML in it": (GOOD, ["study must be a TOML file", "line 1"]),
    "nothing in it": ("", ["at least one [[arm]]"]),
}  # fmt: skip


@pytest.mark.parametrize("case", STUDIES)
def test_a_study_with(case: str, refused: Refused) -> None:
    content, words = STUDIES[case]
    write("study.toml", content)
    refused(["vpop", "study", "study.toml"], *words)


def test_a_study_that_is_not_there_or_no_text(refused: Refused) -> None:
    Path("folder.toml").mkdir()
    write("binary.toml", b"\xff\xfe\x00")
    refused(["vpop", "study", "absent.toml"], "study must be a file", "not there", "Check the path")
    refused(["vpop", "study", "folder.toml"], "study must be a file", "is a folder", "Name a file")
    refused(["vpop", "study", "binary.toml"], "study must be text in UTF-8", "Save it")
    refused(["vpop", "study", "a\0"], "study must be readable", "null byte", "Check the path")


def relabelled(weights: bytes, **labels: str) -> bytes:
    """Returns a weights file whose header says something else."""
    size = struct.unpack("<Q", weights[:8])[0]
    header = json.loads(weights[8 : 8 + size])
    header["__metadata__"] |= labels
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + weights[8 + size :]


def test_weights_that_are_truncated_foreign_or_not_there(refused: Refused) -> None:
    shipped = SHIPPED.read_bytes()
    write("cut.safetensors", shipped[:-100])
    write("head.safetensors", shipped[:50])
    write("empty.safetensors", b"")
    write("noise.safetensors", bytes(range(256)) * 9)
    write("newer.safetensors", relabelled(shipped, format="vpop-pcdm-99"))
    write("other.safetensors", relabelled(shipped, coordinates="length,breadth"))
    write("table.csv", GOOD)
    save_file({"x": torch.ones(2)}, "foreign.safetensors")
    for name in ("cut", "head", "empty", "noise"):
        refused(sample("--model", f"{name}.safetensors"), "must be a whole safetensors file", name)
    for name in ("foreign", "newer", "other"):
        refused(sample("--model", f"{name}.safetensors"), "must be of format", name, "vpop fit")
    refused(sample("--model", "table.csv"), "must be a whole safetensors file", "table.csv")
    refused(sample("--model", "absent.safetensors"), "weights must be a file", "absent")


def writers() -> dict[str, Callable[[str], list[str]]]:
    """Every command that writes, by name, given where to."""
    write("bodies.csv", GOOD)
    write("study.toml", PEOPLE + ARM)
    return {
        "simulate": lambda out: [*simulate(), "-o", out],
        "study": lambda out: ["vpop", "study", "study.toml", "-o", out],
        "map": lambda out: ["allometry", "map", "rat", "human", "-o", f"{out}.csv"],
        "check": lambda out: ["pbpk", "check", "bodies.csv", "-o", f"{out}.html"],
        "sample": lambda out: ["vpop", "sample", "-n", "2", "-o", f"{out}.parquet"],
        "fit": lambda out: ["vpop", "fit", "--reference", "bodies.csv", "-o", f"{out}.safetensors"],
    }


WRITERS = ("simulate", "study", "map", "check", "sample", "fit")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_in_the_way_of_the_folder(writer: str, refused: Refused) -> None:
    write("plain", "a file")
    remedy = "Make it first" if writer in ("sample", "fit") else "choose another path"
    refused(writers()[writer](f"plain{os.sep}out"), f"plain{os.sep}out", "must", "folder", remedy)


@pytest.mark.parametrize("writer", ["simulate", "study"])
def test_a_folder_that_is_to_be_made_is_an_existing_file(writer: str, refused: Refused) -> None:
    write("plain", "a file")
    refused(writers()[writer]("plain"), "plain must be writable", "is a file", "choose another path")


@pytest.mark.parametrize("writer", WRITERS[2:])
def test_a_file_that_is_to_be_written_is_a_folder(writer: str, refused: Refused) -> None:
    argv = writers()[writer]("out")
    Path(argv[-1]).mkdir()
    refused(argv, argv[-1], "must be writable", "is a folder", "give a file name")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_name_is_too_long(writer: str, refused: Refused) -> None:
    refused(writers()[writer]("x" * 300), "must be writable", "too long", "choose a shorter one")


@pytest.mark.parametrize("writer", WRITERS[2:])
def test_a_folder_on_the_way_is_not_there(writer: str, refused: Refused) -> None:
    refused(writers()[writer](f"absent{os.sep}out"), "absent", "ake it first")


@pytest.mark.parametrize(
    ("argv", "suffixes"),
    [
        (["vpop", "sample", "-o", "a.xlsx"], ".csv, .parquet"),
        (["pbpk", "check", "bodies.csv", "-o", "a.xlsx"], ".csv, .html"),
        (["vpop", "fit", "--reference", "bodies.csv", "-o", "a.xlsx"], ".safetensors"),
    ],
)
def test_a_suffix_that_no_one_writes(argv: list[str], suffixes: str, refused: Refused) -> None:
    write("bodies.csv", GOOD)
    refused(argv, "suffix", f"one of {suffixes}", Path(argv[-1]).suffix)


@contextmanager
def a_disk_of(size: int) -> Iterator[None]:
    """Lets no file grow beyond ``size`` bytes: writing fails half-way, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("writer", ["simulate", "study", "map", "check", "sample"])
def test_the_disk_is_full(writer: str, refused: Refused) -> None:
    argv = writers()[writer]("out")
    with a_disk_of(1000):
        refused(argv, "out", "must be writable", "choose another folder")
    if writer in ("map", "sample"):  # and what was there before stays
        write(argv[-1], "an old file")
        with a_disk_of(1000):
            refused(argv, "must be writable")


OVERWRITING = [
    ["vpop", "sample", "--given", "people.csv", "-o", "./people.csv"],
    ["vpop", "sample", "--population", "people.csv", "-n", "5", "-o", "people.csv"],
    ["vpop", "sample", "--match", "people.csv", "-o", "people.csv"],
    ["vpop", "project", "people.csv", "-o", "people.csv"],
    ["vpop", "project", "people.csv", "--distances", "people.csv", "-o", "moved.csv"],
    ["vpop", "project", "people.csv", "--distances", "moved.csv", "-o", "moved.csv"],
    ["vpop", "fit", "--reference", "people.csv", "-o", "people.csv"],
    ["allometry", "predict", "people.csv", "-o", "people.csv"],
    ["allometry", "predict", "people.csv", "--report", "people.csv"],
    ["allometry", "translate", "people.csv", "midazolam", "1 mg/kg iv", "-o", "people.csv"],
    ["pbpk", "check", "people.csv", "-o", "people.csv"],
    ["pbpk", "simulate", "people.csv", "midazolam", DOSE, "-o", "people.csv"],
    ["pbpk", "fit", "theophylline", "people.csv", "-o", "people.csv"],
    ["pbpk", "sample", "theophylline", "--cohort", "people.csv", "-o", "people.csv"],
]


@pytest.mark.parametrize("argv", OVERWRITING, ids=" ".join)
def test_no_command_writes_over_what_it_reads(refused: Refused, tmp_path: Path, argv: list[str]) -> None:
    (tmp_path / "people.csv").write_text(table())
    refused(argv, "must name a file of its own", "Choose another name")


TOO_MANY = [
    ["vpop", "sample", "-o", "x.csv", "-n"],
    ["allometry", "map", "rat", "human", "--samples"],
    ["allometry", "sample", "rat", "-o", "x.csv", "-n"],
    ["pbpk", "sample", "brain4-b1", "-o", "x.csv", "--people"],
    ["pbpk", "population", "human", "midazolam", DOSE, "-o", "x", "-n"],
]


@pytest.mark.parametrize("argv", TOO_MANY, ids=" ".join)
@pytest.mark.parametrize("n", ["0", "-3", "1.5", "100000000000000"])
def test_a_number_of_bodies_has_bounds(refused: Refused, argv: list[str], n: str) -> None:
    refused([*argv, n], f"argument {argv[-1]}", "must be a whole number from 1 to", n)
