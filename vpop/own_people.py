r"""People of one's own, few or many, with gaps: made into complete bodies that a model can learn from.

    table -> the model's charts moved to these people (:mod:`vpop.shift`)
          -> the people, gaps filled by what is known of each; and strangers, drawn like them
          -> the organ layer -> bodies and their weights

Strangers stand in where the people are few: beside n people they weigh :math:`h/(n + h)` of the whole, h =
:data:`HELD`. A model that learnt from 200 people alone would know those 200 by heart and nobody else.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.physiology import Cohort, Physiology
from vpop.demographics import OLDEST
from vpop.growth import stretch
from vpop.organ_layer import draw_lawful
from vpop.patients import Patients, complete
from vpop.pcdm import PCDM, Training
from vpop.people import People
from vpop.sample import STEPS
from vpop.shift import moved
from vpop.training_table import TrainingTable, lawful

OWN = Training(updates=300, batch=1024, rate=1e-3, memory=0.99, calibration=30_000)
HELD = 1000.0  # [ours] the people that strangers weigh as much as
_BODIES = 20_000  # of strangers; and of the people, in as many copies of each as that takes
_MOST_COPIES = 20


def bodies_of(
    table: TrainingTable, model: PCDM, seed: int = 0, layer: str = "literature", strangers: bool = True
) -> tuple[Cohort, Tensor]:
    """Makes complete, lawful bodies of a table's people.

    Arguments:
        table: The people.
        model: The model that knows other people, fills the gaps and draws strangers.
        seed: The seed of all that is drawn.
        layer: The organ layer's name.
        strangers: Whether strangers stand in where the people are few; without, each person has one body.

    Returns:
        The cohort, bodies of a person named ``id-1``, ``id-2``, ..., and the weights, with shape (n).
    """
    generator = torch.Generator().manual_seed(seed)
    own = moved(model, table.patients, table.weights, seed)
    n = len(table.patients)
    copies = min(_MOST_COPIES, -(-_BODIES // n)) if strangers else 1
    row = torch.arange(n).repeat(copies)
    filled = complete(own, _unrounded(table, row, generator), 1, seed).physiology
    people, weights = [_outside(filled)], table.weights[row] / copies
    plain = [str(name).replace("-", "_") for name in table.patients.id]  # what follows a dash is the copy
    names = [f"{plain[r]}-{1 + at // n}" for at, r in enumerate(row.tolist())]
    if strangers:
        people += [_strangers(own, table, generator)]
        share = HELD / n * float(table.weights.sum()) / _BODIES
        weights = torch.cat([weights, torch.full((_BODIES,), share, dtype=torch.float64)])
        names += [f"stranger-{number}" for number in range(1, _BODIES + 1)]
    everyone = People(*(torch.cat(column) for column in zip(*map(dataclasses.astuple, people), strict=True)))
    bodies, kept = draw_lawful(everyone, generator, layer)
    ids = np.array(names, dtype=object)[kept.numpy()]
    return Cohort(bodies[kept], ids, _origin(table, model, seed, layer, copies)), weights[kept]


def _strangers(own: PCDM, table: TrainingTable, generator: torch.Generator) -> People:
    """Draws people of about the ages of the table's."""
    patients, width = table.patients, _bandwidth(table.patients.age)
    row = torch.multinomial(table.weights, _BODIES, replacement=True, generator=generator)
    sex, age = patients.sex[row], _nearby(patients.age, row, width, generator)
    unknown = own.demographics.race(sex, age, generator)
    race = torch.where(patients.race[row] < 0, unknown, patients.race[row])
    drawn = own.draw_given({"sex": sex, "race": race, "age": age}, {}, generator, STEPS)
    return _outside(drawn)


def _bandwidth(age: Tensor) -> float:
    """Returns how far a stranger's age may be from a person's, on the scale of growth (Silverman 1986)."""
    at = stretch(age)
    quartiles = torch.quantile(at, torch.tensor([0.25, 0.75], dtype=at.dtype))
    spread = min(float(at.std()), float(quartiles[1] - quartiles[0]) / 1.349)
    return 0.9 * spread * len(age) ** -0.2


def _nearby(age: Tensor, row: Tensor, width: float, generator: torch.Generator) -> Tensor:
    """Returns ages about those of some rows, never outside the youngest and the oldest."""
    low, high = (float(stretch(end)) for end in (age.min(), age.max()))
    at = stretch(age[row]) + width * torch.randn(len(row), generator=generator, dtype=torch.float64)
    at = low + (at - low).abs()  # reflected at the ends
    at = high - (high - at).abs()
    return (torch.exp(at.clamp(low, high)) - 0.5).clamp(float(age.min()), float(age.max()))


def _outside(body: Physiology) -> People:
    assert body.race is not None and body.SCR is not None
    return People(body.sex, body.age, body.height, body.BW, body.race, body.HCT, body.SCR)


def _unrounded(table: TrainingTable, row: Tensor, generator: torch.Generator) -> Patients:
    """Returns some rows' people with what the table rounds away drawn anew; who would leave the laws stays.

    An age in whole years is that of the last birthday.
    """
    patients, steps = table.patients[row], table.steps

    def smear(value: Tensor, name: str, shift: float) -> Tensor:
        noise = torch.rand(len(row), generator=generator, dtype=torch.float64) - shift
        return value + steps.get(name, 0.0) * noise

    whole_years = steps.get("age", 0.0) >= 1.0
    age = smear(patients.age, "age", 0.0 if whole_years else 0.5).clamp(0.0, OLDEST)
    age = torch.where(patients.age >= OLDEST, OLDEST, age)
    given = {name: smear(value, name, 0.5) for name, value in patients.given.items()}
    loose = dataclasses.replace(patients, age=age, given=given)
    stays = ~lawful(loose)
    back = {name: torch.where(stays, patients.given[name], value) for name, value in given.items()}
    return dataclasses.replace(loose, age=torch.where(stays, patients.age, age), given=back)


def _origin(table: TrainingTable, model: PCDM, seed: int, layer: str, copies: int) -> dict[str, Any]:
    return {
        "generator": f"vpop.organ_layer, layer {layer}",
        "reference": "a table of people; what it lacks is drawn by a model of other people",
        "seed": seed,
        "people": len(table.patients),
        "copies": copies,
        "removed": dict(table.removed),
        "unused": list(table.unused),
        "filled by": model.card.get("sha256", "a model in memory"),
    }
