r"""Neural Allometry: a learnt residual on the hierarchical power law; bodies with their uncertainty.

.. math:: \ln X = \underbrace{\text{power law} + \text{clade} + \text{mammals}}_{\text{hierarchical}}
    + \underbrace{r_\theta(\ln W_{adult}, z, g)}_{\text{flow along the path}} + \text{growth}(g)

The residual :math:`r_\theta` (:mod:`allometry.flow`) enters the prior mean of the hierarchical model
(:mod:`allometry.hierarchical`), and is trained on its marginal likelihood with every fold's exact
covariance (:mod:`allometry.problem`), so that it may only say what the power law cannot. Every fold (each
species left out, and none) and every member of the ensemble is one slice of the same tensors, and they
train together. What is known of the target conditions the result exactly, the members' disagreement widens
it, and masses close on BW and flows on CO in any case.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from allometry.clade import Clades, learn
from allometry.consensus import Consensus, consensus
from allometry.flow import Flow
from allometry.growth import growth, growth_variance
from allometry.hierarchical import NAMES, Hierarchical, Normal, fit_folds
from allometry.mammals import load_mammals
from allometry.power import check_source, fixed_exponents, positive_weight, target_weight, version
from allometry.problem import Problem, coordinates
from allometry.species import QUANTITIES, closure, decode, encode, reference_bodies
from allometry.taxonomy import TAXA, Taxon
from pbpk.bodies import SPECIES
from pbpk.checks import nearest
from pbpk.physiology import Cohort, Physiology

WEIGHTS = Path(__file__).parent / "data" / "neural.safetensors"
NO_FOLD = "none"  # the fold that leaves no species out
MEASURED_SD = 0.05  # of ln of a measurement of the target [ours]
MODELS: tuple[str, ...] = ("neural", "hierarchical")
_RATE = 0.02


class NeuralAllometry:
    """The model.

    Arguments:
        members: How many networks a fold, whose disagreement is part of the uncertainty.
        steps: Of the optimiser.
        connected: Whether organs hear of each other along the circulation; without, an MLP of the same size.
        seed: Of the networks' first weights.

    Example:
        >>> from pbpk.bodies import reference_body
        >>> human = NeuralAllometry.load().map(reference_body("rat"), to="human", BW=70.0)
        >>> abs(float(human.physiology.M.sum()) - 70.0) < 1e-12
        True
    """

    def __init__(self, members: int = 5, steps: int = 60, connected: bool = True, seed: int = 0) -> None:
        self.members, self.steps, self.connected, self.seed = members, steps, connected, seed
        self.folds: dict[str, Hierarchical] = {}
        self.flow: Flow | None = None

    def fit(
        self,
        folder: str | os.PathLike[str] | None = None,
        clades: Mapping[str, Clades] | None = None,
        folds: Sequence[Hierarchical] | None = None,
    ) -> NeuralAllometry:
        """Learns from the consensus of the species and from the mammals.

        Arguments:
            folder: The folder of third-party data, for the mammals; or
            clades: what was learnt of them before.
            folds: The hierarchical models of :func:`fold_weights`, if they are there already.

        Returns:
            The model itself.
        """
        if folds is None:
            clades = learn_clades(folder) if clades is None else clades  # type: ignore[arg-type]
            folds = fit_folds(consensus(), clades, fold_weights(consensus()))
        self.folds = dict(zip((*consensus().species, NO_FOLD), folds, strict=True))
        generator = torch.Generator().manual_seed(self.seed)
        self.flow = Flow(len(self.folds) * self.members, self.connected, generator)
        self._train(Problem(consensus(), folds, self.members))
        return self

    def _train(self, problem: Problem) -> None:
        assert self.flow is not None
        optimiser = torch.optim.Adam(self.flow.parameters(), lr=_RATE)
        for _ in range(self.steps):
            optimiser.zero_grad()
            problem.loss(self.flow).backward()
            optimiser.step()

    def predict(
        self,
        to: str,
        BW: float,
        adult: float | None = None,
        clade: Taxon | None = None,
        given: Mapping[str, float] | None = None,
        model: str = "neural",
        closing: bool = True,
    ) -> Normal:
        r"""Foretells a body of a species from all others: the species itself stays out.

        Arguments:
            to: The species.
            BW: Its body weight [kg].
            adult: The adult body weight of the species [kg], where the body is still growing; None is BW.
            clade: Where the species stands; None for one of :data:`pbpk.bodies.SPECIES`.
            given: What is measured of it: by name of :data:`allometry.hierarchical.NAMES`, in kg, L/h, 1,
                mL O2/h, 1/min.
            model: ``"neural"``, or ``"hierarchical"`` without the learnt residual.
            closing: Whether the sums are conditioned on.

        Returns:
            The distribution of the logarithms of :data:`allometry.hierarchical.NAMES`.
        """
        fold = self.folds[self._fold_of(to)]
        taxon = TAXA[to] if clade is None else clade
        size = torch.tensor([math.log(BW if adult is None else adult)], dtype=torch.float64)
        g = math.log(BW) - size.item()
        shift = self._shift(to, size, taxon, g) if model == "neural" else None
        normal = fold.predict(size, [taxon], shift, closing=False)[0]
        if g:
            normal = _grown(normal, g, to)
        normal = normal.given(_measured(given))
        return normal.closed(math.log(BW)) if closing else normal

    def _fold_of(self, to: str) -> str:
        """Returns the fold that has not seen a species."""
        if not self.folds:
            raise ValueError("NeuralAllometry must know species before it foretells one. Call fit or load.")
        return to if to in self.folds else NO_FOLD

    def _shift(self, to: str, size: Tensor, taxon: Taxon, g: float) -> Tensor:
        """Returns the members' residuals of the species known and of the target, (members, s + 1, p)."""
        assert self.flow is not None
        names = list(self.folds)
        at = names.index(self._fold_of(to))
        fold = self.folds[names[at]]
        x, taxa = torch.cat([fold.known.x, size]), (*fold.taxa, taxon)
        c = coordinates(x, taxa, fold.clades, fold.known.x.mean())
        c[-1, -1] = g
        with torch.no_grad():
            part = self.flow.part(at * self.members, self.members)
            residual = part(c.expand(self.members, *c.shape))
        return torch.nn.functional.pad(residual, (0, len(NAMES) - len(QUANTITIES)))

    def map(
        self,
        body: Physiology,
        to: str = "human",
        BW: float | None = None,
        adult: float | None = None,
        clade: Taxon | None = None,
        given: Mapping[str, float] | None = None,
        samples: int | None = None,
        model: str = "neural",
        seed: int = 0,
    ) -> Cohort:
        """Carries bodies to another species.

        The target is foretold from all other species. A body that is not the reference of its own species
        keeps its deviation from that reference, at its own weight; what is measured of the target comes
        before it.

        Arguments:
            body: One body, or a batch with shape (n,), of one species.
            to: The species asked for, or any name with ``clade``.
            BW: The body weight asked for [kg]; None is that of the species' reference body.
            adult: The adult body weight of the species [kg], for a body that is still growing.
            clade: Where a species that is not one of :data:`pbpk.bodies.SPECIES` stands.
            given: What is measured of the target, see :meth:`predict`.
            samples: How many bodies to draw from the uncertainty of each body; None is the most plausible.
            model: ``"neural"`` or ``"hierarchical"``.
            seed: Of the draws.

        Returns:
            The cohort; its masses sum to BW and its flows to CO.

        Raises:
            ValueError: If a species, weight, clade, measurement or body is impossible; the message says why.
        """
        weight = _target(to, BW, clade)
        _check_request(weight, adult, given, samples, model)
        source = body if body.shape else body[None]
        check_source(source, to)
        prior = self.predict(to, weight, adult, clade, model=model, closing=False)
        normal = Normal(prior.mean + _deviation(source), prior.cov).given(_measured(given))
        centre = normal.mean.unsqueeze(1)
        drawn = centre if samples is None else centre + _draws(normal, samples, seed)
        values = normal.onto_sums(drawn.flatten(0, 1), math.log(weight))[:, : len(QUANTITIES)]
        BW_to = torch.full(values.shape[:-1], weight, dtype=torch.float64)
        mapped = decode(values, to, BW_to)
        if adult is not None and adult != weight:
            mapped = mapped.replace(age=torch.full_like(mapped.BW, torch.nan))
        names = np.array([f"{body.species}-{i}" for i in range(1, len(BW_to) + 1)])
        conditions = {
            "from": body.species,
            "to": to,
            "BW": weight,
            "adult": adult,
            "method": model,
            "given": dict(given or {}),
            "samples": samples,
        }
        provenance = {
            "generator": "allometry map",
            "version": version(),
            "seed": seed,
            "conditions": conditions,
            "closure": closure(values, mapped),
        }
        return Cohort(mapped, names, provenance)

    def save(self, path: str | os.PathLike[str] = WEIGHTS) -> None:
        """Writes the weights to ``path`` (safetensors) and their card beside it (JSON)."""
        from allometry.weights import save

        save(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str] = WEIGHTS) -> NeuralAllometry:
        """Reads weights that :meth:`save` wrote; without a path, those that are shipped."""
        from allometry.weights import load

        return load(cls, Path(path))


