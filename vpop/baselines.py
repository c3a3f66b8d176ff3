r"""What a model must beat: resampling, the log-normal, Gaussian copulas with and without coordinates.

All have the two methods of :class:`vpop.pcdm.PCDM`, `fit` and `sample`. The copula is, with :math:`\Phi` the
normal distribution function and :math:`F_j` that of column j,

.. math:: x_j = F_j^{-1}(\Phi(z_j)), \quad z \sim N(0, R)

for each sex; on logarithms of the raw columns its bodies do not close, in the constraint coordinates they
obey every law.

References:
    Sklar (1959). Patki, Wedge, Veeramachaneni (2016). The synthetic data vault.
    https://doi.org/10.1109/DSAA.2016.49
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pbpk.physiology import Cohort, Physiology
from vpop import rows
from vpop.coordinates import Coordinates
from vpop.demographics import Demographics
from vpop.marginals import Marginals
from vpop.organ_layer import lawful

_RIDGE = 1e-6


def _weights(cohort: Cohort, weights: Tensor | None) -> Tensor:
    return torch.ones(len(cohort), dtype=torch.float64) if weights is None else weights


@dataclass
class Resampling:
    """Draws the reference people themselves, by weight: a perfect copy, and no privacy."""

    name: str = "resampling"

    def fit(self, cohort: Cohort, weights: Tensor | None = None) -> Resampling:
        """Keeps the people."""
        self.people, self.weights = cohort, _weights(cohort, weights)
        return self

    def sample(self, n: int, seed: int = 0) -> Cohort:
        """Draws n of them, with replacement; an id is that of the person, a hyphen and a number."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        people = self.people[chosen.numpy()]
        ids = [f"{str(name).partition('-')[0]}-{i}" for i, name in enumerate(people.id, start=1)]
        return Cohort(people.physiology, np.array(ids), {"generator": self.name, "seed": seed, "n": n})


@dataclass
class Copula:
    """Draws from a Gaussian copula of all columns and the age, for each sex.

    Arguments:
        coordinates: Whether the columns are the constraint coordinates, or logarithms as they are.
        normal: Whether each column is taken as normal instead of by its own distribution: then, out of the
            coordinates, people are log-normal.
    """

    coordinates: bool = True
    normal: bool = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        """Names the model."""
        self.name = ("log-normal" if self.normal else "Gaussian copula") + (
            " in the coordinates" if self.coordinates else ""
        )

    def fit(self, cohort: Cohort, weights: Tensor | None = None) -> Copula:
        """Learns distributions and correlations."""
        weight = _weights(cohort, weights)
        if self.coordinates:
            good = lawful(cohort.physiology)
            cohort, weight = cohort[good.numpy()], weight[good]
        bodies = cohort.physiology
        who = rows.who(bodies)
        self.demographics = Demographics.fit(who["sex"], who["race"], who["age"], weight)
        self.charts = Coordinates.fit(bodies, weight) if self.coordinates else None
        values = self._columns(bodies)
        usable = ~torch.isinf(values).any(-1)
        self.sexes = {
            one: self._of_sex(values[chosen], weight[chosen])
            for one in (0.0, 1.0)
            if bool((chosen := usable & (bodies.sex == one)).any())
        }
        self.untested = float(bodies.age[torch.isfinite(rows.encode(bodies)[:, _SCR])].min())
        return self

    def _columns(self, bodies: Physiology) -> Tensor:
        inside = self.charts.encode(bodies) if self.charts is not None else rows.encode(bodies)
        return torch.cat([torch.log(bodies.age[:, None] + 0.5), inside], -1)

    def _of_sex(self, values: Tensor, weights: Tensor) -> tuple[Marginals, Tensor, Tensor, Tensor]:
        """Returns the marginal maps, and mean, SD and the root of the correlation of the scores."""
        marginals = Marginals.fit(values, weights)
        scores = values if self.normal else marginals.encode(values).clamp(-5.0, 5.0)
        known = torch.isfinite(scores).double()
        filled = torch.nan_to_num(scores)
        total = (weights[:, None] * known).sum(0)
        mean = (weights[:, None] * filled).sum(0) / total
        SD = ((weights[:, None] * known * (filled - mean) ** 2).sum(0) / total).sqrt().clamp(min=1e-9)
        z = known * (filled - mean) / SD
        R = z.T @ (weights[:, None] * z) / (known.T @ (weights[:, None] * known))
        value, vector = torch.linalg.eigh(R)
        root = vector * value.clamp(min=_RIDGE).sqrt()
        root = root / root.norm(dim=1, keepdim=True)
        return marginals, mean, SD, root

    def sample(self, n: int, seed: int = 0) -> Cohort:
        """Draws n people."""
        generator = torch.Generator().manual_seed(seed)
        who = self.demographics.draw(n, generator)
        noise = torch.randn(
            n, len(next(iter(self.sexes.values()))[1]), generator=generator, dtype=torch.float64
        )
        values = torch.empty_like(noise)
        for one, (marginals, mean, SD, root) in self.sexes.items():
            chosen = who["sex"] == one
            scores = mean + SD * (noise[chosen] @ root.T)
            values[chosen] = scores if self.normal else marginals.decode(scores)
        age = (torch.exp(values[:, 0]) - 0.5).clamp(0.0, 80.0)
        who |= {"age": age}
        if self.charts is not None:
            bodies = self.charts.decode(values[:, 1:], who)
        else:
            bodies = rows.decode(values[:, 1:], who)
            bodies = bodies.replace(SCR=torch.where(age < self.untested, torch.nan, bodies.SCR))  # type: ignore[arg-type]
        return rows.cohort(bodies, self.name, seed)


_SCR = rows.NAMES.index("SCR")


def baselines() -> list[Resampling | Copula]:
    """Returns one of each, not yet fitted."""
    return [
        Resampling(),
        Copula(coordinates=False, normal=True),
        Copula(coordinates=False),
        Copula(coordinates=True),
    ]
