"""The reference population: NHANES tables read right, and bad ones refused in one line."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pbpk.laws import violations
from pbpk.physiology import RACES
from vpop.reference import COLUMNS, load_nhanes, load_nhanes_xpt, load_reference, people

HEADER = "seqn,sddsrvyr,riagendr,ridreth1,ridexagm,sdmvpsu,sdmvstra,ridexagy,bmxwt,lbxscr,lbxhct,wtmec6yr"
HEADER += ",bmxhtlenavg"
ROWS = (
    "1,NHANES 2013-2014,Male,Non-Hispanic White,480,1,1,40,80,0.9,45,20000,176",
    "2,NHANES 2013-2014,Female,Non-Hispanic Black,361,1,1,30,70,0.7,39,5000,163",
    "3,NHANES 2015-2016,Female,Mexican American,6,1,1,0,7.3,,,3000,66",
    "4,NHANES 2017-2018,Male,Other,96,1,1,8,26,,38,7000,128",
    "5,NHANES 2017-2018,Male,Other Hispanic,600,1,1,50,300,1.0,44,8000,170",  # BMI 104: outside C09 and C10
    "6,NHANES 2017-2018,Male,Other Hispanic,600,1,1,50,,1.0,44,8000,170",  # no weight
)


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "nhanes.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def nhanes(tmp_path: Path) -> Path:
    return table(tmp_path, *ROWS)


def test_a_person_is_read_in_canonical_units(nhanes):
    frame = load_nhanes(nhanes)
    assert tuple(frame.columns) == COLUMNS
    man = frame.loc[1]
    assert (man.sex, man.race) == ("M", "Non-Hispanic White")
    assert [man.height, man.BW, man.HCT, man.SCR, man.weight] == [176.0, 80.0, 0.45, 0.9, 20000.0]


def test_age_is_the_middle_of_the_completed_month(nhanes):
    frame = load_nhanes(nhanes)
    assert frame.age.loc[[1, 3]].tolist() == pytest.approx([480.5 / 12, 6.5 / 12])


def test_age_without_months_is_the_middle_of_the_year(tmp_path):
    frame = load_nhanes(table(tmp_path, ROWS[0].replace(",480,", ",,")))
    assert frame.age.loc[1] == 40.5


def test_what_was_not_measured_is_nan(nhanes):
    infant = load_nhanes(nhanes).loc[3]
    assert np.isnan(infant.HCT)
    assert np.isnan(infant.SCR)


def test_who_is_incomplete_or_outside_the_laws_is_removed_and_counted(nhanes):
    frame = load_nhanes(nhanes)
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame.attrs["removed"] == {"no height or weight": 1, "outside the laws C09, C10, C11": 1}
    kept = load_nhanes(nhanes, keep_unlawful=True)
    assert kept.index.tolist() == [1, 2, 3, 4, 5]
    assert kept.attrs["removed"] == {"no height or weight": 1}


def test_people_are_the_rows_in_order(nhanes):
    who = people(load_nhanes(nhanes))
    assert who.sex.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert [RACES[i] for i in who.race] == [
        "Non-Hispanic White",
        "Non-Hispanic Black",
        "Mexican American",
        "Other",
    ]
    assert who.HCT.isnan().tolist() == [False, False, True, False]


def test_reference_is_lawful_bodies_with_the_weights_of_their_people(nhanes):
    cohort, weights = load_reference(nhanes, seed=3, copies=1)
    assert cohort.id.tolist() == ["1-1", "2-1", "3-1", "4-1"]
    assert weights.tolist() == [20000.0, 5000.0, 3000.0, 7000.0]
    assert violations(cohort).rate == 0.0
    assert cohort.physiology.BW.tolist() == pytest.approx([80.0, 70.0, 7.3, 26.0], abs=0.05)
    assert cohort.provenance["seed"] == 3
    assert cohort.provenance["removed"]["no height or weight"] == 1


def test_the_same_seed_gives_the_same_reference(nhanes):
    first, second, other = (load_reference(nhanes, seed=seed)[0].physiology.M for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_cohort_file_is_a_reference_with_equal_weights(nhanes, tmp_path):
    from pbpk.io import save_cohort

    cohort, _ = load_reference(nhanes, copies=1)
    save_cohort(cohort, tmp_path / "cohort.csv")
    again, weights = load_reference(tmp_path / "cohort.csv")
    assert torch.equal(again.physiology.M, cohort.physiology.M)
    assert weights.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ROWS, HEADER.replace("bmxwt", "weight"), "must have the columns .* but lacks bmxwt"),
        ((), HEADER, "must have people with height and weight, but has none"),
        ((), "", "cannot be read"),
        ((ROWS[0].replace("176", '"17,6"'),), HEADER, "column bmxhtlenavg must hold numbers .* '17,6'"),
        ((ROWS[0].replace("176", "1.76"),), HEADER, r"median height .* is 1.76: give centimetres"),
        ((ROWS[0].replace(",80,", ",80000,"),), HEADER, "median BW .* is 80000: give kilograms"),
        ((ROWS[0].replace(",45,", ",0.45,"),), HEADER, "median HCT .* is 0.0045: give per cent"),
        ((ROWS[0].replace("Male", "male"),), HEADER, "column riagendr must be one of Male, Female, but"),
        ((ROWS[0].replace("White", "Green"),), HEADER, "column ridreth1 must be one of .*Green"),
    ],
    ids=["column", "empty", "blank", "comma", "metres", "grams", "fraction", "sex", "race"],
)  # fmt: skip
def test_a_malformed_table_is_refused_in_one_line(tmp_path, rows, header, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_nhanes(table(tmp_path, *rows, header=header))
    assert "\n" not in str(caught.value).strip()


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent\.csv"):
        load_nhanes(tmp_path / "absent.csv")


# --- CDC's own files, written here in the SAS transport format (version 5)


def ibm(value: float) -> bytes:
    """Returns the IBM hexadecimal double of a number; a point where it is missing."""
    if np.isnan(value):
        return b"." + bytes(7)
    if value == 0:
        return bytes(8)
    exponent = 0
    fraction = abs(value)
    while fraction >= 1:
        fraction, exponent = fraction / 16, exponent + 1
    while fraction < 1 / 16:
        fraction, exponent = fraction * 16, exponent - 1
    sign = 0x80 if value < 0 else 0
    return bytes([sign | (exponent + 64)]) + int(fraction * 2**56).to_bytes(7, "big")


def write_xpt(path: Path, columns: Mapping[str, list[float]]) -> None:
    """Writes a table of numbers as SAS transport, as CDC does."""
    stamp = b"01JAN20:00:00:00"

    def header(kind: str, tail: str = "0" * 30) -> bytes:
        return f"HEADER RECORD*******{kind:8}HEADER RECORD!!!!!!!{tail}".ljust(80).encode()

    out = header("LIBRARY") + b"SAS     SAS     SASLIB  9.4     X64".ljust(64) + stamp + stamp.ljust(80)
    out += header("MEMBER", "000000000000000001600000000140") + header("DSCRPTR")
    out += b"SAS     DATA    SASDATA 9.4     X64".ljust(64) + stamp + stamp.ljust(80)
    out += header("NAMESTR", f"000000{len(columns):04}00000000000000000000")
    names = b"".join(
        struct.pack(">hhhh8s40s8shhh2s8shhl52s", 1, 0, 8, at + 1, name.encode().ljust(8), b" " * 40, b" " * 8,
                    0, 0, 0, b"  ", b" " * 8, 0, 0, 8 * at, bytes(52))
        for at, name in enumerate(columns)
    )  # fmt: skip
    rows = b"".join(ibm(float(value)) for row in zip(*columns.values(), strict=True) for value in row)
    for block in (names, header("OBS") + rows):
        out += block + b" " * (-len(block) % 80)
    path.write_bytes(out)


NONE = float("nan")
DEMO = {
    "SEQN": [11, 12, 13, 14, 15],
    "RIAGENDR": [1, 2, 1, 2, 2],
    "RIDRETH1": [3, 4, 1, 5, 2],
    "RIDAGEYR": [44, 80, 1, 3, 28],
    "RIDEXAGM": [NONE, NONE, 14, 40, NONE],
    "RIDEXPRG": [NONE, NONE, NONE, NONE, 1],
    "WTMEC2YR": [30000.0, 10000.0, 4000.0, 5000.0, 6000.0],
}
BMX = {
    "SEQN": [11, 12, 13, 14, 15],
    "BMXWT": [82.5, 63.0, 10.4, 15.5, 75.0],
    "BMXHT": [178.0, 158.0, NONE, 98.0, 164.0],
    "BMXRECUM": [NONE, NONE, 79.0, 99.0, NONE],
}
BIOPRO = {"SEQN": [11, 12, 15], "LBXSCR": [0.95, 0.8, 0.6]}
CBC = {"SEQN": [11, 13, 12], "LBXHCT": [44.5, 36.5, 39.0]}


def cycle(folder: Path, suffix: str = "H", shift: int = 0, **changes: list[float]) -> Path:
    for kind, columns in {"DEMO": DEMO, "BMX": BMX, "BIOPRO": BIOPRO, "CBC": CBC}.items():
        shifted = {
            name: [v + shift for v in values] if name == "SEQN" else values
            for name, values in columns.items()
        }
        write_xpt(
            folder / f"{kind}_{suffix}.XPT", shifted | {k: v for k, v in changes.items() if k in columns}
        )
    return folder


def test_four_files_of_a_cycle_are_merged_on_the_person(tmp_path):
    frame = load_nhanes_xpt(cycle(tmp_path))
    assert frame.index.tolist() == [11, 12, 13, 14]
    man = frame.loc[11]
    assert (man.sex, man.race) == ("M", "Non-Hispanic White")
    assert [man.age, man.height, man.BW, man.HCT, man.SCR] == pytest.approx([44.5, 178.0, 82.5, 0.445, 0.95])
    assert frame.HCT.loc[[12, 13]].tolist() == pytest.approx([0.39, 0.365])


def test_eighty_stands_for_all_who_are_older(tmp_path):
    assert load_nhanes_xpt(cycle(tmp_path)).age.loc[12] == 80.0


def test_children_are_measured_lying_under_two_years_and_standing_from_then_on(tmp_path):
    frame = load_nhanes_xpt(cycle(tmp_path))
    assert frame.height.loc[[13, 14]].tolist() == [79.0, 98.0]
    assert frame.age.loc[[13, 14]].tolist() == pytest.approx([14.5 / 12, 40.5 / 12])


def test_pregnant_women_are_left_out_and_counted(tmp_path):
    frame = load_nhanes_xpt(cycle(tmp_path))
    assert 15 not in frame.index
    assert frame.attrs["removed"]["pregnant"] == 1


def test_weights_of_several_cycles_are_averaged(tmp_path):
    cycle(tmp_path, "H")
    frame = load_nhanes_xpt(cycle(tmp_path, "I", shift=100))
    assert frame.index.tolist() == [11, 12, 13, 14, 111, 112, 113, 114]
    assert frame.weight.loc[[11, 111]].tolist() == pytest.approx([15000.0, 15000.0])


def test_a_missing_file_of_a_cycle_is_named(tmp_path):
    (cycle(tmp_path) / "CBC_H.XPT").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold CBC_H\.XPT beside DEMO_H\.XPT.*download it"):
        load_nhanes_xpt(tmp_path)


def test_a_file_that_is_not_sas_transport_is_named(tmp_path):
    (cycle(tmp_path) / "BMX_H.XPT").write_text("<html>Page not found</html>")
    with pytest.raises(ValueError, match=r"BMX_H\.XPT must be CDC's SAS transport file"):
        load_nhanes_xpt(tmp_path)


def test_a_folder_without_cdc_files_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"DEMO_\*\.XPT"):
        load_nhanes_xpt(tmp_path)


def test_a_person_who_comes_twice_is_refused(tmp_path):
    cycle(tmp_path, "I")
    with pytest.raises(ValueError, match="SEQN 11 comes twice: cycles overlap"):
        load_nhanes_xpt(cycle(tmp_path, "J"))


def test_a_folder_of_cdc_files_is_a_reference(tmp_path):
    cohort, weights = load_reference(cycle(tmp_path), copies=1)
    assert cohort.id.tolist() == ["11-1", "12-1", "13-1", "14-1"]
    assert weights.tolist() == pytest.approx([30000.0, 10000.0, 4000.0, 5000.0])


def test_copies_are_other_bodies_of_the_same_people_within_the_survey_s_rounding(nhanes):
    cohort, weights = load_reference(nhanes, copies=3)
    body, people = cohort.physiology, len(cohort) // 3
    assert weights.tolist() == weights[:people].tolist() * 3
    for value, step in ((body.height, 0.1), (body.BW, 0.1)):
        value = value.reshape(3, people)
        assert 0 < (value.amax(0) - value.amin(0)).max() <= step
    assert (body.mass("liver").reshape(3, people).std(0) > 0).all()


@pytest.mark.data
def test_nhanes_has_15821_complete_people_of_whom_few_are_outside_the_laws(data_folder):
    path = data_folder / "nhanes" / "nhanes_2013_2018.csv"
    everyone, frame = load_nhanes(path, keep_unlawful=True), load_nhanes(path)
    assert len(everyone) == 15_821
    assert frame.attrs["removed"] == {"no height or weight": 0, "outside the laws C09, C10, C11": 77}
    assert len(frame) == 15_821 - 77
    assert frame.SCR[frame.age < 12].isna().all()
    assert frame.HCT[frame.age < 1].isna().all()
    assert frame.HCT[frame.age >= 1].notna().all()
    assert isinstance(frame, pd.DataFrame)
