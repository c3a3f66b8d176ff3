r"""Spread: how far people of one size, age and sex lie from the median, and what lies far together.

A residual is standard normal. What is known of their correlations, and nothing else, is put in:

- fat with lean: by subtraction, since lean is the weight less the fat;
- fat with bone mineral (-0.25 to -0.67 by age and sex), fat with creatinine -0.17: measured in the same
  people (DXA, NHANES);
- brain, heart, kidney, liver and spleen share one factor, :math:`z_i = l_i g + \sqrt{1 - l_i^2} e_i`, and
  :math:`g` has +0.25 with the lean residual. **A prior from animals**:
  no human data exist; `experiments/organ_correlations.py` has rats, rabbits and outbred mice.
  `"independent"` leaves it out.

Flows per mass are independent; closing on the cardiac output makes them fall and rise together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.organs import PERFUSED
from vpop.organs.curves import rows

CORRELATIONS = ("one-factor", "independent")
_FACTOR_WITH_LEAN = 0.25
_FAT_WITH_CREATININE = -0.17  # NHANES DXA 2011-2016, adults: -.193 M, -.152 F
_MOST_UNUSUAL = 2.5  # a creatinine further from Q than this is illness, not muscle


@dataclass(frozen=True)
class Residuals:
    """Standard residuals of n people.

    Attributes:
        body: By quantity of `organ_spread.csv`, and ``fat``, ``output``, ``filtration``; each with shape (n).
        flow: Of each perfused organ's flow per mass, with shape (n, 15).
    """

    body: dict[str, Tensor]
    flow: Tensor

    @classmethod
    def zero(cls, n: int) -> Residuals:
        """Returns the residuals of the median."""
        none = torch.zeros(n, dtype=torch.float64)
        return cls(dict.fromkeys(_names(), none), none[:, None].expand(n, len(PERFUSED)))

    @classmethod
    def draw(
        cls, unusual: Tensor, fat_with_bone: Tensor, generator: torch.Generator, correlation: str
    ) -> Residuals:
        """Draws residuals.

        Arguments:
            unusual: The standard residual of the creatinine where it was measured, else NaN, shape (n).
            fat_with_bone: The correlation of fat and bone mineral in these people, shape (n).
            generator: The source of randomness.
            correlation: One of :data:`CORRELATIONS`.
        """
        choose("correlation", correlation, CORRELATIONS)
        names = _names()
        noise = torch.randn(
            len(unusual), len(names) + 1 + len(PERFUSED), generator=generator, dtype=torch.float64
        )
        z = dict(zip(names, noise.unbind(-1), strict=False))
        known = torch.where(unusual.isnan(), z["creatinine"], unusual)
        known = known.clamp(-_MOST_UNUSUAL, _MOST_UNUSUAL)
        z["fat"] = _with(_FAT_WITH_CREATININE, known, z["fat"])
        z["bone_mineral"] = _with(fat_with_bone, z["fat"], z["bone_mineral"])
        if correlation == "one-factor":
            factor = _with(_FACTOR_WITH_LEAN, -z["fat"], noise[:, len(names)])
            z |= {name: _with(loading, factor, z[name]) for name, loading in _loadings().items()}
        return cls(z, noise[:, len(names) + 1 :])


def _with(correlation: float | Tensor, known: Tensor, fresh: Tensor) -> Tensor:
    """Returns a standard residual that has ``correlation`` with a known one."""
    return correlation * known + (1.0 - correlation**2) ** 0.5 * fresh


@cache
def log_sd() -> dict[str, float]:
    """Returns the log-SD of each quantity of `organ_spread.csv`."""
    return {row["quantity"]: float(row["log_sd"]) for row in rows("organ_spread.csv")}


@cache
def _loadings() -> dict[str, float]:
    loadings = {row["quantity"]: float(row["loading"]) for row in rows("organ_spread.csv")}
    return {name: loading for name, loading in loadings.items() if loading}


def _names() -> list[str]:
    return [*log_sd(), "bone_mineral", "fat", "output", "filtration"]
