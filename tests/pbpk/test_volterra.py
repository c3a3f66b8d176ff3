"""The engine of saturable kinetics without time stepping, against the stiff one; what it says and refuses."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk import stiff, volterra
from pbpk.graph import LUMPED, WHOLE_BODY
from pbpk.regimen import Regimen
from pbpk.simulate import MANY, simulate
from pbpk.topology import Kinetics, assemble

DAY = torch.linspace(0, 24, 49, dtype=torch.float64)
WEEK = torch.linspace(0, 168, 57, dtype=torch.float64)
LONG = "20 mg po q12h x14 + 30 mg iv over 5 h at 20 h + 10 mg iv at 61 h"


def problem(bodies, drug, regimen="30 mg po", times=DAY, graph=LUMPED):
    """Returns a system, its schedule and its amounts."""
    plan = Regimen.parse(regimen)
    return assemble(graph, bodies, drug), plan.schedule(times), plan.amounts(bodies.BW)


def error(x, exact):
    """The largest difference as a share of the body's and state's peak, with shape (B)."""
    peak = exact.abs().amax(1).clamp(min=1e-300)
    return ((x - exact).abs().amax(1) / peak).amax(-1)


def both(system, schedule, amounts, kept, tolerance=1e-5, compiled=False):
    """Returns the collocation, its answer and its estimated error, and the stiff engine's tight answer."""
    made = volterra.prepare(system, schedule, amounts, kept, tolerance, compiled)
    assert made is not None
    tight, *_ = stiff.solve(system, schedule, amounts, rtol=1e-9, atol=1e-12, kept=kept, compiled=compiled)
    return made, *made(system, amounts), tight


@pytest.mark.parametrize("graph", [WHOLE_BODY, LUMPED], ids=lambda g: g.name)
@pytest.mark.parametrize("regimen, times", [("30 mg po", DAY), ("5 mg iv", DAY), (LONG, WEEK)])
def test_bodies_with_two_enzymes_are_solved_as_by_the_stiff_engine(people, saturable, graph, regimen, times):
    pytest.importorskip("numba")
    system, schedule, amounts = problem(people(40), saturable, regimen, times, graph)
    kept = [system.position("venous"), system.position("muscle")]
    _, x, estimate, tight = both(system, schedule, amounts, kept, compiled=True)
    assert error(x, tight).max() < 1e-5
    assert (estimate >= error(x, tight)).all()


def test_too_many_lengths_of_intervals_are_left_to_the_stiff_engine(people, saturable, monkeypatch):
    made = problem(people(2), saturable, "30 mg po + 5 mg po at 1.3 h + 5 mg po at 7.9 h")
    assert volterra.prepare(*made, [6], 1e-4) is not None
    monkeypatch.setattr(volterra, "_LENGTHS", 3)
    assert volterra.prepare(*made, [6], 1e-4) is None


def test_plain_and_compiled_agree(people, saturable):
    pytest.importorskip("numba")
    system, schedule, amounts = problem(people(19), saturable, "30 mg po q8h x2 + 3 mg iv over 2 h at 1 h")
    kept = [system.position("venous")]
    one, other = (volterra.prepare(system, schedule, amounts, kept, 1e-5, c) for c in (False, True))
    assert one is not None and other is not None and other.compiled and not one.compiled
    (x, estimate), (y, estimate_) = one(system, amounts), other(system, amounts)
    assert error(x, y).max() < 2e-7  # rounding, magnified by the fit
    assert torch.allclose(estimate, estimate_, rtol=0.1, atol=2e-7)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2, 3), st.sampled_from(["100 mg po", "20 mg iv over 2 h q8h x2"]))
def test_from_idle_to_saturated_enzymes_a_body_is_within_the_tolerance_or_left_to_the_stiff_engine(
    people, seed, saturation, regimen
):
    """Km from 1000 times below to 100 times above the concentrations; what is eliminated is kept too."""
    pytest.importorskip("numba")
    drug = Kinetics(Kp=[2.0] * 17, BP=1.0, fup=0.2, CLrenal=1.0, ka=1.0, Vmax=[20.0], Km=[10.0**-saturation])
    system, schedule, amounts = problem(people(12, seed), drug, regimen)
    kept = [system.position(state) for state in ("venous", "liver", "metabolised")]
    tight, *_ = stiff.solve(system, schedule, amounts, rtol=1e-9, atol=1e-12, kept=kept, compiled=True)
    made = volterra.prepare(system, schedule, amounts, kept, 1e-5, compiled=True)
    if made is not None:
        x, estimate, status = volterra.solve(made, system, schedule, amounts)
        assert error(x, tight).max() < 1e-5 and not status.any()
        assert (estimate >= error(x, tight)).all()


def test_the_engine_is_chosen_for_many_bodies_of_which_some_states_are_kept(people, saturable):
    many, keep = people(MANY), {"keep": ["venous"], "graph": LUMPED, "rtol": 1e-4}
    chosen = simulate(many, saturable, "1 mg po", [1.0, 2.0], **keep)
    assert chosen.engine == "volterra" and (chosen.error <= 1e-4).all()
    assert simulate(people(3), saturable, "1 mg po", [1.0], **keep).engine == "stiff"
    wanted = dataclasses.replace(saturable, Vmax=saturable.Vmax.clone().requires_grad_())
    assert simulate(many[:9], wanted, "1 mg po", [1.0], engine="volterra", **keep).engine == "stiff"


