import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.laws import LAWS
from vpop.coordinates import NAMES, Coordinates, Impossible, blank
from vpop.growth import KNOTS, SCORES, Growth
from vpop.organ_layer import draw
from vpop.people import People

# A plausible growth, enough to centre the scores; no test depends on its figures.
AGES = torch.tensor(KNOTS, dtype=torch.float64)


def chart(median: torch.Tensor, sd: float) -> Growth:
    return Growth((torch.log(median)[:, None] + sd * SCORES).expand(2, -1, -1))


COORDINATES = Coordinates(
    {
        "height": chart(50.0 + 120.0 * (1 - torch.exp(-AGES / 6.0)), 0.05),
        "BMI": chart(15.0 + 12.0 * (1 - torch.exp(-AGES / 15.0)), 0.18),
        "HCT": chart(0.40 + 0.0 * AGES, 0.09),
        "SCR": chart(0.3 + 0.5 * (1 - torch.exp(-AGES / 10.0)), 0.25),
    }
)


def some_people(n: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ages = torch.rand(n, generator=generator, dtype=torch.float64) ** 2 * 80.0
    sex = torch.randint(0, 2, (n,), generator=generator).double()
    return {"sex": sex, "race": torch.randint(0, 5, (n,), generator=generator), "age": ages}


def some_bodies(seed: int, spread: float = 1.5, n: int = 300):
    generator = torch.Generator().manual_seed(seed)
    free = spread * torch.randn(n, len(NAMES), generator=generator, dtype=torch.float64)
    return COORDINATES.decode(free, some_people(n, seed))


@given(st.integers(0, 10_000), st.floats(0.1, 4.0))
def test_whatever_is_drawn_obeys_every_law(seed, spread):
    bodies = some_bodies(seed, spread)
    broken = {law.id for law in LAWS if bool((law.residual(bodies) > 1).any())}
    assert broken == set()


@given(st.integers(0, 10_000), st.floats(0.1, 4.0))
def test_masses_sum_to_weight_and_flows_to_output_in_float64(seed, spread):
    bodies = some_bodies(seed, spread)
    assert ((bodies.M.sum(-1) - bodies.BW).abs() <= 1e-14 * bodies.BW).all()
    assert ((bodies.Q.sum(-1) - bodies.CO).abs() <= 1e-14 * bodies.CO).all()


@given(st.integers(0, 10_000))
def test_decode_undoes_encode(seed):
    bodies = some_bodies(seed, 1.0)
    people = {name: getattr(bodies, name) for name in ("sex", "race", "age")}
    again = COORDINATES.decode(COORDINATES.encode(bodies), people)
    for name, value in bodies.tensors().items():
        assert torch.allclose(getattr(again, name), value, rtol=1e-9, atol=0), name


def test_a_body_that_breaks_a_law_has_no_coordinates():
    bodies = some_bodies(0, n=1)
    broken = bodies.replace(CO=bodies.CO * 5)
    assert not torch.isfinite(COORDINATES.encode(broken)).all()


@pytest.mark.parametrize("sex", (0.0, 1.0))
def test_the_scores_of_muscle_do_not_jump_where_the_law_on_fat_ends(sex):
    """C21 ends at a BMI of 45; lawful people on both sides have other muscle, but the same scores."""
    below, above = (
        draw(
            People.of(sex=sex, age=45.0, height=165.0, BW=[BMI * 1.65**2] * 300),
            torch.Generator().manual_seed(1),
            laws=True,
        )
        for BMI in (44.99, 45.01)
    )
    scores = [COORDINATES.encode(people)[:, NAMES.index("M_muscle")] for people in (below, above)]
    assert (scores[0].mean() - scores[1].mean()).abs() < 0.3


def test_given_values_come_back_exactly():
    people = some_people(50, 1)
    people["age"] = torch.full((50,), 33.0, dtype=torch.float64)
    wanted = {name: torch.full((50,), value).double() for name, value in (("height", 175.0), ("BW", 58.0))}
    known = COORDINATES.known(blank(people), wanted)
    free = torch.where(torch.isfinite(known), known, 0.3)
    bodies = COORDINATES.decode(free, people, wanted)
    assert (bodies.BW == 58.0).all() and (bodies.height == 175.0).all()
    assert torch.allclose(free[:, :2], COORDINATES.encode(bodies)[:, :2], atol=1e-6)


@pytest.mark.parametrize(
    ("wanted", "law"), [({"height": 180.0, "BW": 16.2}, "laws C09 and C10"), ({"HCT": 0.7}, "law C08")]
)
def test_a_value_outside_its_law_is_refused_with_the_law(wanted, law):
    people = {
        "sex": torch.ones(1).double(),
        "race": torch.zeros(1).long(),
        "age": torch.tensor([30.0]).double(),
    }
    given_values = {name: torch.tensor([value]).double() for name, value in wanted.items()}
    with pytest.raises(Impossible, match=law):
        COORDINATES.known(blank(people), given_values)
