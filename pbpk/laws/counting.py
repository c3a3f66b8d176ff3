"""Applies every law to every body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pbpk.laws.definitions import BESIDE, HUMAN, LAWS, drawn_weight_law
from pbpk.laws.exact import EXACT, Columns, ExactLaw
from pbpk.laws.law import ADULT_AGE, Law
from pbpk.laws.report import Report
from pbpk.physiology import Cohort, Physiology

TOLERANCE = 1e-9
_HUMAN_LAWS = ("C03", *(law.id for law in LAWS if not law.any_species))


def _age_groups(p: Physiology) -> dict[str, Tensor]:
    """Returns who belongs to which age group; groups without anyone are left out."""
    adult, minor, infant = p.age >= ADULT_AGE, p.age < ADULT_AGE, p.age < 2
    groups = {
        "all": torch.ones_like(adult),
        ">= 18 y": adult,
        "< 18 y": minor,
        "2-<18 y": minor & ~infant,
        "< 2 y": infant,
    }
    if p.species != HUMAN:
        return {"all": groups["all"]}
    return {name: who for name, who in groups.items() if name == "all" or bool(who.any())}


def violations(
    bodies: Cohort | Physiology,
    *,
    tolerance: float | None = TOLERANCE,
    stated: Columns | None = None,
    asked: Columns | None = None,
    not_applied: Mapping[str, str] | None = None,
) -> Report:
    """Counts which bodies break which laws.

    Arguments:
        bodies: A cohort, or bodies of any batch shape :math:`(*)`.
        tolerance: The relative error above which an exact law is broken [1]; None: the exact laws are
            reported and not counted, as for tables that this project did not make.
        stated: What a foreign table says beside the bodies: ``BMI`` [kg/m2] for E3, ``drawn_BW`` [kg],
            the weight that a body was drawn from, for C03.
        asked: What was asked for, by column of the cohort file (``{"sex": "F", "M_liver": 1.8}``), a
            value for all or one a body, NaN where nothing was asked (E4).
        not_applied: Per law that must not be applied to this table, the reason.

    Returns:
        The report.

    Raises:
        TypeError: If ``bodies`` are none.
        ValueError: If ``tolerance`` is negative or infinite, or ``asked`` names no column.
    """
    _check(bodies, tolerance, asked)
    p = bodies.physiology if isinstance(bodies, Cohort) else bodies
    stated, asked = dict(stated or {}), dict(asked or {})
    reasons = dict(not_applied or {})
    banded = [*LAWS, *BESIDE]
    if "drawn_BW" in stated:
        banded.insert(len(LAWS), drawn_weight_law(torch.as_tensor(stated["drawn_BW"])))
    else:
        reasons.setdefault("C03", "the weight that the bodies were drawn from is not stated")
    if p.species != HUMAN:
        reasons |= dict.fromkeys(_HUMAN_LAWS, "a law of the human body")
        banded = [law for law in banded if law.any_species]
    applied: dict[Law | ExactLaw, Tensor] = {}
    for exact in EXACT:
        error = None if exact.id in reasons else exact.error(p, stated, asked)
        if error is None:
            reasons.setdefault(exact.id, exact.missing)
        else:
            applied[exact] = error
    applied |= {law: law.residual(p) for law in banded if law.id not in reasons}
    return Report(
        laws=tuple(applied),
        residual=torch.stack(list(applied.values()), -1).detach().cpu(),
        tolerance=tolerance,
        groups={name: who.cpu() for name, who in _age_groups(p).items()},
        not_applied=dict(sorted(reasons.items(), key=lambda item: ("EC".index(item[0][0]), item[0]))),
        species=p.species,
        id=bodies.id if isinstance(bodies, Cohort) else None,
    )


def _check(bodies: Any, tolerance: float | None, asked: Any) -> None:
    """Raises where :func:`violations` is called with what it cannot use."""
    if not isinstance(bodies, Cohort | Physiology):
        raise TypeError(
            f"bodies must be a Cohort or a Physiology, but is a {type(bodies).__name__}. Read a file by "
            "load_cohort."
        )
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be 0 or more and finite, but is {tolerance}. 1e-9 is usual.")
    if asked is not None and not isinstance(asked, Mapping):
        raise ValueError(
            f"asked must give values by column, but is {asked!r}. Correct the file's provenance."
        )
