"""PBPK: what a body is and what it does to a drug.

Data flow::

    data/*.csv -> Physiology [kg, L/h] -> Cohort
    Cohort + Compound -> topology -> engine + Regimen -> Simulation [h, mg] -> .concentration("liver")
    Simulation -> nca() -> DataFrame;   Cohort -> violations() -> Report

The public names below are loaded on first use, so that ``pbpk --help`` never waits for torch.
"""

from __future__ import annotations

from pbpk.lazy import loader

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
__getattr__ = loader(__name__, _HOME)
