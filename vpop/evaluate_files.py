"""An evaluation from files: which people are judged, which judge, and what is told to the user in between."""

from __future__ import annotations

import math
from pathlib import Path

from pbpk.io import load_cohort
from pbpk.physiology import Cohort
from vpop.columns import Sample
from vpop.demographics import OLDEST
from vpop.evaluate import FEWEST, Evaluation, check_enough, evaluate
from vpop.pcdm import PCDM
from vpop.reference import load_reference


def evaluate_files(
    reference: str | Path,
    cohort: str | Path | None = None,
    weights: str | Path | None = None,
    part: str | None = None,
    n: int = 5000,
    seed: int = 0,
) -> Evaluation:
    """Judges a cohort file, or people that a model draws, by a reference table.

    Arguments:
        reference: Real people, as :func:`vpop.reference.load_reference` reads them.
        cohort: The cohort file to judge; None: n people drawn by the model, of the reference's ages, in whole
            years, and sexes.
        weights: The model's weights file; None: the shipped ones. Beside a cohort it must be left out.
        part: ``"validation"`` or ``"test"``: judge by that part of a survey, with the part that is learnt
            from as the floor; None: by all of it, one random half of the persons against the other.
        n: The most bodies of each sample.
        seed: The seed of all choices.

    Raises:
        ValueError: If an argument contradicts another, or a table is not what it should be.
        OSError: If a file cannot be read.
    """
    if cohort is not None and weights is not None:
        raise ValueError("--model must be left out beside a cohort file: the file is judged, not the model.")
    if n < FEWEST:
        raise ValueError(
            f"-n must be at least {FEWEST}, but is {n}: of fewer bodies no figure means anything."
        )
    judged = PCDM.load(weights) if cohort is None else load_cohort(cohort)
    real = Sample.of(*load_reference(reference, seed=seed + 1, copies=1, part=part))
    floor = Sample.of(*load_reference(reference, seed=seed + 2, copies=1, part="train")) if part else None
    check_enough(real, floor)
    if isinstance(judged, PCDM):
        return evaluate(like(judged, real, n, seed), real, floor, judged, n, seed)
    return evaluate(judged, real, floor, n=n, seed=seed)


def like(model: PCDM, real: Sample, n: int, seed: int) -> Cohort:
    """Draws people of the ages and sexes of real ones: children would tell a ward of adults apart."""
    ages, sexes = real.bodies.age, real.bodies.sex.unique().tolist()
    low, high = math.floor(float(ages.min())), math.ceil(float(ages.max()))
    sex = {0.0: "F", 1.0: "M"}.get(sexes[0]) if len(sexes) == 1 else None
    return model.sample(n, seed, age=(low, min(high, OLDEST)), sex=sex)
