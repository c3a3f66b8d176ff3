"""The compiled stiff engine and its adjoint against the plain one, SciPy's Radau and finite differences."""

import dataclasses

import numpy as np
import pytest
import scipy.integrate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk import stiff
from pbpk.graph import COMPARTMENTS, LUMPED, WHOLE_BODY
from pbpk.regimen import Regimen
from pbpk.topology import Kinetics, assemble

pytest.importorskip("numba")
TIMES = torch.linspace(0, 12, 13, dtype=torch.float64)
REGIMENS = ["30 mg po", "5 mg iv", "20 mg po q5h x2 + 3 mg iv over 2 h at 1 h", "1 mg/kg iv over 1 h at 3 h"]
INPUTS = ("rate", "Vmax", "Km", "unbound")


@st.composite
def graphs(draw):
    """The lumped graph, or the whole body with its organs pooled at random."""
    pool = draw(st.lists(st.integers(0, 5), min_size=len(COMPARTMENTS), max_size=len(COMPARTMENTS)))
    pools = {f"n{n}": [c for c, p in zip(COMPARTMENTS, pool, strict=True) if p == n] for n in set(pool)}
    return draw(st.sampled_from([LUMPED, WHOLE_BODY.pool("random", pools)]))


def contents(system):
    """Returns all of a system that the engines differentiate."""
    return {name: getattr(system, name) for name in INPUTS}


def problem(bodies, drug, graph=LUMPED, regimen="30 mg po"):
    """Returns a system, its schedule and its amounts."""
    plan = Regimen.parse(regimen)
    return assemble(graph, bodies, drug), plan.schedule(TIMES), plan.amounts(bodies.BW)


def radau(system, body, start, times):
    """Solves one body by SciPy from given amounts, with nothing given afterwards."""
    A = system.matrix()[body].numpy()
    source, target = system.saturable_source.numpy(), system.saturable_target.numpy()
    unbound, Vmax, Km = (value[body].numpy() for value in (system.unbound, system.Vmax, system.Km))

    def slope(t, x):
        Cu = unbound * x[source]
        change, speed = A @ x, Vmax * Cu / (Km + Cu)
        np.subtract.at(change, source, speed)
        np.add.at(change, target, speed)
        return change

    span, options = (0.0, float(times[-1])), {"rtol": 1e-9, "atol": 1e-11 * start.sum()}
    return scipy.integrate.solve_ivp(slope, span, start, "Radau", t_eval=times, **options).y.T


@settings(max_examples=5, deadline=None)
@given(graphs(), st.integers(0, 10**6), st.sampled_from(REGIMENS), st.booleans())
def test_both_engines_take_the_same_steps(people, saturable, graph, seed, regimen, transported):
    system, schedule, amounts = problem(people(5, seed), saturable, graph, regimen)
    if transported:  # from venous into arterial blood: any state to any other
        system = dataclasses.replace(
            system,
            saturable_source=torch.tensor([system.position("liver"), system.position("venous")]),
            saturable_target=torch.tensor([system.position("metabolised"), system.position("arterial")]),
        )
    answers = [stiff.solve(system, schedule, amounts, rtol=1e-3, compiled=c) for c in (False, True)]
    assert torch.equal(answers[0][1], answers[1][1])
    difference = (answers[0][0] - answers[1][0]).abs().amax((-1, -2))
    assert (difference < 1e-9 * amounts.sum(-1)).all()


