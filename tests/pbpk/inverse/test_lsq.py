"""Least squares: exact without noise, as good as theory allows with it, from any start, and honest."""

import dataclasses

import pytest
import torch
from torch import Tensor

from pbpk.inverse import InverseProblem, Noise, Unknown, load_problem, lsq, mcmc, xtfc
from pbpk.inverse.metrics import measure, metrics
from pbpk.inverse.profile import profile
from pbpk.inverse.solve import answer, fit


def b1() -> tuple[InverseProblem, Tensor]:
    recipe = load_problem("brain4-b1")
    problem = recipe.problem()
    return problem, problem.theta(recipe.true_values(problem))


@pytest.mark.parametrize(
    "name", ["brain4-b0", "brain4-b1", "two-compartment", "one-compartment-oral", "midazolam"]
)
def test_without_noise_the_truth_comes_back(name: str) -> None:
    recipe = load_problem(name)
    problem = recipe.problem()
    truth = problem.theta(recipe.true_values(problem))
    seen = problem.seen.with_values(problem.predict(truth))
    found = lsq.fit(problem.replace(seen=seen, noise=Noise(1e-3)), start=truth + 0.5, starts=1)
    assert found.converged and torch.allclose(found.theta, truth, atol=1e-4)


def test_b1_errors_are_those_of_the_cramer_rao_bound() -> None:
    """The median of |error| in standard deviations is 0.67 for a normal estimate; the bar is 1."""
    problem, truth = b1()
    sd = problem.information(truth).inverse().diagonal().sqrt()
    draw = torch.Generator().manual_seed(0)
    errors = []
    for seed in range(12):
        noisy = problem.simulated(truth, torch.Generator().manual_seed(seed))
        found = lsq.fit(noisy, start=noisy.starts(1, draw)[0], starts=1)
        errors.append((found.theta - truth).abs() / sd)
    assert float(torch.stack(errors).median()) < 0.85


def test_every_start_over_five_decades_converges() -> None:
    problem, truth = b1()
    noisy = problem.simulated(truth, torch.Generator().manual_seed(1))
    best = lsq.fit(noisy, start=truth, starts=1)
    starts = noisy.starts(15, torch.Generator().manual_seed(2))
    assert all(abs(lsq.fit(noisy, start=start, starts=1).cost - best.cost) < 1e-3 for start in starts)


def test_95_percent_intervals_hold_the_truth_of_93_to_97_percent_of_patients() -> None:
    """Sixty patients, three parameters each; experiments/least_squares.py has 200."""
    problem, centre = b1()
    draw = torch.Generator().manual_seed(3)
    held = []
    for _ in range(60):
        truth = centre + 0.2 * torch.randn(problem.K, generator=draw, dtype=torch.float64)
        found = lsq.fit(problem.simulated(truth, draw), start=centre, starts=1)
        held.append((found.lower <= problem.values(truth)) & (problem.values(truth) <= found.upper))
    assert 0.93 <= float(torch.stack(held).double().mean()) <= 0.97


def test_noise_of_unknown_size_is_estimated() -> None:
    recipe = load_problem("brain4-b1")
    noisy = recipe.simulated(4)
    loud = noisy.replace(noise=dataclasses.replace(noisy.noise, proportional=0.5, known=False))
    found = lsq.fit(loud)
    assert found.scale == pytest.approx(0.1, rel=0.25)
    assert found.rse.tolist() == pytest.approx(lsq.fit(noisy).rse.tolist(), rel=0.25)


@pytest.mark.parametrize("nominal", [0.005, 2.0])
def test_every_method_estimates_noise_of_unknown_size_however_bad_the_nominal_one(nominal: float) -> None:
    problem, truth = b1()
    noisy = problem.simulated(truth, torch.Generator().manual_seed(4))
    unknown = noisy.replace(noise=dataclasses.replace(noisy.noise, proportional=nominal, known=False))
    reference = lsq.fit(unknown)
    found = xtfc.fit(unknown, seed=1, reference=reference)
    assert found.distance(reference)["parameters"] < 0.2
    assert found.converged and found.scale == pytest.approx(reference.scale, rel=0.02)
    assert torch.allclose(found.upper - found.lower, reference.upper - reference.lower, rtol=0.1)


def test_a_search_that_stalls_far_from_the_optimum_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, truth = b1()
    noisy = problem.simulated(truth, torch.Generator().manual_seed(4))
    true_slopes = lsq.at

    def uphill(problem: InverseProblem, theta: Tensor) -> tuple[Tensor, Tensor]:
        f, J = true_slopes(problem, theta)
        return f, -J

    monkeypatch.setattr(lsq, "at", uphill)
    assert not lsq._refined(noisy, truth + 0.5)[3]


def test_values_below_the_limit_pull_less_than_zeros_would() -> None:
    recipe = load_problem("one-compartment")
    truth = recipe.problem()
    theta = truth.theta(recipe.true_values(truth))
    cut = truth.simulated(theta, torch.Generator().manual_seed(5), limit=1.3)
    assert int((cut.seen.limit > 0).sum()) == 2
    found = lsq.fit(cut)
    assert bool(((found.theta - theta).abs() < 3 * found.se).all())


