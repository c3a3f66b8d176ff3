"""Draws brought to how people hang together."""

import pytest
import torch
from torch import Tensor

from vpop.calibration import Population
from vpop.transport import Transport

N = 20_000


def population(seed: int, mix: Tensor, shift: float = 0.0) -> Population:
    """Adults of one sex with scores of two inner columns beside the four that may be given."""
    generator = torch.Generator().manual_seed(seed)
    free = torch.randn(N, 6, generator=generator, dtype=torch.float64) @ mix.double() + shift
    one = torch.ones(N, dtype=torch.float64)
    return Population(free, one, 45.0 * one, one)


@pytest.fixture(scope="module")
def moved() -> tuple[Tensor, Population, Transport, Population]:
    mix = torch.eye(6)
    mix[0, 4], mix[4, 5] = 0.5, -0.8
    drawn, people = population(0, torch.eye(6), 0.1), population(1, mix)
    map = Transport.fit(drawn, people)
    return map.apply(drawn.free, {"sex": drawn.sex, "age": drawn.age}), people, map, drawn


def test_moved_draws_have_the_means_and_covariances_of_the_people(moved):
    found, people, _, _ = moved
    torch.testing.assert_close(found[:, 4:].T.cov(), people.free[:, 4:].T.cov(), atol=0.04, rtol=0)
    u = found[:, :1] - found[:, :1].mean()
    assert abs(float((u * found[:, 4:5]).mean() / u.var()) - 0.5) < 0.03


def test_what_may_be_given_stays(moved):
    found, _, _, drawn = moved
    assert torch.equal(found[:, :4], drawn.free[:, :4])


def test_nothing_moves_where_no_one_is(moved):
    _, _, map, drawn = moved
    women = {"sex": torch.zeros(N).double(), "age": drawn.age}
    torch.testing.assert_close(map.apply(drawn.free, women), drawn.free, atol=1e-9, rtol=0)


def test_a_few_people_move_nothing_far():
    drawn, few = population(0, torch.eye(6)), population(1, 2.0 * torch.eye(6))
    few = Population(*(part[:10] for part in (few.free, few.sex, few.age, few.weights)))
    found = Transport.fit(drawn, few).apply(drawn.free, {"sex": drawn.sex, "age": drawn.age})
    assert (found - drawn.free).abs().mean() < 0.1
