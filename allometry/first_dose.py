r"""The first dose in humans: from the highest dose without an adverse effect in animals, by body surface.

.. math:: HED = NOAEL \cdot K_{m,animal} / K_{m,human}, \qquad MRSD = \min_{species} HED / 10

The human equivalent dose HED is per body weight [mg/kg], :math:`K_m` [kg/m2] the weight per surface. The
smallest over the species is taken, as from the most sensitive one, and divided by the default safety factor.

References:
    FDA (2005). Guidance for industry: estimating the maximum safe starting dose in initial clinical trials
        for therapeutics in adult healthy volunteers. Table 1, and step 4 for the factor of 10.
    Nair, Jacob (2016). A simple practice guide for dose conversion between animals and human. J Basic Clin
        Pharm 7:27. https://doi.org/10.4103/0976-0105.177703: the table again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from allometry.drugs import ANIMALS, Array, Drugs

KM: Mapping[str, float] = {
    "mouse": 3,
    "rat": 6,
    "rabbit": 12,
    "monkey": 12,
    "dog": 20,
    "pig": 35,
    "human": 37,
}
"""Body weight per surface [kg/m2], the pig being the mini-pig."""

SAFETY = 10.0
"""The default safety factor."""


def equivalent_dose(dose: Any, species: str) -> Any:
    """Returns the human equivalent of a dose in an animal [mg/kg].

    >>> round(equivalent_dose(37.0, "rat"), 3)
    6.0
    """
    return dose * KM[species] / KM["human"]


def recommended_start(drugs: Drugs) -> Array:
    """Returns the maximum recommended starting dose of each drug [mg/kg], NaN where no NOAEL is known."""
    doses = [equivalent_dose(drugs.column("NOAEL", species), species) for species in ANIMALS]
    lowest = np.where(np.isnan(doses), np.inf, doses).min(0) / SAFETY
    return np.where(np.isinf(lowest), np.nan, lowest)
