import torch
from hypothesis import given
from hypothesis import strategies as st

from vpop import intervals
from vpop.intervals import Interval

free_numbers = st.lists(st.floats(-6, 6), min_size=7, max_size=7)


def some_parts(total: float) -> Interval:
    share = torch.tensor([0.02, 0.02, 0.05, 0.01, 0.1, 0.2, 0.1, 0.05], dtype=torch.float64)
    return Interval.around(share * total, (0.5 * share * total, 5.0 * share * total))


@given(free_numbers, st.floats(0.5, 200.0))
def test_parts_sum_to_their_whole_and_stay_in_their_intervals(free, total):
    parts = some_parts(total)
    values = intervals.split(
        torch.tensor(free, dtype=torch.float64), torch.tensor(total, dtype=torch.float64), parts
    )
    assert abs(values.sum() - total) <= 1e-14 * total
    assert bool((values > parts.lower).all() and (values < parts.upper).all())


@given(free_numbers, st.floats(0.5, 200.0))
def test_join_undoes_split(free, total):
    parts = some_parts(total)
    values = intervals.split(
        torch.tensor(free, dtype=torch.float64), torch.tensor(total, dtype=torch.float64), parts
    )
    again = intervals.split(intervals.join(values, parts), torch.tensor(total, dtype=torch.float64), parts)
    assert torch.allclose(again, values, rtol=1e-9, atol=0)


@given(st.floats(-8, 8), st.floats(0.1, 3.0), st.floats(0.01, 2.0))
def test_encode_undoes_decode_in_a_one_sided_interval(free, lower, width):
    """The interval lies far in one tail of its score, as moving bounds often do."""
    lower, width = torch.tensor([lower, width], dtype=torch.float64)
    interval = Interval(lower, lower + width, torch.log(lower) - 1.0, torch.tensor(0.25).double())
    value = intervals.decode(torch.tensor(free, dtype=torch.float64), interval)
    assert lower < value < lower + width
    again = intervals.decode(intervals.encode(value, interval), interval)
    assert abs(again / value - 1) < 1e-9


def test_a_jump_of_a_distant_bound_hardly_moves_the_code():
    near = Interval(*(torch.tensor(v).double() for v in (0.2, 5.0, 0.0, 0.25)))
    far = near._replace(upper=torch.tensor(9.0).double())
    value = torch.tensor([0.7, 1.0, 1.5]).double()
    assert (intervals.encode(value, near) - intervals.encode(value, far)).abs().max() < 1e-6


def test_a_whole_that_the_intervals_cannot_meet_is_found():
    parts = some_parts(1.0)
    wholes = torch.tensor([0.1, 1.0, 10.0]).double()
    each = Interval(*(field.expand(3, -1) for field in parts))
    assert intervals.infeasible(wholes, each).tolist() == [-1, 0, 1]
