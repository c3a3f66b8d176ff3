"""VPOP: people drawn at random that obey physiology.

::

    PCDM.load().sample(1000, age=(18, 65), where="BMI >= 30") -> Cohort
    Study.load("study.toml").run("runs/mine") -> cohort, exposure, violations, report

The public names below are loaded on first use, so that ``vpop --help`` never waits for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {"PCDM": "pcdm", "Study": "study"}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vpop' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vpop.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
