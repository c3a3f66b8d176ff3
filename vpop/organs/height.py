r"""Height allometry: viscera that know a person's sex and height, and nothing else of the body.

The peers' way (Price 2003; httk: Ring 2017) scales the reference adult's organ by a power of height. Their
one exponent, 0.75, makes a newborn's liver five times too heavy; here each organ has the exponent that leads
from the reference newborn to the reference adult of that sex,

.. math:: M = M_{adult} (H / H_{adult})^b, \qquad
    b = \ln(M_{adult} / M_{newborn}) / \ln(H_{adult} / H_{newborn})

[ours]. Neither weight nor age plays a part: a second opinion beside the regressions of
:mod:`vpop.organs.viscera`, against which a conclusion can be tested.

References:
    Price, Conolly, Chaisson, Gross, Young, Mathis, Tedder (2003). Crit Rev Toxicol 33:469.
    Ring et al. (2017). Environ Int 106:105. https://doi.org/10.1016/j.envint.2017.06.004
    ICRP Publication 89 (2002). https://doi.org/10.1016/S0146-6453(03)00002-2
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from pbpk.laws.reference import reference_people
from vpop.organs.curves import mix
from vpop.people import People

ORGANS = ("heart", "kidney", "liver", "lung", "pancreas", "small_intestine", "spleen", "stomach")


@cache
def _line(organ: str, sex: str) -> tuple[float, float]:
    """Returns the intercept and the slope b of ln M [kg] in ln H [cm], through newborn and adult."""
    (first, light), *_, (last, heavy) = reference_people(organ, sex)
    slope = math.log(heavy / light) / math.log(last / first)
    return math.log(heavy) - slope * math.log(last), slope


def by_height(organ: str, people: People) -> Tensor:
    """Returns the mass of one of :data:`ORGANS` [kg], tissue without blood, with shape (n)."""
    (male, up), (female, rise) = _line(organ, "M"), _line(organ, "F")
    ln_H = torch.log(people.height)
    return mix(people.sex, torch.exp(male + up * ln_H), torch.exp(female + rise * ln_H))
