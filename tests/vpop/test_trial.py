"""Cohorts that have a trial's published figures."""

import numpy as np
import pytest

from vpop.__main__ import main
from vpop.balance import balance, systematic
from vpop.coordinates import Impossible
from vpop.judge import judge
from vpop.pcdm import PCDM
from vpop.request import body_table
from vpop.trial import Trial, match

PUBLISHED = {
    "n": 10,
    "repeats": 100,
    "sex": {"M": 0.75},
    "age": {"mean": 31.0, "sd": 7.0, "min": 18, "max": 50},
    "BW": {"mean": 76.0, "sd": 10.0},
    "height": {"median": 174.0},
}


@pytest.fixture(scope="module")
def model() -> PCDM:
    return PCDM.load()


@pytest.fixture(scope="module")
def found(model):
    return match(model, Trial.of(PUBLISHED), seed=1, pool=4000)


def test_the_weighted_pool_has_the_published_figures(found):
    table = found.table[found.table["figure"] != "height median"]
    assert np.allclose(table["weighted pool"], table["published"], rtol=1e-5)


def test_a_hundred_repeats_scatter_about_them_as_samples_do(found):
    age = found.table[found.table["figure"] == "age mean"].iloc[0]
    assert age["mean of repeats"] == pytest.approx(31.0, abs=4 * 7.0 / np.sqrt(1000))
    assert age["SD of repeats"] == pytest.approx(7.0 / np.sqrt(10), rel=0.25)


def test_ranges_hold_for_everyone_and_nobody_is_twice_in_a_repeat(found):
    body = found.cohort.physiology
    assert len(found.cohort) == 1000 and judge(found.cohort).rate == 0.0
    assert body.age.min() >= 18 and body.age.max() <= 50
    assert all(len(set(body.BW[i : i + 10].tolist())) == 10 for i in range(0, 1000, 10))


def test_weights_are_equal_where_nothing_is_asked():
    assert balance({"age": np.arange(5.0)}, []).tolist() == [0.2] * 5


def test_balance_is_the_exponential_tilt():
    """Of two values 0 and 1 the mean m gives them the weights 1 - m and m."""
    weights = balance({"age": np.array([0.0, 1.0])}, [("age", "mean", 0.3)])
    assert weights == pytest.approx([0.7, 0.3], abs=1e-6)


def test_the_chance_to_be_drawn_is_n_times_the_weight_and_nobody_is_twice():
    generator = np.random.default_rng(0)
    weights = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.25])
    drawn = np.stack([systematic(weights, 3, generator) for _ in range(8000)])
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert np.bincount(drawn.ravel()) / 8000 == pytest.approx(3 * weights, abs=0.02)


def test_a_trial_can_state_an_estimated_filtration(model):
    eGFR = {"mean": 88.0, "sd": 15.0, "min": 60.0}
    found = match(model, Trial.of({"n": 10, "repeats": 40, "age": {"min": 18}, "eGFR": eGFR}), seed=0)
    own = body_table(found.cohort.physiology)["eGFR"]
    assert own.min() >= 60 and own.mean() == pytest.approx(88.0, abs=3.0)


def test_figures_that_their_rounding_contradicts_are_not_met_by_one_giant(model):
    """Mean weight, height and BMI ask that the tall be lean; the SD of weight, that they be heavy."""
    said = {"BW": (79.7, 10.8), "height": (173.5, 6.2), "BMI": (26.5, 2.9), "age": (35.3, 9.9)}
    figures = {column: {"mean": mean, "sd": sd} for column, (mean, sd) in said.items()}
    figures["age"] |= {"min": 19, "max": 55}
    found = match(model, Trial.of({"n": 24, "repeats": 100, "sex": {"M": 1.0}, **figures}), seed=0)
    weight = found.cohort.physiology.BW.reshape(100, 24)
    assert 9.0 < weight.std(1).median() < 12.0 and weight.std(1).max() < 18.0
    assert weight.max() < 79.7 + 6 * 10.8


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"n": 10, "sex": {"M": 60}}, "Divide per cent by 100"),
        ({"n": 10, "bw": {"mean": 70}}, "Did you mean 'BW'"),
        ({"BW": {"mean": 70}}, "must say n"),
        ({"n": 0}, "whole number"),
        ({"n": 10, "BW": {"sd": 7}}, "must come with a mean"),
        ({"n": 10, "BW": {"mean": -7}}, "must be positive"),
        ({"n": 10, "age": {"mean": 70, "max": 65}}, "within min and max"),
        ({"n": 10, "age": {"max": 95}}, "at most 80"),
        ({"n": 10, "race": {"Other": 0.7, "Non-Hispanic White": 0.7}}, "sum to 1"),
        ({"n": 10, "age": 40}, "must give figures"),
        ({"n": 10, "BW": {"mean": "70"}}, "must be a number"),
    ],
)
def test_what_a_trial_cannot_say_is_refused(said, words):
    with pytest.raises(ValueError, match=words):
        Trial.of(said)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"n": 5, "age": {"min": 18}, "BW": {"mean": 20}}, "lies below everyone drawn there"),
        (
            {"n": 5, "BW": {"mean": 70, "sd": 5}, "height": {"mean": 180, "sd": 1}, "BMI": {"mean": 30}},
            "together",
        ),
        ({"n": 5, "SCR": {"mean": 0.9}}, r"give \[age\] a min"),
    ],
)
def test_figures_that_nobody_has_are_refused(model, said, words):
    with pytest.raises(Impossible, match=words):
        match(model, Trial.of(said), pool=2000)


def test_the_command_prints_the_mismatch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vpop.trial.POOL", 500)
    (tmp_path / "trial.toml").write_text("n = 6\nrepeats = 2\n[age]\nmean = 40\nmin = 18\n", encoding="utf-8")
    out = tmp_path / "trial.csv"
    assert main(["sample", "--match", str(tmp_path / "trial.toml"), "-o", str(out)]) == 0
    assert "age mean" in capsys.readouterr().out and out.exists()
    assert main(["sample", "--match", str(tmp_path / "trial.toml"), "-n", "3", "-o", str(out)]) == 2
