r"""From noise to people: the second-order multistep solver of the probability-flow equation.

References:
    Lu, Zhou, Bao, Chen, Li, Zhu (2022). DPM-Solver++. https://arxiv.org/abs/2211.01095
    Karras, Aittala, Aila, Laine (2022). https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 20


def noise_levels(steps: int, smallest: float = 0.02, largest: float = 20.0) -> Tensor:
    r"""Returns the falling noise levels :math:`(\sigma_{max}^{1/7} + \ldots)^7`, with shape ``(steps,)``.

    References:
        Karras et al. (2022), equation 5 with :math:`\rho = 7`.
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return (largest ** (1 / 7) + ramp * (smallest ** (1 / 7) - largest ** (1 / 7))) ** 7


def solve(denoise: Callable[[Tensor, Tensor], Tensor], start: Tensor, levels: Tensor) -> Tensor:
    """Integrates from the highest noise level to none with DPM-Solver++(2M).

    Arguments:
        denoise: Estimates clean data from noisy data and its noise level, ``denoise(x, sigma)``.
        start: Standard normal noise, with shape :math:`(n, d)`.
        levels: The falling noise levels, with shape :math:`(k)`.

    Returns:
        The drawn data, with shape :math:`(n, d)`.
    """
    x = start * levels[0].to(start)
    before: Tensor | None = None
    for i, sigma in enumerate(levels):
        clean = denoise(x, sigma.to(x))
        if i + 1 == len(levels):
            return clean
        step = float(torch.log(sigma / levels[i + 1]))
        ahead = clean
        if before is not None:
            ratio = step / float(torch.log(levels[i - 1] / sigma))
            ahead = clean + 0.5 * ratio * (clean - before)
        shrink = float(levels[i + 1] / sigma)
        x, before = shrink * x + (1.0 - shrink) * ahead, clean
    return x
