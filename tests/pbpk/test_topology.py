"""The rate matrix: what it conserves, what its entries are, and which bodies it refuses."""

import dataclasses

import pytest
import torch

from pbpk.compound import Compound
from pbpk.graph import COMPARTMENTS, GRAPHS, LUMPED, WHOLE_BODY
from pbpk.organs import ORGANS, PORTAL, index
from pbpk.topology import SINKS, Kinetics, assemble, density, kinetics


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=list(GRAPHS))
def test_the_rate_matrix_conserves_drug_and_only_moves_it_forward(graph, people, drug):
    A = assemble(graph, people(20), drug).matrix()
    scale = A.abs().amax((-1, -2))
    assert (A.sum(-2).abs().amax(-1) <= 1e-14 * scale).all()
    assert (A - torch.diag_embed(A.diagonal(dim1=-2, dim2=-1)) >= 0).all()


def test_each_organ_is_limited_by_its_perfusion(man, drug):
    system = assemble(WHOLE_BODY, man, drug)
    A, Q = system.matrix(), man.flow("muscle")
    V = man.mass("muscle") / density()[index("muscle")]
    muscle, arterial = system.position("muscle"), system.position("arterial")
    assert A[muscle, muscle].item() == pytest.approx(float(-Q * 0.7 / (V * drug.Kp[index("muscle")])))
    assert A[muscle, arterial].item() == pytest.approx(float(Q / system.V[arterial]))


def test_the_liver_the_kidney_and_the_gut_eliminate_what_they_should(man, drug):
    system = assemble(WHOLE_BODY, man, drug)
    A, at = system.matrix(), system.position
    P_liver = system.V[at("liver")] * drug.Kp[index("liver")]
    assert A[at("metabolised"), at("liver")].item() == pytest.approx(float(0.1 * 200.0 / P_liver))
    V_arterial = system.V[at("arterial")]
    assert A[at("excreted"), at("arterial")].item() == pytest.approx(float(1.0 / (0.7 * V_arterial)))
    into = ["small_intestine", "gut_metabolised", "unabsorbed"]
    shares = [A[at(state), at("depot")].item() / 1.5 for state in into]
    assert shares == pytest.approx([0.9 * 0.6, 0.9 * 0.4, 0.1])


def test_pooling_keeps_the_motion_of_organs_that_are_in_equilibrium_with_each_other(man, drug):
    fine, coarse = assemble(WHOLE_BODY, man, drug), assemble(LUMPED, man, drug)
    pool = torch.zeros(len(coarse.states), len(fine.states), dtype=torch.float64)
    for state in fine.states:
        home = state if state in ("depot", *SINKS) else LUMPED.home(state)
        pool[coarse.states.index(home), fine.states.index(state)] = 1.0
    C = torch.rand(len(coarse.states), dtype=torch.float64)  # one plasma concentration a pool
    P = torch.ones(len(fine.states), dtype=torch.float64)
    P[: len(fine.graph.nodes)] = fine.P
    x = P * (pool.T @ C)
    torch.testing.assert_close(pool @ fine.matrix() @ x, coarse.matrix() @ pool @ x, rtol=1e-12, atol=1e-12)


def test_blood_is_split_as_the_graph_says_and_volumes_are_masses_over_densities(man, drug):
    system = assemble(dataclasses.replace(WHOLE_BODY, arterial_share=0.4), man, drug)
    blood = man.mass("blood") / density()[index("blood")]
    shares = system.V[[system.position("arterial"), system.position("venous")]] / blood
    assert shares.tolist() == pytest.approx([0.4, 0.6])
    assert system.V.sum().item() == pytest.approx(float((man.M / density()).sum()))


def test_a_dose_by_mouth_is_absorbed_where_the_graph_says(man, drug):
    system = assemble(dataclasses.replace(WHOLE_BODY, absorbs="liver"), man, drug)
    assert system.matrix()[system.position("liver"), system.position("depot")] > 0


