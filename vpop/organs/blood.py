r"""Blood and its haematocrit.

References:
    Linderkamp, Versmold, Riegel, Betke (1977). Eur J Pediatr 125:227. https://doi.org/10.1007/BF00493567
    Nadler, Hidalgo, Bloch (1962). Surgery 51:224.
    Lemmens, Bernstein, Brodsky (2006). Obes Surg 16:773. https://doi.org/10.1381/096089206777346673
    Verscheijden et al. (2019). PLoS Comput Biol 15:e1007117. https://doi.org/10.1371/journal.pcbi.1007117
"""

from __future__ import annotations

import torch
from torch import Tensor

from vpop.organs.curves import blend, mix, ramp
from vpop.people import People

_DENSITY = 1.06  # kg/L, ICRP 89
_ADULT_HCT = {"M": 0.445, "F": 0.399}  # means of NHANES 2013-2018, 18 years and older


def _linderkamp(people: People) -> Tensor:
    r"""Returns the blood volume of a child [L]: :math:`\log_{10} V[mL] = a \log_{10} BW + b H + c`.

    Three equations, under 2 years, boys of 2 to 14 with girls of 2 to 6, girls of 7 to 14; joined over
    1.5 to 2.5 years and 6 to 8 years [ours].
    """

    def volume(a: float, b: float, c: float) -> Tensor:
        return 10.0 ** (a * torch.log10(people.BW) + b * people.height + c - 3.0)

    infant = volume(0.7891, 0.004132, 1.8117)
    child, girl = volume(0.6459, 0.002743, 2.0324), volume(0.6412, 0.001270, 2.2169)
    older_girl = (1.0 - people.sex) * ramp(people.age, 6.0, 8.0)
    return blend(ramp(people.age, 1.5, 2.5), infant, blend(older_girl, child, girl))


def _nadler_lemmens(people: People) -> Tensor:
    r"""Returns the blood volume of an adult [L]: Nadler to a BMI of 30, above it growing as Lemmens' does.

    :math:`0.3669 h^3 + 0.03219 BW + 0.6041` (M), :math:`0.3561 h^3 + 0.03308 BW + 0.1833` (F); Lemmens'
    :math:`70 \sqrt{22/BMI}` mL/kg grows as :math:`\sqrt{BMI}` at a given height. The join at 30 is [ours].
    """
    h = people.height / 100.0
    weight = torch.minimum(people.BW, 30.0 * h**2)
    male = 0.3669 * h**3 + 0.03219 * weight + 0.6041
    female = 0.3561 * h**3 + 0.03308 * weight + 0.1833
    return mix(people.sex, male, female) * torch.sqrt(people.BMI.clamp(min=30.0) / 30.0)


def blood(people: People) -> Tensor:
    """Returns the blood [kg]: Linderkamp under 14 years, Nadler, Lemmens from 18, a ramp between [ours]."""
    return _DENSITY * blend(ramp(people.age, 14.0, 18.0), _linderkamp(people), _nadler_lemmens(people))


def haematocrit(people: People) -> Tensor:
    r"""Returns the typical haematocrit [1], for those in whom it was not measured.

    .. math:: 53 - a f_{1.12, 0.05} (1 - b f_{0.25, 0.10}), \quad f_{n, t} = A^n / (t^n + A^n)

    per cent, with a = 43, b = 0.93 (M) and a = 37.4, b = 0.80 (F): 53 at birth, 35 at 3 to 6 months. It is
    the curve of Simcyp's children [unchecked: no citable copy was found], and fades into the means of NHANES
    over 16 to 20 years [ours].
    """
    A = people.age
    fall = A**1.12 / (0.05**1.12 + A**1.12)
    rise = A**0.25 / (0.10**0.25 + A**0.25)
    child = mix(
        people.sex, 53.0 - 43.0 * fall * (1.0 - 0.93 * rise), 53.0 - 37.4 * fall * (1.0 - 0.80 * rise)
    )
    adult = mix(people.sex, _ADULT_HCT["M"], _ADULT_HCT["F"]).expand_as(A)
    return blend(ramp(A, 16.0, 20.0), child / 100.0, adult)
