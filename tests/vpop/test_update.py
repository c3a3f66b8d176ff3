"""Bodies drawn about what is given inside: the rest hangs together with it."""

import numpy as np
import pytest
import torch

from pbpk.laws.exact import column
from pbpk.organs import ORGANS
from pbpk.physiology import Physiology
from tests.vpop.test_coordinates import COORDINATES
from vpop import drawing
from vpop.coordinates import NAMES, Impossible
from vpop.judge import judge
from vpop.pcdm import PCDM
from vpop.request import Request
from vpop.update import Update, of

SIZE = {"height": 175.0, "BW": 85.0}
GIVEN = ("FAT", "M_liver", "GFR")


class Linear:
    """A model whose free numbers are Gaussian and hang together: each takes half of the one before."""

    coordinates = COORDINATES
    student = None

    def draw_free(self, people, given, noise, steps) -> torch.Tensor:
        free = [noise[:, 0].double()]
        for own in noise[:, 1:].double().T:
            free.append(0.5 * free[-1] + 0.75**0.5 * own)
        free = torch.stack(free, -1)
        known = COORDINATES.known(COORDINATES.decode(free, people, given), given)
        return torch.where(torch.isnan(known), free, known)


def men(n: int) -> dict[str, torch.Tensor]:
    one = torch.ones(n, dtype=torch.float64)
    return {"sex": one, "race": torch.zeros(n, dtype=torch.long), "age": 45.0 * one}


def drawn(n: int, seed: int) -> Physiology:
    people, noise = men(n), torch.randn(n, len(NAMES), generator=torch.Generator().manual_seed(seed))
    size = {name: torch.full((n,), value).double() for name, value in SIZE.items()}
    return COORDINATES.decode(Linear().draw_free(people, size, noise, 1), people, size)


def test_intervals_about_what_is_given_hold_the_truth_and_are_narrower():
    n, each = 60, 30
    truth, row = drawn(n, 0), torch.arange(n).repeat_interleave(each)
    update = Update.of(Linear(), (*SIZE, *GIVEN))
    given = {name: column(truth, name) for name in (*SIZE, *GIVEN)}
    generator = torch.Generator().manual_seed(1)
    gains = update.of_each(men(n), given, generator)
    noise = torch.randn(n * each, len(NAMES), generator=generator)
    bodies, refused = update.draw(men(n * each), of(given, row), gains[row], noise, 1)
    assert not refused.who.any()
    held, width = [], {}
    for name in ("M_muscle", "M_adipose", "M_kidney", "Q_kidney", "Q_liver", "BMC"):
        draws = column(bodies, name).view(n, each)
        low, high = torch.from_numpy(np.quantile(draws, [0.05, 0.95], axis=1, method="weibull"))
        held.append((column(truth, name) > low) & (column(truth, name) < high))
        width[name] = float(draws.std(1).mean() / column(drawn(500, 2), name).std())
    assert 0.86 <= float(torch.stack(held).double().mean()) <= 0.94
    assert width["M_adipose"] < 0.8 and width["Q_kidney"] < 0.8


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "CHUNK", 300)
        patch.setattr(drawing, "_ENSEMBLE", 1500)
        yield PCDM.load()


def mean(model: PCDM, name: str, where: str) -> float:
    cohort = model.sample(150, seed=2, where=where, steps=1)
    assert judge(cohort).rate == 0.0
    return float(column(cohort.physiology, name).mean())


def test_more_fat_at_the_same_weight_leaves_less_muscle(model):
    who = "sex == 'M' and age == 45 and BW == 85 and height == 175 and FAT == "
    assert mean(model, "M_muscle", who + "15") > 1.2 * mean(model, "M_muscle", who + "35")


def test_a_large_liver_makes_a_large_person_and_a_small_one_a_child(model):
    assert mean(model, "BW", "age >= 18 and M_liver == 3") > 100.0
    assert 1.0 < mean(model, "age", "M_liver == 0.5") < 9.0


def test_a_person_whom_the_laws_forbid_is_refused_in_one_line(model):
    with pytest.raises(ValueError, match=r"^M_liver must lie in .* by law C26, but 9 is asked for\.$"):
        model.sample(5, where="M_liver == 9 and age == 30", steps=1)


def test_a_search_that_has_found_someone_outlives_a_chunk_without_anyone(model):
    search = drawing.Drawing(model, Request.make((30.0, 30.0), None, "M_liver == 9", None), 1)
    some = search.candidates(torch.Generator().manual_seed(0))
    with pytest.raises(Impossible):
        search.bodies(some, found=0)
    assert len(search.bodies(some, found=1).BW) == len(some)


def test_many_who_cannot_do_not_make_impossible_what_others_can(model):
    request = Request.make((0.0, 80.0), None, "M_liver == 3 and BW == 50", None)
    search = drawing.Drawing(model, request, 1)
    some = search.candidates(torch.Generator().manual_seed(0))
    has = search.bodies(some).M[:, ORGANS.index("liver")] == 3.0
    assert has.any()
    unlucky = drawing.Candidates.join([some[~has]] * 2)
    assert len(unlucky) > 256
    assert len(search.bodies(unlucky, found=0).BW) == len(unlucky)
