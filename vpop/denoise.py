r"""The denoiser: a residual network that knows who a person is and which coordinates are given.

With noise :math:`\sigma` and data of unit variance (Karras et al. 2022),

.. math:: D(x; \sigma) = c_{skip} x + c_{out} F(c_{in} x, \ln\sigma / 4, \ldots), \quad
    c_{skip} = \frac{1}{1 + \sigma^2}, \; c_{out} = \frac{\sigma}{\sqrt{1 + \sigma^2}}, \;
    c_{in} = \frac{1}{\sqrt{1 + \sigma^2}}

Coordinates that are known enter clean, with a mask that says so; trained on random masks, one network
draws whole people, conditions on any part of them, and fills in what is missing. It learns from some people
without being told their sex and race, and so knows what follows from these (:class:`Guided`).

References:
    Karras, Aittala, Aila, Laine (2022). Elucidating the design space of diffusion-based generative
    models. https://arxiv.org/abs/2206.00364
    Ho, Salimans (2022). Classifier-free diffusion guidance. https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pbpk.physiology import RACES

_LOG_SIGMA_MEAN, _LOG_SIGMA_SD = -0.7, 1.5
YOUNGEST = 0.02  # years, a week: the network does not tell younger ages apart
_AGE_CENTRES = (-3.0, -2.0, -1.0, 0.0, 1.0, 1.6, 2.1, 2.5, 2.9, 3.3, 3.7, 4.1, 4.4)  # ln years
_AGE_FEATURES = len(_AGE_CENTRES) + 2


def age_features(age: Tensor) -> Tensor:
    """Describes an age [year] on the scale of infancy and on that of old age, shape :math:`(*, 15)`."""
    log_age = torch.log(age.clamp(min=YOUNGEST))[..., None]
    bumps = torch.exp(-2.0 * (log_age - torch.tensor(_AGE_CENTRES).to(age)) ** 2)
    return torch.cat([bumps, log_age / 2.0, age[..., None] / 40.0 - 1.0], dim=-1)


class _Block(nn.Module):
    """One residual block, modulated by the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 2 * width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        for layer in (self.modulate, self.second):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation.chunk(2, dim=-1)
        inner = torch.addcmul(shift, self.norm(hidden), scale)
        return self.second(functional.silu(self.first(inner), inplace=True)).add_(hidden)


