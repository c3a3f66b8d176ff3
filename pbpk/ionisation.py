r"""Which share of a drug is charged at a pH.

For each uncharged molecule a drug has

.. math:: s_- = \sum_k 10^{\sum_{i \le k} (pH - pK_{a,i})}, \qquad
    s_+ = \sum_k 10^{\sum_{i \le k} (pK_{a,i} - pH)}

anions, over its acids in ascending order, and cations, over its bases in descending order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PH_PLASMA = 7.4


def over_tissues(value: Any) -> Tensor:
    """Returns a number of a drug, with shape :math:`(*)`, ready to broadcast over tissues: :math:`(*, 1)`."""
    return torch.as_tensor(value, dtype=torch.float64)[..., None]


def ionised(pH: Tensor | float, acids: Sequence[Any], bases: Sequence[Any]) -> tuple[Tensor, Tensor]:
    r"""Computes the anions :math:`s_-` and cations :math:`s_+` for each neutral molecule.

    Arguments:
        pH: The pH, with shape :math:`(*)`.
        acids: The pKa of each acidic group, in any order.
        bases: The pKa of each basic group, in any order.

    Returns:
        :math:`(s_-, s_+)`, each with shape :math:`(*)`.

    >>> anions, cations = ionised(7.4, [], [7.4])
    >>> float(anions), float(cations)
    (0.0, 1.0)
    """
    pH = _tensor(pH)
    losing = [pH - _tensor(pKa) for pKa in sorted(acids, key=float)]
    gaining = [_tensor(pKa) - pH for pKa in sorted(bases, key=float, reverse=True)]
    return _chain(losing, pH), _chain(gaining, pH)


def _chain(steps: list[Tensor], like: Tensor) -> Tensor:
    total, exponent = torch.zeros_like(like), torch.zeros_like(like)
    for step in steps:
        exponent = exponent + step
        total = total + 10.0**exponent
    return total


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)