def learn_clades(folder: str | os.PathLike[str]) -> dict[str, Clades]:
    """Learns the mammals' laws, without the genera of the seven species: none can foretell itself."""
    genera = [taxon.genus for taxon in TAXA.values()]
    return {head: learn(table.without(genera)) for head, table in load_mammals(folder).items()}


def fold_weights(known: Consensus) -> Tensor:
    """Returns which species each fold sees: each left out in turn, then none; bool, (s + 1, s)."""
    s = len(known.x)
    return torch.cat([~torch.eye(s, dtype=torch.bool), torch.ones(1, s, dtype=torch.bool)])


def _grown(normal: Normal, g: float, species: str) -> Normal:
    extra = torch.nn.functional.pad(growth(g), (0, len(NAMES) - len(QUANTITIES)))
    more = growth_variance(g, species) * torch.eye(len(NAMES), dtype=torch.float64)
    return Normal(normal.mean + extra, normal.cov + more)


def _measured(given: Mapping[str, float] | None) -> dict[str, tuple[float, float]]:
    """Returns the logarithms of measurements and their standard deviations."""
    return {name: (math.log(value), MEASURED_SD) for name, value in (given or {}).items()}


def _deviation(source: Physiology) -> Tensor:
    """Returns how far bodies lie off the reference of their own species, at their weight, (n, p)."""
    own = reference_bodies()[source.species]
    size = (source.BW / own.BW).log().unsqueeze(-1)
    off = encode(source) - encode(own) - fixed_exponents() * size
    return torch.nn.functional.pad(off, (0, len(NAMES) - len(QUANTITIES)))


