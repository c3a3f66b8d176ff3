"""The published ways of constraining a diffusion, on a small problem."""

from dataclasses import replace

import pytest
import torch

from pbpk.laws import violations
from pbpk.physiology import Cohort
from vpop import rows
from vpop.constrain import RawDiffusion, penalty
from vpop.pcdm import PCDM, Training

SMALL = Training(120, batch=64, rate=4e-3, memory=0.98, calibration=1)


@pytest.fixture(scope="module")
def people() -> Cohort:
    return PCDM.load().sample(1500, seed=31, age=(20, 60))


def drawn(people: Cohort, **how) -> Cohort:
    return RawDiffusion(**how, width=32, depth=2, training=SMALL).fit(people).sample(200, seed=1)


def test_lawful_people_have_no_penalty(people):
    assert float(penalty(people.physiology).max()) < 1e-12


def test_a_body_whose_parts_do_not_sum_has_one(people):
    body = people.physiology
    assert float(penalty(body.replace(M=1.2 * body.M)).min()) > 0.03


def test_rows_are_bodies_and_back(people):
    body = people.physiology
    back = rows.decode(rows.encode(body), rows.who(body))
    assert (
        torch.allclose(back.M, body.M) and torch.allclose(back.Q, body.Q) and torch.allclose(back.BW, body.BW)
    )


def test_without_constraints_no_body_closes_and_projection_closes_all(people):
    assert violations(drawn(people), tolerance=1e-6).rate > 0.99
    assert violations(drawn(people, projection="last"), tolerance=1e-6).rate == 0.0


def test_guidance_lowers_the_penalty(people):
    plain, guided = (penalty(drawn(people, guidance=g).physiology).mean() for g in (0.0, 1.0))
    assert guided < 0.7 * plain


def test_a_soft_penalty_lowers_the_penalty(people):
    plain, soft = (penalty(drawn(people, penalty=p).physiology).mean() for p in (0.0, 10.0))
    assert soft < plain


def test_moved_draws_hang_together_as_the_people_do(people):
    model = RawDiffusion(width=32, depth=2, training=replace(SMALL, calibration=3000)).fit(people)

    def miss(cohort: Cohort) -> torch.Tensor:
        drawn, known = (torch.corrcoef(rows.encode(c.physiology).T) for c in (cohort, people))
        return (drawn - known).abs().mean()

    plain, moved = miss(model.sample(1500, seed=1)), miss(model.move(people).sample(1500, seed=1))
    assert moved < 0.7 * plain


def test_an_unknown_projection_is_refused():
    with pytest.raises(ValueError, match="projection must be"):
        RawDiffusion(projection="sometimes")
