r"""How a student is taught: it sees where a teacher's sampler ended, and learns to end there at once.

The sampler of :mod:`vpop.sample` is a map: the same noise n, person and given scores x end at the same
scores. The student learns that map by regression.

References:
    Luhman, Luhman (2021). Knowledge distillation in iterative generative models for improved sampling
    speed. https://arxiv.org/abs/2101.02388
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vpop.compiled import kernels
from vpop.denoise import Denoiser
from vpop.sample import STEPS
from vpop.scores import many_steps
from vpop.student import Student
from vpop.training import Examples, Objective, Progress, Training, descend


@dataclass
class Distillation(Training):
    """How a student is trained.

    Attributes:
        pairs: How many people the teacher draws to show how it is done.
    """

    pairs: int = 250_000


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
def pairs(
    teacher: Denoiser, examples: Examples, who: Mapping[str, Tensor], n: int, generator: torch.Generator
) -> Pairs:
    """Lets a teacher draw n people, half of them given some of their scores.

    Arguments:
        teacher: The denoiser.
        examples: Whom it has learnt from.
        who: Sex, race and age of these.
        n: How many people are drawn.
        generator: The source of who is drawn, of noise and of what is given.
    """
    rows = examples.pick(n, generator)
    known = examples.some_known(rows, generator)
    clean = examples.scores[rows]
    noise = torch.where(known > 0, clean, torch.randn(clean.shape, generator=generator))
    people = {name: value[rows] for name, value in who.items()}
    with kernels(None, n * STEPS):
        scores = many_steps(teacher, people, noise, (clean, known), STEPS)
    return Pairs(noise, scores, examples.people[rows], known)


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
