"""The physiological laws: their definitions, and the count of who breaks them.

>>> from pbpk.laws import LAWS
>>> [law.title for law in LAWS if law.organ == "liver"]
['liver mass / reference']
"""

from pbpk.laws.counting import TOLERANCE, violations
from pbpk.laws.definitions import (
    BESIDE,
    BLOOD_DENSITY,
    FAT_OF_ADIPOSE,
    LAWS,
    OF_REFERENCE,
    drawn_weight_law,
    mass_band,
    mass_band_by_size,
)
from pbpk.laws.exact import EXACT, ExactLaw
from pbpk.laws.interval import wilson
from pbpk.laws.law import Law
from pbpk.laws.reference import (
    REFERENCE_ORGANS,
    growth_band,
    nhanes_band,
    reference_mass,
    reference_masses,
)
from pbpk.laws.report import EXACT_TOLERANCES, WIDTHS, Report

__all__ = [
    "BESIDE",
    "BLOOD_DENSITY",
    "EXACT",
    "EXACT_TOLERANCES",
    "FAT_OF_ADIPOSE",
    "LAWS",
    "OF_REFERENCE",
    "REFERENCE_ORGANS",
    "TOLERANCE",
    "WIDTHS",
    "ExactLaw",
    "Law",
    "Report",
    "drawn_weight_law",
    "growth_band",
    "mass_band",
    "mass_band_by_size",
    "nhanes_band",
    "reference_mass",
    "reference_masses",
    "violations",
    "wilson",
]
