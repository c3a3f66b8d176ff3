r"""Three quantities of a species that no model has seen are told: what do they say of the others?

The model that learnt from the other species is conditioned on the three, each with the noise of a
measurement, and on the sums; only what was not told is scored. *What the model is least sure of* looks at no
value: one after the other it takes the quantity that lowers the summed standard deviations most.

How much the errors of the others should fall, the model says itself: with the sources' own noise s,

.. math:: E |e| = \sqrt{2 / \pi} \, \sqrt{\sigma^2 + s^2}.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from allometry.consensus import Consensus
from allometry.hierarchical import Normal
from allometry.neural import MEASURED_SD
from allometry.species import QUANTITIES

WAYS: dict[str, tuple[str, ...]] = {
    "brain, liver, cardiac output": ("M_brain", "M_liver", "CO"),
    "what the model is least sure of": (),
}
"""The ways to choose the three; an empty one lets the model choose for each species."""


@dataclass(frozen=True)
class FewShot:
    """What was told and what came of it.

    Attributes:
        told: The names of the three, of each species.
        error: The absolute errors of the logarithms of the others, with shape (s, q); NaN where not scored.
        expected: By what ratio the model itself expects the others' fold error to change.
    """

    told: tuple[tuple[str, ...], ...]
    error: Tensor
    expected: float


def few_shot(known: Consensus, foretold: Sequence[Normal], names: tuple[str, ...]) -> FewShot:
    """Tells three quantities of each species left out.

    Arguments:
        known: The consensus of the species.
        foretold: What a model that has not seen it foretells of each, before the sums are conditioned on.
        names: The three quantities; empty are those that the model is least sure of.
    """
    q = len(QUANTITIES)
    told, gains = [], []
    error = torch.full(known.y.shape, torch.nan, dtype=torch.float64)
    for i, (normal, x) in enumerate(zip(foretold, known.x.tolist(), strict=True)):
        own = names or least_sure(normal, known.scored[i])
        at = [QUANTITIES.index(name) for name in own]
        given = {name: (known.y[i, j].item(), MEASURED_SD) for name, j in zip(own, at, strict=True)}
        after, before = normal.given(given).closed(x), normal.closed(x)
        others = known.scored[i].clone()
        others[at] = False
        error[i, others] = (after.mean[:q] - known.y[i]).abs()[others]
        unsure = [torch.hypot(one.sd[:q], known.sd[i])[others] for one in (after, before)]
        gains.append(unsure[0] - unsure[1])
        told.append(own)
    expected = math.exp(math.sqrt(2.0 / math.pi) * torch.cat(gains).mean().item())
    return FewShot(tuple(told), error, expected)


def least_sure(normal: Normal, scored: Tensor, count: int = 3) -> tuple[str, ...]:
    """Chooses, one after the other, what would lower the summed deviations most.

    Arguments:
        normal: What is foretold of the species; no value of it plays a part, only the covariance.
        scored: Which quantities can be told and count, bool with shape (q,).
        count: How many to choose.
    """
    names = [QUANTITIES[j] for j in scored.nonzero().squeeze(-1).tolist()]
    chosen: list[str] = []

    def unsure_after(name: str) -> float:
        told = normal.given(dict.fromkeys((*chosen, name), (0.0, MEASURED_SD)))
        return told.sd[: len(QUANTITIES)][scored].sum().item()

    for _ in range(count):
        chosen.append(min((name for name in names if name not in chosen), key=unsure_after))
    return tuple(chosen)
