"""Inverse problems: the exact solution, its derivatives, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pbpk.bodies import reference_body
from pbpk.compound import Compound
from pbpk.inverse import Given, InverseProblem, Noise, Seen, Unknown, load_problem, slopes
from pbpk.inverse.compartments import Compartmental
from pbpk.inverse.structural import settled
from pbpk.inverse.whole_body import WholeBody
from pbpk.simulate import simulate


def truth(name: str) -> tuple[InverseProblem, Tensor]:
    recipe = load_problem(name)
    problem = recipe.problem()
    return problem, problem.theta(recipe.true_values(problem))


@given(CL=st.floats(0.5, 50), V=st.floats(5, 200), ka=st.floats(0.2, 5), duration=st.sampled_from([0.0, 0.7]))
def test_one_compartment_is_its_closed_form(CL: float, V: float, ka: float, duration: float) -> None:
    where = "plasma" if duration else "depot"
    times = [0.3, 1.0, 5.0]
    problem = InverseProblem(
        Compartmental(), {"F": 1.0, "ka": ka}, (Unknown("CL"), Unknown("V1")),
        (Given(0.0, 100.0, duration, where),), Seen.design(times, ["plasma"]),
    )  # fmt: skip
    k, t = CL / V, np.array(times)
    if duration:
        given_for = np.minimum(t, duration)
        closed = 100 / duration / CL * (1 - np.exp(-k * given_for)) * np.exp(-k * (t - given_for))
    elif abs(ka - k) < 1e-3:
        return
    else:
        closed = 100 * ka / (V * (ka - k)) * (np.exp(-k * t) - np.exp(-ka * t))
    found = problem.predict(problem.theta({"CL": CL, "V1": V})).numpy()
    assert np.allclose(found, closed, rtol=1e-9)


@pytest.mark.parametrize("name", ["brain4-b0", "brain4-b1", "one-compartment-oral", "theophylline"])
def test_a_batch_of_n_equals_n_singles(name: str) -> None:
    problem, theta = truth(name)
    many = theta + torch.linspace(-0.3, 0.2, 3, dtype=torch.float64)[:, None]
    assert torch.allclose(problem.predict(many), torch.stack([problem.predict(t) for t in many]), rtol=1e-9)


@pytest.mark.parametrize("name", ["brain4-b0", "brain4-b1", "two-compartment", "midazolam"])
def test_the_fast_slopes_are_those_of_both_modes_of_differentiation(name: str) -> None:
    problem, theta = truth(name)
    f, J = slopes.predict(problem, theta.numpy())
    forward = problem.jacobian(theta)
    reverse = torch.autograd.functional.jacobian(problem.predict, theta)
    size = np.abs(J).max()
    assert np.allclose(f, forward[0], rtol=1e-8, atol=1e-9 * f.max())
    assert np.allclose(J, forward[1], atol=1e-8 * size) and np.allclose(J, reverse, atol=1e-8 * size)


def test_a_Kp_that_is_no_straight_line_in_fup_takes_the_compounds_own_and_no_other() -> None:
    body = reference_body("human")
    model = WholeBody(body, Compound.load("midazolam"), Kp_method="berezhkovskiy")
    known = {name: value for name, value in model.defaults().items() if name != "CLint"}
    problem = InverseProblem(
        model, known, (Unknown("CLint"),), (Given(0.0, 7.5),), Seen.design([1.0, 4.0], ["plasma"])
    )
    theta = problem.theta({"CLint": model.defaults()["CLint"]})
    simulation = simulate(body, "midazolam", "7.5 mg iv", [1.0, 4.0], Kp_method="berezhkovskiy")
    assert torch.allclose(problem.predict(theta), simulation.concentration(), rtol=1e-9)
    with pytest.raises(ValueError, match="fup must be the compound's own"):
        problem.replace(known={**known, "fup": 0.5}).predict(theta)


def test_the_whole_body_is_the_one_that_is_simulated() -> None:
    problem, theta = truth("theophylline")
    times = sorted(set(problem.seen.time.tolist()))
    simulation = simulate(reference_body("human", "M", 30), "theophylline", "320 mg po", times)
    known = problem.parameters(theta) | {"ka": torch.tensor(1.5)}
    scale = problem.theta({"CLint": float(known["CLint"]), "Kp_scale": 1.0, "ka": _own_ka()})
    own = problem.concentration(scale, torch.tensor(times, dtype=torch.float64))
    for where in ("plasma", "liver", "muscle"):
        m = problem.model.compartments.index(where)
        assert torch.allclose(own[:, m], simulation.concentration(where), rtol=1e-8)


def _own_ka() -> float:
    return Compound.load("theophylline").ka


def test_one_big_infusion_is_two_that_follow_each_other() -> None:
    problem, theta = truth("brain4-b1")
    halves = (Given(0.0, 400.0, 0.1), Given(0.1, 600.0, 0.15))
    assert torch.allclose(problem.predict(theta), problem.replace(given=halves).predict(theta), rtol=1e-9)


def test_a_sample_at_the_time_of_a_bolus_is_before_it_unless_it_says_after() -> None:
    problem, theta = truth("one-compartment")
    seen = Seen.design([0.0], ["plasma"])
    after = dataclasses.replace(seen, after=torch.tensor([True]))
    assert float(problem.replace(seen=seen).predict(theta)) == 0.0
    assert float(problem.replace(seen=after).predict(theta)) == pytest.approx(100 / 30)


def test_what_does_not_follow_an_unknown_is_settled() -> None:
    problem, _ = truth("brain4-b1")
    still = zip(problem.linear.states, settled(problem), strict=True)
    assert [name for name, is_still in still if is_still] == ["depot", "plasma", "peripheral"]


@pytest.mark.parametrize("transform", ["log", "logit", "identity"])
def test_theta_and_values_are_inverse(transform: str) -> None:
    unknown = Unknown("x", 0.5, 8.0, transform)
    value = torch.tensor([0.7, 2.0, 7.5], dtype=torch.float64)
    assert torch.allclose(unknown.value(unknown.free(value)), value)
    theta = unknown.free(value).requires_grad_()
    (by,) = torch.autograd.grad(unknown.value(theta).sum(), theta)
    assert by.tolist() == pytest.approx([unknown.slope(v) for v in value.tolist()])


def test_an_observation_below_the_limit_counts_with_its_probability() -> None:
    problem, theta = truth("one-compartment")
    f = problem.predict(theta)
    far = problem.replace(seen=problem.seen.with_values(torch.zeros(7).double(), limit=1e3))
    assert float(far.deviance(theta)) == pytest.approx(0.0, abs=1e-9)
    at = problem.replace(seen=dataclasses.replace(problem.seen, value=f, limit=f))
    assert float(at.deviance(theta)) == pytest.approx(7 * 2 * np.log(2))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seen": Seen.design([1.0], ["cranial_csf"])}, "must be in a compartment of one-compartment"),
        ({"given": (Given(0.0, 1.0, 0.0, "brain"),)}, "a dose must be in a compartment"),
        ({"unknowns": (Unknown("CL"),)}, "V1 is neither"),
        ({"unknowns": (Unknown("CL"), Unknown("V1"), Unknown("ka"))}, "must be known or unknown, once"),
        ({"unknowns": (Unknown("CL"), Unknown("V9"))}, "must be one of"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], says: str) -> None:
    problem, _ = truth("one-compartment")
    with pytest.raises(ValueError, match=says):
        problem.replace(**change)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Unknown("x", 1.0, 0.5), "lower below upper"),
        (lambda: Unknown("x", 0.0, 1.0), "above 0 for a"),
        (lambda: Unknown("x", mean=1.0), "mean and positive sd"),
        (lambda: Unknown("x", 1.0, 2.0, start=3.0), "start within"),
        (lambda: Noise(), "must have a size"),
        (lambda: Noise(-0.1), "not negative"),
        (lambda: Noise(0.1, 0.1, "log-normal"), "additive must be 0"),
    ],
)
def test_an_impossible_unknown_or_noise_is_refused(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]
