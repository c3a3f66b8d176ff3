"""The stiff engine: orders of convergence, closed forms, SciPy's Radau, and the linear engine as its
limit."""

import dataclasses

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk import stiff
from pbpk.graph import COMPARTMENTS, LUMPED, WHOLE_BODY
from pbpk.regimen import Dose, Regimen
from pbpk.simulate import simulate
from pbpk.topology import Kinetics, assemble

ONE = WHOLE_BODY.pool("one", {"body": COMPARTMENTS})
MICHAELIS = Kinetics(Kp=[1.0] * 17, BP=1.0, fup=0.5, Vmax=[30.0], Km=[0.4])
TIMES = torch.linspace(0, 24, 49, dtype=torch.float64)


def lambert(man, dose, t):
    """One compartment with one saturable enzyme after a bolus: Cu = Km W(Cu0/Km exp((Cu0 - v t)/Km))."""
    P = float(assemble(ONE, man, MICHAELIS).P)
    start, speed = 0.5 * dose / P, 0.5 * 30.0 / P
    return 2 * 0.4 * scipy.special.lambertw(start / 0.4 * np.exp((start - speed * t) / 0.4)).real


def radau(system, body, doses, times):
    """Solves one body by SciPy, restarted at each dose (time, state, amount) or change of rate."""
    A = system.matrix()[body].numpy()
    source, target = system.saturable_source.numpy(), system.saturable_target.numpy()
    unbound, Vmax, Km = (value[body].numpy() for value in (system.unbound, system.Vmax, system.Km))

    def f(feed):
        def slope(t, x):
            Cu = unbound * x[source]
            change = A @ x + feed
            speed = Vmax * Cu / (Km + Cu)
            np.subtract.at(change, source, speed)
            np.add.at(change, target, speed)
            return change

        return slope

    def jacobian(t, x):
        J = A.copy()
        slope = Vmax * Km * unbound / (Km + unbound * x[source]) ** 2
        np.subtract.at(J, (source, source), slope)
        np.add.at(J, (target, source), slope)
        return J

    x, now, feed, out = np.zeros(len(A)), 0.0, np.zeros(len(A)), []
    for time, jump, rate in doses:
        inside = times[(times > now) & (times <= time)]
        if time > now:
            solution = scipy.integrate.solve_ivp(
                f(feed),
                (now, time),
                x,
                "Radau",
                t_eval=np.union1d(inside, time),
                jac=jacobian,
                rtol=1e-9,
                atol=1e-12,
            )
            out += list(solution.y.T[: len(inside)])
            x = solution.y[:, -1]
        x, feed, now = x + jump, rate, time
    return np.array(out)


def test_the_method_has_order_four_and_its_interpolant_order_three(man):
    """On the Michaelis-Menten equation, whose right-hand side is not linear."""
    equations = stiff._Equations.of(assemble(ONE, man, MICHAELIS).each(lambda v: v.unsqueeze(0)))
    errors = {"step": [], "inside": []}
    counts = [8, 16, 32, 64]
    for count in counts:
        x = torch.zeros(6, 1, dtype=torch.float64)
        x[0] = 100.0
        h, P = torch.tensor([12.0 / count], dtype=torch.float64), float(assemble(ONE, man, MICHAELIS).P)
        inside = 0.0
        for n in range(count):
            new, U = stiff._step(equations, x, h)
            middle = stiff._inside(x, new, U[:5], torch.tensor([0.4], dtype=torch.float64))
            inside = max(inside, abs(middle[0].item() / P - lambert(man, 100, (n + 0.4) * h.item())))
            x = new
        errors["step"].append(abs(x[0].item() / P - lambert(man, 100, 12.0)))
        errors["inside"].append(inside)
    order = {name: -np.polyfit(np.log(counts), np.log(e), 1)[0] for name, e in errors.items()}
    assert order["step"] > 3.8 and order["inside"] > 2.9


@pytest.mark.parametrize("dose", [0.5, 20.0, 500.0])
def test_michaelis_menten_after_a_bolus_is_lamberts_function(man, dose):
    C = simulate(man, MICHAELIS, f"{dose} mg iv", TIMES, graph=ONE, rtol=1e-9).concentration()
    expected = lambert(man, dose, TIMES[1:].numpy())
    np.testing.assert_allclose(C[1:], expected, rtol=2e-6, atol=1e-9 * expected[0])


@pytest.mark.parametrize("graph", [WHOLE_BODY, LUMPED], ids=lambda g: g.name)
def test_random_bodies_agree_with_radau_over_boluses_infusions_and_oral_doses(graph, people, saturable):
    bodies, times = people(2, seed=3), TIMES[:25]
    simulation = simulate(bodies, saturable, "30 mg po q8h x2 + 20 mg iv over 3 h at 6 h", times, graph=graph)
    system, n = simulation.system, len(simulation.states)
    depot = np.eye(n)[system.position("depot")]
    feed = 20 / 3 * np.eye(n)[system.position("venous")]
    none = np.zeros(n)
    events = [
        (0, 30 * depot, none), (6, none, feed), (8, 30 * depot, feed), (9, none, none), (12, none, none)
    ]  # fmt: skip
    for body in range(2):
        expected = radau(system, body, events, times.numpy())
        error = np.abs(simulation.amount[body, 1:].numpy() - expected)
        assert (error / expected.max(0).clip(1e-3)).max() < 5e-6


