"""Neural Allometry: zero residual is the power law, sums are exact, and it learns what it may."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allometry.consensus import consensus
from allometry.flow import BOUND, COORDINATES, Flow
from allometry.graph import Messages, circulation
from allometry.growth import children, growth
from allometry.hierarchical import NAMES, Hierarchical
from allometry.neural import NeuralAllometry
from allometry.problem import Problem
from allometry.species import QUANTITIES
from allometry.taxonomy import Taxon
from pbpk.bodies import SPECIES, reference_body
from pbpk.organs import index

SHIPPED = NeuralAllometry.load()
RAT = reference_body("rat")


def networks(n: int, connected: bool = True, seed: int = 0) -> Flow:
    return Flow(n, connected, torch.Generator().manual_seed(seed))


def ends(n: int, s: int) -> torch.Tensor:
    return torch.randn(n, s, COORDINATES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def loud(flow: Flow) -> Flow:
    with torch.no_grad():
        flow.last.normal_(generator=torch.Generator().manual_seed(4))
    return flow


def test_an_untrained_residual_is_zero_and_the_model_is_the_hierarchical_power_law() -> None:
    fresh = NeuralAllometry(members=2, steps=0).fit(folds=list(SHIPPED.folds.values()))
    for species, BW in (("human", 70.0), ("mouse", 0.025), ("pig", 3.0)):
        one, other = (fresh.predict(species, BW, model=model) for model in ("neural", "hierarchical"))
        assert (one.mean - other.mean).abs().max() < 1e-12
        assert (one.cov - other.cov).abs().max() < 1e-12


def test_the_residual_is_bounded_by_the_length_of_the_path() -> None:
    c = ends(2, 5)
    assert (loud(networks(2))(c).abs().amax(-1) <= BOUND * c.abs().sum(-1) + 1e-9).all()
    assert torch.equal(loud(networks(2))(torch.zeros_like(c)), torch.zeros(2, 5, len(QUANTITIES)).double())


def test_what_is_measured_of_the_target_comes_before_what_is_odd_about_the_source() -> None:
    M, (brain, muscle) = RAT.M.clone(), (index(organ) for organ in ("brain", "muscle"))
    M[muscle] -= M[brain]
    M[brain] *= 2.0
    alone, told = (
        SHIPPED.map(RAT.replace(M=M), BW=70.0, given=given).physiology.M[0, brain].item()
        for given in (None, {"M_brain": 1.4})
    )
    assert alone == pytest.approx(2.0 * SHIPPED.map(RAT, BW=70.0).physiology.M[0, brain].item(), rel=0.01)
    assert told == pytest.approx(1.4, rel=0.1)


def test_a_model_that_knows_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="Call fit or load"):
        NeuralAllometry().map(RAT)


def test_many_networks_at_once_are_each_on_its_own() -> None:
    both, c = loud(networks(2)), ends(2, 4)
    single = both.part(1, 1)
    assert torch.allclose(both(c)[1:], single(c[1:]), atol=1e-14)


def test_a_message_reaches_the_liver_from_the_gut_and_not_the_kidney() -> None:
    layer = Messages(1, (2, 3), True, torch.Generator().manual_seed(0))
    h = torch.zeros(1, 1, 17, 2, dtype=torch.float64)
    changed = h.clone()
    changed[..., index("stomach"), :] = 1.0
    moved = (layer(changed) - layer(h)).abs().sum(-1).squeeze()
    assert {i for i in range(17) if moved[i] > 0} == {index(o) for o in ("stomach", "liver", "blood")}
    assert circulation().max() == 16


def test_without_edges_an_organ_hears_only_itself() -> None:
    layer = Messages(1, (2, 3), False, torch.Generator().manual_seed(0))
    h = torch.zeros(1, 1, 17, 2, dtype=torch.float64)
    changed = h.clone()
    changed[..., index("stomach"), :] = 1.0
    moved = (layer(changed) - layer(h)).abs().sum(-1).squeeze()
    assert [i for i in range(17) if moved[i] > 0] == [index("stomach")]


@settings(max_examples=12)
@given(st.sampled_from([s for s in SPECIES if s != "rat"]), st.floats(0.01, 500.0))
def test_masses_close_on_the_weight_and_flows_on_the_output(species: str, BW: float) -> None:
    body = SHIPPED.map(RAT, species, BW).physiology
    assert body.M.sum().item() == pytest.approx(BW, rel=1e-12)
    assert body.Q.sum().item() == pytest.approx(body.CO.item(), rel=1e-12)
    assert (body.M > 0).all()


def test_samples_close_too_and_spread_as_foretold() -> None:
    drawn = SHIPPED.map(RAT, "human", 70.0, samples=2000, seed=1).physiology
    assert torch.allclose(drawn.M.sum(-1), drawn.BW, rtol=1e-12)
    assert torch.allclose(drawn.Q.sum(-1), drawn.CO, rtol=1e-12)
    sd = SHIPPED.predict("human", 70.0).sd
    for name, value in (("M_kidney", drawn.mass("kidney")), ("CO", drawn.CO)):
        assert value.log().std().item() == pytest.approx(sd[NAMES.index(name)].item(), rel=0.15)


def test_the_species_asked_for_stays_out() -> None:
    for species in SPECIES:
        assert species not in SHIPPED.folds[species].known.species
    assert SHIPPED.folds["none"].known.species == SPECIES


def test_what_is_measured_is_kept_and_tells_of_the_rest() -> None:
    told = SHIPPED.map(RAT, "human", 70.0, given={"M_brain": 1.4}).physiology
    free = SHIPPED.map(RAT, "human", 70.0).physiology
    assert told.mass("brain").item() == pytest.approx(1.4, rel=0.05)
    assert free.mass("brain").item() < 0.7  # people are the outlier among mammals
    assert told.flow("brain").item() > 1.3 * free.flow("brain").item()


def test_a_child_is_no_small_adult() -> None:
    """ICRP's boy of one year, 10 kg: brain 0.95 kg, muscle 1.9 kg."""
    adult = SHIPPED.map(RAT, "human", 73.0, given={"M_brain": 1.45}).physiology
    share = growth(math.log(10.0 / 73.0)).exp()
    brain, muscle = (share[QUANTITIES.index(name)].item() for name in ("M_brain", "M_muscle"))
    assert brain == pytest.approx(0.95 / 1.45, rel=0.1) and muscle == pytest.approx(1.9 / 29.0, rel=0.25)
    child = SHIPPED.map(RAT, "human", 10.0, adult=73.0).physiology
    size = SHIPPED.map(RAT, "human", 10.0).physiology
    assert child.mass("brain") / child.mass("muscle") > 2 * size.mass("brain") / size.mass("muscle")
    assert torch.isnan(child.age).all() and not torch.isnan(adult.age).any()


