"""Elements of the body: enzymes in any organ, walls, the brain's fluid, bile, the stomach, metabolites."""

import dataclasses
import re

import numpy as np
import pytest
import scipy.integrate
import scipy.interpolate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk.brain import Brain, brain_body
from pbpk.graph import COMPARTMENTS, LUMPED, WHOLE_BODY
from pbpk.kinetics import BrainBarrier, Kinetics, Metabolite
from pbpk.organs import index
from pbpk.simulate import simulate
from pbpk.topology import assemble, density, vascular_share

TIMES = torch.linspace(0, 24, 13, dtype=torch.float64)
WALLED = WHOLE_BODY.permeable("muscle", "liver")
BARRIER = BrainBarrier(PSb=1.875, PSc=0.9375, PSe=300.0, fum=0.8, CLbout=0.3)


def change(drug, **fields) -> Kinetics:
    return dataclasses.replace(drug, **fields)


def everything(drug) -> Kinetics:
    """A drug with every linear element at once."""
    glucuronide = change(
        drug, CLint=5.0, CLbile=30.0, kbile=0.7, PS={"muscle": 1.0, "liver": 9.0}, brain=BARRIER
    )
    return change(
        drug,
        CLint_in={"kidney": torch.tensor(3.0), "small_intestine": torch.tensor(8.0)},
        PS={"muscle": 4.0, "liver": 300.0},
        kge=2.8,
        CLbile=20.0,
        kbile=0.5,
        brain=BARRIER,
        metabolites={"M1": Metabolite(glucuronide, share=0.3, weight=1.5, returns=True)},
    )


GRAPH = WALLED.with_csf()


# Laws


@given(st.integers(0, 10**6), st.sampled_from(["30 mg po q8h x2", "5 mg iv + 3 mg iv over 2 h at 4 h"]))
@settings(max_examples=8)
def test_drug_with_every_element_is_conserved_and_never_negative(people, drug, seed, regimen):
    simulation = simulate(people(3, seed), everything(drug), regimen, TIMES, graph=GRAPH)
    total = simulation.given.sum(-1)
    assert (simulation.amount.sum(-1) - total).abs().max() <= 1e-12 * total.max()
    assert simulation.amount.min() >= 0


def test_volumes_are_those_of_the_body_whatever_is_split(people, drug):
    bodies = people(4)
    plain, split = assemble(WHOLE_BODY, bodies, drug), assemble(GRAPH, bodies, everything(drug))
    endothelium = 0.005 * bodies.mass("brain") / density()[index("brain")]
    torch.testing.assert_close(split.V.sum(-1) + endothelium, plain.V.sum(-1))


def test_elements_are_differentiable(man, drug):
    CLint_in, PS, kge, share = (torch.tensor(v, dtype=torch.float64) for v in (8.0, 4.0, 2.8, 0.3))

    def level(CLint_in, PS, kge, share):
        base = everything(drug)
        metabolite = dataclasses.replace(base.metabolites["M1"], share=share)
        moved = change(
            base, CLint_in={"kidney": CLint_in}, PS={"muscle": PS, "liver": 300.0}, kge=kge,
            metabolites={"M1": metabolite},
        )  # fmt: skip
        simulation = simulate(man, moved, "30 mg po", [0.7, 3.0], graph=GRAPH)
        return torch.cat([simulation.concentration(o) for o in ("plasma", "muscle", "M1:plasma")])

    leaves = [v.clone().requires_grad_() for v in (CLint_in, PS, kge, share)]
    assert torch.autograd.gradcheck(level, leaves, eps=1e-4, atol=1e-7, rtol=1e-5)


# Enzymes


@pytest.mark.parametrize("organ", ["kidney", "small_intestine", "lung", "muscle"])
def test_an_enzyme_in_any_organ_that_never_saturates_is_a_linear_clearance_there(man, drug, organ):
    never = change(drug, Vmax=[5e9], Km=[1e9], enzymes_in=(organ,))
    linear = change(drug, CLint_in={organ: 5.0})
    one, other = (simulate(man, d, "30 mg po", TIMES) for d in (never, linear))
    assert (one.engine, other.engine) == ("stiff", "linear")
    error = (one.concentration() - other.concentration()).abs().max() / other.concentration().max()
    assert error < 1e-6
    assert other.disposition()["CL"] > simulate(man, drug, "30 mg po", TIMES).disposition()["CL"]


