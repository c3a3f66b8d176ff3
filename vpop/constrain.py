r"""Laws as loss, guidance or projection: the published ways to constrain a diffusion model, for comparison.

A diffusion of the raw columns (:mod:`vpop.rows`), with data, scales by age, training and kind of network as
in :class:`vpop.pcdm.PCDM`, that knows the laws only through

- a soft penalty in the loss, :math:`L + \lambda\,E\,p(\hat x_0)`;
- guidance: each denoised estimate moves against the gradient of the penalty;
- projection onto the laws (:mod:`vpop.project`) of the last estimate, or of the estimate at every step.

Its draws can be moved to the people's means, covariances and quantiles, as those of the PCDM are.

The penalty of a body, with masses m, flows q and the laws' bands, is

.. math:: p = \ln^2 \frac{\sum m}{BW} + \ln^2 \frac{\sum q}{CO} + \sum_{laws} \min(w_l - 1, 1)_+^2

where :math:`w_l` is how many times the band of law l must be widened to hold the body.

References:
    Liu, Qiu, Wang (2026). Physiologically informed deep learning: a multi-scale framework for
    next-generation PBPK modeling. https://arxiv.org/abs/2602.18472
    Bastek, Sun, Kochmann (2025). Physics-informed diffusion models. https://arxiv.org/abs/2403.14404
    Christopher, Baek, Fioretto (2024). Constrained synthesis with projected diffusion models.
    https://arxiv.org/abs/2402.03559
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.laws import LAWS
from pbpk.physiology import Cohort, Physiology
from vpop import rows
from vpop.calibration import Calibration, Population
from vpop.coordinates import WHO
from vpop.demographics import Demographics
from vpop.denoise import Denoiser
from vpop.marginals import Marginals
from vpop.modulation import tabulated
from vpop.organ_layer import lawful
from vpop.project import project
from vpop.sample import STEPS, noise_levels, solve
from vpop.standing import Standing, evened
from vpop.training import Examples, Training, denoising, descend, fresh
from vpop.transport import Transport

PROJECTIONS = ("never", "last", "every")
_CHUNK = 1024
_LIMIT = 6.0  # scores beyond are not people


def penalty(bodies: Physiology) -> Tensor:
    """Returns how unlawful bodies are, 0 where they are lawful; differentiable, with shape :math:`(n)`."""
    mass = torch.log(bodies.M.sum(-1) / bodies.BW) ** 2
    flow = torch.log(bodies.Q.sum(-1) / bodies.CO) ** 2
    bands = torch.stack([_excess(law.residual(bodies)) for law in LAWS if law.counted], -1)
    return mass + flow + bands.sum(-1)


def _excess(width: Tensor) -> Tensor:
    spoken = torch.isfinite(width)
    return (torch.where(spoken, width, 1.0) - 1.0).clamp(0.0, 1.0) ** 2


@dataclass
class RawDiffusion:
    """Draws people by a diffusion of the raw columns, constrained in one of the published ways.

    Arguments:
        penalty: The weight of the penalty in the loss, lambda.
        guidance: How far an estimate moves against the gradient of the penalty, in scores.
        projection: ``"never"``, ``"last"`` or ``"every"`` step.
        width: The width of the denoiser.
        depth: The number of its blocks.
        training: How it is trained.
        seed: The seed of the training.
    """

    penalty: float = 0.0
    guidance: float = 0.0
    projection: str = "never"
    width: int = 128
    depth: int = 3
    training: Training = field(default_factory=Training)
    seed: int = 0
    moves: tuple[Transport, Calibration] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuses an unknown projection."""
        choose("projection", self.projection, PROJECTIONS)

    def fit(self, cohort: Cohort, weights: Tensor | None = None) -> RawDiffusion:
        """Learns from lawful bodies, as the PCDM does."""
        bodies, weight = _lawful(cohort, weights)
        who = rows.who(bodies)
        self.demographics = Demographics.fit(who["sex"], who["race"], who["age"], weight)
        values = rows.encode(bodies)
        self.standing = Standing.fit(values, bodies.sex, bodies.age, weight)
        left = self.standing.encode(values, who)
        self.marginals = Marginals.fit(left, weight)
        self._train(self.marginals.encode(left), who, weight * evened(bodies.age, weight))
        self.moves = None
        return self

    @torch.no_grad()
    def move(self, cohort: Cohort, weights: Tensor | None = None) -> RawDiffusion:
        """Learns to move its draws to the people from whom it has learnt.

        Rows begin with height, weight, haematocrit and creatinine where coordinates begin with height, BMI,
        haematocrit and creatinine: the maps that know only places are the PCDM's own.
        """
        bodies, weight = _lawful(cohort, weights)
        values = rows.encode(bodies)
        scores = self.marginals.encode(self.standing.encode(values, rows.who(bodies)))
        reference = Population(scores, bodies.sex, bodies.age, weight)
        drawn, who = self._many(self.training.calibration)
        transport = Transport.fit(drawn, reference)
        left = self._rows(drawn.free, who)
        calibration = Calibration.fit(replace(drawn, free=left), replace(reference, free=values))
        self.moves = transport, calibration
        return self

    def _many(self, n: int) -> tuple[Population, dict[str, Tensor]]:
        """Draws scores of n people as the network gives them, and who they are."""
        generator = torch.Generator().manual_seed(self.seed)
        people = self.demographics.draw(n, generator)
        parts = []
        for part in torch.arange(n).split(_CHUNK):
            who = {name: value[part] for name, value in people.items()}
            parts.append(self._scores(who, generator, STEPS))
        one = torch.ones_like(people["age"])
        return Population(torch.cat(parts).double(), people["sex"], people["age"], one), people

    def _train(self, scores: Tensor, who: Mapping[str, Tensor], weight: Tensor) -> None:
        network = fresh(len(rows.NAMES), self.width, self.depth, self.seed)
        examples = Examples.of(scores, network.describe(**who), weight, givable=len(WHO))
        plain = denoising(network, examples, self.training.batch)

        def penalised(generator: torch.Generator) -> Tensor:
            chosen = examples.pick(self.training.batch, generator)
            some = {name: column[chosen] for name, column in who.items()}
            soft = self._soft(network, examples.scores[chosen], examples.people[chosen], some, generator)
            return plain(generator) + self.penalty * soft

        objective = penalised if self.penalty else plain
        self.network = descend(network, objective, self.training, self.seed)

    def _soft(
        self,
        network: Denoiser,
        clean: Tensor,
        people: Tensor,
        who: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        """Returns the mean penalty of denoised estimates; little noise counts most: a law can hold there."""
        sigma = torch.exp(1.5 * torch.randn(len(clean), 1, generator=generator) - 0.7)
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        estimate = network(noisy, sigma, people, torch.zeros_like(clean)).clamp(-_LIMIT, _LIMIT)
        return (penalty(self._bodies(estimate, who)) / (1.0 + sigma[:, 0] ** 2)).mean()

    def _rows(self, scores: Tensor, who: Mapping[str, Tensor]) -> Tensor:
        return self.standing.decode(self.marginals.decode(scores.double()), who)

    def _bodies(self, scores: Tensor, who: Mapping[str, Tensor]) -> Physiology:
        return rows.decode(self._rows(scores, who), who)

    def _settled(self, scores: Tensor, who: Mapping[str, Tensor]) -> Physiology:
        """Returns the bodies of drawn scores, moved if :meth:`move` has learnt how."""
        if self.moves is None:
            return self._bodies(scores, who)
        transport, calibration = self.moves
        return rows.decode(calibration.apply(self._rows(transport.apply(scores, who), who), who), who)

    def sample(self, n: int, seed: int = 0, steps: int = STEPS) -> Cohort:
        """Draws n people."""
        generator = torch.Generator().manual_seed(seed)
        parts: list[Physiology] = []
        for start in range(0, n, _CHUNK):
            who = self.demographics.draw(min(_CHUNK, n - start), generator)
            bodies = self._settled(self._scores(who, generator, steps), who)
            parts.append(bodies if self.projection == "never" else _projected(bodies))
        tensors = {name: torch.cat([getattr(b, name) for b in parts]) for name in parts[0].tensors()}
        return rows.cohort(Physiology("human", **tensors), "raw diffusion", seed)

    def _scores(self, who: Mapping[str, Tensor], generator: torch.Generator, steps: int) -> Tensor:
        noise = torch.randn(len(who["age"]), len(rows.NAMES), generator=generator)
        return solve(self._denoiser(who, steps), noise, noise_levels(steps))

    def _denoiser(self, who: Mapping[str, Tensor], steps: int) -> Callable[[Tensor, Tensor], Tensor]:
        table = tabulated(self.network, steps)
        at = table.rows(who)
        assert at is not None  # people of a population have a sex

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            estimate = self.network.estimate(noisy, sigma, table(sigma, at))
            if self.guidance:
                estimate = estimate - self.guidance * self._uphill(estimate, who)
            if self.projection == "every":
                values = rows.encode(_projected(self._bodies(estimate, who)))
                lawful_scores = self.marginals.encode(self.standing.encode(values, who))
                estimate = torch.where(torch.isfinite(lawful_scores), lawful_scores, estimate).float()
            return estimate.clamp(-_LIMIT, _LIMIT)

        return denoise

    def _uphill(self, estimate: Tensor, who: Mapping[str, Tensor]) -> Tensor:
        """Returns the gradient of the penalty, each row at most of length 1."""
        with torch.enable_grad():
            at = estimate.detach().clamp(-_LIMIT, _LIMIT).requires_grad_()
            (uphill,) = torch.autograd.grad(penalty(self._bodies(at, who)).sum(), at)
        uphill = torch.nan_to_num(uphill)
        return uphill / uphill.norm(dim=-1, keepdim=True).clamp(min=1.0)


def _lawful(cohort: Cohort, weights: Tensor | None) -> tuple[Physiology, Tensor]:
    good = lawful(cohort.physiology)
    bodies = cohort.physiology[good]
    return bodies, torch.ones_like(bodies.BW) if weights is None else weights[good]


def _projected(bodies: Physiology) -> Physiology:
    return project(rows.cohort(bodies, "raw diffusion", 0)).cohort.physiology
