"""People of other countries: the published anthropometry comes out, in lawful bodies."""

import pytest
import torch

from vpop.__main__ import main
from vpop.judge import judge
from vpop.pcdm import PCDM
from vpop.populations import Stratum, load, names, sample


@pytest.fixture(scope="module")
def model() -> PCDM:
    return PCDM.load()


@pytest.fixture(scope="module")
def japan(model):
    return sample(model, "japan", 1500, seed=1)


def test_three_populations_ship_each_row_with_its_source():
    assert names() == ["china", "england", "japan"]
    assert all(len(load(name)) >= 4 for name in names())


def test_the_quartiles_of_japanese_men_and_women_come_out(japan):
    """30 to 49 years: Dietary Reference Intakes for Japanese 2025, reference tables 1 and 2."""
    body = japan.physiology
    for sex, height, BW in ((1, 171.8, 70.0), (0, 158.5, 53.3)):
        who = (body.sex == sex) & (body.age >= 30) & (body.age < 50)
        assert body.height[who].median().item() == pytest.approx(height, abs=1.2)
        assert body.BW[who].median().item() == pytest.approx(BW, abs=2.5)


def test_they_are_lawful_adults_and_few_draws_were_not(japan):
    assert judge(japan).rate == 0.0 and japan.provenance["outside"] < 0.05
    assert japan.physiology.age.min() >= 18


def test_the_same_seed_gives_the_same_people(model):
    first, again = (sample(model, "england", 20, seed=3, sex="F").physiology for _ in range(2))
    assert torch.equal(first.M, again.M) and first.sex.max() == 0


def test_a_mean_and_an_sd_are_met_and_ranks_kept():
    ours = (
        torch.exp(torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.1)
        * 80
    )
    carried = Stratum(1.0, (18, 80), "BW", {"mean": 60.0, "sd": 9.0}).carry(ours, ours)
    assert carried.mean().item() == pytest.approx(60.0, rel=1e-9)
    assert carried.std().item() == pytest.approx(9.0, rel=0.05)
    assert torch.equal(carried.argsort(), ours.argsort())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("M,18,80,height,170\n", "must give height and one of BW and BMI"),
        ("M,18,80,height,170\nM,18,80,BW,-3\n", "must be a finite number of 0 or more"),
        ("M,80,18,height,170\nM,80,18,BW,70\n", "from_age below to_age"),
        ("M,18,80,heigth,170\n", "Did you mean 'height'"),
        ("M,18,60,height,170\nM,18,60,BW,70\nM,40,80,height,170\nM,40,80,BW,70\n", "must not overlap"),
    ],
)
def test_a_table_that_cannot_be_is_refused(tmp_path, rows, words):
    path = tmp_path / "mine.csv"
    path.write_text("sex,from_age,to_age,quantity,mean\n" + rows, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load(str(path))


def test_a_band_too_narrow_to_know_the_ranks_of_is_refused(model, tmp_path):
    path = tmp_path / "mine.csv"
    bands = "".join(
        f"M,{a},{b},height,170\nM,{a},{b},BW,70\n" for a, b in ((18, 40), (40, 40.01), (40.01, 79))
    )
    path.write_text("sex,from_age,to_age,quantity,mean\n" + bands, encoding="utf-8")
    with pytest.raises(ValueError, match=r"but 40 to 40\.01 years holds"):
        sample(model, str(path), 5, age=(40, 40.005), sex="M")


def test_the_command_names_the_populations_it_has(tmp_path, capsys):
    out = tmp_path / "people.csv"
    assert main(["sample", "--population", "japam", "-n", "5", "-o", str(out)]) == 2
    assert "Did you mean 'japan'" in capsys.readouterr().err
    assert main(["sample", "--population", "japan", "--age", "5:9", "-n", "5", "-o", str(out)]) == 2
    assert main(["sample", "--population", "japan", "-n", "5", "-o", str(out)]) == 0
    assert out.exists()
