"""The command ``allometry map``."""

from pathlib import Path

import pytest
import torch

from allometry.__main__ import main
from pbpk.bodies import reference_body
from pbpk.io import load_cohort


def test_map_writes_a_cohort_that_closes_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "human.csv"
    assert main(["map", "rat", "human", "--BW", "70", "-o", str(path)]) == 0
    cohort = load_cohort(path)
    body = cohort.physiology
    assert body.species == "human" and body.BW.tolist() == [70.0] and cohort.id.tolist() == ["rat-1"]
    assert body.M.sum(-1).item() == pytest.approx(70.0, rel=1e-13)
    assert body.Q.sum(-1).item() == pytest.approx(body.CO.item(), rel=1e-13)
    assert cohort.provenance["conditions"]["from"] == "rat"


def test_map_to_an_animal_reads_back_too(tmp_path: Path) -> None:
    path = tmp_path / "dog.parquet"
    assert main(["map", "human", "dog", "--method", "fixed", "-o", str(path)]) == 0
    assert load_cohort(path).physiology.BW.item() == 10.5


def test_map_prints_the_body_its_image_and_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "rat", "human", "--BW", "70", "--method", "fixed"]) == 0
    out, err = capsys.readouterr()
    liver = next(line for line in out.splitlines() if line.startswith("liver")).split()
    assert liver[1:4] == ["0.00915", "2.56", "1.8"]
    assert err == "" and len(out.splitlines()) < 25


def test_the_fitted_law_prints_the_spread_between_species(capsys: pytest.CaptureFixture[str]) -> None:
    main(["map", "rat", "human", "--model", "power"])
    assert "x/:1.19" in capsys.readouterr().out  # e^sd of the liver


def test_samples_are_a_cohort_that_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "human.csv"
    more = ["--samples", "5", "--given", "M_brain=1.4,CO=390", "--seed", "3", "-o", str(path)]
    assert main(["map", "rat", "human", "--BW", "70", *more]) == 0
    cohort = load_cohort(path)
    assert len(cohort) == 5 and cohort.provenance["conditions"]["given"] == {"M_brain": 1.4, "CO": 390.0}
    assert cohort.physiology.mass("brain").mean().item() == pytest.approx(1.4, rel=0.08)


def test_another_species_is_mapped_by_its_clade(capsys: pytest.CaptureFixture[str]) -> None:
    """A guinea pig of 0.7 kg has a brain of 4 to 5 g."""
    request = ["rat", "guinea pig", "--BW", "0.7", "--clade", "Rodentia,Caviidae"]
    assert main(["map", *request]) == 0
    out = capsys.readouterr().out
    brain = next(line for line in out.splitlines() if line.startswith("brain")).split()
    assert float(brain[2]) == pytest.approx(0.0047, rel=0.25)


def test_a_weight_far_outside_those_seen_warns_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "rat", "human", "--BW", "10000"]) == 0
    err = capsys.readouterr().err
    assert "0.025 to 66.2 kg" in err and err.count("\n") == 1


def code(arguments: list[str]) -> int:
    """The exit code, whether the parser or the action refuses."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rt", "human"], "FROM must be one of human, monkey, dog, pig, rabbit, rat, mouse, but is 'rt'."),
        (["rat", "humn"], "TO must be one of"),
        (["rat", "human", "--BW", "0"], "argument --BW: must be a positive number of kg"),
        (["rat", "human", "--method", "nural"], "method must be one of neural, hierarchical, power, fixed"),
        (["rat", "human", "--given", "brain=1"], "--given must name quantities of a body, but has 'brain'."),
        (["rat", "human", "--given", "M_brain"], "argument --given: must read NAME=VALUE"),
        (["rat", "human", "--given", "M_brain=1400"], "--given must hold masses in kg below BW"),
        (["rat", "human", "--given", "CO=-1"], "--given must hold positive numbers, but CO is -1"),
        (["rat", "human", "--given", "HCT=45"], "--given must hold HCT as a fraction, but it is 45"),
        (["rat", "human", "--model", "power", "--samples", "9"], "--samples must be left out"),
        (["rat", "human", "--BW", "70", "--adult", "60"], "--adult must be the adult weight in kg"),
        (["rat", "human", "--clade", "Primates"], "--clade must be left out for 'human'"),
        (["rat", "gerbil", "--clade", "Rodentia"], "or another species with BW and clade"),
        (["rat", "gerbil", "--BW", "0.06", "--clade", "Rodent"], "Did you mean 'Rodentia'?"),
        (["rat", "gerbil", "--BW", "0.06", "--clade", ","], "--clade must be an order"),
        (["rat", "rat"], "TO must be another species"),
        (["rat", "human", "-o", "out.txt"], "suffix of out.txt must be one of .csv, .parquet"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert code(["map", *arguments]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.startswith("allometry") and err.count("\n") == 1
    assert out == ""


def test_a_folder_that_is_not_there_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "missing" / "human.csv"
    assert main(["map", "rat", "human", "-o", str(path)]) == 2
    assert "must be writable" in capsys.readouterr().err
    assert not path.parent.exists()


def test_the_file_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.csv", "b.csv")]
    for path in paths:
        main(["map", "rat", "human", "--BW", "70", "-o", str(path)])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert torch.isfinite(load_cohort(paths[0]).physiology.M).all()
    assert reference_body("human").M.shape == (17,)
