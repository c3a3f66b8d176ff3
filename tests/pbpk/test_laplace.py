"""The Laplace engine against the exact one and closed forms; what it refuses and says of its error."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk import laplace, linear
from pbpk.bodies import reference_body
from pbpk.graph import COMPARTMENTS, LUMPED, WHOLE_BODY
from pbpk.physiology import Physiology
from pbpk.regimen import Dose, Regimen
from pbpk.resolvent import Resolvent
from pbpk.simulate import MANY, simulate
from pbpk.topology import Kinetics, assemble

DAY = torch.linspace(0, 24, 97, dtype=torch.float64)
WEEK = torch.linspace(0, 168, 101, dtype=torch.float64)
LONG = "50 mg po q12h x14 + 30 mg iv over 5 h at 20 h + 1 mg/kg iv at 61 h"
ONE = WHOLE_BODY.pool("one", {"body": COMPARTMENTS})
seeds = st.integers(0, 10**6)


@st.composite
def graphs(draw):
    """The two bundled graphs, and the whole body with some of its organs pooled at random."""
    if draw(st.booleans()):
        return draw(st.sampled_from([WHOLE_BODY, LUMPED]))
    pool = draw(st.lists(st.integers(0, 3), min_size=len(COMPARTMENTS), max_size=len(COMPARTMENTS)))
    names = sorted(set(pool))
    return WHOLE_BODY.pool(
        "random",
        {f"n{n}": [c for c, p in zip(COMPARTMENTS, pool, strict=True) if p == n] for n in names},
    )


@st.composite
def regimens(draw):
    """One to four doses: repeated, infused, by mouth; some per kg."""
    doses = []
    for _ in range(draw(st.integers(1, 4))):
        po = draw(st.booleans())
        count = draw(st.sampled_from([1, 1, 2, 7]))
        doses.append(
            Dose(
                time=draw(st.floats(0, 20)),
                amount=draw(st.floats(0.1, 100)),
                duration=0.0 if po else draw(st.sampled_from([0.0, 0.05, 1.0, 10.0])),
                route="po" if po else "iv",
                interval=8.0 if count > 1 else 0.0,
                count=count,
                per_kg=draw(st.booleans()),
            )
        )
    return Regimen(tuple(doses))


def drugs(n, seed, spread=1.0, clearance=3.0):
    """One drug a body: Kp and CLint log-uniform over powers of ten; one body in five has no CLint."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    none = uniform(n) < 0.2
    return Kinetics(
        Kp=10 ** (spread * (2 * uniform(n, 17) - 1)),
        BP=0.55 + uniform(n),
        fup=10 ** (-3 * uniform(n)),
        CLint=torch.where(none, 0.0, 10 ** (clearance * (2 * uniform(n) - 1))),
        CLrenal=5 * uniform(n),
        ka=10 ** (2 * uniform(n) - 1),
        Fa=uniform(n),
        Fg=uniform(n),
    )


def both(bodies, drug, regimen, times, keep=("venous",), **options):
    answers = [
        simulate(bodies, drug, regimen, times, keep=keep, engine=engine, **options)
        for engine in ("laplace", "linear")
    ]
    return answers


def error(answer, exact):
    """The largest difference as a share of the body's and state's peak, with shape (*)."""
    peak = exact.amount.amax(-2).clamp(min=1e-300)
    return ((answer.amount - exact.amount).abs().amax(-2) / peak).amax(-1)


# Against the exact engine


@given(graphs(), regimens(), seeds, st.sampled_from([DAY, WEEK]))
@settings(max_examples=30)
def test_profiles_are_within_the_tolerance_of_the_peak_or_exact(people, graph, regimen, seed, times):
    """1e-6 of the peak, on random graphs, parameters and regimens: the issue's bar."""
    answer, exact = both(
        people(40, seed),
        drugs(40, seed),
        regimen,
        times,
        keep=graph.nodes[:1] + graph.nodes[-2:],
        graph=graph,
    )
    assert answer.engine in ("laplace", "linear")
    assert error(answer, exact).max() <= 1e-6


@given(seeds, st.sampled_from(["100 mg po", "100 mg iv", "100 mg iv over 2 h", LONG]))
@settings(max_examples=20)
def test_extreme_bodies_are_within_the_tolerance(people, seed, regimen):
    """Kp 1e-3 to 1e3, CLint 0 and 1e-6 to 1e6."""
    answer, exact = both(
        people(40, seed), drugs(40, seed, 3.0, 6.0), regimen, WEEK if regimen == LONG else DAY
    )
    assert error(answer, exact).max() <= 1e-6


