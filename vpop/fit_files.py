"""A fit from a file: which people are learnt from, from which weights, and what is told to the user."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pbpk.progress import bar
from vpop.own_people import OWN
from vpop.pcdm import FEWEST, PCDM, STUDENT, Training
from vpop.reference import is_own_table, load_reference

_PEOPLE = {"F": "women", "M": "men"}


def fit_file(
    reference: str | Path,
    seed: int = 0,
    layer: str = "literature",
    part: str | None = None,
    updates: int | None = None,
    student: bool = False,
) -> PCDM:
    """Fits a model to the people of a file.

    A survey or a cohort file is learnt from nothing. A table of one's own people moves the shipped weights,
    which go on learning from it.

    Arguments:
        reference: As :func:`vpop.reference.load_reference` reads it.
        seed: The seed of gaps, organs and training.
        layer: The organ layer's name, for people without organs.
        part: Only this part of a survey's people; None for all.
        updates: The number of training steps; None for what is usual for such a file.
        student: Whether a one-step student is taught too.

    Raises:
        ValueError: If there are fewer than 50 people, or the file is malformed.
        OSError: If it cannot be read.
    """
    own = is_own_table(reference)
    cohort, weights = load_reference(reference, seed=seed, layer=layer, part=part)
    if cohort.physiology.species != "human" or len(cohort) < FEWEST:
        raise ValueError(
            f"--reference must hold at least {FEWEST} people, but {reference} holds {len(cohort)} "
            f"of the species {cohort.physiology.species}. Give a larger cohort of people."
        )
    plan = OWN if own else Training()
    plan = dataclasses.replace(plan, updates=updates or plan.updates)
    with bar("updates", plan.updates) as progress:
        start = PCDM.load() if own else None
        model = PCDM(training=plan, seed=seed).fit(cohort, weights, progress, start)
    if student:
        with bar("updates of the student", STUDENT.updates) as progress:
            model.distil(cohort, weights, STUDENT, progress)
    model.card["sexes"] = model.demographics.sexes()
    return model


def told(model: PCDM) -> str:
    """Returns in one line what a fitted model has learnt from."""
    card = model.card
    origin = card["reference"]
    text = f"fitted to {card['bodies']} bodies"
    if "people" in origin:
        text = f"fitted to {origin['people']} people, {card['bodies']} bodies with those drawn like them"
    if card["left_out"]:
        text += f" ({card['left_out']} more left out)"
    if len(card["sexes"]) == 1:
        text += f"; all {_PEOPLE[card['sexes'][0]]}: no one else can be drawn"
    gone = [f"{count} {reason}" for reason, count in origin.get("removed", {}).items() if count]
    text += f"; not used: {', '.join(gone)}" if gone else ""
    unused = ", ".join(origin.get("unused", ()))
    return text + (f"; columns not learnt from: {unused}" if unused else "")
