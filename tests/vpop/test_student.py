"""The one-step student: it ends where its teacher ends."""

import pytest
import torch

from pbpk.laws import violations
from vpop.coordinates import NAMES
from vpop.distil import Distillation
from vpop.draw import pcdm
from vpop.pcdm import PCDM, Training
from vpop.student import Student

SMALL = Distillation(updates=100, batch=256, rate=5e-3, memory=0.95, pairs=2048)


@pytest.fixture(scope="module")
def taught() -> PCDM:
    """A small model of adults with a student; calibrated by few draws, for speed."""
    people = PCDM.load().sample(1500, seed=11, age=(20, 60))
    training = Training(120, batch=128, rate=6e-3, memory=0.98, calibration=2000)
    return PCDM(width=48, depth=1, training=training).fit(people).distil(people, plan=SMALL)


def test_an_untaught_student_returns_its_noise_and_what_is_given():
    student, n = Student(4, 8, 1), 5
    people = student.network.describe(torch.ones(n), torch.zeros(n).long(), torch.full((n,), 30.0))
    noise = torch.randn(n, 4)
    assert torch.equal(student(noise, people.float(), torch.eye(4)[[0, 1, 2, 3, 0]]), noise)


def test_a_student_ends_where_its_teacher_ends(taught):
    noise = torch.randn(1000, len(NAMES), generator=torch.Generator().manual_seed(5))
    people = taught.demographics.draw(1000, torch.Generator().manual_seed(1), (20.0, 60.0))
    one, many = (taught._denoised(people, None, noise, steps) for steps in (1, 20))
    spread = many.std(0)
    assert (((one - many) / spread) ** 2).mean() < 0.1


def test_its_people_are_lawful_and_have_what_is_given_exactly(taught):
    bodies = taught.sample(100, sex="M", given={"age": 33, "BW": 80, "height": 175}, steps=1).physiology
    assert bodies.BW.eq(80).all() and bodies.height.eq(175).all()
    assert violations(bodies).rate == 0.0


def test_it_is_saved_with_its_teacher(taught, tmp_path):
    taught.save(tmp_path / "m.safetensors")
    again = PCDM.load(tmp_path / "m.safetensors")
    for steps in (1, 20):
        one, two = (m.sample(5, age=(20, 60), steps=steps).physiology for m in (taught, again))
        assert torch.equal(one.M, two.M)


def test_a_model_without_a_student_says_so():
    people = PCDM.load()
    people.student = None
    with pytest.raises(ValueError, match="steps must be 2 or more"):
        people.sample(2, steps=1)


def test_a_population_can_be_drawn_by_the_shipped_student():
    assert len(pcdm(age="18:65", steps="1")(3, 0)) == 3
    with pytest.raises(ValueError, match="--steps must be a whole number"):
        pcdm(steps="few")