class Denoiser(nn.Module):
    """Estimates clean coordinates from noisy ones.

    Arguments:
        coordinates: The number of coordinates, d.
        width: The width of the hidden layers.
        depth: The number of residual blocks.
    """

    frequencies: Tensor

    def __init__(self, coordinates: int, width: int = 128, depth: int = 3) -> None:
        super().__init__()
        self.settings = {"coordinates": coordinates, "width": width, "depth": depth}
        frequencies = torch.linspace(0.25, 4.0, 8)
        self.register_buffer("frequencies", frequencies, persistent=False)
        people = _AGE_FEATURES + 1 + len(RACES)
        self.condition = nn.Sequential(
            nn.Linear(people + 2 * len(frequencies), width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )
        self.enter = nn.Linear(2 * coordinates, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.leave = nn.Linear(width, coordinates)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    @staticmethod
    def describe(sex: Tensor, race: Tensor, age: Tensor) -> Tensor:
        """Describes who people are, with shape :math:`(n, p)`; an unknown race is all zeros."""
        races = functional.one_hot(race.clamp(min=0), len(RACES)) * (race >= 0)[..., None]
        return torch.cat([age_features(age), 2.0 * sex[..., None] - 1.0, races.to(age)], dim=-1)

    @staticmethod
    def unnamed(people: Tensor) -> Tensor:
        """Returns descriptions, with shape :math:`(n, p)`, without the categories: age is all they say."""
        return torch.cat([people[..., :_AGE_FEATURES], torch.zeros_like(people[..., _AGE_FEATURES:])], -1)

    def forward(self, noisy: Tensor, sigma: Tensor, people: Tensor, known: Tensor) -> Tensor:
        """Estimates the clean coordinates.

        Arguments:
            noisy: Noisy coordinates, clean where known, with shape :math:`(n, d)`.
            sigma: The noise's standard deviation, with shape :math:`(n, 1)`.
            people: What :meth:`describe` returns, with shape :math:`(n, p)`.
            known: 1 where a coordinate is given, else 0, with shape :math:`(n, d)`.

        Returns:
            The estimate, equal to ``noisy`` where known, with shape :math:`(n, d)`.
        """
        return self.estimate(noisy, sigma, self.modulation(people, sigma), known)

    def modulation(self, people: Tensor, sigma: Tensor) -> Tensor:
        """Returns the scales and shifts of each block, with shape :math:`(n, 2 width depth)`.

        Arguments:
            people: What :meth:`describe` returns, with shape :math:`(n, p)`.
            sigma: The noise's standard deviation, with shape :math:`(n, 1)`.
        """
        angles = torch.log(sigma) * self.frequencies
        condition = self.condition(torch.cat([people, angles.sin(), angles.cos()], dim=-1))
        blocks = cast(list[_Block], list(self.blocks))
        pairs = (block.modulate(condition).chunk(2, dim=-1) for block in blocks)
        return torch.cat([part for scale, shift in pairs for part in (1 + scale, shift)], dim=-1)

    def estimate(
        self, noisy: Tensor, sigma: Tensor, modulation: Tensor, known: Tensor | None = None
    ) -> Tensor:
        """Estimates the clean coordinates as :meth:`forward` does, from what :meth:`modulation` returns.

        Arguments:
            noisy: As in :meth:`forward`.
            sigma: The noise's standard deviation, with shape :math:`(n, 1)` or :math:`()`.
            modulation: With shape :math:`(n, 2 width depth)`.
            known: As in :meth:`forward`; None where nothing is given.
        """
        scale = torch.rsqrt(1 + sigma**2)
        scaled = noisy * scale if known is None else torch.where(known > 0, noisy, noisy * scale)
        learnt = self.learnt(scaled, modulation, known)
        estimate = torch.addcmul(noisy * scale**2, learnt, sigma * scale)
        return estimate if known is None else torch.where(known > 0, noisy, estimate)

    def learnt(self, entered: Tensor, modulation: Tensor, known: Tensor | None = None) -> Tensor:
        """Returns F, of coordinates that are scaled unless known, both with shape :math:`(n, d)`."""
        if known is None:
            hidden = functional.linear(entered, self.enter.weight[:, : entered.shape[-1]], self.enter.bias)
        else:
            hidden = self.enter(torch.cat([entered, known], dim=-1))
        for block, own in zip(self.blocks, modulation.chunk(len(self.blocks), dim=-1), strict=True):
            hidden = block(hidden, own)
        return self.leave(functional.silu(hidden))


class Guided(nn.Module):
    r"""A denoiser that makes more, or less, of sex and race than people do.

    .. math:: D_w = D(x; \sigma, \text{age}) + w \left(D(x; \sigma, \text{age}, \text{sex}, \text{race})
        - D(x; \sigma, \text{age})\right)

    Arguments:
        network: The denoiser.
        weight: w; 1 changes nothing, 0 forgets the categories, more than 1 exaggerates them.

    References:
        Ho, Salimans (2022), equation 6, whose w is ours less 1.
    """

    def __init__(self, network: Denoiser, weight: float) -> None:
        super().__init__()
        self.network, self.weight = network, weight

    def forward(self, noisy: Tensor, sigma: Tensor, people: Tensor, known: Tensor) -> Tensor:
        """Estimates the clean coordinates as :meth:`Denoiser.forward` does."""
        plain = self.network(noisy, sigma, Denoiser.unnamed(people), known)
        named = self.network(noisy, sigma, people, known)
        return torch.where(known > 0, noisy, torch.lerp(plain, named, self.weight))


def loss(
    denoiser: Denoiser,
    clean: Tensor,
    present: Tensor,
    people: Tensor,
    known: Tensor,
    generator: torch.Generator,
) -> Tensor:
    r"""Computes the denoising loss :math:`E\, \lambda(\sigma) \lVert D(x + \sigma n) - x \rVert^2`.

    Arguments:
        denoiser: The network.
        clean: The normal scores, 0 where missing, with shape :math:`(n, d)`.
        present: 1 where a score is present in the data, else 0, with shape :math:`(n, d)`.
        people: Who they are, with shape :math:`(n, p)`.
        known: 1 where a score is given, else 0, with shape :math:`(n, d)`.
        generator: The source of noise and noise levels.

    Returns:
        The mean over the coordinates that are present and not given, with shape :math:`()`.

    References:
        Karras et al. (2022), table 1: :math:`\lambda = (1+\sigma^2)/\sigma^2`. Their
        :math:`\ln\sigma \sim N(-1.2, 1.2^2)` is for images; a table has no fine detail, and what people are
        on average is settled at high noise, so [ours] :math:`N(-0.7, 1.5^2)`.
    """
    sigma = torch.exp(_LOG_SIGMA_SD * torch.randn(len(clean), 1, generator=generator) + _LOG_SIGMA_MEAN)
    noise = torch.randn(clean.shape, generator=generator) * sigma
    estimate = denoiser(torch.where(known > 0, clean, clean + noise), sigma, people, known)
    wanted = present * (1 - known)
    squared = (1 + sigma**2) / sigma**2 * (estimate - clean) ** 2
    return (squared * wanted).sum() / wanted.sum().clamp(min=1.0)
