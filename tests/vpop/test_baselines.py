"""The simpler models: what they keep, and which laws they break."""

import pytest
import torch

from pbpk.laws import violations
from pbpk.physiology import Cohort
from vpop.baselines import Copula, Resampling, baselines
from vpop.pcdm import PCDM


@pytest.fixture(scope="module")
def people() -> Cohort:
    return PCDM.load().sample(3000, seed=9, age=(1, 80))


def test_resampling_draws_the_people_themselves(people):
    drawn = Resampling().fit(people).sample(50, seed=1).physiology
    assert torch.isin(drawn.BW, people.physiology.BW).all()


def test_resampling_draws_by_weight(people):
    only = torch.zeros(len(people), dtype=torch.float64)
    only[7] = 1.0
    assert (people.physiology.BW[7] == Resampling().fit(people, only).sample(5).physiology.BW).all()


@pytest.mark.parametrize("model", baselines()[1:], ids=lambda model: model.name)
def test_medians_of_weight_are_kept(people, model):
    real, ours = people.physiology, model.fit(people).sample(3000, seed=2).physiology
    for sex in (0.0, 1.0):
        a, b = (body.BW[(body.sex == sex) & (body.age > 20)].median() for body in (real, ours))
        assert float(b / a) == pytest.approx(1.0, abs=0.12)


def test_a_copula_in_the_coordinates_breaks_no_law(people):
    assert violations(Copula().fit(people).sample(1000, seed=3)).rate == 0.0


def test_a_copula_of_raw_columns_closes_no_body(people):
    body = Copula(coordinates=False).fit(people).sample(500, seed=3).physiology
    assert ((body.M.sum(-1) / body.BW - 1).abs() > 1e-6).double().mean() > 0.99


def test_the_same_seed_draws_the_same_people(people):
    model = Copula().fit(people)
    assert torch.equal(model.sample(20, 4).physiology.M, model.sample(20, 4).physiology.M)
