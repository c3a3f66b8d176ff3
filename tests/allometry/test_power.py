"""Power laws: exact on exact data, closed on BW and CO, and blind to the species asked for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import allometry
from allometry.power import METHODS, fit, fixed_exponents, through
from allometry.species import MASSES, QUANTITIES, decode, encode, reference_bodies
from pbpk.bodies import SPECIES, reference_body
from pbpk.physiology import Physiology

ANIMALS = [name for name in SPECIES if name != "human"]


def resized(body: Physiology, BW: float) -> Physiology:
    """A body of the same build at another weight: the fixed law itself."""
    weight = torch.tensor(BW, dtype=torch.float64)
    return decode(through(body).at(weight), body.species, weight)


@given(st.sampled_from(METHODS), st.sampled_from(ANIMALS), st.floats(0.01, 500.0))
def test_masses_close_on_the_weight_and_flows_on_the_output(method: str, species: str, BW: float) -> None:
    human = allometry.map(reference_body(species), to="human", BW=BW, method=method).physiology
    assert human.BW.item() == BW
    assert human.M.sum().item() == pytest.approx(BW, rel=1e-13)
    assert human.Q.sum().item() == pytest.approx(human.CO.item(), rel=1e-13)
    assert (human.M > 0).all() and human.flow("lung", "blood").item() == 0


@pytest.mark.parametrize("species", ANIMALS)
def test_a_fixed_map_there_and_back_is_the_same_body(species: str) -> None:
    body = reference_body(species)
    there = allometry.map(body, "human", 70.0, method="fixed").physiology[0]
    back = allometry.map(there, species, body.BW.item(), method="fixed").physiology[0]
    assert torch.allclose(back.M, body.M, rtol=1e-12)
    assert torch.allclose(back.Q, body.Q, rtol=1e-12)


def test_a_fixed_map_is_the_hand_calculation() -> None:
    """Rat to 70 kg: 3.66 % of BW stays so; CO 4.985 L/h times 280^0.75."""
    human = allometry.map(reference_body("rat"), BW=70.0, method="fixed").physiology[0]
    assert human.mass("liver").item() == pytest.approx(0.0366 * 70.0, rel=1e-9)
    assert human.CO.item() == pytest.approx(0.235 * 60 * 0.25**0.75 * 280**0.75, rel=1e-4)
    assert human.GFR.item() == pytest.approx(0.0786 * 280**0.75, rel=1e-9)
    assert human.HCT.item() == pytest.approx(0.46)


def test_a_fit_finds_the_exponents_of_bodies_made_by_them() -> None:
    bodies = {name: resized(reference_body("rat"), 4.0**i) for i, name in enumerate(SPECIES)}
    law = fit(bodies)
    assert torch.allclose(law.exponent, fixed_exponents(), atol=1e-12)
    assert law.sd.max() < 1e-12


def test_a_fit_is_the_least_squares_line() -> None:
    """Against the closed form for one quantity, the liver, over all seven species."""
    bodies = reference_bodies()
    x = [math.log(body.BW.item()) for body in bodies.values()]
    y = [math.log(body.mass("liver").item()) for body in bodies.values()]
    mean_x, mean_y = sum(x) / 7, sum(y) / 7
    b = sum((u - mean_x) * (v - mean_y) for u, v in zip(x, y, strict=True)) / sum(
        (u - mean_x) ** 2 for u in x
    )
    residual = [v - mean_y - b * (u - mean_x) for u, v in zip(x, y, strict=True)]
    law, liver = fit(bodies), QUANTITIES.index("M_liver")
    assert law.exponent[liver].item() == pytest.approx(b)
    assert law.intercept[liver].item() == pytest.approx(mean_y - b * mean_x)
    assert law.sd[liver].item() == pytest.approx(math.sqrt(sum(r**2 for r in residual) / 5))


def test_a_filled_value_does_not_move_the_fit() -> None:
    bodies = reference_bodies()
    monkey = bodies["monkey"]
    changed = monkey.Q.clone()
    changed[..., 9] *= 3  # muscle
    law, other = fit(bodies), fit(bodies | {"monkey": monkey.replace(Q=changed)})
    assert torch.equal(law.exponent, other.exponent)


def test_the_power_map_does_not_see_the_species_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rat = reference_body("rat")
    before = allometry.map(rat, "human", 70.0).physiology.M
    human = reference_bodies()["human"]
    doubled = human.replace(CO=2 * human.CO, Q=2 * human.Q)
    monkeypatch.setattr(
        "allometry.species._reference", lambda s: doubled if s == "human" else reference_body(s)
    )
    assert torch.equal(allometry.map(rat, "human", 70.0).physiology.M, before)


def test_a_reference_body_lands_on_the_line() -> None:
    rat, dog = (allometry.map(reference_body(name), "human", 70.0).physiology for name in ("rat", "dog"))
    line = fit(reference_bodies(without="human")).at(torch.tensor([70.0], dtype=torch.float64))
    for body in (rat, dog):
        assert torch.allclose(encode(body)[..., -3:], line[..., -3:], rtol=1e-12)  # CO, GFR, HCT
        assert torch.allclose(body.M, rat.M, rtol=1e-12)


def test_a_body_keeps_its_deviation_from_its_species() -> None:
    rat = reference_body("rat")
    M = rat.M.clone()
    M[7] *= 1.2  # a larger liver
    usual, larger = (allometry.map(body, "human", 70.0).physiology for body in (rat, rat.replace(M=M)))
    ratio = larger.mass("liver") / larger.mass("kidney") / (usual.mass("liver") / usual.mass("kidney"))
    assert ratio.item() == pytest.approx(1.2)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_bodies_maps_like_singles(method: str) -> None:
    rats = [reference_body("rat", BW=BW) for BW in (0.15, 0.25, 0.4)]
    batch = Physiology(
        "rat",
        **{name: torch.stack([getattr(r, name) for r in rats]) for name in rats[0].tensors()},
    )
    together = allometry.map(batch, "human", 70.0, method=method)
    assert together.id.tolist() == ["rat-1", "rat-2", "rat-3"]
    for i, rat in enumerate(rats):
        single = allometry.map(rat, "human", 70.0, method=method).physiology
        assert torch.allclose(together.physiology.M[i], single.M[0], rtol=1e-12)
        assert torch.allclose(together.physiology.Q[i], single.Q[0], rtol=1e-12)


def test_the_provenance_says_how_far_the_sums_were_moved() -> None:
    closure = allometry.map(reference_body("rat"), BW=70.0).provenance["closure"]
    assert closure["masses"][0] == pytest.approx(1.0, abs=0.1)
    fixed = allometry.map(reference_body("rat"), BW=70.0, method="fixed").provenance
    assert fixed["closure"]["flows"][0] == pytest.approx(1.0, rel=1e-12)
    assert fixed["conditions"] == {"from": "rat", "to": "human", "BW": 70.0, "method": "fixed"}


def test_the_fitted_exponents_are_those_of_the_literature() -> None:
    """Lindstedt and Schaeffer (2002) Lab Anim 36:1: organs about 1, cardiac output about 3/4."""
    law = fit(reference_bodies())
    exponent = dict(zip(QUANTITIES, law.exponent.tolist(), strict=True))
    assert exponent["CO"] == pytest.approx(0.75, abs=0.06)
    assert exponent["M_heart"] == pytest.approx(1.0, abs=0.1)
    assert exponent["M_blood"] == pytest.approx(1.0, abs=0.05)
    assert [exponent[name] > 0 for name in MASSES] == [True] * len(MASSES)
    assert encode(reference_bodies()["human"]).shape == law.sd.shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"to": "humn"}, "Did you mean 'human'"),
        ({"to": "rat"}, "to must be another species"),
        ({"method": "neural"}, "method must be one of power, fixed"),
        ({"BW": 0.0}, "BW must be a positive number of kg, but is 0.0"),
        ({"BW": -1.0}, "BW must be a positive number"),
        ({"BW": math.inf}, "BW must be a positive number"),
        ({"BW": math.nan}, "BW must be a positive number"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        allometry.map(reference_body("rat"), **arguments)  # type: ignore[arg-type]


def test_a_body_without_a_quantity_is_refused_by_name() -> None:
    rat = reference_body("rat")
    with pytest.raises(ValueError, match="positive, but GFR is not"):
        allometry.map(rat.replace(GFR=torch.tensor(math.nan, dtype=torch.float64)), "human")


def test_two_species_are_too_few_to_fit() -> None:
    bodies = {name: reference_body(name) for name in ("rat", "mouse")}
    with pytest.raises(ValueError, match="at least 3 species"):
        fit(bodies)
