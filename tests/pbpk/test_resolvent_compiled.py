"""The compiled resolvent inside the Laplace engine against the plain one."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk import laplace
from pbpk.graph import COMPARTMENTS, LUMPED, WHOLE_BODY
from pbpk.regimen import Regimen
from pbpk.topology import assemble

pytest.importorskip("numba")
TIMES = torch.linspace(0, 24, 25, dtype=torch.float64)[1:]
REGIMENS = ["30 mg po", "5 mg iv", "20 mg po q5h x2 + 3 mg iv over 2 h at 1 h", "1 mg/kg iv over 1 h at 3 h"]


@st.composite
def graphs(draw):
    """The bundled graphs, and the whole body with its organs pooled at random."""
    pool = draw(st.lists(st.integers(0, 9), min_size=len(COMPARTMENTS), max_size=len(COMPARTMENTS)))
    pools = {f"n{n}": [c for c, p in zip(COMPARTMENTS, pool, strict=True) if p == n] for n in set(pool)}
    return draw(st.sampled_from([WHOLE_BODY, LUMPED, WHOLE_BODY.pool("random", pools)]))


def transforms(bodies, drug, graph, regimen, kept):
    """Returns the plain and the compiled transform, and what they are called with."""
    plan = Regimen.parse(regimen)
    system, schedule, amounts = assemble(graph, bodies, drug), plan.schedule(TIMES), plan.amounts(bodies.BW)
    states = [system.position(state) for state in kept]
    both = [laplace.prepare(system, schedule, amounts, states, compiled=c) for c in (False, True)]
    return both, system, schedule, amounts


@settings(max_examples=8, deadline=None)
@given(graphs(), st.integers(0, 10**6), st.sampled_from(REGIMENS), st.integers(1, 17))
def test_both_give_the_same_profiles_and_errors(people, drug, graph, seed, regimen, n):
    kept = ["venous", "muscle", "liver"]
    both, system, schedule, amounts = transforms(people(n, seed), drug, graph, regimen, kept)
    if both[0] is None:
        assert both[1] is None
        return
    (plain, error), (fast, same) = (laplace.solve(t, system, schedule, amounts) for t in both)
    assert ((plain - fast).abs().amax(1) <= 1e-9 * plain.abs().amax(1)).all()
    assert ((error - same).abs() < 1e-9).all()


@settings(max_examples=6, deadline=None)
@given(graphs(), st.integers(0, 10**6), st.sampled_from(REGIMENS))
def test_both_give_the_same_gradients(people, drug, graph, seed, regimen):
    kept = ["venous", "muscle", "liver"]
    both, system, schedule, amounts = transforms(people(17, seed), drug, graph, regimen, kept)
    if both[0] is None:
        return
    assert both[0].transforms.program is None and both[1].transforms.program is not None
    gradients = []
    for transform in both:
        rate, given = system.rate.clone().requires_grad_(), amounts.clone().requires_grad_()
        x, _ = laplace.solve(transform, dataclasses.replace(system, rate=rate), schedule, given)
        gradients.append(torch.autograd.grad((x / x.detach().amax(1, keepdim=True)).sum(), [rate, given]))
    for plain, fast in zip(*gradients, strict=True):
        assert ((plain - fast).abs() <= 1e-7 * plain.abs().amax(0)).all()


def test_a_second_derivative_is_the_plain_one(people, drug):
    both, system, _, amounts = transforms(people(3, 5), drug, WHOLE_BODY, "30 mg po", ["venous"])
    curvatures = []
    for transform in both:
        rate = system.rate.clone().requires_grad_()
        (slope,) = torch.autograd.grad(transform(rate, amounts)[0].square().sum(), rate, create_graph=True)
        curvatures.append(torch.autograd.grad((slope * rate.detach()).sum(), rate)[0])
    assert (curvatures[0].abs() > 0).any()
    torch.testing.assert_close(curvatures[1], curvatures[0], rtol=1e-9, atol=1e-9 * curvatures[0].abs().max())


def test_a_dose_of_nothing_has_a_gradient(people, drug):
    both, system, _, amounts = transforms(people(17, 6), drug, WHOLE_BODY, "30 mg po", ["venous"])
    amounts[3] = 0.0
    slopes = []
    for transform in both:
        given = amounts.clone().requires_grad_()
        slopes.append(torch.autograd.grad(transform(system.rate, given)[0].sum(), given)[0])
    assert slopes[0][3] > 0
    torch.testing.assert_close(slopes[1], slopes[0])


def test_a_sink_is_left_to_the_plain_engine(people, drug):
    both, *_ = transforms(people(9), drug, WHOLE_BODY, "30 mg po", ["metabolised"])
    assert both[1].transforms.program is None


def test_a_body_that_is_no_number_is_not_called_exact(people, drug):
    (_, fast), system, _, amounts = transforms(people(9), drug, WHOLE_BODY, "30 mg po", ["venous"])
    rate = system.rate.clone()
    rate[4, 0] = torch.nan
    _, error = fast(rate, amounts)
    assert error[4].isnan() and (error.isnan().sum() == 1)
