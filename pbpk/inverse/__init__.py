"""Inverse problems: parameters from data, and an honest word about what the data can tell.

Data flow::

    TOML + NONMEM CSV -> InverseProblem -> identify() -> fit(method="lsq" | ...) -> FitResult -> report

Each method is a module of this package with ``fit(problem, *, seed=0, **options) -> FitResult``; it is loaded
when it is asked for.
"""

from __future__ import annotations

from pbpk.lazy import loader

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
__getattr__ = loader(__name__, _HOME)
