"""Bodies on clocks of their own, steady state, and what is there just after a dose."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk.graph import LUMPED
from pbpk.regimen import Dose, Regimen
from pbpk.simulate import simulate
from pbpk.simulation import STATUS

TIMES = torch.linspace(0, 24, 13, dtype=torch.float64)


def own(*doses) -> Regimen:
    return Regimen(tuple(doses))


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


# Times of their own


@given(st.integers(0, 10**6))
@settings(max_examples=3)
def test_bodies_with_dose_times_of_their_own_are_solved_like_one_by_one(people, drug, seed):
    bodies = people(3, seed)
    generator = torch.Generator().manual_seed(seed)
    t = (torch.rand(3, 3, generator=generator, dtype=torch.float64) * 20).unbind(-1)
    times, kinetics = TIMES, drug
    regimen = own(
        Dose(t[0], 10.0, route="po", interval=5.0, count=3), Dose(t[1], 4.0), Dose(t[2], 7.0, duration=3.0)
    )
    together = simulate(bodies, kinetics, regimen, times, graph=LUMPED)
    for b in range(3):
        alone = own(*(dataclasses.replace(d, time=float(d.time[b])) for d in regimen.doses))
        one = simulate(bodies[b], kinetics, alone, times, graph=LUMPED, engine="linear")
        assert (together.amount[b] - one.amount).abs().max() < 1e-11 * 44
        torch.testing.assert_close(together.given[b], one.given, rtol=1e-9, atol=1e-9)
        mine, theirs = together.nca().iloc[b].drop("id"), one.nca().iloc[0].drop("id")
        assert mine.to_dict() == pytest.approx(theirs.to_dict(), rel=1e-7, nan_ok=True)


def test_a_lag_shifts_a_dose_by_mouth_and_not_one_into_the_veins(people, drug):
    bodies = people(2)
    late = simulate(bodies, drug, "30 mg po", TIMES, lag=tensor(2.0, 4.0)).concentration()
    none = simulate(bodies, drug, "30 mg po", TIMES).concentration()
    torch.testing.assert_close(late[0, 1:], none[0, :-1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(late[1, 2:], none[1, :-2], rtol=1e-9, atol=1e-12)
    iv = simulate(bodies, drug, "30 mg iv", TIMES, lag=2.0).concentration()
    torch.testing.assert_close(iv, simulate(bodies, drug, "30 mg iv", TIMES).concentration())


def test_the_lag_is_differentiable(people, drug):
    bodies = people(2)

    def level(lag):
        return simulate(bodies, drug, "30 mg po", tensor(1.0, 5.0), graph=LUMPED, lag=lag).concentration()

    assert torch.autograd.gradcheck(level, tensor(0.3, 0.9).requires_grad_(), eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("lag", [tensor(0.5), torch.tensor(0.5, dtype=torch.float64)])
def test_the_lag_has_its_slope_where_a_dose_falls_on_an_output(people, drug, lag):
    bodies, times = people(1), tensor(1.0, 2.5, 4.5, 6.0)

    def level(lag):
        return simulate(bodies, drug, "30 mg po q2h x3", times, graph=LUMPED, lag=lag).concentration()[0, -1]

    (slope,) = torch.autograd.grad(level(lag := lag.clone().requires_grad_()), lag)
    by_differences = (level(lag.detach() + 1e-5) - level(lag.detach() - 1e-5)) / 2e-5
    assert slope.item() == pytest.approx(by_differences.item(), rel=1e-6)


def test_a_saturable_drug_on_clocks_of_their_own_is_solved_like_one_by_one(people, saturable):
    bodies, t, times = people(2), tensor(1.0, 3.5), TIMES[:6]
    regimen = own(Dose(t, 30.0, route="po"), Dose(2 * t, 20.0, duration=1.0))
    together = simulate(bodies, saturable, regimen, times, graph=LUMPED)
    for b in range(2):
        alone = own(*(dataclasses.replace(d, time=float(d.time[b])) for d in regimen.doses))
        one = simulate(bodies[b], saturable, alone, times, graph=LUMPED)
        assert (together.amount[b] - one.amount).abs().max() < 1e-5 * 50


def test_a_lag_or_time_of_another_shape_or_below_zero_is_refused(people, drug):
    with pytest.raises(ValueError, match="lag must be finite and not negative, but is -1"):
        simulate(people(2), drug, "1 mg po", TIMES, lag=-1.0)
    with pytest.raises(ValueError, match=r"Dose.time must be one number or one for each body \(2,\)"):
        simulate(people(2), drug, "1 mg po", TIMES, lag=tensor(1.0, 2.0, 3.0))


# Long regimens


@pytest.mark.parametrize("engine", ["linear", "laplace"])
def test_a_thousand_doses_end_in_the_steady_state(people, drug, engine):
    bodies = people(3)
    times = torch.tensor([11988.0, 11990.0, 11999.0], dtype=torch.float64)
    many = simulate(
        bodies, drug, "10 mg po q12h x1000", times, engine=engine, keep=["venous"], graph=LUMPED
    ).concentration()
    steady = simulate(
        bodies, drug, "10 mg po q12h x2", times - 11988.0, steady_state=True, graph=LUMPED
    ).concentration()
    torch.testing.assert_close(many, steady, rtol=1e-5, atol=1e-6 * float(steady.max()))


def test_what_comes_after_the_last_time_is_counted(man, drug):
    assert simulate(man, drug, "10 mg po q12h x10", TIMES).not_given == 8
    assert simulate(man, drug, "10 mg po q12h x2", TIMES).not_given == 0


# Steady state


@pytest.mark.parametrize(
    "regimen",
    ["10 mg po q12h x2", "10 mg iv q12h x2 + 5 mg po at 6 h q12h x2", "30 mg iv over 4 h at 2 h q12h x2"],
)
def test_at_steady_state_a_period_repeats_itself(people, drug, regimen):
    simulation = simulate(people(3), drug, regimen, TIMES, steady_state=True)
    m = simulation.system.inner
    start, end = simulation.amount[:, 0, :m], simulation.amount[:, 6, :m]
    assert (start - end).abs().max() < 1e-11 * start.max()
    assert simulation.amount.min() >= 0


def test_the_steady_area_of_a_period_is_that_of_one_dose_to_infinity(people, drug):
    bodies = people(3)
    steady = simulate(bodies, drug, "10 mg po q24h x2", TIMES, steady_state=True).AUC(last=True)
    torch.testing.assert_close(
        steady, simulate(bodies, drug, "10 mg po", TIMES).AUC(infinite=True), rtol=1e-9, atol=0
    )


def test_a_saturable_steady_state_is_what_many_doses_reach(people, saturable):
    bodies = people(1)
    times = tensor(84.0, 86.0)
    many = simulate(bodies, saturable, "3 mg po q12h x8", times, graph=LUMPED, rtol=1e-5).concentration()
    steady = simulate(bodies, saturable, "3 mg po q12h x2", times - 84.0, graph=LUMPED, steady_state=True)
    torch.testing.assert_close(many, steady.concentration(), rtol=1e-3, atol=1e-9)


def test_more_than_can_be_eliminated_has_no_steady_state(people, saturable):
    only = dataclasses.replace(saturable, CLrenal=torch.tensor(0.0), Vmax=tensor(1.0), Km=tensor(0.1))
    simulation = simulate(
        people(2), only, "1000 mg po q12h x2", TIMES, graph=LUMPED, steady_state=True, throw=False
    )
    assert all("no steady state" in STATUS[s] for s in simulation.status.tolist())


def test_a_saturable_steady_state_refuses_a_gradient_that_it_does_not_have(man, saturable):
    fast = dataclasses.replace(saturable, Vmax=saturable.Vmax.clone().requires_grad_())
    with pytest.raises(ValueError, match="linear kinetics where a gradient is asked for"):
        simulate(man, fast, "3 mg po q12h x2", TIMES, graph=LUMPED, steady_state=True)


def test_what_is_never_eliminated_has_no_steady_state(man, drug):
    never = dataclasses.replace(drug, CLint=torch.tensor(0.0), CLrenal=torch.tensor(0.0))
    with pytest.raises(ArithmeticError, match="no steady state"):
        simulate(man, never, "1 mg po q12h x2", TIMES, steady_state=True)


@pytest.mark.parametrize(
    "regimen, named",
    [
        ("10 mg po", "repeat at one interval"),
        ("10 mg po q12h x2 + 5 mg po q8h x2", "repeat at one interval"),
        ("10 mg iv over 8 h at 6 h q12h x2", "inside the first 12 h"),
    ],
)
def test_a_regimen_without_a_period_has_no_steady_state(man, drug, regimen, named):
    with pytest.raises(ValueError, match=named):
        simulate(man, drug, regimen, TIMES, steady_state=True)


# Just after a bolus


@pytest.mark.parametrize("engine", ["linear", "laplace", "stiff"])
@pytest.mark.parametrize("times", [[0.0, 1.0, 24.0], [3.0, 24.0], [0.001, 0.1, 24.0]])
def test_Cmax_of_a_bolus_is_the_dose_over_the_venous_capacity_on_any_grid(people, drug, engine, times):
    bodies = people(3)
    simulation = simulate(bodies, drug, "10 mg iv", times, engine=engine, keep=["venous"])
    C0 = 10.0 / simulation.system.P[:, simulation.system.position("venous")]
    when, peak = simulation.after_bolus()
    assert when.tolist() == [0.0]
    torch.testing.assert_close(peak[:, 0], C0, rtol=1e-12, atol=0)
    table = simulation.nca()
    assert table["Cmax"].tolist() == pytest.approx(C0.tolist(), rel=1e-12) and (table["tmax"] == 0).all()


def test_the_peak_of_a_later_bolus_adds_to_what_is_there(man, drug):
    simulation = simulate(man, drug, "10 mg iv q12h x2", [1.0, 12.0, 24.0])
    when, peak = simulation.after_bolus()
    C0 = 10.0 / simulation.system.P[simulation.system.position("venous")]
    assert when.tolist() == [0.0, 12.0]
    torch.testing.assert_close(peak[1], simulation.concentration()[1] + C0, rtol=1e-12, atol=0)
    assert simulation.nca()["tmax"][0] == 12.0


# What remains exact when states are not kept


@pytest.mark.parametrize("regimen", ["10 mg iv", "10 mg po", "10 mg iv over 2 h"])
def test_clearance_volume_and_residence_are_exact_whatever_was_kept(people, drug, regimen):
    bodies = people(3)
    whole, part = (
        simulate(bodies, drug, regimen, TIMES).nca(),
        simulate(bodies, drug, regimen, TIMES, keep=["venous"]).nca(),
    )
    for name in ("AUCinf", "CL", "Vss", "F", "MRT", *(["CL/F"] if "po" in regimen else [])):
        assert part[name].tolist() == pytest.approx(whole[name].tolist(), rel=1e-10), name


def test_the_exact_residence_is_what_dense_sampling_converges_to(man, drug):
    time = torch.cat([torch.linspace(0, 4, 2001), torch.linspace(4, 400, 4000)[1:]]).double()
    for regimen in ("50 mg iv over 2 h", "50 mg po"):
        simulation = simulate(man, drug, regimen, time)
        exact, classical = (simulation.nca(method=m)["MRT"][0] for m in ("exact", "classical"))
        assert exact == pytest.approx(classical, rel=2e-3)


def test_the_exact_method_is_refused_for_a_saturable_drug(man, saturable):
    simulation = simulate(man, saturable, "1 mg iv", TIMES[:4], graph=LUMPED)
    with pytest.raises(ValueError, match="'classical' for saturable"):
        simulation.nca(method="exact")
    assert "CL" in simulation.nca()


def test_laplace_gives_no_negative_amount_and_stays_within_its_tolerance(people, drug):
    bodies = people(50)
    one, other = (
        simulate(bodies, drug, "10 mg po q24h x2", torch.linspace(0, 200, 101), engine=e, keep=["venous"])
        for e in ("laplace", "linear")
    )
    assert one.engine == "laplace" and one.amount.min() >= 0
    error = (one.amount - other.amount).abs().amax(1) / other.amount.amax(1)
    assert error.max() < 1e-6
