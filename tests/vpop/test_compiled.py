"""The compiled kernels against the plain PyTorch lines."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk.laws import violations
from vpop import intervals
from vpop.compiled import here, kernels
from vpop.coordinates import NAMES
from vpop.intervals import Interval
from vpop.modulation import quickest, tabulated
from vpop.pcdm import PCDM
from vpop.sample import noise_levels

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def shipped() -> PCDM:
    return PCDM.load()


def both(function, *arguments):
    """Returns what the plain and the compiled code say."""
    results = []
    for compiled in (False, True):
        with torch.no_grad(), kernels(compiled, 0):
            results.append(function(*arguments))
    return results


def numbers(seed: int, *shape: int, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(0.0, 3.0))
def test_an_interval_is_decoded_alike(seed, n, away):
    """Also where it lies far in a tail of its score, up to 30 units, or is narrow."""
    lower = torch.exp(numbers(seed, n))
    width = torch.exp(numbers(seed + 1, n, spread=2.0))
    centre = torch.log(lower) + numbers(seed + 2, n, spread=away).clamp(-7.5, 7.5)
    interval = Interval(lower, lower + width, centre, torch.full_like(lower, 0.25))
    plain, fast = both(intervals.decode, numbers(seed + 3, n).clamp(-4.0, 4.0), interval)
    assert torch.allclose(plain, fast, rtol=1e-9, atol=0)  # five units above the centre 1 - p has ten digits
    assert ((fast > interval.lower) & (fast < interval.upper)).all()


@given(st.integers(0, 10**6), st.integers(2, 17), st.floats(0.1, 4.0))
def test_a_whole_is_divided_alike_and_exactly(seed, k, spread):
    typical = torch.exp(numbers(seed, 9, k, spread=2.0))
    total = typical.sum(-1) * torch.exp(0.1 * numbers(seed + 1, 9))
    parts = Interval.around(typical, (0.5 * typical, 5.0 * typical))
    plain, fast = both(intervals.split, numbers(seed + 2, 9, k - 1, spread=spread), total, parts)
    assert ((plain - fast).abs() <= 1e-11 * total[:, None]).all()
    assert ((fast.sum(-1) - total).abs() <= 1e-14 * total).all()
    assert ((fast > parts.lower) & (fast < parts.upper)).all()


@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(0.1, 4.0))
def test_what_is_looked_up_in_tables_is_alike(shipped, seed, n, spread):
    """Scores to coordinates, values to scores on the growth charts and back; beyond the outer knots too."""
    people = shipped.demographics.draw(n, torch.Generator().manual_seed(seed))
    scores = numbers(seed, n, len(NAMES), spread=spread)

    def looked_up():
        free = shipped.standing.decode(shipped.marginals.decode(scores), people)
        charts = shipped.coordinates.charts.values()
        rows = [chart.row(people["sex"], people["age"]) for chart in charts]
        values = [row.value(score) for row, score in zip(rows, scores.T, strict=False)]
        again = [row.score(value) for row, value in zip(rows, values, strict=True)]
        return torch.cat([shipped.calibration.apply(free, people), torch.stack([*values, *again], -1)], -1)

    plain, fast = both(looked_up)
    assert ((plain - fast).abs() <= 1e-12 * (1.0 + plain.abs())).all()


def decoded_alike(shipped, people, spread: float, seed: int) -> None:
    free = numbers(seed, len(people["age"]), len(NAMES), spread=spread)
    plain, fast = both(shipped.coordinates.decode, free, people)
    for name, value in plain.tensors().items():
        assert torch.allclose(value, getattr(fast, name), rtol=1e-7, atol=0, equal_nan=True), name
    assert violations(fast).rate == 0.0


@given(st.integers(0, 10**6), st.sampled_from([1, 5, 128, 200]), st.floats(0.1, 4.0))
def test_bodies_are_decoded_alike(shipped, seed, n, spread):
    """Far in the tails, where a probability above has ten digits left, to 1e-7."""
    decoded_alike(shipped, shipped.demographics.draw(n, torch.Generator().manual_seed(seed)), spread, seed)


@pytest.mark.parametrize("sex", [0.0, 1.0, 0.5])
def test_bodies_are_decoded_alike_at_and_around_every_age_at_which_a_law_may_change(shipped, sex):
    """The compiled laws are looked up by months; of an unknown sex they are asked as ever."""
    months = torch.arange(1, 12 * 90, dtype=torch.float64) / 12.0
    age = torch.cat([months, *(torch.nextafter(months, 100.0 * s * months) for s in (-1, 1)), months + 0.04])
    people = {"sex": torch.full_like(age, sex), "race": torch.zeros_like(age).long(), "age": age}
    decoded_alike(shipped, people, 1.0, seed=1)


@pytest.mark.parametrize("given_some", [False, True])
def test_the_network_says_the_same(shipped, given_some):
    people = shipped.demographics.draw(70, torch.Generator().manual_seed(1))
    table, sigma = tabulated(shipped.network, 20), noise_levels(20)[7].float()
    noisy = numbers(2, 70, shipped.network.settings["coordinates"]).float()
    known = (numbers(3, *noisy.shape) > 0).float() if given_some else None

    def estimate():
        network, modulation = quickest(shipped.network, table)
        return network.estimate(noisy, sigma, modulation(sigma, table.rows(people)), known)

    plain, fast = both(estimate)
    assert (plain - fast).abs().max() < 1e-5


@settings(max_examples=4)
@given(st.integers(0, 10**6), st.sampled_from([1, 20]), st.sampled_from([None, {"BW": 70.0, "HCT": 0.4}]))
def test_the_same_seed_draws_the_same_lawful_people(shipped, seed, steps, values):
    plain, fast = (shipped.sample(50, seed, given=values, steps=steps, compiled=c) for c in (False, True))
    for name, value in plain.physiology.tensors().items():
        assert torch.allclose(value, getattr(fast.physiology, name), rtol=1e-5, equal_nan=True), name
    assert violations(fast).rate == 0.0


def test_gradients_are_left_to_the_plain_code():
    free, one = torch.zeros(3, dtype=torch.float64, requires_grad=True), torch.ones(3, dtype=torch.float64)
    interval = Interval.around(one, (0.5 * one, 2.0 * one))
    with kernels(True, 0):
        assert not here(free) and here(free.detach())
        (slope,) = torch.autograd.grad(intervals.decode(free, interval).sum(), free)
    assert (slope > 0).all()


def test_few_people_do_not_load_the_kernels():
    with kernels(None, 10):
        assert not here(torch.zeros(1, dtype=torch.float64))
    with kernels(None, 10**6):
        assert here(torch.zeros(1, dtype=torch.float64))
    assert not here(torch.zeros(1, dtype=torch.float64))
