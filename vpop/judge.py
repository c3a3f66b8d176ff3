"""Judging what was drawn: the laws of the body, and whether what was asked for came back."""

from __future__ import annotations

from pbpk.laws import Report, violations
from pbpk.physiology import Cohort


def judge(cohort: Cohort) -> Report:
    """Counts the violations of a cohort that this package drew, E3 and E4 among them.

    What was asked for travels in ``cohort.provenance["asked"]``; a cohort from elsewhere has none.
    """
    return violations(cohort, stated={"BMI": cohort.physiology.BMI}, asked=cohort.provenance.get("asked"))


def refuse_unlawful(report: Report) -> None:
    """Raises if people that this package drew break a law: it must not happen, and must not be written.

    Raises:
        ValueError: Naming the laws.
    """
    broken = report.violated().any(0) & report.counted
    if bool(broken.any()):
        names = ", ".join(law.id for law, hit in zip(report.laws, broken, strict=True) if bool(hit))
        raise ValueError(
            f"people drawn must obey the laws, but these break {names}: please report the request."
        )
