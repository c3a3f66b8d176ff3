"""Which columns of bodies are compared, by the trust they deserve.

`covariates` are real: a survey measured them. `everything` adds what an organ layer built. `hard` adds the
ratios that physiology works with: a model that drew each column well and their relations badly is found out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pbpk.organs import ORGANS, PERFUSED, PORTAL, indices
from pbpk.physiology import Cohort, Physiology

GIVEN = ("sex", "race", "age", "height", "BW")
_HCT_FROM, _SCR_FROM = 1.0, 12.0  # years; NHANES draws no blood, or not enough, before
_STEPS = {"height": 0.1, "BW": 0.1, "HCT": 0.001, "SCR": 0.01}  # what NHANES rounds to


@dataclass(frozen=True)
class Sample:
    """Bodies that stand for a population.

    Attributes:
        bodies: The bodies, with shape :math:`(n)`.
        weights: How many people each stands for, with shape :math:`(n)`.
        persons: Whom each body belongs to: a person of a survey may have several; with shape :math:`(n)`.
    """

    bodies: Physiology
    weights: np.ndarray
    persons: np.ndarray

    @classmethod
    def of(cls, cohort: Cohort, weights: Tensor | None = None) -> Sample:
        """Takes a cohort; where its people have several bodies, ``73557-2`` is the second of person 73557."""
        n = len(cohort)
        equal = np.ones(n) if weights is None else weights.numpy()
        names = [str(name) for name in cohort.id]
        if "copies" in cohort.provenance:
            names = [name.rpartition("-")[0] or name for name in names]
        return cls(cohort.physiology, equal, np.array(names))

    def __len__(self) -> int:
        """Returns the number of bodies."""
        return len(self.weights)

    def __getitem__(self, which: np.ndarray) -> Sample:
        """Returns the bodies that a mask or positions choose."""
        chosen = torch.from_numpy(np.arange(len(self))[which])
        return Sample(self.bodies[chosen], self.weights[which], self.persons[which])

    def some(self, n: int, seed: int) -> Sample:
        """Returns n of the bodies, or all where there are fewer; weights stay."""
        if len(self) <= n:
            return self
        return self[np.sort(np.random.default_rng(seed).permutation(len(self))[:n])]


def covariates(bodies: Physiology) -> pd.DataFrame:
    """Returns sex, race, age, height, weight, haematocrit and creatinine, as a survey would have them.

    Rounded as NHANES rounds, haematocrit from 1 year, creatinine from 12, else NaN.
    """
    race = torch.full_like(bodies.sex, torch.nan) if bodies.race is None else bodies.race.double()
    values = {"sex": bodies.sex, "race": race, "age": bodies.age, "height": bodies.height}
    values |= {"BW": bodies.BW, "HCT": bodies.HCT, "SCR": _known(bodies.SCR, bodies)}
    frame = pd.DataFrame({name: value.numpy() for name, value in values.items()})
    for name, step in _STEPS.items():
        frame[name] = (frame[name] / step).round() * step
    frame["HCT"] = frame.HCT.where(frame.age >= _HCT_FROM)
    frame["SCR"] = frame.SCR.where(frame.age >= _SCR_FROM)
    return frame


def everything(bodies: Physiology) -> pd.DataFrame:
    """Returns all columns of the cohort file that are not a sum of others: who, and every mass and flow."""
    race = torch.full_like(bodies.sex, torch.nan) if bodies.race is None else bodies.race.double()
    values = {"sex": bodies.sex, "race": race, "age": bodies.age, "height": bodies.height, "BW": bodies.BW}
    for name in ("HCT", "SCR", "GFR", "CO", "FAT", "BMC"):
        values[name] = _known(getattr(bodies, name), bodies)
    values |= {f"M_{organ}": bodies.mass(organ) for organ in ORGANS}
    values |= {f"Q_{organ}": bodies.flow(organ) for organ in PERFUSED}
    return pd.DataFrame({name: value.numpy() for name, value in values.items()})


def ratios(bodies: Physiology) -> pd.DataFrame:
    """Returns what the parts mean to each other: shares of the whole, perfusions, indices."""
    FAT, BMC = (_known(value, bodies) for value in (bodies.FAT, bodies.BMC))
    values = {
        "BMI": bodies.BMI,
        "CO per BSA": bodies.CO / bodies.BSA,
        "GFR per BSA": bodies.GFR / bodies.BSA,
        "filtration fraction": bodies.GFR / bodies.flow("kidney") / (1.0 - bodies.HCT),
        "liver perfusion": bodies.flow("liver", *PORTAL) / bodies.mass("liver"),
        "FAT per BW": FAT / bodies.BW,
        "FAT per adipose": FAT / bodies.mass("adipose"),
        "BMC per bone": BMC / bodies.mass("bone"),
    }
    values |= {f"M_{organ} per BW": bodies.mass(organ) / bodies.BW for organ in ORGANS}
    values |= {f"Q_{organ} per CO": bodies.flow(organ) / bodies.CO for organ in PERFUSED}
    perfused = bodies.Q[..., indices(list(PERFUSED))] / bodies.M[..., indices(list(PERFUSED))]
    values |= {f"Q_{organ} per mass": perfused[..., i] for i, organ in enumerate(PERFUSED)}
    return pd.DataFrame({name: value.numpy() for name, value in values.items()})


def hard(bodies: Physiology) -> pd.DataFrame:
    """Returns all columns and all ratios."""
    return pd.concat([everything(bodies), ratios(bodies)], axis=1)


def _known(value: Tensor | None, bodies: Physiology) -> Tensor:
    return torch.full_like(bodies.BW, torch.nan) if value is None else value
