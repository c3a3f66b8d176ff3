"""Inverse problems: parameters from data, and an honest word about what the data can tell.

Data flow::

    TOML + NONMEM CSV -> InverseProblem -> identify() -> fit(method="lsq" | ...) -> FitResult -> report

Each method is a module of this package with ``fit(problem, *, seed=0, **options) -> FitResult``; it is loaded
when it is asked for.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_HOME = {
    "Equations": "equations",
    "FitResult": "result",
    "Given": "parts",
    "InverseProblem": "problem",
    "METHODS": "solve",
    "Noise": "noise",
    "Seen": "parts",
    "Unknown": "parts",
    "fit": "solve",
    "identify": "identify",
    "load_problem": "library",
    "read_nonmem": "nonmem",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pbpk.inverse' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pbpk.inverse.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """A package whose public names win over its modules of the same name (identify)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
