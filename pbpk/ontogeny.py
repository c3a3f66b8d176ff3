r"""How enzymes and the liver's microsomal protein mature, as a share of the adult's.

.. math:: F(A) = F_{birth} + (F_{max} - F_{birth}) \frac{A^n}{A_{50}^n + A^n}, \qquad A \le A_{cap}

in years after birth. :func:`maturation` is :math:`F(A) / F(A_{cap})`, so that it is 1 from the cap on and has
no step [ours: the published :math:`F(A_{cap})` lie between 0.9 and 1.06]. CYP1A2 is above the adult at its
cap, 3 years, and falls from there to 1 at 18 years log-linearly [ours: the decline is published, its course
is not]. An unknown age (NaN) counts as adult.

References:
    Salem et al. (2014). Clin Pharmacokinet 53:625. https://doi.org/10.1007/s40262-014-0140-7 (CYP1A2, CYP3A4)
    Codaccioni et al. (2024). J Clin Pharmacol 64:1083. https://doi.org/10.1002/jcph.2452 (restates CYP3A4)
    Johnson, Rostami-Hodjegan, Tucker (2006). Clin Pharmacokinet 45:931.
    https://doi.org/10.2165/00003088-200645090-00005 (CYP2C9, CYP2C19, CYP2D6, CYP2E1, and the gut)
    Upreti, Wahlstrom (2016). J Clin Pharmacol 56:266. https://doi.org/10.1002/jcph.585 (another reading:
    CYP3A from 0.05 at birth, 0.10 in Codaccioni's restatement, half-matured at 0.1 y, 1.7 at 2.5 y; CYP1A2
    from 0.16, at 0.2 y, 1.5)
    Review that restates Johnson and Upreti: Br J Clin Pharmacol (2021). https://doi.org/10.1111/bcp.14821
    Barter et al. (2008). Drug Metab Dispos 36:2405. https://doi.org/10.1124/dmd.108.021311 (MPPGL)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pbpk.checks import choose

ADULT = 35.0
"""The age at which the reference man of ICRP 89 stands [year]."""

_DECLINE_ENDS = 18.0  # [ours] year
_TURN = (2 * 0.00038 + math.sqrt((2 * 0.00038) ** 2 - 4 * 3 * 0.0000024 * 0.0158)) / (6 * 0.0000024)
# year, where the cubic of MPPGL has its minimum


class Profile(NamedTuple):
    """The maturation of one enzyme: shares of the adult, and ages [year]."""

    birth: float
    top: float
    age50: float
    slope: float
    cap: float


# As tabulated in the code of three paediatric models, which agree to rounding. Johnson (2006) as restated in
# the review confirms CYP2C9, CYP2C19 and CYP2D6; it has CYP2E1 from 0.086 at birth, to 1.074. CYP2B6, CYP2C8
# and the UGT are in that code alone: their publication is [unconfirmed].
HEPATIC: Mapping[str, Profile] = {
    "CYP1A2": Profile(0.24, 1.71, 0.36, 1.73, 3.0),
    "CYP2B6": Profile(0.277, 1.0, 1.537, 1.73, 25.0),
    "CYP2C8": Profile(0.41, 1.053, 0.366, 0.68, 20.0),
    "CYP2C9": Profile(0.17, 0.98, 0.0157, 0.53, 5.0),
    "CYP2C19": Profile(0.30, 0.98, 0.29, 2.44, 5.0),
    "CYP2D6": Profile(0.036, 1.0, 0.1, 1.0, 10.0),
    "CYP2E1": Profile(0.0, 0.99, 0.23, 0.50, 18.0),
    "CYP3A4": Profile(0.11, 1.06, 0.64, 1.91, 25.0),
    "UGT1A1": Profile(0.0, 1.0, 0.183, 1.105, 25.0),
    "UGT1A4": Profile(0.05, 1.028, 1.042, 1.36, 20.0),
    "UGT1A6": Profile(0.142, 1.025, 0.411, 0.97, 15.0),
    "UGT1A9": Profile(0.0541, 1.012, 0.07228, 5.771, 0.16),
}
"""The enzymes of the liver whose maturation is known. UGT2B7 is not among them: its sources contradict."""

INTESTINAL_CYP3A = Profile(0.42, 1.059, 2.357, 1.0, 18.0)  # Johnson 2006

OTHER = "other"
"""The name of a pathway whose maturation is not known: it counts as mature from birth."""


def _sigmoid(age: Tensor, profile: Profile) -> Tensor:
    aged = age**profile.slope
    rise = aged / (profile.age50**profile.slope + aged)
    return profile.birth + (profile.top - profile.birth) * rise


def _years(age: Tensor | float) -> Tensor:
    age = torch.as_tensor(age, dtype=torch.float64)
    return torch.where(age.isnan(), ADULT, age)


def _relative(age: Tensor, profile: Profile) -> Tensor:
    cap = torch.tensor(profile.cap, dtype=torch.float64)
    return _sigmoid(torch.minimum(age, cap), profile) / _sigmoid(cap, profile)


def maturation(enzyme: str, age: Tensor | float) -> Tensor:
    """Computes the activity of a liver enzyme per mg of microsomal protein, as a share of the adult's.

    Arguments:
        enzyme: One of :data:`HEPATIC`, or ``"other"``, which counts as mature from birth.
        age: The age after birth [year], with shape :math:`(*)`; NaN counts as adult.

    Returns:
        The share [1], with shape :math:`(*)`: continuous in age, 1 in adults.

    Raises:
        ValueError: If the enzyme is unknown; the message offers the nearest.

    >>> round(float(maturation("CYP3A4", 0.64)), 2), float(maturation("CYP3A4", 40.0))
    (0.55, 1.0)
    """
    age = _years(age)
    if choose("enzyme", enzyme, [*HEPATIC, OTHER]) == OTHER:
        return torch.ones_like(age)
    profile = HEPATIC[enzyme]
    if enzyme != "CYP1A2":
        return _relative(age, profile)
    peak = _sigmoid(torch.tensor(profile.cap, dtype=torch.float64), profile)
    left = ((_DECLINE_ENDS - age) / (_DECLINE_ENDS - profile.cap)).clamp(0.0, 1.0)
    return torch.where(age < profile.cap, _sigmoid(age, profile), peak**left)


def gut_maturation(age: Tensor | float) -> Tensor:
    """Computes the CYP3A of the gut wall, as a share of the adult's.

    Arguments:
        age: The age after birth [year], with shape :math:`(*)`; NaN counts as adult.

    Returns:
        The share [1], with shape :math:`(*)`.

    References:
        Johnson, Rostami-Hodjegan, Tucker (2006), after Johnson et al. (2001) Br J Clin Pharmacol 51:451.

    >>> round(float(gut_maturation(0.0)), 2), float(gut_maturation(40.0))
    (0.43, 1.0)
    """
    return _relative(_years(age), INTESTINAL_CYP3A)


def microsomal_protein(age: Tensor | float) -> Tensor:
    r"""Computes the microsomal protein of a gram of liver.

    .. math:: \log_{10} MPPGL = 1.407 + 0.0158 A - 0.00038 A^2 + 0.0000024 A^3

    held from 77 years, where the cubic would turn upwards [ours].

    Arguments:
        age: The age after birth [year], with shape :math:`(*)`; NaN counts as adult.

    Returns:
        MPPGL [mg/g], with shape :math:`(*)`.

    References:
        Barter et al. (2008), newborn to adult.

    >>> [round(float(microsomal_protein(age))) for age in (0, 28, 60)]
    [26, 40, 32]
    """
    a = _years(age).clamp_max(_TURN)
    return 10.0 ** (1.407 + 0.0158 * a - 0.00038 * a**2 + 0.0000024 * a**3)