@pytest.mark.parametrize("age, BW", [(0.0, 0.8), (30.0, 250.0)])
def test_the_smallest_newborn_and_the_heaviest_adult_are_within_the_tolerance(drug, age, BW):
    body = reference_body("human", sex="M", age=age, BW=BW)
    drug = dataclasses.replace(drug, CLrenal=drug.CLrenal * BW / 73)
    for regimen in ("1 mg po", "1 mg iv", "1 mg iv over 1 h"):
        answer, exact = both(body, drug, regimen, DAY)
        assert answer.engine == "laplace" and error(answer, exact) <= 1e-6


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
def test_a_tighter_tolerance_gives_a_smaller_error(people, drug, rtol):
    answer, exact = both(people(100), drug, "50 mg po", DAY, rtol=rtol)
    assert answer.engine == "laplace"
    assert error(answer, exact).max() <= rtol


def test_the_estimated_error_is_at_least_the_true_one_wherever_it_matters(people):
    for seed in range(4):
        answer, exact = both(people(300, seed), drugs(300, seed), "50 mg iv over 1 h", DAY)
        true = error(answer, exact)
        assert answer.engine == "laplace" and (answer.error <= 1e-6).all()
        assert (true <= answer.error.clamp(min=2e-7)).all()


def test_every_state_can_be_kept(people, drug):
    answer, exact = both(people(50), drug, "50 mg po + 20 mg iv over 3 h", DAY, keep=None)
    assert answer.engine == "laplace" and answer.states == exact.states
    assert error(answer, exact).max() <= 1e-6
    given_by_then = answer.given.sum(-1)
    assert (answer.amount.sum(-1) - given_by_then).abs().max() < 1e-5 * given_by_then.max()


def test_a_long_regimen_costs_as_many_points_as_a_short_one(people, drug):
    system = assemble(WHOLE_BODY, people(64), drug)
    kept = [system.position("venous")]
    sizes = []
    for count in (2, 14, 80):
        regimen = Regimen.parse(f"10 mg po q2h x{count}")
        amounts = regimen.amounts(people(64).BW)
        transform = laplace.prepare(system, regimen.schedule(WEEK), amounts, kept)
        sizes.append(transform.weight.shape)
    assert len({size[1] for size in sizes}) == 1 and max(size[0] for size in sizes) <= 64


# Closed forms


def test_one_compartment_with_everything_at_once(man):
    drug = Kinetics(Kp=[1.7] * 17, BP=0.8, fup=0.3, CLrenal=6.0, ka=0.9, Fa=0.8, Fg=0.7)
    regimen = "100 mg iv + 40 mg po at 3 h + 60 mg iv over 2 h at 5 h"
    simulation = simulate(man, drug, regimen, DAY, graph=ONE, keep=["body"], engine="laplace")
    k = 6.0 / float(simulation.system.P)

    def since(start):
        return (DAY - start).clamp(min=0)

    def risen(lag):
        return (1 - torch.exp(-k * lag)) / k

    amount = torch.where(DAY > 0, 100 * torch.exp(-k * DAY), 0.0)
    absorbed = 40 * 0.56 * 0.9 / (0.9 - k)
    amount += absorbed * (torch.exp(-k * since(3.0)) - torch.exp(-0.9 * since(3.0)))
    amount += 30 * (risen(since(5.0)) - risen(since(7.0)))
    assert simulation.engine == "laplace"
    assert (simulation.amount_of("body") - amount).abs().max() <= 1e-6 * amount.max()


def test_moments_of_one_compartment_are_its_volume_and_clearance(man):
    drug = Kinetics(Kp=[1.7] * 17, BP=0.8, fup=0.3, CLrenal=6.0, ka=0.9, Fa=0.8, Fg=0.7)
    system = assemble(ONE, man, drug).flat()
    k = 6.0 / float(system.P)
    area, mean = laplace.moments(system, 0, "iv")
    assert float(area) == pytest.approx(1 / k, rel=1e-13) and float(mean) == pytest.approx(1 / k, rel=1e-13)
    area, mean = laplace.moments(system, 0, "po")
    assert float(area) == pytest.approx(0.56 / k, rel=1e-13)
    assert float(mean) == pytest.approx(1 / k + 1 / 0.9, rel=1e-13)


