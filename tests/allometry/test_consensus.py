"""The consensus of the sources: medians, copies counted once, faults kept out, noise."""

import math

import pytest
import torch

from allometry import consensus as module
from allometry.consensus import RESTS, consensus, sources
from allometry.species import QUANTITIES, reference_bodies
from pbpk.bodies import SPECIES


def at(species: str, quantity: str) -> tuple[int, int]:
    return SPECIES.index(species), QUANTITIES.index(quantity)


def test_each_species_is_one_point_with_every_published_quantity() -> None:
    known = consensus()
    assert known.species == SPECIES
    assert int(known.scored.sum()) == 231  # 7 species x 33: all but the two rests
    assert torch.isfinite(known.y).all() and (known.sd > 0).all()


def test_strains_are_sources_of_one_species() -> None:
    assert {row.species for row in sources()} <= set(SPECIES)
    assert {row.strain for row in sources() if row.species == "dog"} == {"", "beagle", "dog"}


def test_a_consensus_is_the_median_of_the_distinct_sources() -> None:
    """Dog, muscle per kg BW: Brown 0.4565, PK-Sim 0.513 and 0.503 less 2.6 % blood, httk 0.4385."""
    own = [
        math.log(v) for v in (4.7932 / 10.5, 5.387 * 0.974 / 10.5003)
    ]  # the others are within 5 % of these
    i, j = at("dog", "M_muscle")
    known = consensus()
    assert known.count[i, j] == 2
    assert known.y[i, j].item() == pytest.approx(sum(own) / 2 + math.log(10.5), abs=1e-4)


def test_a_copy_counts_once() -> None:
    """httk's kidney of the monkey is Davies and Morris's, and so is the reference body's."""
    i, j = at("rabbit", "M_kidney")
    assert consensus().count[i, j] == 1


def test_what_is_faulty_is_kept_and_not_used() -> None:
    faults = {(row.species, row.quantity): row.fault for row in sources() if row.fault}
    assert "slip" in faults["rabbit", "Q_liver"] and "per kg^0.75" in faults["rabbit", "CO"]
    i, j = at("rabbit", "CO")
    assert consensus().y[i, j].exp().item() == pytest.approx(
        31.8, rel=1e-6
    )  # Davies and Morris: 212 mL/min/kg


def test_a_flow_is_a_share_of_its_own_sources_output() -> None:
    """The beagle of PK-Sim has 1.915 L/min, 0.3462 of it to the kidneys; the reference body 135.45 L/h."""
    known = consensus()
    i, j = at("dog", "Q_kidney")
    share = (known.y[i, j] - known.y[at("dog", "CO")]).exp().item()
    assert 0.17 < share < 0.19


def test_noise_grows_with_disagreement_and_falls_with_sources() -> None:
    known = consensus()
    several = known.sd[known.count > 1].mean()
    assert several < known.sd[(known.count == 1) & known.scored].mean()
    assert known.sd[at("rat", "M_adipose")] > known.sd[at("rat", "M_kidney")]


def test_the_rest_closes_and_is_not_scored() -> None:
    known = consensus()
    for rest in RESTS:
        assert not known.scored[:, QUANTITIES.index(rest)].any()
    masses = [j for j, q in enumerate(QUANTITIES) if q.startswith("M_")]
    assert torch.allclose(known.y[:, masses].exp().sum(-1), known.x.exp(), rtol=0.02)


def test_the_weights_are_those_of_the_reference_bodies() -> None:
    weights = torch.stack([body.BW for body in reference_bodies().values()])
    assert torch.equal(consensus().x, weights.log())


def test_the_attribution_counts_every_row() -> None:
    rows = [row.source for row in sources()]
    counts = [sum(name in row for row in rows) for name in ("PK-Sim", "httk")]
    assert (len(rows), *counts) == (343, 207, 126)
    assert module.__doc__ is not None
    assert all(str(number) in module.__doc__ for number in (343, 207, 126, 343 - 207 - 126))