def test_enzymes_of_the_gut_wall_lose_what_a_well_stirred_wall_loses(man):
    """Fg = Q BP / (Q BP + fup CLint): only what is absorbed passes the wall first."""
    drug = Kinetics(Kp=[1.0] * 17, BP=0.8, fup=0.1, CLrenal=3.0, CLint_in={"small_intestine": 200.0})
    plain = change(drug, CLint_in={})
    Q = float(man.flow("small_intestine")) * 0.8
    F = simulate(man, drug, "1 mg po", TIMES).disposition()["F"]
    assert float(F) == pytest.approx(Q / (Q + 20.0), rel=1e-9)
    assert float(simulate(man, plain, "1 mg po", TIMES).disposition()["F"]) == pytest.approx(1.0, rel=1e-9)


def test_a_large_dose_saturates_the_gut_wall(man):
    drug = Kinetics(
        Kp=[1.0] * 17,
        BP=1.0,
        fup=0.5,
        CLrenal=3.0,
        ka=2.0,
        Vmax=[20.0],
        Km=[0.1],
        enzymes_in=("small_intestine",),
    )
    small, large = (
        simulate(man, drug, f"{mg} mg po", [200.0]).amount_of("excreted") / mg for mg in (0.01, 500)
    )
    assert float(large) > 3 * float(small)


def test_two_enzymes_in_two_organs_agree_with_radau(man, drug):
    mixed = change(drug, Vmax=[3.0, 40.0, 1.0], Km=[0.02, 1.0, 0.1], enzymes_in=("liver", "kidney", "liver"))
    simulation = simulate(man, mixed, "30 mg po", TIMES, graph=LUMPED, rtol=1e-8)
    expected = radau(
        simulation.system, 30.0 * np.eye(len(simulation.states))[simulation.system.inlet("po")], TIMES
    )
    error = np.abs(simulation.amount.numpy() - expected) / expected.max(0).clip(1e-3)
    assert error[1:].max() < 1e-6


def radau(system, x0, times):
    """Solves one body by SciPy, after what enters at time 0."""
    A = system.matrix().numpy()
    source, target = system.saturable_source.numpy(), system.saturable_target.numpy()
    u, Vmax, Km = system.unbound.numpy(), system.Vmax.numpy(), system.Km.numpy()

    def slope(t, x):
        speed = Vmax * u * x[source] / (Km + u * x[source])
        change = A @ x
        np.subtract.at(change, source, speed)
        np.add.at(change, target, speed)
        return change

    return scipy.integrate.solve_ivp(
        slope, (0, float(times[-1])), x0, "Radau", t_eval=times.numpy(), rtol=1e-10, atol=1e-13
    ).y.T


# Walls


def test_a_wall_that_lets_everything_pass_is_no_wall(man, drug):
    """Against the perfused organ that holds its own blood."""
    bodies, o = man, index("muscle")
    walled = simulate(
        bodies, change(drug, PS={"muscle": 1e9}), "30 mg po", TIMES, graph=WHOLE_BODY.permeable("muscle")
    )
    V = man.M / density()
    share = vascular_share()[o]
    blood = V[o] * share / (1 - share)
    M, Kp = man.M.clone(), drug.Kp.clone()
    M[o] += blood * density()[o]
    M[index("blood")] -= blood * density()[index("blood")]
    Kp[o] = (V[o] * Kp[o] + blood * drug.BP) / (V[o] + blood)
    perfused = simulate(man.replace(M=M), change(drug, Kp=Kp), "30 mg po", TIMES)
    torch.testing.assert_close(walled.concentration(), perfused.concentration(), rtol=1e-6, atol=1e-9)
    tissue = walled.concentration("muscle")[1:] / walled.concentration("muscle_blood")[1:]
    torch.testing.assert_close(tissue, (drug.Kp[o] / drug.BP).expand(12), rtol=1e-6, atol=0)


def test_a_closed_wall_keeps_the_drug_out(man, drug):
    simulation = simulate(
        man, change(drug, PS={"muscle": 0.0}), "30 mg po", TIMES, graph=WHOLE_BODY.permeable("muscle")
    )
    assert simulation.concentration("muscle").abs().max() == 0
    assert simulation.concentration("muscle_blood").max() > 0


def test_a_pooled_node_has_one_wall_for_all_its_organs(people, drug):
    graph = LUMPED.permeable("muscle", "skin")
    assert graph.walled == ("rest",)
    simulation = simulate(
        people(2), change(drug, PS={"muscle": 3.0, "skin": 1.0}), "1 mg iv", TIMES, graph=graph
    )
    assert {"rest", "rest_blood"} <= set(simulation.states) and "skin" in simulation.outputs


