"""Simulations: laws that hold for every body, what the outputs are, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk.bodies import reference_body
from pbpk.compound import Compound
from pbpk.graph import GRAPHS, LUMPED, WHOLE_BODY
from pbpk.organs import index
from pbpk.physiology import Cohort
from pbpk.regimen import Dose, Regimen
from pbpk.simulate import simulate
from pbpk.topology import SINKS, density

TIMES = torch.linspace(0, 24, 25, dtype=torch.float64)
MIXED = "30 mg po q8h x3 + 1 mg/kg iv over 3 h at 2 h + 5 mg iv at 10 h"
seeds = st.integers(0, 10**6)
graphs = st.sampled_from(list(GRAPHS))


# Laws


@given(seeds, graphs)
@settings(max_examples=15)
def test_drug_is_neither_lost_nor_made_and_no_amount_is_negative(people, drug, seed, graph):
    simulation = simulate(people(5, seed), drug, MIXED, TIMES, graph=graph)
    given_by_then = simulation.given.sum(-1)
    assert (simulation.amount.sum(-1) - given_by_then).abs().max() <= 1e-12 * given_by_then.max()
    assert simulation.amount.min() >= 0


@given(seeds, st.floats(1e-3, 1e3))
@settings(max_examples=10)
def test_the_dose_only_scales_a_linear_profile(people, drug, seed, factor):
    bodies = people(3, seed)
    one = simulate(bodies, drug, "7 mg po + 3 mg iv over 1 h", TIMES).amount
    other = simulate(bodies, drug, f"{7 * factor} mg po + {3 * factor} mg iv over 1 h", TIMES).amount
    torch.testing.assert_close(other, factor * one, rtol=1e-12, atol=0)


@given(seeds)
@settings(max_examples=10)
def test_doses_superpose(people, drug, seed):
    bodies = people(3, seed)
    parts = MIXED.split(" + ")
    total = sum(simulate(bodies, drug, part, TIMES).amount for part in parts)
    assert (simulate(bodies, drug, MIXED, TIMES).amount - total).abs().max() < 1e-12 * total.max()


def test_a_batch_of_any_shape_is_solved_like_its_members_one_by_one(people, drug):
    bodies = people(6)
    grid = bodies._each(lambda value: value.reshape(2, 3, *value.shape[1:]))
    together = simulate(grid, drug, MIXED, TIMES, chunk=4)
    assert together.concentration().shape == (2, 3, 25) and together.id.shape == (2, 3)
    for k in range(6):
        alone = simulate(bodies[k], drug, MIXED, TIMES)
        error = (together.amount[k // 3, k % 3] - alone.amount).abs().max()
        assert error < 1e-12 * alone.amount.max()
        areas = together.AUC()[k // 3, k % 3], alone.AUC()
        torch.testing.assert_close(*areas, rtol=1e-11, atol=1e-15)


def test_gradients_agree_with_finite_differences(man, drug):
    names = ["Kp", "BP", "fup", "CLint", "CLrenal", "ka", "Fa", "Fg"]
    inputs = [man.M, man.Q, *(getattr(drug, name) for name in names)]

    def exposure(M, Q, *kinetics):
        body = man.replace(M=M, Q=Q, CO=Q.sum(-1))
        moved = dataclasses.replace(drug, **dict(zip(names, kinetics, strict=True)))
        simulation = simulate(body, moved, "30 mg po + 20 mg iv over 2 h", [0.5, 3.0, 24.0])
        return simulation.concentration("plasma").log().sum() + simulation.AUC("liver")[-1].log()

    leaves = [value.clone().requires_grad_() for value in inputs]
    gradients = torch.autograd.grad(exposure(*leaves), leaves)
    for position, (value, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        ends = []
        for sign in (1, -1):
            moved = list(inputs)
            moved[position] = value * (1 + sign * 1e-5)
            ends.append(float(exposure(*moved)))
        directional = (ends[0] - ends[1]) / 2e-5
        assert float((gradient * value).sum()) == pytest.approx(directional, rel=1e-6, abs=1e-8)


def test_the_amounts_of_doses_are_differentiable(man, drug):
    amount = torch.tensor(30.0, dtype=torch.float64, requires_grad=True)
    C = simulate(man, drug, Regimen((Dose(0.0, amount, route="po"),)), [2.0]).concentration()
    (slope,) = torch.autograd.grad(C, amount)
    assert float(slope) == pytest.approx(float(C.detach()) / 30)


# Outputs


def test_an_output_at_the_time_of_a_dose_is_before_the_dose(man, drug):
    C = simulate(man, drug, "10 mg iv q12h x2", [0.0, 12.0, 12.0 + 1e-6]).concentration()
    assert C[0] == 0 and C[2] > 5 * C[1] > 0


def test_plasma_and_blood_are_venous_and_differ_by_their_ratio(man, drug):
    simulation = simulate(man, drug, "10 mg po", TIMES)
    blood, venous = simulation.concentration("blood"), simulation.concentration("venous")
    torch.testing.assert_close(blood, venous)
    torch.testing.assert_close(simulation.concentration("plasma"), blood / 0.7)


def test_an_organ_holds_its_amount_over_its_volume(man, drug):
    simulation = simulate(man, drug, "10 mg po", TIMES)
    V = man.mass("brain") / density()[index("brain")]
    torch.testing.assert_close(simulation.concentration("brain"), simulation.amount_of("brain") / V)


def test_an_organ_of_a_pooled_node_has_its_own_partition_coefficient(man, drug):
    simulation = simulate(man, drug, "10 mg po", TIMES, graph=LUMPED)
    muscle, brain = simulation.concentration("muscle"), simulation.concentration("brain")
    ratio = drug.Kp[index("muscle")] / drug.Kp[index("brain")]
    torch.testing.assert_close(muscle, brain * ratio)
    volume = simulation.system.V[simulation.system.position("rest")]
    torch.testing.assert_close(simulation.concentration("rest"), simulation.amount_of("rest") / volume)


def test_everything_ends_in_the_sinks_in_the_shares_of_the_clearances(man, drug):
    simulation = simulate(man, drug, "100 mg po", [5000.0])
    ends = {sink: float(simulation.amount_of(sink)) for sink in SINKS}
    assert sum(ends.values()) == pytest.approx(100, rel=1e-9)
    assert ends["unabsorbed"] == pytest.approx(10) and ends["gut_metabolised"] == pytest.approx(36)
    CLh = ends["metabolised"] / float(simulation.AUC("plasma")[-1])
    assert ends["excreted"] / float(simulation.AUC("arterial")[-1]) * 0.7 == pytest.approx(1.0)
    assert CLh > 0


def test_a_frame_has_a_row_a_body_and_time_and_a_column_an_output(people, drug):
    cohort = Cohort(people(3), np.array(["a", "b", "c"], dtype=object))
    simulation = simulate(cohort, drug, "10 mg po", TIMES)
    frame = simulation.frame(["plasma", "liver"])
    assert list(frame.columns) == ["id", "time", "plasma", "liver"] and len(frame) == 75
    b = frame[frame.id == "b"]
    assert b.liver.tolist() == simulation.concentration("liver")[1].tolist()


def test_quantiles_are_over_bodies(people, drug):
    simulation = simulate(people(101), drug, "10 mg po", TIMES)
    table = simulation.quantiles(["plasma", "muscle"])
    assert list(table.columns) == ["time", "output", "p5", "p25", "p50", "p75", "p95"] and len(table) == 50
    middle = simulation.concentration("muscle").median(0).values
    assert table[table.output == "muscle"].p50.tolist() == pytest.approx(middle.tolist())


def test_keeping_only_venous_blood_gives_the_same_plasma_and_refuses_areas(people, drug):
    bodies = people(4)
    whole, part = simulate(bodies, drug, MIXED, TIMES), simulate(bodies, drug, MIXED, TIMES, keep=["venous"])
    assert part.amount.shape == (4, 25, 1)
    assert torch.equal(whole.concentration(), part.concentration())
    with pytest.raises(ValueError, match="was not kept"):
        part.AUC()
    with pytest.raises(ValueError, match="output must be one of"):
        part.concentration("liver")


# Exposure


def test_exact_clearance_volume_and_bioavailability_are_those_of_the_parts(man, drug):
    """By hand: the well-stirred liver after the lung, behind the gut wall."""
    simulation = simulate(man, drug, "10 mg po", TIMES)
    disposition = {name: float(value) for name, value in simulation.disposition().items()}
    Q = float(man.flow("liver", "stomach", "small_intestine", "large_intestine", "spleen", "pancreas"))
    fu = 0.1 / 0.7
    hepatic = Q * fu * 200 / (Q + fu * 200) * 0.7
    assert disposition["CL"] == pytest.approx(hepatic + 1.0, rel=0.01)  # renal is from arterial plasma
    assert disposition["F"] == pytest.approx(0.9 * 0.6 * (1 - hepatic / 0.7 / Q), rel=0.02)
    Vss = float((simulation.system.P).sum())
    assert disposition["Vss"] == pytest.approx(Vss, rel=0.1)


def test_the_observed_clearance_of_a_compound_comes_back_in_the_reference_man():
    midazolam = Compound.load("midazolam")
    simulation = simulate(reference_body("human", "M", 30), midazolam, "1 mg iv", [1.0])
    observed = midazolam.CL * 73  # kg
    assert float(simulation.disposition()["CL"]) == pytest.approx(observed, rel=0.02)


def test_in_vitro_clearance_is_another_clearance():
    man = reference_body("human", "M", 30)
    observed, scaled = (
        simulate(man, "midazolam", "1 mg iv", [1.0], clearance=c, keep=["venous"]).system.rate
        for c in ("observed", "in-vitro")
    )
    assert not torch.equal(observed, scaled)


@pytest.mark.parametrize(
    "regimen, route", [("50 mg iv", "iv"), ("50 mg po", "po"), ("50 mg iv over 2 h", "iv")]
)
def test_the_exact_analysis_is_what_dense_sampling_converges_to(man, drug, regimen, route):
    time = torch.cat([torch.linspace(0, 4, 4001), torch.linspace(4, 120, 2000)[1:]]).double()
    simulation = simulate(man, drug, regimen, time)
    exact = simulation.nca().iloc[0]
    sampled = dataclasses.replace(simulation, engine="sampled").nca().iloc[0]
    shared = ["AUC", "AUCinf", *(["CL", "Vss"] if route == "iv" else ["CL/F"])]
    assert sampled[shared].tolist() == pytest.approx(exact[shared].tolist(), rel=2e-2)
    if route == "po":
        assert exact["CL"] / exact["F"] == pytest.approx(exact["CL/F"])


def test_an_analysis_names_its_bodies_and_speaks_cdisc(people, drug):
    cohort = Cohort(people(2), np.array(["x", "y"], dtype=object))
    table = simulate(cohort, drug, "10 mg po", TIMES).nca(names="CDISC")
    assert table["id"].tolist() == ["x", "y"] and {"CMAX", "AUCIFO", "CLFO", "CLO"} <= set(table)


def test_times_that_end_before_the_first_dose_are_refused(man, drug):
    with pytest.raises(ValueError, match="beyond the first dose, at 48 h, but none is given by 24 h"):
        simulate(man, drug, "10 mg iv at 48 h", TIMES)


# What is refused


@pytest.mark.parametrize(
    "times, named",
    [
        ([], "at least one"),
        ([1.0, 0.5], "0.5 h follows 1 h"),
        ([0.0, 0.0], "ascend"),
        ([-1.0, 2.0], "not negative"),
        ([0.0, float("nan")], "finite"),
        ([[0.0, 1.0]], "list"),
    ],
)
def test_times_that_do_not_ascend_from_zero_are_refused(times, named, man, drug):
    with pytest.raises(ValueError, match=named):
        simulate(man, drug, "1 mg iv", times)


@pytest.mark.parametrize(
    "change, named",
    [
        ({"engine": "stif"}, "Did you mean 'stiff'"),
        ({"graph": "whole_body"}, "Did you mean 'whole-body'"),
        ({"regimen": "1 mg rectal"}, "route"),
        ({"regimen": Regimen()}, "at least one dose"),
        ({"keep": ["venus"]}, "Did you mean 'venous'"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest_right_one(change, named, man, drug):
    arguments = {"regimen": "1 mg iv", "times": [1.0]} | change
    with pytest.raises(ValueError, match=named):
        simulate(man, drug, **arguments)


def test_a_wrong_compound_or_output_is_refused_with_the_nearest_right_one(man, drug):
    with pytest.raises(ValueError, match="Did you mean 'midazolam'"):
        simulate(man, "midazolan", "1 mg iv", [1.0])
    with pytest.raises(ValueError, match="Did you mean 'liver'"):
        simulate(man, drug, "1 mg iv", [1.0]).concentration("livr")


def test_the_linear_engine_refuses_saturable_enzymes(man, saturable):
    with pytest.raises(ValueError, match="saturable"):
        simulate(man, saturable, "1 mg iv", [1.0], engine="linear")
    assert simulate(man, saturable, "1 mg iv", [0.1]).engine == "stiff"


@pytest.mark.parametrize("engine", ["linear", "stiff"])
def test_a_body_with_a_missing_mass_is_named_or_left_out(people, drug, engine):
    bodies = people(3)
    M = bodies.M.clone()
    M[1, 4] = torch.nan
    cohort = Cohort(bodies.replace(M=M), np.array(["ann", "bob", "cy"], dtype=object))
    with pytest.raises(ValueError, match=r"'bob' M is negative or not finite \(1 of 3"):
        simulate(cohort, drug, "1 mg iv", [1.0], engine=engine)
    simulation = simulate(cohort, drug, "1 mg iv", [0.5, 1.0], engine=engine, throw=False)
    assert simulation.status.tolist() == [0, 1, 0]
    C = simulation.concentration()
    assert torch.isnan(C[1]).all() and torch.isfinite(C[[0, 2]]).all()
    kept = simulate(cohort[[0, 2]], drug, "1 mg iv", [0.5, 1.0], engine=engine).concentration()
    torch.testing.assert_close(C[[0, 2]], kept, rtol=1e-12, atol=0)
    assert np.isfinite(simulation.quantiles()["p50"]).all()


def test_no_body_that_can_be_simulated_leaves_nothing_to_summarise(man, drug):
    simulation = simulate(man.replace(CO=man.CO * 3), drug, "1 mg iv", [1.0], throw=False)
    assert simulation.status == 1
    with pytest.raises(ValueError, match="at least one solved body, but none is"):
        simulation.quantiles()


def test_what_are_no_bodies_and_no_regimen_is_refused(man, drug):
    with pytest.raises(TypeError, match=r"cohort must be a Cohort or a Physiology, but is 'people\.csv'"):
        simulate("people.csv", drug, "1 mg iv", [1.0])
    with pytest.raises(TypeError, match="regimen must be a Regimen or its text"):
        simulate(man, drug, 7.5, [1.0])


def test_progress_counts_the_bodies_that_are_done(people, drug):
    seen = []
    simulate(people(10), drug, "1 mg iv", [1.0], chunk=4, progress=lambda *counts: seen.append(counts))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_single_precision_follows_double_precision(man, drug):
    single = simulate(man.to(torch.float32), drug, "10 mg po", TIMES.float()).concentration()
    double = simulate(man, drug, "10 mg po", TIMES).concentration()
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-8)


def test_a_user_graph_is_simulated_by_the_same_code(man, drug):
    slow = ["adipose", "muscle", "skin", "bone"]
    graph = WHOLE_BODY.pool("mine", {"slow": slow, "fast": [c for c in WHOLE_BODY.nodes if c not in slow]})
    simulation = simulate(man, drug, "10 mg po", TIMES, graph=graph)
    assert simulation.states[:2] == ("slow", "fast") and "skin" in simulation.outputs


def test_the_public_names_are_functions_and_not_the_modules_of_the_same_name():
    import pbpk
    import pbpk.nca
    import pbpk.simulate

    assert callable(pbpk.simulate) and callable(pbpk.nca)


@pytest.mark.parametrize("chunk", (0, -1))
def test_a_chunk_of_no_bodies_is_refused(people, drug, chunk):
    with pytest.raises(ValueError, match="chunk must be 1 or more"):
        simulate(people(2), drug, "1 mg iv", [1.0], chunk=chunk)
