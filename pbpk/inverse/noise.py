r"""Noise: how an observation scatters about its prediction :math:`f`, and what its likelihood is.

Additive a, proportional b, or both: :math:`y = f + \sqrt{a^2 + b^2 f^2} \, \epsilon`. Log-normal:
:math:`\ln y = \ln f + b \, \epsilon`. An observation below the limit of quantification L counts with the
probability to be below it (method M3), :math:`\Phi((L - f)/sd)`.

References:
    Beal (2001). Ways to fit a PK model with some data below the quantification limit. J Pharmacokinet
    Pharmacodyn 28:481. https://doi.org/10.1023/A:1012299115260
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.units import quantity

KINDS: tuple[str, ...] = ("normal", "log-normal")


@dataclass(frozen=True)
class Noise:
    """The noise of the observations.

    Attributes:
        proportional: The standard deviation as a share of the prediction, or that of the logarithm [1].
        additive: The standard deviation that does not depend on the prediction [mg/L].
        kind: ``"normal"`` or ``"log-normal"``.
        known: Whether the size is known. If not, the numbers above say only how the parts relate, and the
            size is estimated from the residuals.

    Raises:
        ValueError: If a number is negative or not finite, both are 0, or log-normal noise has a second part.
    """

    proportional: float = quantity("1", default=0.0)
    additive: float = quantity("mg/L", default=0.0)
    kind: str = "normal"
    known: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        choose("noise.kind", self.kind, KINDS)
        for name in ("proportional", "additive"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"noise.{name} must be finite and not negative, but is {value:g}.")
        if self.proportional == 0 and self.additive == 0:
            raise ValueError("noise must have a size, but is 0. Write proportional = 0.1 for 10 %.")
        if self.kind == "log-normal" and (self.additive or not self.proportional):
            raise ValueError("noise.additive must be 0 for log-normal noise. Give proportional only.")

    def sd(self, prediction: Tensor, floor: Tensor | float = 0.0) -> Tensor:
        """Returns the standard deviation about a prediction [mg/L] (log-normal: of the logarithm [1])."""
        if self.kind == "log-normal":
            return torch.full_like(prediction, self.proportional)
        return (self.additive**2 + (self.proportional * prediction) ** 2 + floor**2).sqrt()

    def scaled(self, prediction: Tensor, floor: Tensor | float = 0.0) -> Tensor:
        """Returns what scatters normally: the prediction itself, or its logarithm."""
        if self.kind == "log-normal":
            return prediction.clamp(min=float(floor) or torch.finfo(prediction.dtype).tiny).log()
        return prediction

    def draw(self, prediction: Tensor, generator: torch.Generator) -> Tensor:
        """Draws observations about predictions, of the same shape; never below 0."""
        epsilon = torch.randn(prediction.shape, generator=generator, dtype=prediction.dtype)
        if self.kind == "log-normal":
            return prediction * (self.proportional * epsilon).exp()
        return (prediction + self.sd(prediction) * epsilon).clamp(min=0.0)