def test_growth_keeps_to_icrps_children() -> None:
    g, y, known = children()
    wrong = (torch.stack([growth(value) for value in g.tolist()]) - y)[known]
    assert wrong.std() < 0.14 and len(g) == 10


def test_a_body_keeps_its_deviation_from_its_species() -> None:
    M = RAT.M.clone()
    M[index("liver")] *= 1.2
    usual, larger = (SHIPPED.map(body, "human", 70.0).physiology for body in (RAT, RAT.replace(M=M)))
    ratio = larger.mass("liver") / larger.mass("kidney") / (usual.mass("liver") / usual.mass("kidney"))
    assert ratio.item() == pytest.approx(1.2, rel=0.02)


def test_a_batch_maps_like_singles() -> None:
    rats = [reference_body("rat", BW=BW) for BW in (0.2, 0.3)]
    batch = type(RAT)(
        "rat", **{name: torch.stack([getattr(r, name) for r in rats]) for name in RAT.tensors()}
    )
    together = SHIPPED.map(batch, "dog").physiology
    for i, rat in enumerate(rats):
        assert torch.allclose(together.M[i], SHIPPED.map(rat, "dog").physiology.M[0], rtol=1e-12)


def test_weights_come_back_as_they_went(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    SHIPPED.save(path)
    again = NeuralAllometry.load(path)
    clade = Taxon("Rodentia", "Caviidae")
    one, other = (m.predict("guinea pig", 0.7, clade=clade) for m in (SHIPPED, again))
    assert torch.equal(one.mean, other.mean) and torch.equal(one.cov, other.cov)


def test_weights_of_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    SHIPPED.save(path)
    path.with_suffix(".json").write_text('{"format": 0}')
    with pytest.raises(ValueError, match="Train them again"):
        NeuralAllometry.load(path)


def test_training_lowers_the_loss_and_does_not_look_at_the_species_left_out() -> None:
    folds = [SHIPPED.folds["human"], SHIPPED.folds["dog"]]
    problem = Problem(consensus(), folds, members=1)
    flow = networks(2)
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        value = problem.loss(flow)
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert losses[-1] < losses[0]
    q, human = len(QUANTITIES), SPECIES.index("human")
    assert not problem.precision[0, human * q : (human + 1) * q].any()
    assert isinstance(folds[0], Hierarchical)


def test_flows_that_do_not_balance_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flows that sum to its CO, but they sum to 0.5 times"):
        SHIPPED.map(RAT.replace(CO=2 * RAT.CO), "human")


def test_an_unknown_species_offers_the_nearest_or_asks_for_its_clade() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'monkey'.*BW=0.8 and clade"):
        SHIPPED.map(RAT, "monky")


@pytest.mark.parametrize("BW", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_weight_is_refused(BW: float) -> None:
    with pytest.raises(ValueError, match="BW must be a positive number of kg"):
        SHIPPED.map(RAT, "human", BW)
