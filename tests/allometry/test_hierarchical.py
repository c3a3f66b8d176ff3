"""The hierarchical power law: exact conditioning, closed sums, blind to the species left out."""

import dataclasses
import math

import pytest
import torch

from allometry.consensus import consensus
from allometry.hierarchical import NAMES, Hierarchical, Normal, fit_hyper, prior
from allometry.neural import NeuralAllometry
from allometry.species import FLOWS, MASSES, QUANTITIES
from allometry.taxonomy import TAXA, Taxon


@pytest.fixture(scope="module")
def model() -> NeuralAllometry:
    return NeuralAllometry.load()


def dog(fold: Hierarchical, **changes: object) -> Normal:
    x = torch.tensor([math.log(10.5)], dtype=torch.float64)
    return fold.predict(x, [TAXA["dog"]], **changes)[0]  # type: ignore[arg-type]


def test_the_prior_is_a_covariance_and_a_batch_of_folds_equals_each(model: NeuralAllometry) -> None:
    known = consensus()
    taxa = tuple(TAXA.values())
    fold = model.folds["dog"]
    mean, cov = prior(known.x, taxa, fold.clades, fold.hyper, known.x.mean())
    assert torch.allclose(cov, cov.T) and torch.linalg.eigvalsh(cov).min() > -1e-9
    twice = type(fold.hyper)(
        *(torch.stack([getattr(fold.hyper, f.name)] * 2) for f in dataclasses.fields(fold.hyper))
    )
    both, covs = prior(known.x, taxa, fold.clades, twice, known.x.mean().expand(2))
    assert torch.allclose(both[1], mean) and torch.allclose(covs[1], cov)


def test_the_species_left_out_changes_nothing(
    model: NeuralAllometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allometry.hierarchical._STEPS", 5)
    fold = model.folds["dog"]
    assert "dog" not in fold.known.species
    known = consensus()
    i = known.species.index("dog")
    seen = torch.ones(1, len(known.x), dtype=torch.bool)
    seen[0, i] = False
    y = known.y.clone()
    y[i] += 1.0
    changed = dataclasses.replace(known, y=y)
    one, other = (fit_hyper(which, fold.clades, seen) for which in (known, changed))
    assert torch.equal(one.sigma, other.sigma)


def test_with_flat_priors_and_no_kin_it_is_the_free_power_law() -> None:
    """One quantity, no clade, wide exponents, equal noise: least squares."""
    known, fold = consensus(), NeuralAllometry.load().folds["dog"]
    wide = dataclasses.replace(
        fold.hyper,
        tau=torch.full_like(fold.hyper.tau, 30.0),
        level=torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64),
        share=torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64),
    )
    even = dataclasses.replace(fold.known, sd=torch.full_like(fold.known.sd, 0.2))
    found = dog(dataclasses.replace(fold, known=even, hyper=wide), closing=False)
    j = QUANTITIES.index("M_liver")
    x, y = even.x, even.y[:, j]
    b = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    line = y.mean() + b * (math.log(10.5) - x.mean())
    assert found.mean[j].item() == pytest.approx(line.item(), abs=0.01)
    assert len(known.x) == 7


def test_a_measurement_conditions_exactly() -> None:
    mean = torch.zeros(len(NAMES), dtype=torch.float64)
    cov = torch.eye(len(NAMES), dtype=torch.float64)
    cov[0, 1] = cov[1, 0] = 0.6
    told = Normal(mean, cov).given({NAMES[0]: (2.0, 0.5)})
    assert told.mean[:2].tolist() == pytest.approx([2.0 / 1.25, 1.2 / 1.25])
    assert told.cov[1, 1].item() == pytest.approx(1 - 0.36 / 1.25)
    assert told.mean[2].item() == 0.0


def test_the_metabolic_rate_of_the_target_moves_its_cardiac_output(model: NeuralAllometry) -> None:
    """Fick: who burns more pumps more."""
    free = model.predict("dog", 10.5)
    told = model.predict("dog", 10.5, given={"BMR": 2.0 * math.exp(free.mean[NAMES.index("BMR")].item())})
    CO = NAMES.index("CO")
    assert told.mean[CO] > free.mean[CO] + 0.05 and told.sd[CO] < free.sd[CO]


@pytest.mark.parametrize("BW", [0.01, 1.0, 500.0])
def test_draws_are_moved_onto_the_sums(model: NeuralAllometry, BW: float) -> None:
    normal = model.predict("human", BW, closing=False)
    generator = torch.Generator().manual_seed(0)
    values = normal.mean + torch.randn(20, len(NAMES), generator=generator, dtype=torch.float64) * normal.sd
    moved = normal.onto_sums(values, math.log(BW))
    masses, flows = ([NAMES.index(n) for n in names] for names in (MASSES, FLOWS))
    assert torch.allclose(moved[:, masses].exp().sum(-1), torch.tensor(BW).double(), rtol=0.01)
    assert torch.allclose(moved[:, flows].exp().sum(-1), moved[:, NAMES.index("CO")].exp(), rtol=0.01)


def test_what_is_certain_is_not_moved(model: NeuralAllometry) -> None:
    normal = model.predict("human", 70.0, closing=False).given({"M_brain": (math.log(1.4), 1e-4)})
    moved = normal.onto_sums(normal.mean.unsqueeze(0), math.log(70.0))
    assert moved[0, NAMES.index("M_brain")].exp().item() == pytest.approx(1.4, rel=1e-3)


def test_a_closer_relative_is_surer(model: NeuralAllometry) -> None:
    fold = model.folds["none"]
    x = torch.tensor([math.log(0.1)] * 2, dtype=torch.float64)
    near, far = fold.predict(x, [Taxon("Rodentia", "Muridae", "Gerbillus"), Taxon("Chiroptera")])
    assert near.sd[: len(QUANTITIES)].mean() < far.sd[: len(QUANTITIES)].mean()
