"""Tables to learn from: what is read from them, and what would teach nonsense and is refused in one line."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pbpk.table import Table
from vpop.__main__ import main
from vpop.pcdm import PCDM
from vpop.training_table import TrainingTable

Change = Callable[[pd.DataFrame], pd.DataFrame]
N = 300


@pytest.fixture(scope="module")
def model() -> PCDM:
    return PCDM.load()


@pytest.fixture(scope="module")
def people(model) -> pd.DataFrame:
    """Adults as a clinic might write them down."""
    body = model.sample(N, seed=31, age=(18, 75)).physiology
    return pd.DataFrame(
        {
            "id": [f"P{number}" for number in range(N)],
            "sex": np.where(body.sex.numpy() == 1.0, "M", "F"),
            "age": np.floor(body.age.numpy()),
            "height": body.height.numpy().round(),
            "BW": body.BW.numpy().round(1),
            "HCT": body.HCT.numpy().round(3),
            "SCR": body.SCR.numpy().round(2),
        }
    )


def read(frame: pd.DataFrame, model: PCDM) -> TrainingTable:
    text = frame.astype(object).where(frame.notna(), "").map(str)
    return TrainingTable.of(Table("clinic.csv", text), model.coordinates.charts)


def scaled(column: str, factor: float, heading: str | None = None) -> Change:
    return lambda f: f.assign(**{column: f[column] * factor}).rename(columns={column: heading or column})


def test_units_in_brackets_are_read_as_what_they_say(people, model):
    frame = scaled("height", 1 / 2.54, "height [in]")(scaled("BW", 1 / 0.45359237, "BW (lbs)")(people))
    frame = scaled("SCR", 88.4, "SCR [µmol/L]")(scaled("HCT", 100, "HCT [%]")(frame))
    plain, other = (read(f, model).patients for f in (people, frame))
    for name, values in plain.given.items():
        assert np.allclose(values, other.given[name], equal_nan=True), name


def test_a_table_says_what_is_rounded_left_out_and_unused(people, model):
    frame = people.assign(smoker="yes", age=people.age.mask(people.index < 3))
    frame.loc[5, "BW"] = 13.0
    table, plain = read(frame.drop(columns="id"), model), read(people, model)
    assert table.removed["without sex or age"] == 3
    assert table.removed["outside the laws C08 to C11"] == plain.removed["outside the laws C08 to C11"] + 1
    assert table.unused == ("smoker",) and len(table.patients) == len(plain.patients) - 4
    assert table.steps == {"age": 1.0, "height": 1.0, "BW": 0.1, "HCT": 0.001, "SCR": 0.01}


def test_who_is_older_than_80_counts_as_80(people, model):
    frame = people.assign(age=people.age.where(people.index != 7, 93))
    assert read(frame, model).patients.age[7] == 80


def test_people_of_a_clinic_for_the_obese_are_believed_where_the_heading_says_kg(people, model):
    heavy = scaled("BW", 2.0, "BW [kg]")(people[people.BW < 75])
    assert len(read(heavy, model).patients) > 50
    with pytest.raises(ValueError, match=r"looks like lb. .* or 'BW \[kg\]' if it is right"):
        read(heavy.rename(columns={"BW [kg]": "BW"}), model)


def test_coarse_tables_repeat_people_by_chance_and_are_read(model):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"sex": random.choice(["M", "F"], 4000), "age": random.integers(20, 40, 4000)})
    frame["height"] = random.normal(170, 8, 4000).round()
    frame["BW"] = random.normal(75, 8, 4000).round()
    assert frame.duplicated().mean() > 0.02
    assert len(read(frame, model).patients) > 3900


CHILDREN = {"age": [60.0 + i for i in range(100)], "height": [104.0 + 0.5 * i for i in range(100)]}
REFUSED: dict[str, tuple[Change, str]] = {
    "height in m": (scaled("height", 0.01), r"height must be in cm, .* looks like m. .*'height \[m\]'"),
    "height in inches": (scaled("height", 1 / 2.54), "height must be in cm, .* looks like in"),
    "height in feet": (scaled("height", 1 / 30.48), "height must be in cm, .* looks like ft"),
    "weight in lb": (scaled("BW", 1 / 0.45359237), "BW must be in kg, .* looks like lb"),
    "weight in g": (scaled("BW", 1000), "BW must be in kg, .* looks like g"),
    "age in months": (scaled("age", 12), "age must be in year, .* looks like month"),
    "children's ages in months": (
        lambda f: f.head(100).assign(**CHILDREN)[["sex", "age", "height"]],
        "age must be in year, .* looks like month",
    ),
    "haematocrit in %": (scaled("HCT", 100), "HCT must be in 1, .* looks like %"),
    "creatinine in umol/L": (scaled("SCR", 88.4), "SCR must be in mg/dL, .* looks like umol/L"),
    "an unknown unit": (scaled("height", 1, "height [cubit]"), "the unit of height .* but is 'cubit'"),
    "a column twice": (lambda f: f.assign(**{"BW [lb]": f.BW}), "has BW and 'BW \\[lb\\]'"),
    "a constant height": (lambda f: f.assign(height=170.0), "height must differ .* 170 for all 300"),
    "an impossible age": (
        lambda f: f.assign(age=f.age.where(f.index != 3, 200)),
        "age must be at most 120 years, but row 'P3' of .* has 200. Correct",
    ),
    "a constant age": (lambda f: f.assign(age=40), "age must differ .* Write each person's own"),
    "an empty column": (
        lambda f: f.assign(SCR=f.SCR.mask(f.index > 20)),
        "SCR must be known of more than 10%",
    ),
    "people twice": (
        lambda f: pd.concat([f, f.head(60).assign(id=[f"Q{i}" for i in range(60)])]),
        "60 of 360 rows repeat another in every number, the first that of 'P",
    ),
    "an id twice": (lambda f: f.assign(id="P"), "id must name each body once"),
    "few people": (lambda f: f.head(49), "at least 50 people with sex and age, but clinic.csv holds 49"),
    "few lawful people": (
        lambda f: f.assign(height=f.height.where(f.index > 260, 240.0)),
        "are lawful, but clinic.csv holds",
    ),
    "no sex": (lambda f: f.drop(columns="sex"), "must have a column 'sex'"),
    "a strange sex": (lambda f: f.assign(sex="male"), "must be one of M, F, but is 'male'"),
    "a decimal comma": (lambda f: f.assign(BW=f.BW.map(lambda w: f"{w}".replace(".", ","))), "as a point"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_teach_nonsense_is_refused_in_one_line(people, model, name):
    change, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as error:
        read(change(people), model)
    assert "\n" not in str(error.value)


def test_the_command_refuses_with_exit_code_2_and_writes_nothing(people, tmp_path, capsys):
    table = tmp_path / "clinic.csv"
    scaled("height", 0.01)(people).to_csv(table, index=False)
    out = tmp_path / "model.safetensors"
    assert main(["fit", "--reference", str(table), "-o", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["clinic.csv"]