@pytest.mark.parametrize("regimen", REGIMENS[2:])
def test_the_adjoint_is_the_gradient_of_the_plain_engine(people, saturable, regimen):
    system, schedule, amounts = problem(people(3), saturable, LUMPED, regimen)
    start = torch.full((3, len(system.states)), 0.3, dtype=torch.float64)
    kept = [system.position("venous"), system.position("liver"), system.position("excreted")]
    weight = torch.randn(3, len(TIMES), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients = []
    for compiled in (False, True):
        given = [v.clone().requires_grad_() for v in (*contents(system).values(), amounts, start)]
        moved = dataclasses.replace(system, **dict(zip(INPUTS, given, strict=False)))
        options = {"rtol": 1e-4, "atol": 1e-7, "initial": given[5], "kept": kept, "compiled": compiled}
        answer, *_ = stiff.solve(moved, schedule, given[4], **options)
        gradients.append(torch.autograd.grad((weight * answer).sum(), given))
    for plain, adjoint in zip(*gradients, strict=True):
        assert (plain - adjoint).abs().max() < 1e-9 * plain.abs().max()


def test_the_adjoint_agrees_with_finite_differences(people, saturable):
    system, schedule, amounts = problem(people(2), saturable, LUMPED, "30 mg po + 3 mg iv over 2 h at 1 h")
    venous = [system.position("venous")]

    def value(given):
        moved = dataclasses.replace(system, **given)
        return stiff.solve(moved, schedule, amounts, rtol=1e-9, kept=venous, compiled=True)[0].sum()

    leaves = {name: v.clone().requires_grad_() for name, v in contents(system).items()}
    gradients = torch.autograd.grad(value(leaves), list(leaves.values()))
    for (name, v), gradient in zip(contents(system).items(), gradients, strict=True):
        ends = [float(value({**contents(system), name: v * (1 + sign * 1e-4)})) for sign in (1, -1)]
        assert float((gradient * v).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=2e-5)


def test_a_tape_that_is_full_grows(people, saturable, monkeypatch):
    from pbpk import stiff_compiled

    system, schedule, amounts = problem(people(12), saturable)

    def gradient():
        leaf = system.rate.clone().requires_grad_()
        moved = dataclasses.replace(system, rate=leaf)
        return torch.autograd.grad(stiff.solve(moved, schedule, amounts, compiled=True)[0].sum(), leaf)[0]

    plenty = gradient()
    monkeypatch.setattr(stiff_compiled, "_CAPACITY", 3)
    monkeypatch.setattr(stiff_compiled, "_BLOCK", 5)
    assert torch.equal(gradient(), plenty)


def test_a_second_derivative_is_refused_and_not_taken_for_zero(people, saturable):
    system, schedule, amounts = problem(people(2), saturable)
    leaf = system.rate.clone().requires_grad_()
    x = stiff.solve(dataclasses.replace(system, rate=leaf), schedule, amounts, compiled=True)[0]
    with pytest.raises(RuntimeError, match="must not be differentiated again"):
        torch.autograd.grad(x.square().sum(), leaf, create_graph=True)


def test_a_body_that_fails_is_named_and_leaves_the_others_and_their_gradients_alone(people, saturable):
    system, schedule, amounts = problem(people(3), saturable)
    rate = system.rate.clone()
    rate[1] *= 1e-9  # nothing happens in the second body, and quickly
    leaf = rate.requires_grad_()
    moved = dataclasses.replace(system, rate=leaf)
    answer, status, _ = stiff.solve(moved, schedule, amounts, max_steps=40, compiled=True)
    assert status.tolist() == [stiff.STEP_LIMIT, stiff.SOLVED, stiff.STEP_LIMIT]
    assert torch.isfinite(answer[1]).all() and torch.isnan(answer[0, -1]).all()
    (gradient,) = torch.autograd.grad(answer[1].square().sum(), leaf)
    assert gradient[1].abs().max() > 0 and not gradient[[0, 2]].any()


def test_no_number_fails_and_does_not_hang(people, saturable):
    system, schedule, amounts = problem(people(2), saturable)
    rate = system.rate.clone()
    rate[0, 0] = torch.nan
    moved = dataclasses.replace(system, rate=rate)
    _, status, _ = stiff.solve(moved, schedule, amounts, compiled=True)
    assert status[0] in (stiff.STEP_TOO_SMALL, stiff.STEP_LIMIT) and status[1] == stiff.SOLVED


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 10**6))
def test_extreme_bodies_and_drugs_agree_with_radau(people, seed):
    """A newborn of 0.8 kg to an adult of 250 kg, Kp from 0.001 to 1000, CLint and Vmax/Km 0 to a million."""
    generator = torch.Generator().manual_seed(seed)
    bodies = people(4, seed)
    size = torch.tensor([0.8, 3.0, 70.0, 250.0], dtype=torch.float64) / bodies.BW
    bodies = bodies.replace(
        M=bodies.M * size[:, None],
        Q=bodies.Q * size[:, None] ** 0.75,
        BW=bodies.BW * size,
        CO=bodies.CO * size**0.75,
    )
    uniform = torch.rand(4, 19, generator=generator, dtype=torch.float64)
    drug = Kinetics(
        Kp=10 ** (6 * uniform[:, :17] - 3),
        BP=1.0,
        fup=0.1,
        CLint=torch.tensor([0.0, 1e6, 0.0, 10.0]),
        Vmax=torch.tensor([[0.0], [1.0], [1e3], [1e4]]) * uniform[:, 17:18],
        Km=torch.tensor([0.01]),
    )
    system, schedule, amounts = problem(bodies, drug, WHOLE_BODY, "10 mg iv")
    answer, status, _ = stiff.solve(system, schedule, amounts, rtol=1e-7, atol=1e-10, compiled=True)
    assert not status.any()
    for body in range(4):
        start = np.zeros(len(system.states))
        start[system.position("venous")] = 10.0
        expected = radau(system, body, start, TIMES.numpy())
        peak = np.abs(expected).max(0).clip(1e-6)
        assert (np.abs(answer[body].numpy() - expected)[1:] / peak).max() < 2e-5


def test_single_precision_is_left_to_the_plain_engine(people, saturable):
    system, schedule, amounts = problem(people(2), saturable)
    single = system.each(lambda value: value.float() if value.is_floating_point() else value)
    with pytest.raises(ValueError, match=r"compiled must be False or None .* torch.float32"):
        stiff.solve(single, schedule, amounts.float(), compiled=True)
