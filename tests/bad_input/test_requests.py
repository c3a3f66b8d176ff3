"""A command, a request or a study that cannot be understood, or met."""

from pathlib import Path

import pytest

from tests.bad_input.commands import ARM, DOSE, GOOD, PEOPLE, Refused, sample, simulate, write


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
