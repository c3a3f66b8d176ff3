"""Judging what was drawn: the laws of the body, and whether what was asked for came back."""

from __future__ import annotations

from pbpk.laws import Report, violations
from pbpk.physiology import Cohort


def judge(cohort: Cohort) -> Report:
    """Counts the violations of a cohort that this package drew, E3 and E4 among them.

    What was asked for travels in ``cohort.provenance["asked"]``; a cohort from elsewhere has none.
    """
    return violations(cohort, stated={"BMI": cohort.physiology.BMI}, asked=cohort.provenance.get("asked"))
