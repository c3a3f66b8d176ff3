"""Foreign bodies moved onto the laws: the least distance, and nothing where nothing is needed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from pbpk.bodies import reference_body
from pbpk.foreign import load_table
from pbpk.laws import violations
from pbpk.organs import PORTAL, indices
from pbpk.physiology import Cohort
from vpop.intervals import Interval
from vpop.judge import judge
from vpop.pcdm import PCDM
from vpop.project import _onto, project


@pytest.fixture(scope="module")
def people() -> Cohort:
    return PCDM.load().sample(300, seed=4)


def test_a_lawful_body_does_not_move(people):
    found = project(people)
    assert all(change.abs().max() < 1e-6 for change in found.distance.values())


def test_bodies_that_break_laws_are_lawful_afterwards(people):
    noise = torch.exp(0.6 * torch.randn(2, 300, 17, generator=torch.Generator().manual_seed(0)).double())
    body = people.physiology
    wrong = Cohort(body.replace(M=body.M * noise[0], Q=body.Q * noise[1], CO=3 * body.CO), people.id)
    assert violations(wrong).rate == 1.0
    found = project(wrong)
    assert judge(found.cohort).rate == 0.0
    assert found.moved.all()


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rate"), [("httkpop_virtual_individuals_10k", 0.4), ("pksim_population_CKD-Stage5", 0.1)]
)
def test_the_peers_people_become_lawful(data_folder, name, rate):
    cohort = load_table(data_folder / "populations" / f"{name}.csv").cohort
    assert violations(cohort, tolerance=None).rate > rate
    assert judge(project(cohort).cohort).rate == 0.0


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_the_parts_of_a_whole_go_to_the_nearest_point(seed):
    """Against scipy's general quadratic programme."""
    draw = np.random.default_rng(seed)
    values, lower = draw.uniform(0.5, 2, 4), draw.uniform(0.1, 1, 4)
    upper = lower + draw.uniform(0.2, 2, 4)
    total = draw.uniform(lower.sum() * 1.01, upper.sum() * 0.99)
    parts = Interval.around(torch.from_numpy(values), (torch.from_numpy(lower), torch.from_numpy(upper)))
    batch = Interval(*(field[None] for field in parts))
    ours = _onto(torch.from_numpy(values)[None], torch.tensor([total], dtype=torch.float64), batch)[0].numpy()
    theirs = minimize(
        lambda x: (((x - values) / values) ** 2).sum(),
        np.clip(values, lower, upper),
        bounds=list(zip(lower, upper, strict=True)),
        constraints={"type": "eq", "fun": lambda x: x.sum() - total},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert ours.sum() == pytest.approx(total, rel=1e-12)
    assert (((ours - values) / values) ** 2).sum() <= theirs.fun + 1e-5  # the margin inside the bounds


def test_a_missing_gfr_is_given_and_said(people):
    body = people.physiology
    found = project(Cohort(body.replace(GFR=torch.full_like(body.GFR, torch.nan)), people.id))
    assert found.filled.all() and "had no GFR" in found.text()
    assert judge(found.cohort).rate == 0.0


def test_animals_and_incomplete_people_are_refused(people):
    rat = reference_body("rat")
    rats = Cohort(rat[None], np.array(["1"]))
    with pytest.raises(ValueError, match="species rat"):
        project(rats)
    body = people.physiology
    with pytest.raises(ValueError, match="body '1' has no haematocrit"):
        project(Cohort(body.replace(HCT=torch.full_like(body.HCT, torch.nan)), people.id))
    with pytest.raises(ValueError, match="body '1' has no haematocrit, weight, organ masses or flows"):
        project(Cohort(body.replace(Q=torch.full_like(body.Q, torch.nan)), people.id))


def test_a_body_whose_liver_gets_no_blood_is_refused(people):
    body = people.physiology
    Q = body.Q.clone()
    Q[0, indices(["liver", *PORTAL])] = 0.0
    with pytest.raises(ValueError, match="body '1' has no blood to the liver"):
        project(Cohort(body.replace(Q=Q), people.id))
