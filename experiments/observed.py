r"""Observed mean profiles, and how a prediction of them is scored.

A fold error of a prediction p of an observation o is :math:`10^{|\log_{10}(p/o)|}`; its geometric mean over
points or profiles is the AAFE (also called GMFE); the bias is the geometric mean of :math:`p/o`.
Beside every score stands that of a constant: the geometric mean of the dose-normalised observations of all
*other* studies by the same route, times the dose. It knows the drug's observed curves, and a model that
cannot beat it has learnt nothing from physiology.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pbpk.nca import nca

_PER_LITRE = {"mg/l": 1.0, "µg/l": 1e-3, "ng/ml": 1e-3}  # -> mg/L
_LLOQ = 1e6  # the file's limits of quantification are in kg/L: the OSP base unit
_RANGE = re.compile(r"([\d.]+)\s*-\s*([\d.]+)")


@dataclass(frozen=True)
class Profile:
    """One observed concentration-time profile.

    Attributes:
        name: The data set's own name.
        study: Authors and year.
        arm: The arm of the study, as the file has it.
        kind: ``"aggregated"``, ``"individual"`` or ``"typical representative"``.
        analyte: What was measured.
        route: ``"iv"`` or ``"po"``.
        amount: What was given, as a regimen writes it: ``"0.05 mg/kg"``.
        n: The number of people.
        mean: ``"arithmetic"`` or ``"geometric"``, by the kind of spread that goes with it.
        fluid: ``"plasma"``, ``"blood"`` or ``"urine"``.
        formulation: As the file has it.
        food: As the file has it, in lower case.
        time: Hours after the dose, with shape (T).
        value: The concentrations [mg/L], with shape (T).
        LLOQ: The limit of quantification [mg/L]; 0 where not given.
    """

    name: str
    study: str
    arm: str
    kind: str
    analyte: str
    route: str
    amount: str
    n: float
    mean: str
    fluid: str
    formulation: str
    food: str
    time: np.ndarray
    value: np.ndarray
    LLOQ: float

    def keep(self, which: np.ndarray) -> Profile:
        """Returns the profile with only some of its points."""
        return replace(self, time=self.time[which], value=self.value[which])

    def mg(self, BW: float) -> float:
        """Returns the dose of a person of weight ``BW`` [kg]."""
        number, unit = self.amount.split()
        return float(number) * (BW if unit == "mg/kg" else 1.0)


def load_profiles(path: Path, model: str) -> list[Profile]:
    """Reads the profiles of one drug's model; units and times are converted here and nowhere else."""
    import pandas as pd

    table = pd.read_csv(path)
    return [_profile(str(name), rows) for name, rows in table[table.model == model].groupby("profile")]


def _profile(name: str, rows: Any) -> Profile:
    first = rows.iloc[0]
    fluid = {"Plasma": "plasma", "Whole Blood": "blood", "Urine": "urine"}[first.compartment]
    if fluid == "urine":
        scale = 1.0  # a share of the dose
    elif first.dimension == "Concentration (molar)":
        scale = {"µmol/l": 1e-3}[first.unit] * first.mol_weight
    else:
        scale = _PER_LITRE[first.unit]
    molar = first.dimension == "Concentration (molar)"
    LLOQ = float(first.lloq) * (scale if molar else _LLOQ)
    return Profile(
        name=name,
        study=first.study,
        arm=first.grouping,
        kind=first.data_type,
        analyte=first["compound"],
        route=first.route.lower(),
        amount=dose_text(first.dose),
        n=float(first.n_subjects),
        mean="geometric" if first.error_type == "GeometricStdDev" else "arithmetic",
        fluid=fluid,
        formulation=first.formulation,
        food=str(first.food).lower(),
        time=rows.time_h.to_numpy(float) - float(first.t_admin_h),
        value=rows.value.to_numpy(float) * scale,
        LLOQ=LLOQ if np.isfinite(LLOQ) else 0.0,
    )


def dose_text(text: str) -> str:
    """Rewrites a dose in mg or mg/kg; the middle stands for a range.

    >>> dose_text("10 µg"), dose_text("3.0 - 4.0 mg"), dose_text("0.05 mg/kg")
    ('0.01 mg', '3.5 mg', '0.05 mg/kg')
    """
    text = _RANGE.sub(lambda found: f"{(float(found[1]) + float(found[2])) / 2:g}", text)
    number, unit = text.split()
    return f"{float(number) / 1000:g} mg" if unit in ("µg", "ug") else f"{number} {unit}"


def fold(predicted: Iterable[float], observed: Iterable[float]) -> np.ndarray:
    """Returns log10 of predicted over observed."""
    p, o = np.asarray(list(predicted), float), np.asarray(list(observed), float)
    if not (p > 0).all() or not (o > 0).all():
        raise ValueError("fold errors must have positive numbers, but some are zero, negative or missing.")
    return np.log10(p / o)


def score(predicted: Iterable[float], observed: Iterable[float]) -> dict[str, float]:
    """Returns the AAFE, the bias and the share within 2-fold.

    >>> {name: round(value, 3) for name, value in score([2.0, 0.5, 1.0], [1.0, 1.0, 1.0]).items()}
    {'AAFE': 1.587, 'bias': 1.0, 'within 2-fold': 1.0}
    """
    error = fold(predicted, observed)
    return {
        "AAFE": float(10 ** np.abs(error).mean()),
        "bias": float(10 ** error.mean()),
        "within 2-fold": float((np.abs(error) <= np.log10(2.0) * (1 + 1e-12)).mean()),
    }


def exposure(time: np.ndarray, value: np.ndarray, route: str) -> tuple[float, float]:
    """Returns AUC up to the last sample [mg h/L] and the highest sample [mg/L].

    By mouth the area begins at zero; after an intravenous dose it begins at the first sample, because what
    was not sampled is not compared. A prediction is taken at the samples' times too.
    """
    if route == "po" and time[0] > 0:
        time, value = np.r_[0.0, time], np.r_[0.0, value]
    table = nca(torch.as_tensor(time), torch.as_tensor(value), route="po")
    return float(table.AUC.iloc[0]), float(table.Cmax.iloc[0])


def constant(
    values: Sequence[np.ndarray], doses: Sequence[float], studies: Sequence[str]
) -> list[np.ndarray]:
    """Predicts each profile's values by the constant of the other studies.

    Arguments:
        values: The observations of each profile.
        doses: The dose of each profile [mg].
        studies: The study of each; a study does not predict itself.

    Returns:
        A constant for each profile, repeated as often as it has values.
    """
    logs = [np.log(np.asarray(v, float) / d) for v, d in zip(values, doses, strict=True)]
    answer = []
    for value, dose, study in zip(values, doses, studies, strict=True):
        others = np.concatenate([x for x, s in zip(logs, studies, strict=True) if s != study])
        answer.append(np.full(len(value), dose * np.exp(others.mean())))
    return answer
