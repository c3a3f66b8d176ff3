"""The linear engine: the matrix exponential, and one and two compartments in closed form."""

import math

import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.graph import COMPARTMENTS, WHOLE_BODY
from pbpk.linear import distinct_steps, exponential
from pbpk.regimen import Regimen
from pbpk.simulate import simulate
from pbpk.topology import Kinetics

ONE = WHOLE_BODY.pool("one", {"body": COMPARTMENTS})
CENTRAL = [c for c in COMPARTMENTS if c not in ("muscle", "adipose")]
TWO = WHOLE_BODY.pool("two", {"central": CENTRAL, "peripheral": ["muscle", "adipose"]})
DRUG = Kinetics(Kp=[1.7] * 17, BP=0.8, fup=0.3, CLrenal=6.0, ka=0.9, Fa=0.8, Fg=0.7)
TIMES = torch.cat([torch.linspace(0, 30, 61), torch.tensor([30.1, 37.3, 80.0])]).to(torch.float64)


@st.composite
def rate_matrices(draw):
    n, seed, spread = draw(st.integers(2, 12)), draw(st.integers(0, 10**6)), draw(st.floats(0, 4))
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(3, n, n, generator=generator, dtype=torch.float64)
    A = 10 ** (spread * (2 * A - 1)) * (torch.rand(3, n, n, generator=generator, dtype=torch.float64) < 0.4)
    A = A - torch.diag_embed(A.diagonal(dim1=-2, dim2=-1))
    return A - torch.diag_embed(A.sum(-2))


@given(rate_matrices(), st.floats(1e-4, 30))
def test_the_exponential_is_a_transition_matrix_and_agrees_with_scipy(A, h):
    E = exponential(A, h)
    assert (E >= 0).all()
    assert (E.sum(-2) - 1).abs().max() < 1e-14
    expected = torch.tensor(scipy.linalg.expm((A * h).numpy()))
    assert (E - expected).abs().max() < 1e-8  # what scipy reaches for large norms


@given(rate_matrices(), st.floats(0.01, 5), st.floats(0.01, 5))
def test_two_steps_are_one_step_of_their_sum(A, h, k):
    both = exponential(A, h) @ exponential(A, k)
    torch.testing.assert_close(both, exponential(A, h + k), rtol=1e-9, atol=1e-13)


def test_entries_of_the_exponential_are_accurate_relative_to_themselves_however_small():
    chain = torch.zeros(6, 6, dtype=torch.float64)  # a Poisson process: entries t^k e^-t / k!
    for k in range(5):
        chain[k, k], chain[k + 1, k] = -1.0, 1.0
    t = 1e-3
    expected = [t**k * math.exp(-t) / math.factorial(k) for k in range(5)]
    assert exponential(chain, t)[:5, 0].tolist() == pytest.approx(expected, rel=1e-13, abs=0)


def test_nothing_moves_without_rates_or_without_time():
    zero = torch.zeros(2, 3, 3, dtype=torch.float64)
    assert torch.equal(exponential(zero, 5.0), torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
    assert torch.equal(exponential(torch.diag(-torch.ones(3).double()), 0.0), torch.eye(3).double())


def test_the_exponential_is_differentiable():
    A = torch.tensor([[-1.0, 0.3], [1.0, -0.3]], dtype=torch.float64, requires_grad=True)
    moves = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda a: exponential(a * moves, 7.0), (A.detach().abs().requires_grad_(),)
    )


def plasma(man, graph, regimen, times=TIMES):
    return simulate(man, DRUG, regimen, times, graph=graph)


@pytest.fixture(scope="module")
def one(man):
    """The volume and the rate of elimination of the one compartment."""
    system = simulate(man, DRUG, "1 mg iv", [1.0], graph=ONE).system
    V = float(system.P)
    return V, 6.0 / V


def test_one_compartment_after_a_bolus(man, one):
    V, k = one
    expected = 100 / V * torch.exp(-k * TIMES[1:])
    C = plasma(man, ONE, "100 mg iv").concentration()[1:]
    torch.testing.assert_close(C, expected, rtol=1e-9, atol=0)


def test_one_compartment_during_and_after_an_infusion(man, one):
    V, k = one
    T = torch.clamp(TIMES, max=2.5)
    expected = 40 / (V * k) * (torch.exp(-k * (TIMES - T)) - torch.exp(-k * TIMES))
    C = plasma(man, ONE, "100 mg iv over 2.5 h").concentration()
    torch.testing.assert_close(C, expected, rtol=1e-9, atol=1e-15)


def test_one_compartment_after_a_dose_by_mouth(man, one):
    V, k = one
    expected = 100 * 0.56 * 0.9 / (V * (0.9 - k)) * (torch.exp(-k * TIMES) - torch.exp(-0.9 * TIMES))
    simulation = plasma(man, ONE, "100 mg po")
    torch.testing.assert_close(simulation.concentration(), expected, rtol=1e-9, atol=1e-15)
    absorbed = 100 * (1 - torch.exp(-0.9 * TIMES))
    torch.testing.assert_close(simulation.amount_of("unabsorbed"), 0.2 * absorbed, rtol=1e-9, atol=1e-12)