def test_a_tolerance_below_the_floor_is_left_to_the_stiff_engine(people, saturable):
    problem_ = problem(people(3), saturable)
    assert volterra.prepare(*problem_, [0], 1e-8) is None
    answer = simulate(people(3), saturable, "30 mg po", DAY, graph=LUMPED, engine="volterra", rtol=1e-8)
    assert answer.engine == "stiff"


def test_a_body_unlike_the_others_is_within_the_tolerance_too(people, saturable):
    """Its organs hold a thousand times as much: eigenvalues that no sample has shown."""
    pytest.importorskip("numba")
    bodies = people(130)
    Kp = saturable.Kp.expand(130, 17).clone()
    Kp[7] *= 1000.0
    system, schedule, amounts = problem(bodies, dataclasses.replace(saturable, Kp=Kp), "30 mg iv")
    made = volterra.prepare(system, schedule, amounts, [system.position("venous")], 1e-5)
    assert made is not None
    x, estimate, status = volterra.solve(made, system, schedule, amounts)
    tight, *_ = stiff.solve(
        system, schedule, amounts, rtol=1e-9, atol=1e-12, kept=[system.position("venous")]
    )
    assert error(x, tight).max() < 1e-5 and not status.any()
    assert (estimate <= 1e-5).all()


def test_no_number_is_not_called_solved(people, saturable):
    system, schedule, amounts = problem(people(9), saturable)
    made = volterra.prepare(system, schedule, amounts, [system.position("venous")], 1e-5)
    rate = system.rate.clone()
    rate[4, 0] = torch.nan
    *_, status = volterra.solve(made, dataclasses.replace(system, rate=rate), schedule, amounts)
    assert status[4] != 0 and not status[[0, 1, 2, 3, 5, 6, 7, 8]].any()


def test_linear_kinetics_are_refused(man, drug):
    with pytest.raises(ValueError, match="engine must be another one where no enzyme saturates"):
        simulate(man, drug, "1 mg iv", [1.0], engine="volterra")


def test_a_flux_that_bends_between_the_nodes_is_never_taken_for_solved(people):
    """A flood that an enzyme works off at its own pace, until it is all at once far below Km."""
    pytest.importorskip("numba")
    drug = Kinetics(Kp=[2.0] * 17, BP=1.0, fup=0.2, CLrenal=0.0, ka=1.0, Vmax=[0.5], Km=[1e-4])
    system, schedule, amounts = problem(people(128), drug, "20 mg po")
    kept = [system.position(state) for state in ("venous", "metabolised")]
    made = volterra.prepare(system, schedule, amounts, kept, 1e-5, compiled=True)
    if made is not None:
        tight, *_ = stiff.solve(system, schedule, amounts, rtol=1e-9, atol=1e-13, kept=kept, compiled=True)
        assert error(volterra.solve(made, system, schedule, amounts)[0], tight).max() < 1e-5


@pytest.mark.parametrize("hours", [1e-6, 1e-4, 1e-3])
def test_the_shortest_spans_are_simulated(people, saturable, hours):
    found = simulate(people(MANY), saturable, "30 mg iv", [hours], graph=LUMPED, keep=["venous"], rtol=1e-4)
    assert (found.status == 0).all()
    assert (found.amount[:, 0, 0] > 0.0).all() and (found.amount[:, 0, 0] <= 30.0).all()


def test_a_body_whose_km_is_0_is_named_or_left_out(people, saturable):
    Km = saturable.Km.expand(MANY, -1).clone()
    Km[5] = 0.0
    drug = dataclasses.replace(saturable, Km=Km)
    asked = (people(MANY), drug, "30 mg po", [1.0, 2.0])
    with pytest.raises(ValueError, match="a Km is 0"):
        simulate(*asked, graph=LUMPED)
    found = simulate(*asked, graph=LUMPED, keep=["venous"], rtol=1e-4, throw=False)
    assert found.status[5] != 0 and (found.status == 0).sum() == MANY - 1


def test_a_batch_in_which_nobody_can_be_simulated_comes_back_at_once(people, saturable):
    drug = dataclasses.replace(saturable, Kp=torch.full((17,), torch.nan, dtype=torch.float64))
    found = simulate(people(MANY), drug, "30 mg po", [1.0], graph=LUMPED, keep=["venous"], throw=False)
    assert (found.status != 0).all()


def test_a_gradient_that_was_not_foreseen_is_refused(people, saturable):
    system, schedule, amounts = problem(people(9), saturable)
    made = volterra.prepare(system, schedule, amounts, [system.position("venous")], 1e-4)
    with pytest.raises(ValueError, match="must not require a gradient"):
        volterra.solve(made, system, schedule, amounts.clone().requires_grad_())


def test_nothing_to_keep_is_refused(man, drug):
    with pytest.raises(ValueError, match="keep must name a state or an output, but is empty"):
        simulate(man, drug, "1 mg iv", [1.0], keep=[])
