"""How a denoiser is trained: AdamW along one cycle of the learning rate, and an average of the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from vpop.denoise import Denoiser, loss

_WARM_UP = 0.02  # share of the updates in which the learning rate rises
_DECAY = 1e-4
_LARGEST_GRADIENT = 1.0
_FURTHEST = 6.0  # scores beyond are not people
_UNNAMED = 0.1  # the share of people whose categories are not told, of the 0.1 to 0.2 of Ho, Salimans (2022)

Progress = Callable[[int, int], None]
Objective = Callable[[torch.Generator], Tensor]
Network = TypeVar("Network", bound=nn.Module)


@dataclass
class Training:
    """How a network is trained.

    Attributes:
        updates: The number of gradient steps.
        batch: People per step.
        rate: The highest learning rate; it rises over 2 % of the steps and falls along a cosine.
        memory: The decay of the moving average of the weights, which is what is kept.
        calibration: How many people are drawn to calibrate the draws.
    """

    updates: int = 8_500
    batch: int = 1024
    rate: float = 2e-3
    memory: float = 0.999
    calibration: int = 150_000


@dataclass(frozen=True)
class Examples:
    """What a denoiser learns from.

    Attributes:
        scores: Normal scores, 0 where missing, float32 with shape :math:`(n, d)`.
        present: 1 where a score is present, else 0, with shape :math:`(n, d)`.
        people: Who they are, as :meth:`vpop.denoise.Denoiser.describe` says it, with shape :math:`(n, p)`.
        weights: How often each is seen, with shape :math:`(n)`.
        givable: How many scores, the first, may be given to who is drawn.
    """

    scores: Tensor
    present: Tensor
    people: Tensor
    weights: Tensor
    givable: int

    @classmethod
    def of(cls, scores: Tensor, people: Tensor, weights: Tensor, givable: int) -> Examples:
        """Takes scores of float64 with NaN where missing."""
        clean = torch.nan_to_num(scores).float().clamp(-_FURTHEST, _FURTHEST)
        return cls(clean, torch.isfinite(scores).float(), people.float(), weights, givable)

    def pick(self, n: int, generator: torch.Generator) -> Tensor:
        """Returns n rows, drawn by weight with replacement."""
        return torch.multinomial(self.weights, n, replacement=True, generator=generator)

    def some_known(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draws which scores of some rows are given: of half of them none, else any share of those present.

        Returns:
            1 where given, else 0, with shape :math:`(m, d)`.
        """
        known = torch.zeros_like(self.present[rows])
        share = torch.rand(len(rows), 1, generator=generator)
        share = torch.where(torch.rand(len(rows), 1, generator=generator) < 0.5, 0.0, share)
        given = torch.rand(len(rows), self.givable, generator=generator) < share
        known[:, : self.givable] = given * self.present[rows, : self.givable]
        return known


def fresh(coordinates: int, width: int, depth: int, seed: int) -> Denoiser:
    """Returns an untrained network; the same seed, the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(coordinates, width, depth)


def denoising(network: Denoiser, examples: Examples, batch: int) -> Objective:
    """Returns the denoising loss of a batch of examples drawn anew at each call."""

    def objective(generator: torch.Generator) -> Tensor:
        rows = examples.pick(batch, generator)
        scores, present, people = examples.scores[rows], examples.present[rows], examples.people[rows]
        known = examples.some_known(rows, generator)
        silent = torch.rand(batch, 1, generator=generator) < _UNNAMED
        people = torch.where(silent, network.unnamed(people), people)
        return loss(network, scores, present, people, known, generator)

    return objective


def descend(
    network: Network, objective: Objective, plan: Training, seed: int, progress: Progress | None = None
) -> Network:
    """Trains a network and returns it with its averaged weights, which no longer change.

    Arguments:
        network: The network.
        objective: Computes a loss whose mean is to fall; the generator is its only source of randomness.
        plan: How it is trained.
        seed: The seed of the objective.
        progress: Called with the number of updates done and to do.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.rate, total_steps=plan.updates + 1, pct_start=_WARM_UP, cycle_momentum=False
    )
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(plan.memory)
    )
    for update in range(plan.updates):
        value = objective(generator)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        if progress is not None:
            progress(update + 1, plan.updates)
    network.load_state_dict(average.module.state_dict())
    return network.requires_grad_(False).eval()
