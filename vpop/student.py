r"""The student: one step from noise to scores, learnt from a teacher that takes many (:mod:`vpop.distil`).

A straight line A and a network F of the denoiser's kind:

.. math:: S(n) = A \, [n, x] + F([n, x], \ldots)

where a score is given it stands in the place of its noise, and comes back as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpop.denoise import Denoiser
from vpop.sample import noise_levels

LEVEL = noise_levels(1)[0].float()  # the one noise level that the student's network knows


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
