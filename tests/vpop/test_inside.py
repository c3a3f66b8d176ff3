"""Given parts of bodies: they come back to the last digit, every law holds, what cannot be is refused."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pbpk.laws import LAWS
from pbpk.laws.exact import column
from tests.vpop.test_coordinates import COORDINATES, some_people
from vpop.coordinates import NAMES, WHO
from vpop.inside import FLOWS, INSIDE, MASSES, closed, with_given

N = 60


def free_numbers(seed: int, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(N, len(NAMES), generator=generator, dtype=torch.float64)


def two_bodies(seed: int):
    """Bodies of people, and other bodies of the same people, of the same height and weight."""
    one, other = free_numbers(seed), free_numbers(seed + 1)
    other[:, : len(WHO)] = one[:, : len(WHO)]
    people = some_people(N, seed)
    return COORDINATES.decode(one, people), COORDINATES.decode(other, people), other


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.sets(st.sampled_from(INSIDE), min_size=1, max_size=12))
def test_parts_of_other_bodies_come_back_exactly_and_every_law_holds(seed, names):
    source, body, free = two_bodies(seed)
    values = {name: column(source, name) for name in names}
    made, refused = with_given(body, free, values)
    assert not {law.id for law in LAWS if bool((law.residual(made) > 1).any())}
    assert ((made.M.sum(-1) - made.BW).abs() <= 1e-9 * made.BW).all()
    assert ((made.Q.sum(-1) - made.CO).abs() <= 1e-9 * made.CO).all()
    for name, value in values.items():
        assert torch.equal(column(made, name)[~refused.who], value[~refused.who])
    assert all("must" in refused.why(int(at)) for at in torch.nonzero(refused.who)[:, 0])


@settings(max_examples=4)
@given(st.integers(0, 10_000))
def test_what_a_body_has_can_be_given_back_but_for_fat_and_mineral_of_no_body(seed):
    source, body, free = two_bodies(seed)
    made, refused = with_given(body, free, {name: column(source, name) for name in INSIDE})
    beyond = (source.FAT > 0.70 * source.BW) | (source.BMC > 0.08 * source.BW)  # free numbers at random
    assert torch.equal(refused.who, beyond)
    assert all(torch.equal(column(made, name)[~beyond], column(source, name)[~beyond]) for name in INSIDE)


def test_what_is_given_to_some_leaves_the_others_as_they_are():
    source, body, free = two_bodies(3)
    liver = torch.where(torch.arange(N) < 10, column(source, "M_liver"), torch.nan)
    made, _ = with_given(body, free, {"M_liver": liver})
    assert torch.allclose(made.M[10:], body.M[10:], rtol=1e-9, atol=0)
    assert not torch.allclose(made.M[:10], body.M[:10], rtol=1e-2)


def test_a_filtration_makes_room_for_itself():
    """A GFR above the limit of the kidney's flow, as drawn: the flow rises, the others make room (C19)."""
    _, body, free = two_bodies(5)
    GFR = 0.4 * body.flow("kidney") * (1.0 - body.HCT)
    made, refused = with_given(body, free, {"GFR": GFR})
    helped = (body.age >= 18) & ~refused.who
    assert helped.sum() > 5
    assert (made.flow("kidney")[helped] > body.flow("kidney")[helped]).all()


def test_all_masses_make_the_weight_and_all_flows_the_output():
    _, body, _ = two_bodies(7)
    found = closed({name: column(body, name) for name in (*MASSES, *FLOWS)})
    assert torch.allclose(found["BW"], body.BW) and torch.allclose(found["CO"], body.CO)


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (
            {"M_liver": 9.0},
            r"M_liver must lie in \(.*\) kg for a (man|woman) of .* years by law C26, but",
        ),
        ({"CO": 0.1}, r"CO must lie in \(.*\) .* by law C05, but .* is asked for"),
        ({"GFR": 20.0}, r"GFR must lie in .* by law C12, but"),
        ({"Q_brain": 8.0}, r"M_brain must lie in .* by law C34, but .* is what Q_brain must have"),
        ({"FAT": 2.0}, r"M_adipose must lie in .* by laws? C20.* is what FAT must have"),
        ({"FAT": 12.0}, r"FAT must lie in \(0, .*\) kg for a (man|woman) of .* years to be believed, but"),
        ({"BMC": 12.0}, r"BMC must lie in \(0, .*\) kg for a (man|woman) of .* years to be believed, but"),
        ({"M_bone": 2.0, "M_muscle": 2.0, "M_adipose": 2.0}, r"M_\* must sum to|must lie in"),
    ],
)
def test_what_no_body_has_is_refused_by_name(times, words):
    source, body, free = two_bodies(9)
    values = {name: factor * column(source, name) for name, factor in times.items()}
    made, refused = with_given(body, free, values)
    adult = int(torch.nonzero(refused.who & (body.age >= 20))[0])
    assert torch.equal(made.M[adult], body.M[adult])
    assert re.search(words, refused.why(adult)), refused.why(adult)
    assert "\n" not in refused.why(adult)
