r"""Closing: parts that were drawn one by one are made to sum to their whole, each by what it can give.

Drawn parts :math:`m_i` sum to the whole only by chance. Of all ways to close the sum, conditioning asks
the uncertain parts to give way and leaves the certain ones: for Gaussian parts of variance
:math:`v_i = (\sigma_i m_i)^2` the conditional draw is :math:`m_i + v_i (W - \sum m) / \sum v`. In logarithms,
so that no part turns negative, to first order that is

.. math:: m_i' = m_i e^{\lambda y_i}, \qquad \sum_i m_i' = W, \qquad y_i \propto \sigma_i^2 m_i

with one :math:`\lambda` a body. Flows close by the same equation, :math:`y_i` their elasticity to the output
of the heart.

References:
    Matheron's rule: Journel, Huijbregts (1978), Mining Geostatistics; Wilson et al. (2021), J Mach Learn Res
    22:105. The exponential form is [ours].
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 60
_TOLERANCE = 1e-13


def close(parts: Tensor, total: Tensor, yielding: Tensor) -> Tensor:
    r"""Returns :math:`m_i e^{\lambda y_i}` with the :math:`\lambda` that makes the sum the total.

    Newton's method on the logarithm of the sum, which is convex and increasing in :math:`\lambda`.

    Arguments:
        parts: Positive parts, with shape :math:`(n, k)`.
        total: Their whole, with shape :math:`(n)`.
        yielding: How much each part gives way, not negative, with shape :math:`(n, k)`.

    Returns:
        Parts that sum to the total, with shape :math:`(n, k)`.

    Raises:
        ValueError: If the parts that do not yield fill the total.

    >>> parts = torch.tensor([[1.0, 2.0, 2.0]], dtype=torch.float64)
    >>> close(parts, torch.tensor([7.0]).double(), torch.tensor([[0.0, 1.0, 1.0]])).round(decimals=9)
    tensor([[1., 3., 3.]], dtype=torch.float64)
    """
    log_parts, log_total = torch.log(parts), torch.log(total)
    y = yielding / yielding.amax(-1, keepdim=True)
    shift = torch.zeros_like(total, dtype=parts.dtype)
    for _ in range(_STEPS):
        log_terms = log_parts + shift[..., None] * y
        gap = torch.logsumexp(log_terms, -1) - log_total
        if bool((gap.abs() < _TOLERANCE).all()):
            return torch.exp(log_terms)
        shift = shift - gap / (torch.softmax(log_terms, -1) * y).sum(-1)
    stuck = int((~(gap.abs() < _TOLERANCE * 10)).sum())
    if stuck:
        raise ValueError(
            f"parts must leave room for those that yield, but in {stuck} bodies they fill the total."
        )
    return torch.exp(log_terms)
