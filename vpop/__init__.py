"""VPOP: people drawn at random that obey physiology.

::

    PCDM.load().sample(1000, age=(18, 65), where="BMI >= 30") -> Cohort
    Study.load("study.toml").run("runs/mine") -> cohort, exposure, violations, report

The public names below are loaded on first use, so that ``vpop --help`` never waits for torch.
"""

from __future__ import annotations

from pbpk.lazy import loader

_HOME = {"PCDM": "pcdm", "Study": "study"}

__all__ = list(_HOME)
__getattr__ = loader(__name__, _HOME)