def test_an_enzyme_that_never_saturates_is_linear(people, drug):
    bodies = people(6)
    never = dataclasses.replace(
        drug,
        CLint=torch.tensor(50.0).double(),
        Vmax=torch.tensor([150e9]).double(),
        Km=torch.tensor([1e9]).double(),
    )
    for regimen in ("50 mg po", "1 mg/kg iv over 2 h q3h x2"):
        one = simulate(bodies, never, regimen, TIMES[:13])
        other = simulate(bodies, drug, regimen, TIMES[:13])
        assert (one.engine, other.engine) == ("stiff", "linear")
        error = (one.concentration() - other.concentration()).abs()
        assert (error / other.concentration().amax(-1, keepdim=True)).max() < 1e-6


def test_the_error_follows_the_tolerance(man, saturable):
    def profile(rtol):
        return simulate(man, saturable, "30 mg po", TIMES[:9], graph=LUMPED, rtol=rtol).concentration()

    fine = profile(1e-9)
    error = [float((profile(rtol) - fine).abs().max() / fine.max()) for rtol in (1e-3, 1e-5, 1e-7)]
    assert error[0] > 10 * error[1] > 100 * error[2] and error[2] < 1e-7


def test_saturation_makes_twice_the_dose_more_than_twice_the_area(man, saturable):
    bodies = man._each(lambda value: value.expand(4, *value.shape))
    doses = Regimen((Dose(0.0, torch.tensor([1.0, 2.0, 50.0, 100.0]), route="po"),))
    AUC = simulate(bodies, saturable, doses, TIMES, graph=LUMPED).nca()["AUC"]
    assert AUC[1] > 2 * AUC[0] * (1 + 1e-4) and AUC[3] > 2.5 * AUC[2]


@settings(max_examples=6)
@given(st.integers(0, 10**6), st.floats(0.01, 1000), st.sampled_from(["iv", "po", "iv over 1 h q2h x2"]))
def test_drug_is_conserved_and_amounts_stay_positive(people, saturable, seed, dose, route):
    simulation = simulate(people(10, seed), saturable, f"{dose} mg {route}", TIMES[:9], rtol=1e-5)
    total = simulation.given.sum(-1)
    assert (simulation.amount.sum(-1) - total).abs().max() < 1e-10 * dose
    assert simulation.amount.min() > -1e-8 * dose


def test_a_batch_is_solved_like_its_members_one_by_one(people, saturable):
    def solve(bodies, chunk=None):
        times = TIMES[:9]
        return simulate(bodies, saturable, "30 mg po q2h x2", times, graph=LUMPED, chunk=chunk).amount

    bodies = people(3)
    together = solve(bodies)
    assert (together - torch.stack([solve(bodies[k]) for k in range(3)])).abs().max() < 1e-12 * 30
    assert (together - solve(bodies, chunk=2)).abs().max() < 1e-12 * 30


def test_a_body_that_needs_too_many_steps_is_named_and_leaves_the_others_alone(people, saturable):
    bodies = people(3)
    system = assemble(WHOLE_BODY, bodies, saturable)
    slow = system.rate.clone()
    slow[1] *= 1e-9  # nothing happens in the second body, and quickly
    system = dataclasses.replace(system, rate=slow)
    schedule, dose = Regimen.parse("30 mg iv").schedule(TIMES), torch.full((3, 1), 30.0).double()
    amount, status, _ = stiff.solve(system, schedule, dose, max_steps=40)
    assert status.tolist() == [stiff.STEP_LIMIT, stiff.SOLVED, stiff.STEP_LIMIT]
    assert torch.isfinite(amount[1]).all() and torch.isnan(amount[0, -1]).all()


def test_a_solve_that_fails_raises_with_the_body_unless_told_not_to(man, saturable, monkeypatch):
    original = stiff.solve
    monkeypatch.setattr(stiff, "solve", lambda *a, **k: original(*a, **k, max_steps=5))
    with pytest.raises(ArithmeticError, match="'1': it takes more steps than allowed"):
        simulate(man, saturable, "30 mg iv", TIMES)
    simulation = simulate(man, saturable, "30 mg iv", TIMES, throw=False)
    assert simulation.status == stiff.STEP_LIMIT and torch.isnan(simulation.concentration()[-1])


def test_gradients_agree_with_finite_differences(man, saturable):
    def peak(Vmax, CLrenal, M):
        drug = dataclasses.replace(saturable, Vmax=Vmax, CLrenal=CLrenal)
        simulation = simulate(man.replace(M=M), drug, "30 mg po", [0.5, 2.0], graph=LUMPED, rtol=1e-7)
        return simulation.concentration().log().sum()

    inputs = [saturable.Vmax, saturable.CLrenal, man.M]
    leaves = [value.clone().requires_grad_() for value in inputs]
    gradients = torch.autograd.grad(peak(*leaves), leaves)
    for position, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        direction = value / 10
        ends = []
        for sign in (1, -1):
            moved = list(inputs)
            moved[position] = value + sign * 1e-3 * direction
            ends.append(float(peak(*moved)))
        assert float((gradient * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=2e-5)


def test_the_estimated_error_is_at_least_the_true_one_and_follows_the_tolerance(people, saturable):
    bodies, options = people(4), {"graph": LUMPED, "keep": ["venous"], "engine": "stiff"}
    tight = simulate(bodies, saturable, "30 mg po", TIMES[:9], rtol=1e-9, **options).amount
    for rtol in (1e-3, 1e-5, 1e-7):
        answer = simulate(bodies, saturable, "30 mg po", TIMES[:9], rtol=rtol, **options)
        true = ((answer.amount - tight).abs().amax(1) / tight.amax(1)).amax(-1)
        assert (true <= answer.error).all() and (answer.error <= 100 * rtol).all()
