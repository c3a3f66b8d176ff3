"""Allometry: bodies carried from species to species.

Data flow::

    pbpk.bodies -> log quantities against ln BW -> power law -> Cohort that closes on BW and CO
    sources -> consensus + mammals -> clades -> hierarchical power law -> learnt residual -> Cohort

The public names below are loaded on first use, so that ``allometry --help`` never waits for torch.
"""

from __future__ import annotations

from pbpk.lazy import loader

_HOME = {
    "Consensus": "consensus",
    "NeuralAllometry": "neural",
    "Drugs": "drugs",
    "predict": "extrapolate",
    "read_drugs": "drugs",
    "sample": "cohorts",
    "translate": "translation",
    "QUANTITIES": "species",
    "PowerLaw": "power",
    "Taxon": "taxonomy",
    "fit": "power",
    "map": "power",
    "reference_bodies": "species",
}

__all__ = list(_HOME)
__getattr__ = loader(__name__, _HOME)
