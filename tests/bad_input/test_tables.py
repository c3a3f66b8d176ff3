"""A table of bodies that cannot be read, or holds what cannot be a body: each reader says so."""

from pathlib import Path

import pandas as pd
import pytest

from pbpk.io import save_cohort
from tests.bad_input.commands import GOOD, Change, Refused, cell, cohort, readers, scaled, table, write

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
    "a weight of 0": (cell("BW", 0.0), ["BW must be more than 0", "'P1'", "has 0", "Correct"]),
    "no red cells": (cell("HCT", 0.0), ["HCT must be more than 0", "'P1'", "has 0", "Correct"]),
    "no circulation": (cell("CO", 0.0), ["CO must be more than 0", "'P1'", "has 0", "Correct"]),
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
