r"""Does a body of a person's own weight predict that person's theophylline?

Question: twelve adults took one dose by mouth; only the dose and the body weight of each are known. How far
is each concentration from the prediction with the bundled compound as shipped? Nothing is fitted to them.
Source: VPOP_DATA/pk/theo_sd.csv: R. Upton's study, in Boeckmann, Sheiner, Beal (1994) NONMEM Users Guide V.
Command: VPOP_DATA=... python -m experiments.theophylline [--people reference|pcdm] [--n 50]
Measured: AAFE, bias and share within 2-fold of AUC, Cmax and every concentration after the dose, with the
observed intravenous clearance and from in vitro alone, beside a constant that knows the other eleven people.
Bar: AAFE of all concentrations at most 1.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from experiments import record
from experiments.observed import constant, exposure, score
from pbpk.bodies import reference_body
from pbpk.checks import choose
from pbpk.compound import Compound
from pbpk.physiology import Physiology
from pbpk.regimen import Regimen
from pbpk.simulate import simulate

ADULT = (18.0, 60.0)  # years [ours]: the ages and sexes were not reported


@dataclass(frozen=True)
class Config:
    """The flags."""

    people: str = "reference"  # the reference man's build at each weight, or "pcdm"
    n: int = 50  # bodies drawn for each person's weight
    seed: int = 1
    Kp_method: str = "rodgers-rowland"


@dataclass(frozen=True)
class Person:
    """One of the twelve: name, weight [kg], dose [mg], times [h] and concentrations [mg/L] after the dose."""

    name: str
    BW: float
    dose: float
    time: np.ndarray
    value: np.ndarray


def load() -> list[Person]:
    """Reads the people; what was sampled before the dose is left out."""
    import pandas as pd

    table = pd.read_csv(record.data_folder() / "pk" / "theo_sd.csv")
    people = []
    for name, rows in table.groupby("ID"):
        samples = rows[(rows.EVID == 0) & (rows.TIME > 0) & (rows.DV > 0)]
        dose = float(rows.AMT.sum())
        people.append(
            Person(
                str(name),
                float(rows.WT.iloc[0]),
                dose,
                samples.TIME.to_numpy(copy=True),
                samples.DV.to_numpy(copy=True),
            )
        )
    return people


@cache
def bodies_of(BW: float, config: Config) -> Physiology:
    """Returns bodies of this weight: drawn ones, or the reference man's build at this weight."""
    if choose("people", config.people, ("reference", "pcdm")) == "pcdm":
        from vpop.pcdm import PCDM

        return PCDM.load().sample(config.n, seed=config.seed, age=ADULT, given={"BW": BW}).physiology
    body = reference_body("human", sex="M", BW=BW)
    return Physiology("human", **{name: value.unsqueeze(0) for name, value in body.tensors().items()})


def predict(person: Person, times: np.ndarray, config: Config, clearance: str) -> np.ndarray:
    """Returns the geometric mean over the bodies of the person's weight [mg/L]."""
    simulation = simulate(
        bodies_of(person.BW, config),
        Compound.load("theophylline"),
        Regimen.parse(f"{person.dose} mg po"),
        torch.as_tensor(times),
        clearance=clearance,
        Kp_method=config.Kp_method,
        keep=["venous"],
    )
    return simulation.concentration("plasma").log().mean(0).exp().numpy()


def summary(people: Sequence[Person], predicted: Sequence[np.ndarray]) -> dict[str, Any]:
    """Scores AUC, Cmax and all concentrations, and beside each the constant of the other people."""
    names, doses = [p.name for p in people], [p.dose for p in people]
    observed = [exposure(p.time, p.value, "po") for p in people]
    ours = [exposure(p.time, C, "po") for p, C in zip(people, predicted, strict=True)]
    answer: dict[str, Any] = {}
    for k, name in enumerate(("AUC", "Cmax")):
        values = np.array([each[k] for each in observed])
        said = np.concatenate(constant(list(values[:, None]), doses, names))
        answer[name] = score([each[k] for each in ours], values)
        answer[f"{name}, constant"] = score(said, values)
    points = np.concatenate([p.value for p in people])
    answer["points"] = len(points)
    answer["concentrations"] = score(np.concatenate(predicted), points)
    said = np.concatenate(constant([p.value for p in people], doses, names))
    answer["concentrations, constant"] = score(said, points)
    return answer


def run(config: Config) -> dict[str, Any]:
    """Predicts the twelve with each clearance, scores, and draws."""
    people = load()
    result: dict[str, Any] = {"people": len(people)}
    for clearance in ("observed", "in-vitro"):
        predicted = [predict(person, person.time, config, clearance) for person in people]
        result[clearance] = summary(people, predicted)
    result["bar met"] = result["observed"]["concentrations"]["AAFE"] <= 1.5
    _figure(people, config)
    return result


def _figure(people: Sequence[Person], config: Config) -> None:
    import matplotlib.pyplot as plt

    times = np.linspace(0.05, 25, 250)
    figure, axes = plt.subplots(3, 4, figsize=(14, 8.5), sharex=True, sharey=True)
    for axis, person in zip(axes.flat, people, strict=True):
        axis.plot(person.time, person.value, "ko", markersize=4, label="observed")
        for clearance in ("observed", "in-vitro"):
            line = predict(person, times, config, clearance)
            axis.plot(times, line, label=f"{clearance} clearance")
        axis.set_title(f"person {person.name}: {person.BW:g} kg, {person.dose:.0f} mg", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("time [h]")
    for axis in axes[:, 0]:
        axis.set_ylabel("plasma [mg/L]")
    axes.flat[0].legend()
    figure.tight_layout()
    figure.savefig(record.folder("theophylline") / "profiles.png", dpi=110)


if __name__ == "__main__":
    record.main("theophylline", Config, run, __doc__)
