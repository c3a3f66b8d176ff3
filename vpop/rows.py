"""Bodies as rows of numbers that know no law, and back: what models without coordinates work on.

A row holds the logarithms of height, weight, haematocrit, creatinine, GFR, cardiac output, fat, bone mineral,
every mass and every flow. Nothing ties them: masses that do not sum to the weight are rows like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pbpk.organs import ORGANS, PERFUSED, indices
from pbpk.physiology import Cohort, Physiology, numbered

SCALARS = ("height", "BW", "HCT", "SCR", "GFR", "CO", "FAT", "BMC")
NAMES = (*SCALARS, *(f"M_{organ}" for organ in ORGANS), *(f"Q_{organ}" for organ in PERFUSED))
_AT = indices(list(PERFUSED))


def encode(bodies: Physiology) -> Tensor:
    """Maps bodies to rows, NaN where a value is missing, with shape :math:`(n, 40)`."""
    missing = torch.full_like(bodies.BW, torch.nan)
    values = [getattr(bodies, name) for name in SCALARS]
    scalars = torch.stack([missing if value is None else value for value in values], -1)
    return torch.log(torch.cat([scalars, bodies.M, bodies.Q[..., _AT]], -1))


def decode(rows: Tensor, people: Mapping[str, Tensor]) -> Physiology:
    """Maps rows back to bodies of the given sex, age and race, lawful or not."""
    values = torch.exp(rows)
    parts = dict(zip(SCALARS, values[..., : len(SCALARS)].unbind(-1), strict=True))
    M = values[..., len(SCALARS) : len(SCALARS) + len(ORGANS)]
    Q = torch.zeros_like(M)
    Q[..., _AT] = values[..., len(SCALARS) + len(ORGANS) :]
    return Physiology("human", **people, **parts, M=M, Q=Q)


def who(bodies: Physiology) -> dict[str, Tensor]:
    """Returns sex, race (Other where unknown) and age, each with shape :math:`(n)`."""
    race = (
        torch.full(bodies.shape, 4) if bodies.race is None else torch.where(bodies.race < 0, 4, bodies.race)
    )
    return {"sex": bodies.sex, "race": race, "age": bodies.age}


def cohort(bodies: Physiology, generator: str, seed: int) -> Cohort:
    """Returns drawn bodies with their origin."""
    n = len(bodies.BW)
    return Cohort(bodies, numbered(n), {"generator": generator, "seed": seed, "n": n})