def test_a_prior_is_what_remains_where_data_say_nothing() -> None:
    recipe = load_problem("one-compartment")
    noisy = recipe.simulated(6)
    known = {k: v for k, v in noisy.known.items() if k != "ka"}
    prior = Unknown("ka", 0.01, 100.0, mean=2.0, sd=0.3)
    found = lsq.fit(noisy.replace(known=known, unknowns=(*noisy.unknowns, prior)))
    assert found.estimates["ka"] == pytest.approx(2.0, rel=1e-6) and float(found.se[2]) == pytest.approx(0.3)


def test_an_estimate_on_a_bound_is_said() -> None:
    noisy = load_problem("one-compartment").simulated(7)
    tight = dataclasses.replace(noisy.unknowns[0], lower=4.0, upper=5.0, start=4.5)
    found = lsq.fit(noisy.replace(unknowns=(tight, noisy.unknowns[1])))
    assert found.on_bound == ("CL",) and "CL is on its bound" in found.messages[0]
    assert (float(found.lower[0]), float(found.upper[0])) == pytest.approx((4.0, 5.0))


def test_paracetamol_gives_the_sum_and_refuses_the_parts() -> None:
    """Over three seeds: always refused, the median error of the sum below 3 %."""
    recipe = load_problem("brain4-paracetamol")
    errors = []
    for seed in range(3):
        said = answer(recipe.simulated(seed))
        assert said.result.problem.names == ("PSb + PSc",) and set(said.gate.refused) == {"PSb", "PSc", "PSe"}
        errors.append(abs(float(said.result.values[0]) / 2.8125 - 1))
    assert sorted(errors)[1] < 0.03


def test_data_that_do_tell_the_parts_are_not_refused_by_the_starts() -> None:
    """A patient of benchmark B1 asked with paracetamol's starts, at which nothing could be told."""
    noisy = load_problem("brain4-b1").simulated(8)
    asked = load_problem("brain4-paracetamol").problem().unknowns
    said = answer(noisy.replace(unknowns=asked))
    assert said.gate.refused == () and said.result.estimates["PSe"] == pytest.approx(0.3, rel=0.3)


@pytest.mark.parametrize("name", ["brain4-b1", "one-compartment", "theophylline"])
@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_a_thousandfold_misfit_is_called_a_wrong_unit(name: str, factor: float) -> None:
    noisy = load_problem(name).simulated(9)
    wrong = noisy.replace(seen=dataclasses.replace(noisy.seen, value=noisy.seen.value * factor))
    with pytest.raises(ValueError, match=r"about 1,000 times too (high|low)"):
        answer(wrong)


def test_more_unknowns_than_data_are_refused() -> None:
    noisy = load_problem("two-compartment").simulated(1, times=(1.0, 2.0, 4.0))
    with pytest.raises(ValueError, match="at least as many observations as unknowns"):
        fit(noisy)


def test_metrics_are_within_2_percent_without_noise_and_their_median_within_5_with_it() -> None:
    problem, truth = b1()
    real = measure(problem, truth, points=3000)
    exact = problem.replace(seen=problem.seen.with_values(problem.predict(truth)))
    assert torch.allclose(measure(exact, lsq.fit(exact).theta), real, rtol=0.02)
    off = []
    for seed in range(8):
        noisy = problem.simulated(truth, torch.Generator().manual_seed(seed))
        off.append((measure(noisy, lsq.fit(noisy).theta) / real - 1).abs())
    assert float(torch.stack(off).median(0).values.max()) < 0.05


def test_metrics_of_one_compartment_are_its_closed_forms() -> None:
    recipe = load_problem("one-compartment")
    noisy = recipe.problem()
    theta = noisy.theta({"CL": 3.0, "V1": 30.0})
    exact = noisy.replace(seen=noisy.seen.with_values(noisy.predict(theta)), noise=Noise(1e-3))
    table = metrics(lsq.fit(exact)).set_index("metric")["estimate"]
    assert table["Cmax"] == pytest.approx(100 / 30, rel=1e-4)
    assert table["t_half"] == pytest.approx(10 * 0.693147, rel=1e-4)
    assert table["AUC"] == pytest.approx(100 / 3 * (1 - 2.718281828**-2.4), rel=1e-3)


def test_the_profile_of_a_well_told_parameter_agrees_with_its_interval() -> None:
    found = lsq.fit(load_problem("brain4-b1").simulated(10))
    low, high = profile(found, "PSb").interval
    assert (low, high) == pytest.approx((float(found.lower[0]), float(found.upper[0])), rel=0.01)


def test_sampling_agrees_with_least_squares() -> None:
    noisy = load_problem("one-compartment").simulated(11)
    reference = lsq.fit(noisy)
    sampled = mcmc.fit(noisy, reference=reference, steps=400, seed=1)
    assert sampled.distance(reference)["parameters"] < 0.3
    assert sampled.se.tolist() == pytest.approx(reference.se.tolist(), rel=0.2)
    assert not sampled.converged and "should run longer" in sampled.messages[0]


def test_many_people_are_sampled_at_once() -> None:
    people = [load_problem("one-compartment").simulated(seed) for seed in range(3)]
    for problem, sampled in zip(people, mcmc.fit_many(people, steps=250, seed=1), strict=True):
        reference = lsq.fit(problem)
        assert sampled.problem is problem and sampled.distance(reference)["parameters"] < 0.4
        assert sampled.se.tolist() == pytest.approx(reference.se.tolist(), rel=0.3)


def test_sampling_again_with_the_same_seed_gives_the_same() -> None:
    noisy = load_problem("one-compartment").simulated(11)
    first, second = (mcmc.fit(noisy, steps=20, seed=2).theta for _ in range(2))
    assert torch.equal(first, second)
