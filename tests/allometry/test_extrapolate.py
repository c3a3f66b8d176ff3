"""Human kinetics foretold from animals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from allometry import extrapolate
from allometry.drugs import Drugs, read_drugs
from allometry.extrapolate import METHODS, Extrapolation, folds, observed, predict, shipped


def drugs(**columns: list[float]) -> Drugs:
    values = {tuple(reversed(name.split("_"))): np.array(column, float) for name, column in columns.items()}
    n = len(next(iter(columns.values())))
    return Drugs(np.array([f"d{i}" for i in range(n)], dtype=object), values)


@pytest.mark.parametrize("log_human", [-2.0, 6.0])
def test_human_values_are_never_looked_at(log_human: float) -> None:
    with_human = drugs(
        rat_CL=[30.0], dog_Vss=[1.0], human_CL=[np.exp(log_human)], human_Vss=[np.exp(log_human)]
    )
    without = drugs(rat_CL=[30.0], dog_Vss=[1.0])
    pd.testing.assert_frame_equal(predict(with_human), predict(without))


def test_a_second_species_changes_the_value_and_says_so() -> None:
    table = predict(drugs(rat_CL=[30.0, 30.0], monkey_CL=[np.nan, 3.0]))
    assert table["human_CL"][1] < table["human_CL"][0]
    assert table["species"].tolist() == ["rat", "monkey+rat"]
    assert "CL rests on rat alone" in table["note"][0] and "alone" not in table["note"][1].split(";")[0]


def test_one_species_gives_a_wider_interval_than_three() -> None:
    table = predict(drugs(rat_CL=[30.0, 30.0], monkey_CL=[np.nan, 12.0], dog_CL=[np.nan, 9.0]))
    width = np.log(table["human_CL_upper"] / table["human_CL_lower"])
    assert width[0] > width[1]


def test_a_batch_is_its_rows() -> None:
    both = drugs(rat_CL=[30.0, 5.0], dog_CL=[np.nan, 2.0], rat_Vss=[1.0, np.nan], human_fu=[0.1, 0.2])
    alone = [predict(both.take(np.array([i]))) for i in range(2)]
    joined = pd.concat(alone, ignore_index=True)
    pd.testing.assert_frame_equal(predict(both), joined, check_exact=False, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_for_three_species(method: str) -> None:
    known = drugs(rat_CL=[30.0], dog_CL=[9.0], monkey_CL=[12.0], rat_fu=[0.2], human_fu=[0.1])
    row = predict(known, method).iloc[0]
    assert 0.0 < row["human_CL_lower"] < row["human_CL"] < row["human_CL_upper"]


def test_half_life_is_that_of_volume_and_clearance() -> None:
    row = predict(drugs(rat_CL=[30.0], rat_Vss=[1.0])).iloc[0]
    assert row["human_t_half"] == pytest.approx(np.log(2) * row["human_Vss"] / (row["human_CL"] * 0.06))


def test_wider_levels_contain_narrower_ones() -> None:
    known = drugs(rat_CL=[30.0], dog_CL=[9.0])
    widths = [predict(known, level=level)["human_CL_upper"][0] for level in extrapolate.LEVELS]
    assert widths == sorted(widths)


def test_a_species_that_is_not_read_is_named() -> None:
    table = predict(drugs(mouse_CL=[30.0]))
    assert np.isnan(table["human_CL"][0]) and "mouse not read by this method" in table["note"][0]
    assert predict(drugs(mouse_CL=[30.0]), "fixed")["human_CL"][0] > 0


def test_a_value_beyond_those_seen_is_noted() -> None:
    assert "rat CL lies outside" in predict(drugs(rat_CL=[5000.0]))["note"][0]


def test_what_is_saved_reads_back(tmp_path: Path) -> None:
    shipped().save(tmp_path / "again.json")
    again = Extrapolation.load(tmp_path / "again.json")
    known = drugs(rat_CL=[30.0], dog_Vss=[2.0])
    pd.testing.assert_frame_equal(predict(known, model=again), predict(known))


def simulated(n: int, seed: int) -> Drugs:
    """Drugs whose logarithms are jointly normal, of which a third of the animal values are not known."""
    generator = np.random.default_rng(seed)
    columns = {}
    for quantity in ("CL", "Vss"):
        common = generator.normal(0.0, 1.2, n)
        for species, sd in (("rat", 0.9), ("dog", 0.7), ("monkey", 0.5), ("human", 0.4)):
            value = np.exp(common + generator.normal(0.0, sd, n))
            known = (generator.random(n) > 0.33) | (species in ("rat", "human"))
            columns[f"{species}_{quantity}"] = np.where(known, value, np.nan)
    return drugs(**columns)


def test_intervals_cover_drugs_that_were_not_learnt_from() -> None:
    model = extrapolate.fit(simulated(250, seed=1))
    fresh = simulated(2000, seed=2)
    for quantity in extrapolate.QUANTITIES:
        _, lower, upper = model.interval(fresh, quantity)
        truth = observed(fresh, quantity)
        assert np.mean((lower <= truth) & (truth <= upper)) == pytest.approx(0.9, abs=0.04)


@pytest.mark.data
def test_the_visible_drugs_are_foretold_within_the_bars(data_folder: Path) -> None:
    path = data_folder / "drugs" / "e2e_eval.csv"
    held_out = pd.read_csv(path, usecols=["hidden_holdout"])["hidden_holdout"].to_numpy(bool)
    visible = read_drugs(path).take(np.flatnonzero(~held_out))
    error = {quantity: np.full(len(visible), np.nan) for quantity in ("CL", "Vss")}
    for train, test in folds(len(visible), 5, 0):
        model = Extrapolation(extrapolate.laws_of(visible.take(train)), {}, {}, {})
        for quantity, column in error.items():
            part = visible.take(test)
            column[test] = model.foretell(part, quantity).centre - np.log(observed(part, quantity))
    assert np.exp(np.nanmean(np.abs(error["CL"]))) < 2.20
    assert np.exp(np.nanmean(np.abs(error["Vss"]))) < 1.80


@pytest.mark.data
def test_the_shipped_numbers_are_of_the_visible_drugs_alone(data_folder: Path) -> None:
    path = data_folder / "drugs" / "e2e_eval.csv"
    held_out = pd.read_csv(path, usecols=["hidden_holdout"])["hidden_holdout"].to_numpy(bool)
    again = extrapolate.laws_of(read_drugs(path).take(np.flatnonzero(~held_out)))
    for name, law in shipped().laws.items():
        assert np.allclose(law.mean, again[name].mean) and np.allclose(law.scale, again[name].scale)