def test_a_graph_is_split_where_the_kinetics_say_so(people, drug):
    one, other = (assemble(g, people(2), everything(drug)) for g in (WHOLE_BODY, GRAPH))
    assert one.states == other.states and one.graph == other.graph
    torch.testing.assert_close(one.rate, other.rate)


@pytest.mark.parametrize(
    "graph, named", [(WALLED, "has none for 'muscle'"), (WHOLE_BODY.with_csf(), "Give a BrainBarrier")]
)
def test_a_graph_that_splits_what_the_kinetics_do_not_know_is_refused(man, drug, graph, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        assemble(graph, man, drug)


def test_the_brain_has_its_fluid_whatever_its_node_is_called(man, drug):
    others = [c for c in COMPARTMENTS if c not in ("brain", "arterial", "venous")]
    pools = {"others": others, "head": ["brain"], "arterial": ["arterial"], "venous": ["venous"]}
    system = assemble(
        WHOLE_BODY.pool("named", pools), man, change(drug, brain=BARRIER, CLint_in={"brain": 1.0})
    )
    assert {"others", "brain_blood", "brain", "cranial_csf"} <= set(system.states) and not system.fault


def test_nodes_that_hold_blood_or_pool_the_brain_cannot_be_split():
    with pytest.raises(ValueError, match="pools blood"):
        WHOLE_BODY.permeable("venous")
    with pytest.raises(ValueError, match="keep the brain alone"):
        LUMPED.with_csf()


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"enzymes_in": ("liver",)}, "names 1"),
        ({"CLint_in": {"livr": 1.0}}, "Did you mean 'liver'"),
        ({"CLbile": 1.0}, "both be given or neither"),
        ({"metabolites": {"a:b": None}}, "without a colon"),
    ],
)
def test_elements_that_do_not_fit_together_are_refused(drug, wrong, named):
    with pytest.raises(ValueError, match=named):
        change(drug, **wrong)


# The brain


def test_the_brain_in_the_body_is_the_stand_alone_brain_driven_by_its_arterial_blood(man):
    """The published equations, integrated by SciPy with the body's arterial concentration as their input."""
    drug = Kinetics(Kp=[1.0] * 17, BP=1.09, fup=0.82, CLint=20.0, brain=BARRIER)
    times = torch.linspace(0, 8, 1601, dtype=torch.float64)
    simulation = simulate(man, drug, "1000 mg iv over 0.25 h", times, graph=WHOLE_BODY.with_csf())
    V = dict(zip(simulation.system.drugs[0].spaces, simulation.system.V.tolist(), strict=True))
    names = ("brain_blood", "brain", "cranial_csf", "spinal_csf")
    published = brain_body("M", 30, 176, 73)
    p = {
        **published, **dict(zip(("Vbb", "Vbm", "Vc", "Vs"), (V[n] for n in names), strict=True)),
        "Qbr": float(man.flow("brain")), "fu": 0.82, "BP": 1.09, "PSb": 1.875, "PSc": 0.9375, "PSe": 300.0,
        "fum": 0.8, "fuc": 1.0, "CLbout": 0.3,
    }  # fmt: skip
    model = Brain(arterial=())
    A = np.zeros((4, 4))
    for (row, column), rate in model.rates(p).items():
        A[model.states.index(row), model.states.index(column)] += rate
    C_art = simulation.concentration("arterial").numpy()
    inflow = scipy.interpolate.CubicSpline(times.numpy(), p["Qbr"] * C_art)
    solution = scipy.integrate.solve_ivp(
        lambda t, x: A @ x + np.array([inflow(t), 0, 0, 0]), (0, 8), np.zeros(4), "Radau", [2.0, 8.0],
        rtol=1e-8, atol=1e-10,
    )  # fmt: skip
    for k, name in enumerate(names):
        mine = simulation.amount_of(name)[[400, 1600]].numpy()
        assert mine == pytest.approx(solution.y[k], rel=1e-4)


def test_the_brain_of_a_man_and_its_fluid_have_the_published_shares(man, drug):
    V = assemble(WHOLE_BODY.with_csf(), man, change(drug, brain=BARRIER))
    of = dict(zip(V.drugs[0].spaces, V.V.tolist(), strict=True))
    published = brain_body("M", 30, 176, 73)
    ratios = [
        of[a] / published[b] for a, b in (("brain_blood", "Vbb"), ("cranial_csf", "Vc"), ("brain", "Vbm"))
    ]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-9)


# Bile, stomach, metabolites