def test_one_compartment_under_repeated_doses_is_a_geometric_sum(man, one):
    V, k = one
    trough = [50 / V * sum(math.exp(-k * 8 * j) for j in range(1, n + 1)) for n in range(12)]
    C = plasma(man, ONE, "50 mg iv q8h x12", [8.0 * n for n in range(12)]).concentration()
    assert C.tolist() == pytest.approx(trough, rel=1e-9)


def biexponential(man, inputs):
    """Closed form of two compartments: the sum over poles r of residue(r) * inputs(r)."""
    system = simulate(man, DRUG, "1 mg iv", [1.0], graph=TWO).system
    P1, P2 = system.P.tolist()
    Q = float(man.flow("muscle", "adipose")) * 0.8
    k10, k12, k21 = 6.0 / P1, Q / P1, Q / P2
    total, product = k10 + k12 + k21, k10 * k21
    fast = (total + math.sqrt(total**2 - 4 * product)) / 2
    slow = product / fast
    return sum((k21 - r) / (P1 * (other - r)) * inputs(r) for r, other in ((fast, slow), (slow, fast)))


def test_two_compartments_after_a_bolus(man):
    expected = biexponential(man, lambda r: 100 * torch.exp(-r * TIMES[1:]))
    C = plasma(man, TWO, "100 mg iv").concentration()[1:]
    torch.testing.assert_close(C, expected, rtol=1e-9, atol=0)


def test_two_compartments_during_and_after_an_infusion(man):
    T = torch.clamp(TIMES, max=4.0)
    expected = biexponential(man, lambda r: 25 / r * (torch.exp(-r * (TIMES - T)) - torch.exp(-r * TIMES)))
    C = plasma(man, TWO, "100 mg iv over 4 h").concentration()
    torch.testing.assert_close(C, expected, rtol=1e-9, atol=1e-14)


def test_two_compartments_after_a_dose_by_mouth(man):
    expected = biexponential(
        man, lambda r: 56 * 0.9 / (0.9 - r) * (torch.exp(-r * TIMES) - torch.exp(-0.9 * TIMES))
    )
    C = plasma(man, TWO, "100 mg po").concentration()
    torch.testing.assert_close(C, expected, rtol=1e-9, atol=1e-14)


def test_times_between_other_times_change_nothing(man, drug):
    few = simulate(man, drug, "5 mg iv over 1 h + 3 mg po q6h x3", [0.7, 11.0, 24.0])
    grid = torch.sort(torch.cat([torch.rand(30, dtype=torch.float64) * 24, few.time])).values
    many = simulate(man, drug, "5 mg iv over 1 h + 3 mg po q6h x3", grid)
    torch.testing.assert_close(
        many.amount[torch.searchsorted(grid, few.time)], few.amount, rtol=1e-11, atol=1e-14
    )


def test_steps_that_differ_by_rounding_share_one_exponential():
    grid = torch.linspace(0, 168, 1001, dtype=torch.float64)
    distinct, which = distinct_steps(Regimen.parse("1 mg iv").schedule(grid))
    assert len(distinct) == 1 and len(which) == 1000


def test_the_exact_area_is_the_integral_of_the_exact_curve(man, drug):
    times = torch.linspace(0, 30, 3001, dtype=torch.float64)
    simulation = simulate(man, drug, "100 mg po + 20 mg iv over 3 h", times)
    for output in ("plasma", "muscle"):
        C, step = simulation.concentration(output), 30 / 3000
        simpson = step / 3 * (C[0::2][:-1] + 4 * C[1::2] + C[2::2])
        area = simulation.AUC(output)[2::2]
        assert (area - simpson.cumsum(0)).abs().max() < 1e-6 * area[-1]


def test_the_area_to_infinity_is_the_dose_over_the_clearance(man, drug):
    simulation = simulate(man, drug, "100 mg iv", [1.0])
    disposition = simulation.disposition()
    AUC = simulation.AUC(infinite=True)
    assert float(AUC) == pytest.approx(100 / float(disposition["CL"]), rel=1e-12)
    far = simulate(man, drug, "100 mg iv", [4000.0]).AUC()
    assert float(AUC) == pytest.approx(float(far), rel=1e-9)


def test_what_is_never_eliminated_has_an_infinite_area(man):
    drug = Kinetics(Kp=[1.0] * 17, BP=1.0, fup=1.0)
    assert torch.isinf(simulate(man, drug, "1 mg iv", [1.0]).AUC(infinite=True))


def test_an_organ_without_blood_flow_keeps_the_area_of_the_others(man, drug):
    flow = man.Q.clone()
    flow[3] = 0.0
    body = man.replace(Q=flow, CO=flow.sum())
    simulation = simulate(body, drug, "10 mg iv", [1.0])
    assert torch.isfinite(simulation.AUC(infinite=True)) and simulation.concentration("gonads") == 0