def _draws(normal: Normal, samples: int, seed: int) -> Tensor:
    """Returns deviations from the mean, with shape (samples, p)."""
    value, vector = torch.linalg.eigh(normal.cov)
    root = vector * value.clamp(min=0.0).sqrt()
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, len(NAMES), generator=generator, dtype=torch.float64) @ root.T


def _target(to: str, BW: float | None, clade: Taxon | None) -> float:
    """Returns the body weight asked for [kg], where the species, the weight and the clade go together."""
    if to in SPECIES:
        if clade is not None:
            raise ValueError(f"clade must be left out for {to!r}, whose place is known. Leave it out.")
        return target_weight(to, BW)
    if clade is None or BW is None:
        close = nearest(to, SPECIES)
        hint = f" Did you mean {close!r}?" if close else ""
        raise ValueError(
            f"to must be one of {', '.join(SPECIES)}, or another species with BW and clade, but is "
            f"{to!r}.{hint} For another species give both, as BW=0.8 and clade Rodentia,Caviidae."
        )
    return positive_weight(BW)


def _check_request(
    BW: float, adult: float | None, given: Mapping[str, float] | None, samples: int | None, model: str
) -> None:
    if model not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, but is {model!r}.")
    if adult is not None and not BW <= adult < math.inf:
        raise ValueError(
            f"adult must be the adult weight in kg, {BW:g} or more, but is {adult}. "
            "Leave it out for an adult."
        )
    if samples is not None and samples < 1:
        raise ValueError(f"samples must be 1 or more, but is {samples}.")
    for name, value in (given or {}).items():
        if name not in NAMES or name.endswith("_rest"):
            close = nearest(name, NAMES)
            hint = f" Did you mean {close!r}?" if close else " Write M_brain, Q_liver, CO, GFR, HCT or BMR."
            raise ValueError(f"given must name quantities of a body, but has {name!r}.{hint}")
        if not 0.0 < value < math.inf:
            raise ValueError(f"given must hold positive numbers, but {name} is {value}.")
        if name == "HCT" and value >= 1.0:
            raise ValueError(
                f"given must hold HCT as a fraction, but it is {value:g}. Divide a percentage by 100."
            )
        if name.startswith("M_") and value >= BW:
            raise ValueError(
                f"given must hold masses in kg below BW, but {name} is {value:g} in a body of {BW:g}. "
                "Check its unit."
            )
