"""Animals drawn at random, and the command ``allometry sample``."""

from pathlib import Path

import numpy as np
import pytest
import torch

from allometry.__main__ import main
from allometry.cohorts import ANIMALS, _factor, sample, variation
from pbpk.bodies import reference_body
from pbpk.io import load_cohort
from pbpk.organs import ORGANS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("species", ANIMALS)
def test_masses_and_flows_close_exactly(species: str) -> None:
    body = sample(species, 200, generator=seeded()).physiology
    assert ((body.M.sum(-1) / body.BW - 1).abs() < 1e-14).all()
    assert ((body.Q.sum(-1) / body.CO - 1).abs() < 1e-14).all()
    assert (body.M > 0).all() and (body.Q >= 0).all()


@pytest.mark.parametrize("species", ANIMALS)
def test_a_cohort_lies_about_the_reference_body(species: str) -> None:
    body = sample(species, 2000, generator=seeded()).physiology
    reference = reference_body(species)
    for organ in ("skin", "blood", "muscle"):
        ratio = (body.mass(organ).median() / reference.mass(organ)).item()
        assert ratio == pytest.approx(1.0, abs=0.12), organ
    assert (body.CO.median() / reference.CO).item() == pytest.approx(1.0, abs=0.05)


def test_the_same_seed_draws_the_same_animals_and_another_does_not() -> None:
    first, again, other = (sample("rat", 5, generator=seeded(s)).physiology.M for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_no_generator_draws_anew() -> None:
    assert not torch.equal(sample("rat", 3).physiology.M, sample("rat", 3).physiology.M)


def test_spreads_and_correlations_are_those_of_the_table() -> None:
    spread = variation("rat")
    body = sample("rat", 20_000, torch.full((20_000,), 0.25, dtype=torch.float64), seeded()).physiology
    body = body[body.sex == 1.0]
    logs = {
        organ: body.mass(organ).log().numpy() for organ in ("brain", "heart", "kidney", "liver", "spleen")
    }
    for organ, values in logs.items():
        assert values.std() == pytest.approx(spread.terms[f"M_{organ}"].sd, rel=0.04)
    r = np.corrcoef(logs["kidney"], logs["liver"])[0, 1]
    assert r == pytest.approx(spread.correlation["M_kidney", "M_liver"], abs=0.04)


@pytest.mark.parametrize("species", ANIMALS)
def test_the_correlations_of_a_species_form_a_matrix(species: str) -> None:
    names = [f"M_{organ}" for organ in ORGANS]
    spread = variation(species)
    factor = _factor(names, spread)
    R = factor @ factor.T
    assert torch.allclose(R.diagonal(), torch.ones(17, dtype=torch.float64))
    for (a, b), r in spread.correlation.items():
        assert R[names.index(a), names.index(b)].item() == pytest.approx(r, abs=0.05)


def test_organs_follow_the_weight_by_their_exponents() -> None:
    light, heavy = (
        sample("rat", 4000, torch.full((4000,), BW, dtype=torch.float64), seeded()).physiology
        for BW in (0.2, 0.35)
    )
    exponent = (heavy.mass("liver") / light.mass("liver")).log().mean() / np.log(0.35 / 0.2)
    assert exponent.item() == pytest.approx(variation("rat").terms["M_liver"].exponent, abs=1e-9)


def test_the_command_writes_animals_in_the_range_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rats.csv"
    assert main(["sample", "rat", "-n", "50", "--BW", "0.2:0.35", "--seed", "3", "-o", str(path)]) == 0
    cohort = load_cohort(path)
    assert len(cohort) == 50 and cohort.physiology.species == "rat" and cohort.provenance["seed"] == 3
    assert cohort.physiology.BW.min() >= 0.2 and cohort.physiology.BW.max() <= 0.35


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["rt"],
            "SPECIES must be one of monkey, dog, pig, rabbit, rat, mouse, but is 'rt'. Did you mean 'rat'?",
        ),
        (["human"], "SPECIES must be one of"),
        (["rat", "--BW", "250:350"], "--BW must lie between 0.05 and 1.25 kg for a rat"),
        (["rat", "--BW", "0.3:0.2"], "the lighter first, but is '0.3:0.2'. Write 0.2:0.3"),
        (["rat", "--BW", "nan"], "argument --BW: must be LOW:HIGH in kg"),
        (["rat", "-o", "rats.xlsx"], "suffix of -o must be one of .csv, .parquet"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    out = [] if "-o" in arguments else ["-o", str(tmp_path / "x.csv")]
    try:
        code = main(["sample", *arguments, *out])
    except SystemExit as stop:  # the parser refuses
        code = int(stop.code or 0)
    err = capsys.readouterr().err
    assert code == 2 and words in err and err.count("\n") == 1 and not list(tmp_path.iterdir())
