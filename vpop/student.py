r"""The student: one step from noise to scores, learnt from a teacher that takes many.

The sampler of :mod:`vpop.sample` is a map: the same noise n, person and given scores x end at the same
scores. The student, a straight line A and a network F of the denoiser's kind, learns it by regression:

.. math:: S(n) = A \, [n, x] + F([n, x], \ldots)

where a score is given it stands in the place of its noise, and comes back as it is.

References:
    Luhman, Luhman (2021). Knowledge distillation in iterative generative models for improved sampling
    speed. https://arxiv.org/abs/2101.02388
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vpop.denoise import Denoiser
from vpop.sample import STEPS, noise_levels, solve
from vpop.training import Examples, Objective, Progress, Training, descend

_BLOCK = 512
LEVEL = noise_levels(1)[0].float()  # the one noise level that the student's network knows


@dataclass
class Distillation(Training):
    """How a student is trained.

    Attributes:
        pairs: How many people the teacher draws to show how it is done.
    """

    pairs: int = 250_000


class Student(nn.Module):
    """Goes from noise to scores in one step.

    Arguments:
        coordinates: The number of scores, d.
        width: The width of the network's hidden layers.
        depth: The number of its residual blocks.
    """

    def __init__(self, coordinates: int, width: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.network = Denoiser(coordinates, width, depth)
        self.line = nn.Linear(coordinates, coordinates, bias=False)
        nn.init.eye_(self.line.weight)

    def forward(self, noise: Tensor, people: Tensor, known: Tensor) -> Tensor:
        """Returns the scores.

        Arguments:
            noise: Standard normal noise, and given scores where given, with shape :math:`(n, d)`.
            people: What :meth:`vpop.denoise.Denoiser.describe` returns, with shape :math:`(n, p)`.
            known: 1 where a score is given, else 0, with shape :math:`(n, d)`.

        Returns:
            The scores, equal to ``noise`` where given, with shape :math:`(n, d)`.
        """
        return self.jump(noise, self.network.modulation(people, LEVEL.expand(len(noise), 1)), known)

    def jump(self, noise: Tensor, modulation: Tensor, known: Tensor | None = None) -> Tensor:
        """Returns the scores as :meth:`forward` does, from the network's modulation of these people."""
        found = self.line(noise) + self.network.learnt(noise, modulation, known)
        return found if known is None else torch.where(known > 0, noise, found)


class Pairs(NamedTuple):
    """Where a teacher's sampler took noise.

    Attributes:
        noise: Where it began, and given scores where given, with shape :math:`(n, d)`.
        scores: Where it ended, with shape :math:`(n, d)`.
        people: Who was drawn, with shape :math:`(n, p)`.
        known: Which scores were given, with shape :math:`(n, d)`.
    """

    noise: Tensor
    scores: Tensor
    people: Tensor
    known: Tensor


@torch.no_grad()
def pairs(teacher: Denoiser, examples: Examples, n: int, generator: torch.Generator) -> Pairs:
    """Lets a teacher draw some n people, half of them given some of their scores."""
    parts = [_block(teacher, examples, generator) for _ in range(0, n, _BLOCK)]
    return Pairs(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _block(teacher: Denoiser, examples: Examples, generator: torch.Generator) -> Pairs:
    rows = examples.pick(_BLOCK, generator)
    clean, people = examples.scores[rows], examples.people[rows]
    known = examples.some_known(rows, generator)
    start = torch.randn(clean.shape, generator=generator)

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        noisy = torch.where(known > 0, clean, noisy)
        return teacher(noisy, sigma.expand(len(noisy), 1), people, known)

    scores = solve(denoise, start, noise_levels(STEPS))
    return Pairs(torch.where(known > 0, clean, start), scores, people, known)


def distil(
    student: Student, learnt_from: Pairs, plan: Training, seed: int, progress: Progress | None = None
) -> Student:
    """Trains a student to end where a teacher ended, and returns it.

    Arguments:
        student: An untrained one.
        learnt_from: What the teacher did.
        plan: How it is trained.
        seed: The seed of the batches.
        progress: Called with the number of updates done and to do.
    """
    return descend(student, _regression(student, learnt_from, plan.batch), plan, seed, progress)


def _regression(student: Student, learnt_from: Pairs, batch: int) -> Objective:
    """Returns the squared error over the scores that were not given."""

    def objective(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(learnt_from.noise), (batch,), generator=generator)
        noise, scores, people, known = (part[rows] for part in learnt_from)
        wrong = (student(noise, people, known) - scores) ** 2
        return wrong.sum() / (1.0 - known).sum().clamp(min=1.0)

    return objective
