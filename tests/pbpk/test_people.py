"""Who takes part: parts of a file are its rows, parts of a draw are independent and repeatable."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pbpk.bodies import reference_body
from pbpk.io import load_cohort, save_cohort, to_frame
from pbpk.people import Drawn, Listed, find
from pbpk.physiology import Cohort

ROWS = 25


@pytest.fixture(params=[".csv", ".parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    body = reference_body("human")
    tensors = {name: torch.stack([value] * ROWS) for name, value in body.tensors().items()}
    tensors["age"] = torch.linspace(20.0, 60.0, ROWS, dtype=torch.float64)
    cohort = Cohort(body.replace(**tensors), np.array([f"P{k}" for k in range(ROWS)], dtype=object), {"a": 1})
    path = tmp_path / f"people{request.param}"
    save_cohort(cohort, path)
    return path


def identity(file: Path, size: int) -> dict:
    people = find(str(file))
    return people.identity(people.part(0, 0, 1, seed=0), size)


def test_the_parts_of_a_file_are_its_rows(file: Path) -> None:
    people = find(str(file))
    whole = load_cohort(file)
    assert people.count == ROWS
    for start, stop in ((0, 10), (10, 20), (20, 25)):
        part = people.part(0, start, stop, seed=0)
        assert part.id.tolist() == whole.id[start:stop].tolist()
        assert torch.equal(part.physiology.age, whole.physiology.age[start:stop])


def test_row_groups_are_no_borders(tmp_path: Path, file: Path) -> None:
    whole = load_cohort(file)
    path = tmp_path / "groups.parquet"
    to_frame(whole).to_parquet(path, row_group_size=7)
    part = Listed(str(path)).part(0, 5, 16, seed=0)
    assert part.id.tolist() == whole.id[5:16].tolist()


def test_a_file_is_known_by_its_content(file: Path) -> None:
    said = identity(file, size=10)
    assert said["file"] == file.name and len(said["sha256"]) == 64 and said["provenance"] == {"a": 1}


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("id", "P0", "repeats 'P0'"),
        ("M_liver", -1.0, "M_liver must be a finite number"),
        ("sex", "x", "sex must be"),
    ],
)
def test_a_bad_row_is_found_wherever_it_stands(file: Path, column: str, value: object, words: str) -> None:
    frame = to_frame(load_cohort(file)).astype(object)
    frame.loc[ROWS - 1, column] = value
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        typed = frame.drop(columns=["id", "species", "sex"]).astype(float)
        pd.concat([frame[["id", "species", "sex"]].astype(str), typed], axis=1).to_parquet(file)
    with pytest.raises(ValueError, match=words):
        identity(file, size=10)


def test_mixed_species_are_refused(file: Path) -> None:
    frame = to_frame(load_cohort(file))
    frame["species"] = ["human"] * 15 + ["rat"] * 10
    frame.to_csv(file, index=False) if file.suffix == ".csv" else frame.to_parquet(file)
    with pytest.raises(ValueError, match="species must be the same in each row"):
        identity(file, size=15)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"bad\.parquet must be a Parquet file"):
        _ = find(str(tmp_path / "bad.parquet")).count


def test_a_species_is_its_reference_body() -> None:
    people = find("rat")
    assert people.count == 1 and people.part(0, 0, 1, 0).physiology.species == "rat"


def test_each_part_of_a_draw_is_its_own_and_repeats() -> None:
    people = Drawn("pcdm", (("age", "18:65"),))
    first, second = (people.part(number, 10 * number, 10 * number + 10, 3) for number in (0, 1))
    assert second.id.tolist() == [str(k) for k in range(11, 21)]
    assert not torch.isin(first.physiology.BW, second.physiology.BW).any()
    again = people.part(1, 10, 15, 3)
    assert torch.equal(again.physiology.M, second.physiology.M[:5])
    assert not torch.equal(people.part(0, 0, 10, 4).physiology.BW, first.physiology.BW)
