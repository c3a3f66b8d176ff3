import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.bodies import reference_body
from pbpk.io import FLOW_COLUMNS, MASS_COLUMNS, from_frame, load_cohort, save_cohort, to_frame
from pbpk.organs import ORGANS
from pbpk.physiology import RACES, Cohort, Physiology
from pbpk.table import read_table

FORMATS = ("csv", "parquet")


def cohort(n=4, species="human", **extra) -> Cohort:
    """Bodies around a reference one, no two alike."""
    p = reference_body(species)
    factor = torch.linspace(0.8, 1.2, n, dtype=torch.float64)
    scaled = {name: torch.stack([value * f for f in factor]) for name, value in p.tensors().items()}
    scaled |= {"sex": torch.tensor([float(i % 2) for i in range(n)], dtype=torch.float64)}
    return Cohort(Physiology(species=species, **(scaled | extra)), np.array([f"p{i}" for i in range(n)]))


def optional(n=4):
    return {
        "SCR": torch.tensor([0.8, float("nan"), 1.1, 0.9], dtype=torch.float64),
        "FAT": torch.tensor([20.0, 21.0, float("nan"), 25.0], dtype=torch.float64),
        "BMC": torch.tensor([2.0, 2.1, 2.2, float("nan")], dtype=torch.float64),
        "race": torch.tensor([0, 1, -1, 4]),
    }


def same(here: Cohort, there: Cohort) -> None:
    assert here.physiology.species == there.physiology.species
    assert here.id.tolist() == there.id.tolist()
    assert dict(here.provenance) == dict(there.provenance)
    one, other = here.physiology.tensors(), there.physiology.tensors()
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0, equal_nan=True)


# ---- what is written comes back

positive = st.floats(1e-3, 1.0).map(lambda x: 1 + x / 3)  # no round number
words = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=8)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
provenances = st.dictionaries(words, plain | st.lists(plain, max_size=3), max_size=4)


@pytest.mark.parametrize("form", FORMATS)
@given(
    factors=st.lists(positive, min_size=40, max_size=40),
    names=st.sets(words, min_size=4, max_size=4),
    said=provenances,
)
def test_a_cohort_comes_back_to_the_last_bit_with_its_names_and_provenance(
    tmp_path_factory, form, factors, names, said
):
    p = cohort().physiology
    factor = torch.tensor(factors, dtype=torch.float64)
    p = p.replace(M=p.M * factor[:17], Q=p.Q * factor[17:34], CO=p.CO * factor[34], BW=p.BW * factor[35])
    written = Cohort(p, np.array(sorted(names), dtype=object), said)
    path = tmp_path_factory.mktemp("cohort") / f"c.{form}"
    save_cohort(written, path)
    same(written, load_cohort(path))


