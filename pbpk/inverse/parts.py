"""What an inverse problem is made of: unknowns, doses, observations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.units import quantity

TRANSFORMS: tuple[str, ...] = ("log", "logit", "identity")


@dataclass(frozen=True)
class Unknown:
    """A parameter to be estimated.

    Attributes:
        name: A parameter of the model.
        lower: Its smallest value.
        upper: Its largest value.
        transform: ``"log"``, ``"logit"`` (between the bounds) or ``"identity"``: what theta is of it.
        mean: The median of its prior, or None.
        sd: The standard deviation of its prior, of the logarithm for ``"log"``; of theta otherwise.
        start: Where a search may start, or None.

    Raises:
        ValueError: If the bounds are not in order, or a part of the prior is missing.
    """

    name: str
    lower: float = 1e-4
    upper: float = 1e4
    transform: str = "log"
    mean: float | None = None
    sd: float | None = None
    start: float | None = None

    def __post_init__(self) -> None:
        """Checks the bounds and the prior."""
        choose(f"unknown {self.name!r}: transform", self.transform, TRANSFORMS)
        least = 0.0 if self.transform == "log" else -math.inf
        if not (least < self.lower < self.upper < math.inf and math.isfinite(self.lower)):
            raise ValueError(
                f"unknown {self.name!r} must have finite bounds, lower below upper and above 0 for a "
                f"logarithm, but has {self.lower:g} and {self.upper:g}."
            )
        if (self.mean is None) != (self.sd is None) or (self.sd is not None and not self.sd > 0):
            raise ValueError(f"unknown {self.name!r} must have a prior with mean and positive sd, or none.")
        for name in ("mean", "start"):
            value = getattr(self, name)
            if value is not None and not self.lower <= value <= self.upper:
                raise ValueError(
                    f"unknown {self.name!r} must have its {name} within [{self.lower:g}, {self.upper:g}], "
                    f"but has {value:g}."
                )

    def free(self, value: Tensor) -> Tensor:
        """Returns theta of a value."""
        if self.transform == "log":
            return value.log()
        if self.transform == "logit":
            return torch.logit((value - self.lower) / (self.upper - self.lower))
        return value

    def value(self, theta: Tensor) -> Tensor:
        """Returns the value at theta."""
        if self.transform == "log":
            return theta.exp()
        if self.transform == "logit":
            return self.lower + (self.upper - self.lower) * torch.sigmoid(theta)
        return theta

    def slope(self, value: float) -> float:
        """Returns the derivative of the value by theta."""
        if self.transform == "log":
            return value
        if self.transform == "logit":
            return (value - self.lower) * (self.upper - value) / (self.upper - self.lower)
        return 1.0

    @property
    def box(self) -> tuple[float, float]:
        """The bounds of theta."""
        if self.transform == "logit":
            return (-12.0, 12.0)  # 6e-6 of the interval from its ends
        low, high = (self.free(torch.tensor(v, dtype=torch.float64)) for v in (self.lower, self.upper))
        return float(low), float(high)


@dataclass(frozen=True)
class Given:
    """A dose.

    Attributes:
        time: When it begins [h].
        amount: How much [mg]; of many people in one problem, with shape :math:`(B)`.
        duration: How long it takes [h]; 0 is at once.
        compartment: Where it enters, one of the model's inlets.
    """

    time: float = quantity("h")
    amount: float | Tensor = quantity("mg")
    duration: float = quantity("h", default=0.0)
    compartment: str = "plasma"


@dataclass(frozen=True)
class Seen:
    """The observations of one person, N in all.

    Attributes:
        time: When [h], with shape :math:`(N)`.
        compartment: Where, one name an observation.
        value: The concentration [mg/L], with shape :math:`(N)`; NaN where none was taken yet (a design).
        limit: Where positive, the value is only known to be below it [mg/L], with shape :math:`(N)`.
        after: Whether a sample at the very time of a dose was taken after it, with shape :math:`(N)`.
    """

    time: Tensor
    compartment: tuple[str, ...]
    value: Tensor
    limit: Tensor
    after: Tensor

    @classmethod
    def design(cls, times: Sequence[float], compartments: Sequence[str]) -> Seen:
        """Returns a design: each of the compartments is seen at each of the times."""
        time = torch.tensor([float(t) for t in times] * len(compartments), dtype=torch.float64)
        where = tuple(name for name in compartments for _ in times)
        nothing = torch.full_like(time, math.nan)
        return cls(time, where, nothing, torch.zeros_like(time), torch.zeros(len(time), dtype=torch.bool))

    def __len__(self) -> int:
        """Returns the number of observations."""
        return len(self.compartment)

    def with_values(self, value: Tensor, limit: float = 0.0) -> Seen:
        """Returns the same design with values; what is below the limit [mg/L] is only known to be so."""
        below = value < limit
        return dataclasses.replace(
            self, value=value, limit=torch.where(below, limit, 0.0).to(value), after=self.after
        )