@pytest.mark.parametrize("route", ["iv", "po"])
def test_moments_are_those_of_the_exact_profile(people, drug, route):
    system, n = assemble(WHOLE_BODY, people(5), drug), WHOLE_BODY.nodes.index("muscle")
    area, mean = laplace.moments(system, n, route)
    m = system.inner
    A = system.matrix()[:, :m, :m]
    dose = torch.zeros(5, m, 1, dtype=torch.float64)
    dose[:, system.inlet(route)] = 1.0
    first = torch.linalg.solve(-A, dose)
    second = torch.linalg.solve(-A, first)
    torch.testing.assert_close(area, first[:, n, 0], rtol=1e-10, atol=0)
    torch.testing.assert_close(mean, (second / first)[:, n, 0], rtol=1e-10, atol=0)


def test_what_is_never_eliminated_has_infinite_moments(man):
    system = assemble(WHOLE_BODY, man, Kinetics(Kp=[1.0] * 17, BP=1.0, fup=1.0)).flat()
    area, mean = laplace.moments(system, system.position("venous"), "iv")
    assert torch.isinf(area).all() and torch.isinf(mean).all()


# The resolvent


@given(graphs(), seeds)
@settings(max_examples=30)
def test_the_resolvent_is_the_inverse(people, graph, seed):
    system = assemble(graph, people(3, seed), drugs(3, seed))
    rows, columns, values = system.entries()
    n = len(system.states)
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.randperm(n, generator=generator)[: n // 2].tolist()
    inlets = [system.inlet("iv"), system.inlet("po"), wanted[0]]
    z = torch.tensor([1.0 + 2.0j, -3.0 + 0.5j, 0.1j], dtype=torch.complex128)
    F = Resolvent(rows.tolist(), columns.tolist(), inlets, wanted)(values, z)
    M = z[:, None, None, None] * torch.eye(n) - system.matrix()
    residual = torch.linalg.inv(M).permute(2, 3, 0, 1)[wanted][:, inlets]
    assert (F - residual).abs().max() < 1e-11 * residual.abs().max()


def test_the_whole_body_leaves_a_core_of_three(man, drug):
    system = assemble(WHOLE_BODY, man, drug)
    rows, columns, _ = system.entries()
    resolvent = Resolvent(rows.tolist(), columns.tolist(), [system.inlet("po")], [system.position("venous")])
    assert [system.states[k] for k in resolvent.core] == ["liver", "arterial", "venous"]


# Gradients


def test_gradients_agree_with_finite_differences(man, drug):
    names = ["Kp", "BP", "fup", "CLint", "CLrenal", "ka", "Fa", "Fg"]
    inputs = [man.M, man.Q, torch.tensor(30.0).double(), *(getattr(drug, name) for name in names)]

    def exposure(M, Q, dose, *kinetics):
        body = man.replace(M=M, Q=Q, CO=Q.sum(-1))
        moved = dataclasses.replace(drug, **dict(zip(names, kinetics, strict=True)))
        regimen = Regimen((Dose(0.0, dose, route="po"), Dose(1.0, 20.0, duration=2.0)))
        options = {"engine": "laplace", "keep": ["venous"], "rtol": 1e-8}
        simulation = simulate(body, moved, regimen, [0.5, 3.0, 24.0], **options)
        assert simulation.engine == "laplace"
        return simulation.concentration("plasma").log().sum()

    leaves = [value.clone().requires_grad_() for value in inputs]
    gradients = torch.autograd.grad(exposure(*leaves), leaves)
    for position, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        ends = []
        for sign in (1, -1):
            moved = list(inputs)
            moved[position] = value * (1 + sign * 1e-4)
            ends.append(float(exposure(*moved)))
        directional = (ends[0] - ends[1]) / 2e-4
        assert float((gradient * value).sum()) == pytest.approx(directional, rel=1e-5, abs=1e-6)


# What is refused, and what is said


def test_auto_takes_it_for_many_bodies_of_which_only_outputs_are_kept(people, drug, saturable):
    many = people(MANY)
    assert simulate(many, drug, "1 mg po", DAY, keep=["venous"]).engine == "laplace"
    assert simulate(many, drug, "1 mg po", DAY).engine == "linear"
    assert simulate(people(3), drug, "1 mg po", DAY, keep=["venous"]).engine == "linear"
    assert simulate(people(2), saturable, "1 mg po", [1.0], keep=["venous"]).engine == "stiff"


@pytest.mark.parametrize(
    "times, rtol",
    [
        ([1e-8, 1.0, 24.0], 1e-6),  # lags eight orders of magnitude apart
        ([0.5, 1.0, 24.0], 1e-15),  # below rounding
        ([0.5, 1.0, 24.0], 0.0),
        ([0.0], 1e-6),  # nothing was given yet
    ],
)
def test_what_no_transform_can_do_is_done_exactly(people, drug, times, rtol):
    answer, exact = both(people(4), drug, "5 mg iv", times, rtol=rtol)
    assert answer.engine == "linear" and torch.equal(answer.amount, exact.amount)


def test_a_body_unlike_the_others_is_left_to_the_exact_engine(people, drug):
    """A transform that was prepared for slow, real eigenvalues meets a body that it does not fit."""
    bodies = people(64)
    system, regimen = assemble(WHOLE_BODY, bodies, drug), Regimen.parse("5 mg iv")
    schedule, amounts = regimen.schedule(DAY), regimen.amounts(bodies.BW)
    kept = [system.position("venous")]
    transform = laplace.prepare(system, schedule, amounts, kept, 1e-7)
    strange = dataclasses.replace(system, rate=system.rate.clone())
    strange.rate[3] *= torch.where(system.source == system.position("lung"), 2e-2, 40.0)
    x, error = laplace.solve(transform, strange, schedule, amounts)
    exact = linear.solve(strange, schedule, amounts)[..., kept]
    assert error[3] == 0 and (error[:3] > 0).all()
    torch.testing.assert_close(x[3], exact[3], rtol=1e-11, atol=0)
    assert ((x - exact).abs().amax(1) <= 1e-7 * exact.amax(1)).all()


def test_saturable_enzymes_are_refused(man, saturable):
    with pytest.raises(ValueError, match="saturable"):
        simulate(man, saturable, "1 mg iv", [1.0], engine="laplace")


def test_an_impossible_body_is_left_out(people, drug):
    bodies = people(5)
    M = bodies.M.clone()
    M[1, 4] = math.nan
    simulation = simulate(
        bodies.replace(M=M), drug, "1 mg po", DAY, engine="laplace", keep=["venous"], throw=False
    )
    assert simulation.status.tolist() == [0, 1, 0, 0, 0] and simulation.engine == "laplace"
    assert torch.isnan(simulation.amount[1]).all() and torch.isfinite(simulation.amount[[0, 2, 3, 4]]).all()


def test_a_batch_of_any_shape_keeps_its_shape(people, drug):
    bodies = people(6)._each(lambda value: value.reshape(2, 3, *value.shape[1:]))
    answer, exact = both(bodies, drug, "1 mg po", DAY, chunk=4)
    assert answer.error.shape == (2, 3) and error(answer, exact).max() <= 1e-6


def test_the_area_to_infinity_is_exact_although_one_state_is_kept(people, drug):
    answer = simulate(people(5), drug, "10 mg po", DAY, engine="laplace", keep=["venous"])
    full = simulate(people(5), drug, "10 mg po", DAY)
    torch.testing.assert_close(answer.AUC(infinite=True), full.AUC(infinite=True), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="not kept"):
        answer.AUC()


def test_noise_below_the_tolerance_is_no_terminal_slope(people):
    """A half-life of 0.4 h over a week: the last positive sample must lie above the noise."""
    drug = Kinetics(Kp=[0.3] * 17, BP=1.0, fup=0.5, CLint=200.0, ka=3.0)
    answer, exact = (
        simulate(people(5), drug, "10 mg po", WEEK / 2, engine=e, keep=["venous"]).nca()
        for e in ("laplace", "linear")
    )
    assert (answer["tlast"] < exact["tlast"]).all()
    assert answer["t_half"].tolist() == pytest.approx(exact["t_half"].tolist(), rel=0.1)


def test_single_precision_meets_a_tolerance_within_its_reach_and_is_refused_beyond(people, drug):
    single = Physiology("human", **{k: v.float() for k, v in people(20).tensors().items()})
    exact = simulate(people(20), drug, "10 mg po", DAY, keep=["venous"])
    answer = simulate(single, drug, "10 mg po", DAY.float(), engine="laplace", keep=["venous"], rtol=1e-3)
    assert answer.engine == "laplace" and answer.amount.dtype == torch.float32
    assert error(dataclasses.replace(answer, amount=answer.amount.double()), exact).max() < 1e-3
    beyond = simulate(single, drug, "10 mg po", DAY.float(), engine="laplace", keep=["venous"], rtol=1e-9)
    assert beyond.engine == "linear"
