"""PBPK: what a body is and what it does to a drug.

Data flow::

    data/*.csv -> Physiology [kg, L/h] -> Cohort
    Cohort + Compound -> topology -> engine + Regimen -> Simulation [h, mg] -> .concentration("liver")
    Simulation -> nca() -> DataFrame;   Cohort -> violations() -> Report

The public names below are loaded on first use, so that ``pbpk --help`` never waits for torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_HOME = {
    "ORGANS": "organs",
    "Cohort": "physiology",
    "Compound": "compound",
    "Physiology": "physiology",
    "Population": "population_result",
    "Regimen": "regimen",
    "Report": "laws",
    "Simulation": "simulate",
    "load_cohort": "io",
    "nca": "nca",
    "population": "population",
    "reference_body": "bodies",
    "save_cohort": "io",
    "simulate": "simulate",
    "violations": "laws",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pbpk' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pbpk.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """A package whose public names win over its modules of the same name (simulate, nca)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
