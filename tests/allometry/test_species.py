"""Bodies as vectors of logarithms: there and back, and one point a species."""

import pytest
import torch

from allometry.species import QUANTITIES, decode, encode, observed, reference_bodies
from pbpk.bodies import SPECIES, reference_body


@pytest.mark.parametrize("species", [name for name in SPECIES if name != "human"])
def test_encode_and_decode_are_inverse(species: str) -> None:
    body = reference_body(species)
    again = decode(encode(body), species, body.BW)
    for name in ("M", "Q", "CO", "GFR", "HCT", "BW", "sex", "age"):
        assert torch.allclose(getattr(again, name), getattr(body, name), rtol=1e-12), name


def test_a_human_is_the_geometric_mean_of_man_and_woman() -> None:
    human = reference_bodies()["human"]
    assert human.BW.item() == pytest.approx((73.0 * 60.0) ** 0.5)
    assert human.CO.item() == pytest.approx((390.0 * 354.0) ** 0.5)
    liver = (human.mass("liver") / human.mass("kidney")).item()
    assert liver == pytest.approx((1.8 * 1.4 / (0.31 * 0.275)) ** 0.5)
    assert human.M.sum().item() == pytest.approx(human.BW.item(), rel=1e-14)


def test_decoded_people_have_the_bmi_of_icrps_adults() -> None:
    human = reference_bodies()["human"]
    BMI = (73.0 / 1.76**2 * 60.0 / 1.63**2) ** 0.5
    assert human.BMI.item() == pytest.approx(BMI)


def test_only_what_a_rule_filled_is_unobserved() -> None:
    known = observed(reference_bodies())
    assert known.shape == (len(SPECIES), len(QUANTITIES))
    unknown = [(SPECIES[s], QUANTITIES[q]) for s, q in (~known).nonzero().tolist()]
    assert unknown == [("monkey", "Q_muscle")]


def test_a_species_can_be_left_out() -> None:
    assert set(reference_bodies(without="dog")) == set(SPECIES) - {"dog"}
