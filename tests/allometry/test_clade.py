"""A quantity of many mammals: the closed forms, and what relatives are worth."""

import math
from pathlib import Path

import pytest
import torch

from allometry.clade import deviations, learn, leave_one_out
from allometry.mammals import HEADS, Mammals, load_mammals
from allometry.neural import NeuralAllometry
from allometry.taxonomy import TAXA, UNKNOWN, Taxon

SD = torch.tensor([0.1, 0.5, 0.3, 0.2, 0.02, 0.02, 0.05, 0.01, 0.15, 0.1], dtype=torch.float64)


def herd(n_families: int = 6, size: int = 5, effect: float = 0.6) -> Mammals:
    """Families of rodents that lie off the line by a normal draw each: ln x = 0.75 ln BW + u + noise."""
    generator = torch.Generator().manual_seed(1)
    n = n_families * size
    u = effect * torch.randn(n_families, generator=generator, dtype=torch.float64).repeat_interleave(size)
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    y = 0.75 * x + u + 0.05 * torch.randn(n, generator=generator, dtype=torch.float64)
    taxa = tuple(Taxon("Rodentia", f"F{i // size}", f"G{i}") for i in range(n))
    return Mammals(taxa, x, y, torch.ones(n, dtype=torch.float64))


def without(mammals: Mammals, i: int) -> Mammals:
    keep = [j for j in range(len(mammals)) if j != i]
    return Mammals(
        tuple(mammals.taxa[j] for j in keep), mammals.x[keep], mammals.y[keep], mammals.count[keep]
    )


def test_leave_one_out_in_closed_form_is_learning_without_it() -> None:
    mammals = herd()
    error, sd = leave_one_out(mammals, SD)
    for i in (0, 7, 29):
        law = learn(without(mammals, i), SD)
        # the closed form centres on all species; a flat law does not mind
        mean, cov, _ = law.at(mammals.x[[i]], [mammals.taxa[i]])
        assert (mean - mammals.y[i]).item() == pytest.approx(error[i].item(), abs=0.01)
        assert math.sqrt(cov.item() + SD[-1] ** 2) == pytest.approx(sd[i].item(), rel=0.02)


def test_a_family_that_is_known_pulls_a_new_genus() -> None:
    mammals = herd()
    law = learn(mammals)
    x = torch.zeros(2, dtype=torch.float64)
    mean, cov, line = law.at(x, [Taxon("Rodentia", "F3", "new"), Taxon("Rodentia", "unheard")])
    family = (mammals.y - 0.75 * mammals.x)[15:20].mean()
    assert mean[0].item() == pytest.approx(family.item(), abs=0.1)
    assert abs(mean[1] - line[1]) < abs(mean[0] - line[0])
    assert cov[0, 0] < cov[1, 1]


def test_the_deviations_are_found_again() -> None:
    sd = deviations(herd(n_families=30))
    assert sd[1:3].norm().item() == pytest.approx(0.6, rel=0.35)  # order and family together
    assert sd[8].item() < 0.15


def test_an_unknown_place_is_marginalised_and_not_an_error() -> None:
    law = learn(herd(), SD)
    mean, cov, line = law.at(torch.zeros(1, dtype=torch.float64), [Taxon("")])
    assert mean.item() == pytest.approx(line.item())
    assert cov.item() > SD[1] ** 2


def test_the_weights_keep_no_species() -> None:
    names = learn(herd(), SD).names
    assert {name.partition(":")[0] for name in names} == {"superorder", "order", "family"}


def shared(one: Taxon, other: Taxon) -> tuple[bool, ...]:
    return tuple(a == b != UNKNOWN for a, b in zip(one.path, other.path, strict=True))


def test_relatives_share_their_wider_taxa() -> None:
    assert shared(TAXA["rat"], TAXA["mouse"]) == (True, True, True, False)
    assert shared(TAXA["human"], TAXA["monkey"]) == (True, True, False, False)
    assert shared(TAXA["dog"], TAXA["pig"]) == (True, False, False, False)
    assert not any(shared(TAXA["dog"], TAXA["human"]))


@pytest.mark.parametrize("text", ["", "a,b,c,d", ",x"])
def test_a_clade_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="clade must be an order"):
        Taxon.parse(text)


def test_an_order_that_is_not_known_offers_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'Carnivora'"):
        Taxon.parse("Carnivore")


@pytest.mark.data
def test_the_tables_hold_one_row_a_species(data_folder: Path) -> None:
    mammals = load_mammals(data_folder)
    assert list(mammals) == list(HEADS)
    assert [len(mammals[head]) for head in HEADS] == [601, 816, 41, 77]
    assert sum(not taxon.order for taxon in mammals["BMR"].taxa) == 0
    cow = next(i for i, taxon in enumerate(mammals["heart_rate"].taxa) if taxon.genus == "Bos")
    assert mammals["heart_rate"].taxa[cow].family == "Bovidae"


@pytest.mark.data
def test_brain_mass_is_foretold_by_relatives(data_folder: Path) -> None:
    """601 species, each left out: the power law scores 1.484, the bar is 1.219."""
    brain = load_mammals(data_folder)["brain"]
    learnt = NeuralAllometry.load().folds["none"].clades["brain"].sd  # without the seven species' genera
    error, sd = leave_one_out(brain, learnt)
    assert error.abs().mean().exp().item() < 1.219
    assert 0.85 < ((error / sd).abs() < 1.645).double().mean().item() < 0.95
