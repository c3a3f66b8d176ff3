"""Normal scores drawn by a network: the sampler's many steps or the student's one, of people who are alike.

People are taken in blocks, in an order in which neighbours share rows of the table of :mod:`vpop.modulation`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vpop.denoise import Denoiser, Guided
from vpop.modulation import alike, quickest, tabulated
from vpop.sample import noise_levels, solve
from vpop.student import LEVEL, Student

BLOCK = 512  # people whom the network sees at once
_STUDENTS = 2048  # the student is narrower, and looks once

Given = tuple[Tensor, Tensor] | None  # scores, and 1 where one is given, each with shape (n, d)
People = Mapping[str, Tensor]
Step = Callable[[People, Tensor, Given], Tensor]


def many_steps(network: Denoiser | Guided, people: People, noise: Tensor, given: Given, steps: int) -> Tensor:
    """Draws scores with the sampler of :mod:`vpop.sample`.

    Arguments:
        network: The denoiser.
        people: Sex, race and age, with shape :math:`(n)`.
        noise: Standard normal, with shape :math:`(n, d)`.
        given: What is given, or None.
        steps: The steps of the sampler.

    Returns:
        The scores, with shape :math:`(n, d)`.
    """
    levels = noise_levels(steps)

    def draw(people: People, noise: Tensor, given: Given) -> Tensor:
        return solve(_denoiser(network, people, given, steps), noise, levels)

    return _in_blocks(BLOCK, draw, people, noise, given)


def one_step(student: Student, people: People, noise: Tensor, given: Given) -> Tensor:
    """Draws scores with a student; arguments as of :func:`many_steps`."""

    def draw(people: People, noise: Tensor, given: Given) -> Tensor:
        return _jumped(student, people, noise, given)

    return _in_blocks(_STUDENTS, draw, people, noise, given)


def _in_blocks(size: int, draw: Step, people: People, noise: Tensor, given: Given) -> Tensor:
    order = alike(people)
    drawn, ordered = noise.index_select(0, order), {name: value[order] for name, value in people.items()}
    for first in range(0, len(order), size):
        part = slice(first, first + size)
        who = {name: value[part] for name, value in ordered.items()}
        some = None if given is None else (given[0][order[part]], given[1][order[part]])
        drawn[part] = draw(who, drawn[part], some)
    back = torch.empty_like(noise)
    back[order] = drawn
    return back


def _jumped(student: Student, people: People, noise: Tensor, given: Given) -> Tensor:
    if given is not None:
        noise = torch.where(given[1] > 0, given[0], noise)
    table = tabulated(student.network, 1)
    quick, modulation = quickest(student, table)
    rows = table.rows(people)
    known = None if given is None else given[1]
    if rows is None:
        described = Denoiser.describe(**people).float()
        return student(noise, described, torch.zeros_like(noise) if known is None else known)
    return quick.jump(noise, modulation(LEVEL, rows), known)


def _denoiser(
    network: Denoiser | Guided, people: People, given: Given, steps: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the network for some people of whom some scores are given."""
    if isinstance(network, Guided):
        return _told(network, people, given)
    table = tabulated(network, steps)
    rows = table.rows(people)
    if rows is None:
        return _told(network, people, given)
    quick, modulation = quickest(network, table)

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        known = None
        if given is not None:
            scores, known = given
            noisy = torch.where(known > 0, scores, noisy)
        return quick.estimate(noisy, sigma, modulation(sigma, rows), known)

    return denoise


def _told(network: Denoiser | Guided, people: People, given: Given) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns a network that is told who the people are, without a table."""
    described = Denoiser.describe(**people).float()

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        scores, known = (noisy, torch.zeros_like(noisy)) if given is None else given
        noisy = torch.where(known > 0, scores, noisy)
        return network(noisy, sigma.expand(len(noisy), 1), described, known)

    return denoise