@pytest.mark.parametrize("form", FORMATS)
def test_optional_columns_come_back_with_their_gaps(tmp_path, form):
    written = cohort(**optional())
    save_cohort(written, tmp_path / f"c.{form}")
    same(written, load_cohort(tmp_path / f"c.{form}"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("species", ["rat", "dog", "monkey"])
def test_animals_come_back_with_what_is_unknown_of_them(tmp_path, form, species):
    written = cohort(species=species, sex=torch.full((4,), 0.5, dtype=torch.float64))
    save_cohort(written, tmp_path / f"c.{form}")
    same(written, load_cohort(tmp_path / f"c.{form}"))


def test_a_table_in_memory_comes_back():
    written = cohort(**optional())
    same(written, from_frame(to_frame(written)))


def test_the_columns_are_those_of_the_cohort_file_in_their_order():
    columns = list(to_frame(cohort(**optional())).columns)
    assert " ".join(columns[:14]) == ("id species sex race age height BW BMI HCT SCR GFR CO FAT BMC")
    assert columns[14:31] == [f"M_{organ}" for organ in ORGANS]
    assert columns[31:] == [f"Q_{organ}" for organ in ORGANS if organ not in ("lung", "blood")]


def test_the_same_cohort_makes_the_same_bytes(tmp_path):
    for form in FORMATS:
        for name in "ab":
            save_cohort(cohort(), tmp_path / f"{name}.{form}")
        assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()


def test_provenance_stands_above_a_csv_for_people_to_read(tmp_path):
    bodies = cohort()
    save_cohort(Cohort(bodies.physiology, bodies.id, {"seed": 7, "generator": "vpop"}), tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text().splitlines()[:2] == ["# seed: 7", '# generator: "vpop"']


def test_numbers_as_ids_keep_their_zeros(tmp_path):
    written = Cohort(cohort(n=2).physiology, np.array(["001", "NA"], dtype=object))
    save_cohort(written, tmp_path / "c.csv")
    assert load_cohort(tmp_path / "c.csv").id.tolist() == ["001", "NA"]


def test_a_body_that_breaks_laws_is_read():
    frame = to_frame(cohort())
    frame.loc[0, ["M_liver", "M_heart"]] = [0.0, 30.0]
    assert from_frame(frame).physiology.mass("heart")[0] == 30


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path):
    save_cohort(cohort(), tmp_path / "c.csv")
    text = (tmp_path / "c.csv").read_text().replace("\n", "\r\n")
    (tmp_path / "w.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    same(load_cohort(tmp_path / "c.csv"), load_cohort(tmp_path / "w.csv"))


def test_every_race_has_its_name(tmp_path):
    written = cohort(n=5, race=torch.arange(5))
    assert to_frame(written)["race"].tolist() == list(RACES)


@pytest.mark.parametrize("name", ["=cmd()", "", "a\nb", "@x"])
def test_a_name_that_could_not_be_read_back_is_not_written(tmp_path, name):
    with pytest.raises(ValueError, match="id must be"):
        save_cohort(Cohort(cohort(n=1).physiology, np.array([name])), tmp_path / "c.csv")
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="suffix"):
        save_cohort(cohort(), tmp_path / "c.xlsx")


# ---- bad input, one line each


def changed(**cells):
    """The frame of a lawful cohort with some columns replaced."""
    frame = to_frame(cohort())
    return frame.assign(**cells)


def refused(frame, *words):
    with pytest.raises(ValueError) as caught:
        from_frame(frame)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(("column", "factor", "unit"), [
    ("BW", 1000, "g"),
    ("height", 1 / 100, "m"),
    ("height", 10, "mm"),
    ("height", 1 / 10, "dm"),
    ("HCT", 100, "%"),
    ("age", 12, "month"),
    ("CO", 1 / 60, "L/min"),
    ("CO", 1000 / 60, "mL/min"),
    ("GFR", 1000 / 60, "mL/min"),
    ("M_liver", 1000, "g"),
    ("M_gonads", 1000, "g"),
    ("M_muscle", 1000, "g"),
    ("Q_kidney", 1000 / 60, "mL/min"),
    ("Q_liver", 1 / 60, "L/min"),
])  # fmt: skip
def test_a_column_in_another_unit_is_refused_with_that_unit(column, factor, unit):
    frame = to_frame(cohort())
    refused(frame.assign(**{column: frame[column] * factor}), column, f"looks like {unit}.")


def test_bodies_in_grams_are_found_whatever_their_age():
    for age in (0, 1, 5, 15, 40):
        p = reference_body("human", "F", age)._each(lambda value: value[None])
        frame = to_frame(Cohort(p, np.array(["x"])))
        from_frame(frame)
        refused(frame.assign(BW=frame["BW"] * 1000), "looks like g.")


def test_one_unusual_person_is_no_wrong_unit():
    frame = changed()
    frame.loc[0, ["BW", "height", "HCT"]] = [400.0, 272.0, 0.05]
    assert len(from_frame(frame)) == 4


@pytest.mark.parametrize("column", ["id", "M_liver", "Q_kidney", "height", "species"])
def test_a_missing_column_is_named(column):
    refused(to_frame(cohort()).drop(columns=column), repr(column))


def test_a_misspelt_column_is_offered():
    refused(to_frame(cohort()).rename(columns={"M_liver": "M_livr"}), "M_liver", "'M_livr'")


def test_a_mass_of_no_known_organ_is_refused():
    refused(changed(M_livers=1.0), "M_livers", "'M_liver'")


@pytest.mark.parametrize(
    ("value", "shown"), [(-1.2, "-1.2"), (float("nan"), "no value"), (float("inf"), "inf")]
)
@pytest.mark.parametrize("column", ["M_liver", "Q_kidney", "BW"])
def test_a_number_that_cannot_be_is_refused_with_row_and_column(column, value, shown):
    frame = to_frame(cohort())
    frame.loc[2, column] = value
    refused(frame, column, "'p2'", shown)


def test_a_person_without_an_age_is_refused_and_an_animal_is_not():
    refused(changed(age=float("nan")), "age", "no value")
    assert torch.isnan(from_frame(to_frame(cohort(species="rat")).assign(age=np.nan)).physiology.age).all()


@pytest.mark.parametrize("letter", ["X", "male", "m"])
def test_an_unknown_sex_is_refused(letter):
    refused(changed(sex=["M", letter, "F", "F"]), "sex", "'p1'", repr(letter))


def test_a_repeated_id_is_refused():
    refused(changed(id=["a", "b", "b", "c"]), "repeats 'b'", "row 3")


def test_mixed_species_are_refused():
    refused(changed(species=["human", "rat", "human", "human"]), "mixes 'human', 'rat'")


def test_an_unknown_race_is_refused():
    refused(changed(race=["", "Martian", "", ""]), "race", "'Martian'")


def written(tmp_path, text, name="c.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def good(tmp_path):
    save_cohort(cohort(), tmp_path / "good.csv")
    return (tmp_path / "good.csv").read_text()


def file_refused(path, *words):
    with pytest.raises((ValueError, OSError)) as caught:
        load_cohort(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("text", ["", "\n\n", "# seed: 7\n"])
def test_an_empty_file_is_refused(tmp_path, text):
    file_refused(written(tmp_path, text), "c.csv", "empty")


def test_a_header_without_rows_is_refused(tmp_path):
    file_refused(written(tmp_path, good(tmp_path).splitlines()[0] + "\n"), "at least one row")


@pytest.mark.parametrize("formula", ["=1+1", "+cmd", "-cmd|x", "@SUM(A1)", '"=HYPERLINK(""x"")"'])
def test_a_csv_with_formulas_is_refused(tmp_path, formula):
    file_refused(written(tmp_path, good(tmp_path).replace("p1,", f"{formula},", 1)), "formula", "'id'")


def test_a_parquet_with_formulas_is_refused(tmp_path):
    changed(id=["a", "=b", "c", "d"]).to_parquet(tmp_path / "c.parquet")
    file_refused(tmp_path / "c.parquet", "formula", "'id'")


def test_a_semicolon_csv_with_decimal_commas_is_refused(tmp_path):
    text = good(tmp_path).replace(",", ";").replace(".", ",")
    file_refused(written(tmp_path, text), "semicolons", "decimal")


def test_a_quoted_decimal_comma_is_refused_with_its_cell(tmp_path):
    frame = to_frame(cohort()).astype(object)
    frame.loc[1, "BW"] = "70,5"
    frame.to_csv(tmp_path / "c.csv", index=False)
    file_refused(tmp_path / "c.csv", "BW", "'p1'", "'70,5'", "point")


def test_a_bare_decimal_comma_is_refused_with_its_line(tmp_path):
    lines = good(tmp_path).splitlines()
    lines[2] = lines[2].replace(".", ",", 1)
    file_refused(written(tmp_path, "\n".join(lines)), "line 3", "decimal comma")


@pytest.mark.parametrize("word", ["NA", ".", "NaN"])
def test_a_missing_number_as_r_and_nonmem_write_it_is_blank(tmp_path, word):
    frame = to_frame(cohort()).astype(object)
    frame.loc[3, "SCR"] = word
    frame.to_csv(tmp_path / "c.csv", index=False)
    assert load_cohort(tmp_path / "c.csv").physiology.SCR.isnan()[3]
    frame.loc[3, "BW"] = word
    frame.to_csv(tmp_path / "c.csv", index=False)
    file_refused(tmp_path / "c.csv", "BW", "'p3'", "has no value")


@pytest.mark.parametrize("word", ["heavy", "70 kg", "1e"])
def test_text_in_a_number_column_is_refused(tmp_path, word):
    frame = to_frame(cohort()).astype(object)
    frame.loc[3, "BW"] = word
    frame.to_csv(tmp_path / "c.csv", index=False)
    file_refused(tmp_path / "c.csv", "BW", "'p3'", repr(word))


def test_a_column_named_twice_is_refused(tmp_path):
    file_refused(written(tmp_path, good(tmp_path).replace("height", "age", 1)), "repeats 'age'")


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1" + 40 * b"\0" + b"PAR1"])
def test_a_damaged_parquet_is_refused(tmp_path, content):
    (tmp_path / "c.parquet").write_bytes(content)
    file_refused(tmp_path / "c.parquet", "c.parquet", "Parquet")


def test_a_truncated_parquet_is_refused(tmp_path):
    save_cohort(cohort(), tmp_path / "c.parquet")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "c.parquet").read_bytes()[:-100])
    file_refused(tmp_path / "t.parquet", "Parquet")


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "c.csv").write_bytes(good(tmp_path).encode().replace(b"p1", b"\xff\xfe", 1))
    file_refused(tmp_path / "c.csv", "UTF-8")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    file_refused(tmp_path / "none.csv", "none.csv")


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "c.csv").mkdir()
    file_refused(tmp_path / "c.csv", "folder")


def test_nothing_is_guessed_in_a_csv(tmp_path):
    table = read_table(written(tmp_path, "a,b\n2024-01-01,NA\n1e3,001\n"))
    assert table.frame.to_numpy().tolist() == [["2024-01-01", "NA"], ["1e3", "001"]]


def test_columns_are_the_organs_and_flows_of_the_house():
    assert len(MASS_COLUMNS) == 17 and len(FLOW_COLUMNS) == 15
    assert isinstance(to_frame(cohort()), pd.DataFrame)