def test_every_organ_has_a_density_near_that_of_water():
    assert len(density()) == len(ORGANS) and (density() > 0.85).all() and (density() < 1.6).all()


def test_a_graph_whose_flows_do_not_balance_is_refused_with_the_organ_and_the_amount(man, drug):
    edges = dict(zip(WHOLE_BODY.edges, WHOLE_BODY.carries, strict=True))
    edges["liver", "venous"] = tuple(o for o in edges["liver", "venous"] if o != "spleen")
    lost = f"{float(man.flow('spleen')):.4g} L/h too little leaves 'liver'"
    with pytest.raises(ValueError, match=lost):
        assemble(WHOLE_BODY.with_edges(edges), man, drug)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda b: {"M": b.M * torch.nan}, "M is negative or not finite"),
        (lambda b: {"Q": -b.Q}, "Q is negative"),
        (lambda b: {"CO": 2 * b.CO}, "do not sum to CO"),
        (lambda b: {"M": b.M * (torch.arange(17) != 3)}, "no mass"),
        (lambda b: {"BW": b.BW}, None),
    ],
)
def test_bodies_that_cannot_be_simulated_are_found_with_the_reason(change, reason, people, drug):
    bodies = people(3)
    wrong = bodies.replace(**change(bodies))
    mixed = bodies._each(lambda value: value)
    mixed = bodies.replace(
        **{name: torch.cat([value[:2], wrong.tensors()[name][2:]]) for name, value in mixed.tensors().items()}
    )
    fault = assemble(WHOLE_BODY, mixed, drug).fault
    assert (reason is None) == (fault == {})
    if reason:
        assert any(reason in key for key in fault)
        assert all(mask.tolist() == [False, False, True] for mask in fault.values())


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"CLrenal": torch.tensor(1e3)}, "CLrenal is more than the plasma that reaches the kidney"),
        ({"Fa": torch.tensor(1.2)}, "Fa is above 1"),
        ({"CLint": torch.tensor(-1.0)}, "CLint is negative or not finite"),
        ({"ka": torch.tensor(torch.nan)}, "ka is negative or not finite"),
    ],
)
def test_kinetics_that_are_impossible_are_found_with_the_reason(change, reason, man, drug):
    assert reason in assemble(WHOLE_BODY, man, dataclasses.replace(drug, **change)).fault


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"Kp": [1.0, 2.0]}, "17 organs"),
        ({"Kp": [1.0] * 17, "Vmax": [1.0, 2.0], "Km": [1.0]}, "an enzyme each"),
    ],
)
def test_kinetics_of_the_wrong_shape_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        Kinetics(BP=1.0, fup=0.5, **wrong)


def test_the_kinetics_of_a_compound_are_those_of_its_parts(people):
    bodies, midazolam = people(4), Compound.load("midazolam")
    drug = kinetics(midazolam, bodies)
    assert drug.CLint.shape == (4,) and (drug.Fg < 1).all() and not drug.saturable
    assert drug.Kp.shape[-1] == 17 and float(drug.fup) == midazolam.fup
    with pytest.raises(ValueError, match="Did you mean 'observed'"):
        kinetics(midazolam, bodies, clearance="observd")


def test_a_system_of_bodies_sliced_is_the_system_of_the_slice(people, drug):
    bodies = people(5)
    whole, part = assemble(LUMPED, bodies, drug)[2:4], assemble(LUMPED, bodies[2:4], drug)
    torch.testing.assert_close(whole.matrix(), part.matrix(), rtol=0, atol=0)


def test_a_compartment_is_found_in_the_node_that_pools_it(man, drug):
    one = assemble(WHOLE_BODY.pool("one", {"body": COMPARTMENTS}), man, drug)
    assert one.position("venous") == one.position("liver") == 0
    assert assemble(LUMPED, man, drug).position(PORTAL[0]) == LUMPED.nodes.index("gut")