def test_a_newborn_whose_brain_would_make_no_fluid_is_impossible(man, drug):
    newborn = man.replace(age=torch.full_like(man.age, 0.01))
    with pytest.raises(ValueError, match="so young a brain makes no fluid"):
        simulate(newborn, change(drug, brain=BARRIER), "1 mg iv", TIMES, graph=WHOLE_BODY.with_csf())


def test_bile_brings_the_drug_back(man, drug):
    once = change(drug, CLbile=30.0, kbile=0.3)
    closed = simulate(man, change(drug, CLint=200.0 + 30.0), "30 mg iv", [100.0]).AUC()
    simulation = simulate(man, once, "30 mg iv", [100.0])
    assert simulation.AUC() > 1.05 * closed  # of what is excreted by bile, Fa Fg is absorbed again
    assert "bile" in simulation.states and simulation.amount_of("unabsorbed") > 0


def test_the_stomach_delays_a_dose_by_mouth_and_changes_no_area(man, drug):
    quick, slow = (simulate(man, d, "30 mg po", TIMES) for d in (drug, change(drug, kge=2.8)))
    torch.testing.assert_close(quick.AUC(infinite=True), slow.AUC(infinite=True), rtol=1e-12, atol=0)
    assert float(slow.mean_time() - quick.mean_time()) == pytest.approx(1 / 2.8, rel=1e-9)


def test_a_metabolite_has_the_area_of_its_formation_over_its_clearance(man, drug):
    """By mass balance: everything metabolised, times share and weight, leaves by the metabolite's kidneys."""
    M1 = Kinetics(Kp=[0.8] * 17, BP=1.0, fup=1.0, CLrenal=7.0)
    parent = change(drug, CLrenal=0.0, metabolites={"M1": Metabolite(M1, share=0.4, weight=1.25)})
    simulation = simulate(man, parent, "30 mg iv", [1.0, 2000.0])
    assert float(simulation.AUC("M1:arterial", infinite=True)) == pytest.approx(
        30 * 0.4 * 1.25 / 7.0, rel=1e-9
    )
    assert float(simulation.amount_of("M1:excreted")[-1]) == pytest.approx(30 * 0.4, rel=1e-9)
    assert {"M1:plasma", "M1:liver", "plasma"} <= set(simulation.outputs)
    table = simulation.nca("M1:plasma")
    assert table["AUCinf"][0] == pytest.approx(float(simulation.AUC("M1:plasma", infinite=True)))


def test_a_metabolite_that_saturates_is_the_linear_one_far_below_its_Km(man, drug):
    linear = Kinetics(Kp=[0.8] * 17, BP=1.0, fup=1.0, CLint=4.0)
    never = change(linear, CLint=0.0, Vmax=[4e9], Km=[1e9])
    one, other = (
        simulate(man, change(drug, metabolites={"M1": Metabolite(m, weight=1.5)}), "30 mg po", TIMES)
        for m in (never, linear)
    )
    error = (one.concentration("M1:plasma") - other.concentration("M1:plasma")).abs().max()
    assert one.engine == "stiff" and error < 1e-6 * other.concentration("M1:plasma").max()


def test_a_glucuronide_that_returns_prolongs_the_parent(man, drug):
    M1 = Kinetics(Kp=[0.3] * 17, BP=0.6, fup=0.5, CLbile=80.0, kbile=0.4)
    none, back = (
        simulate(
            man, change(drug, metabolites={"M1": Metabolite(M1, share=0.8, returns=r)}), "30 mg iv", TIMES
        )
        for r in (False, True)
    )
    assert back.AUC(infinite=True) > 1.2 * none.AUC(infinite=True)
    assert "M1:depot" in none.states and "M1:depot" not in back.states


def test_metabolites_of_more_than_all_metabolism_are_impossible(man, drug):
    M = Metabolite(Kinetics(Kp=[1.0] * 17, BP=1.0, fup=1.0, CLrenal=1.0), share=0.7)
    with pytest.raises(ValueError, match="sum to more than 1"):
        simulate(man, change(drug, metabolites={"a": M, "b": M}), "1 mg iv", [1.0])


def test_what_is_never_eliminated_has_an_infinite_area_and_the_rest_a_finite_one(man, drug):
    stays = Kinetics(Kp=[1.0] * 17, BP=1.0, fup=1.0)
    simulation = simulate(man, change(drug, metabolites={"M1": Metabolite(stays)}), "1 mg iv", [1.0])
    assert torch.isfinite(simulation.AUC(infinite=True))
    assert torch.isinf(simulation.AUC("M1:plasma", infinite=True))
