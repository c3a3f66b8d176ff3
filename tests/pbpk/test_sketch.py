"""The sketch: close to exact quantiles, and the same whatever the order of merging."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbpk.sketch import BINS, Sketch, bins, edges

positive = st.floats(1e-14, 1e8)


def filled(values: list[float]) -> Sketch:
    sketch = Sketch(1)
    sketch.add(0, np.array(values))
    return sketch


@given(positive)
def test_a_number_lies_in_a_bin_at_most_one_hundredth_wide(value: float) -> None:
    at = int(bins(np.array([value]))[0])
    low, high = edges()[at : at + 2]
    assert low <= np.float32(value) < high <= 1.008 * low


def test_the_bins_rise_with_the_numbers() -> None:
    values = np.geomspace(1e-20, 1e20, 100_000)
    found = bins(values)
    assert (np.diff(found) >= 0).all() and found[0] == 0 and found[-1] == BINS - 1


@pytest.mark.parametrize("probability", [0.01, 0.05, 0.5, 0.95, 0.99])
def test_quantiles_of_many_are_within_one_per_cent_of_the_exact_ones(probability: float) -> None:
    values = np.random.default_rng(1).lognormal(0.0, 2.0, 20_000)
    level = filled(values.tolist()).quantiles([probability])[0, 0]
    assert level == pytest.approx(np.quantile(values, probability), rel=0.008)


@given(st.lists(positive, min_size=1, max_size=5), st.floats(0, 1))
def test_quantiles_of_few_lie_between_their_neighbours(values: list[float], probability: float) -> None:
    level = filled(values).quantiles([probability])[0, 0]
    low, high = (np.quantile(values, probability, method=side) for side in ("lower", "higher"))
    assert 0.99 * low <= level <= 1.01 * high


@given(st.lists(st.lists(positive, max_size=5), min_size=1, max_size=5), st.randoms())
def test_merging_in_any_order_gives_the_sketch_of_all(parts: list[list[float]], random) -> None:
    whole = filled([value for part in parts for value in part])
    random.shuffle(parts)
    merged = Sketch(1)
    for part in parts:
        merged.merge(filled(part))
    assert (merged.count == whole.count).all()


def test_what_is_written_sparsely_is_read_back() -> None:
    sketch, other = filled([0.0, 1.0, 1.0, np.inf]), Sketch(1)
    other.add_sparse(*sketch.sparse())
    assert (other.count == sketch.count).all() and sketch.totals().tolist() == [4]


def test_zero_noise_below_it_and_infinity_have_a_place() -> None:
    assert filled([0.0, -1e-18, 1e-30]).quantiles([0.5])[0, 0] == 0.0
    assert filled([np.inf]).quantiles([0.5])[0, 0] == np.inf


def test_an_empty_row_has_no_quantile() -> None:
    assert np.isnan(filled([]).quantiles([0.5])[0, 0])


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="hold NaN"):
        filled([1.0, np.nan])
