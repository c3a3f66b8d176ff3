"""Centre and scale of coordinates by sex and age."""

import pytest
import torch

from vpop.growth import KNOTS
from vpop.standing import Standing, evened

N = 6000
random = torch.Generator().manual_seed(0)
AGE = 80.0 * torch.rand(N, generator=random, dtype=torch.float64) ** 2
SEX = (torch.rand(N, generator=random) < 0.5).double()
PEOPLE = {"sex": SEX, "age": AGE}
# A coordinate that falls and narrows with age, and one that only women under 40 have.
FREE = torch.stack([torch.exp(-AGE / 20) * (1 + 0.1 * torch.randn(N, generator=random).double()), AGE], -1)
FREE[:, 1] = torch.where((SEX == 0) & (AGE < 40), FREE[:, 1], torch.nan)
ONES = torch.ones(N, dtype=torch.float64)


@pytest.fixture(scope="module")
def standing() -> Standing:
    return Standing.fit(FREE, SEX, AGE, ONES)


def test_decode_undoes_encode(standing):
    back = standing.decode(standing.encode(FREE, PEOPLE), PEOPLE)
    assert torch.allclose(back, FREE, rtol=1e-12, equal_nan=True)


def test_what_is_left_is_standard_at_every_age(standing):
    left = standing.encode(FREE, PEOPLE)[:, 0]
    for low, high in ((0.1, 2.0), (2.0, 10.0), (20.0, 40.0), (50.0, 80.0)):
        some = left[(low <= AGE) & (high > AGE)]
        assert abs(float(some.mean())) < 0.25 and 0.5 < float(some.std()) < 1.25


def test_a_column_that_no_one_near_has_takes_the_scale_of_all(standing):
    assert torch.isfinite(standing.table).all()
    assert standing.table.shape == (2, 2, len(KNOTS), 2)


def test_evened_weights_show_the_network_infants_more_often():
    often = evened(AGE, ONES)
    before, after = (float((w * (AGE < 2)).sum() / w.sum()) for w in (ONES, often))
    assert before == pytest.approx((2 / 80) ** 0.5, abs=0.02) and after > 1.2 * before


def test_evened_weights_of_one_age_change_nothing():
    assert torch.allclose(evened(torch.full((5,), 30.0), torch.ones(5)), torch.ones(5).double())
