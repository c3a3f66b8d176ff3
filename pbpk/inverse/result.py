r"""What a fit gives, the same from every method, so that methods can be held against each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pbpk.inverse.problem import InverseProblem

if TYPE_CHECKING:
    import pandas as pd

_NORMAL = 1.959963984540054  # the 97.5 % quantile
_ON_BOUND = 1e-3  # of the width of the box in theta: closer than this is on it


@dataclass(frozen=True)
class FitResult:
    r"""The estimates of one person.

    Attributes:
        method: The solver's name.
        problem: What was fitted.
        theta: The estimate in free coordinates, with shape :math:`(K)`.
        covariance: Its covariance, with shape :math:`(K, K)`; NaN from a method that gives none.
        lower: The lower ends of the 95 % intervals, in the parameters' units, with shape :math:`(K)`.
        upper: The upper ends.
        converged: Whether the method's own criterion was met.
        seconds: How long it took [s].
        starts: How many starts were tried.
        starts_converged: How many of them ended at the best optimum.
        scale: The factor on the noise's size; 1 where the size is known.
        draws: Draws from the posterior in free coordinates, with shape :math:`(S, K)`, or None.
        messages: What the user must hear, one sentence each.
    """

    method: str
    problem: InverseProblem
    theta: Tensor
    covariance: Tensor
    lower: Tensor
    upper: Tensor
    converged: bool
    seconds: float
    starts: int = 1
    starts_converged: int = 1
    scale: float = 1.0
    draws: Tensor | None = None
    messages: tuple[str, ...] = ()

    @classmethod
    def gaussian(
        cls,
        method: str,
        problem: InverseProblem,
        theta: Tensor,
        covariance: Tensor,
        quantile: float = _NORMAL,
        **others: object,
    ) -> FitResult:
        """Returns a result whose intervals are normal (or Student's, by ``quantile``) in theta."""
        sd = covariance.diagonal().clamp(min=0.0).sqrt()
        low, high = problem.box
        lower = problem.values(torch.maximum(theta - quantile * sd, low))
        upper = problem.values(torch.minimum(theta + quantile * sd, high))
        return cls(method, problem, theta, covariance, lower, upper, **others)  # type: ignore[arg-type]

    @property
    def values(self) -> Tensor:
        """The estimates in the parameters' units, with shape :math:`(K)`."""
        return self.problem.values(self.theta)

    @property
    def estimates(self) -> dict[str, float]:
        """The estimates by name."""
        return dict(zip(self.problem.names, self.values.tolist(), strict=True))

    @property
    def se(self) -> Tensor:
        """The standard errors of theta, with shape :math:`(K)`."""
        return self.covariance.diagonal().clamp(min=0.0).sqrt()

    @property
    def rse(self) -> Tensor:
        """The relative standard errors of the parameters [1], with shape :math:`(K)`."""
        theta = self.theta.detach().clone().requires_grad_()
        values = self.problem.values(theta)
        (slope,) = torch.autograd.grad(values.sum(), theta)
        return (slope * self.se / values.detach()).abs()

    @cached_property
    def cost(self) -> float:
        """The deviance at the estimate: every method is compared by it."""
        return float(self.problem.deviance(self.theta, self.scale))

    @property
    def on_bound(self) -> tuple[str, ...]:
        """The parameters whose estimate is on a bound."""
        low, high = self.problem.box
        edge = _ON_BOUND * (high - low)
        on = (self.theta - low < edge) | (high - self.theta < edge)
        return tuple(name for name, is_on in zip(self.problem.names, on.tolist(), strict=True) if is_on)

    def replace(self, **changes: object) -> FitResult:
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def distance(self, reference: FitResult) -> Mapping[str, float]:
        """Returns how far this fit is from another, least squares most often.

        Returns:
            ``"cost"``, the difference of the deviances, both with the reference's size of the noise; and
            ``"parameters"``, the largest difference of an estimate in the reference's standard errors.
        """
        apart = (self.theta - reference.theta).abs() / reference.se.clamp(min=1e-12)
        same = self.scale == reference.scale
        own = self.cost if same else float(self.problem.deviance(self.theta, reference.scale))
        return {"cost": own - reference.cost, "parameters": float(apart.max()) if len(apart) else math.nan}

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Returns draws of theta: of the posterior if there are, else of the normal one; (count, K)."""
        if self.draws is not None:
            return self.draws[torch.randint(len(self.draws), (count,), generator=generator)]
        covariance = self.covariance.nan_to_num()
        values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
        root = vectors * values.clamp(min=0.0).sqrt()
        z = torch.randn(count, len(self.theta), generator=generator, dtype=self.theta.dtype)
        low, high = self.problem.box
        return torch.minimum(torch.maximum(self.theta + z @ root.mT, low), high)

    def frame(self) -> pd.DataFrame:
        """Returns the estimates as a table: ID, parameter, estimate, lower, upper, rse."""
        import pandas as pd

        columns = (self.values, self.lower, self.upper, self.rse)
        table = pd.DataFrame(torch.stack(columns, -1).detach().numpy(), columns=_NUMBERS)
        table.insert(0, "ID", self.problem.name)
        table.insert(1, "parameter", list(self.problem.names))
        return table


_NUMBERS = ["estimate", "lower", "upper", "rse"]
