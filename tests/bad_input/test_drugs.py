"""A compound, a dose or a simulation that cannot be."""

from pathlib import Path

import pytest

from pbpk.io import save_cohort
from tests.bad_input.commands import ARM, COMPOUND, DOSE, PEOPLE, Refused, cohort, readers, simulate, write

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
