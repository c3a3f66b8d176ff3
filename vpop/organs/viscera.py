r"""Viscera and skin: what each weighs, tissue without blood [kg], from sex, age, height and weight.

:math:`s = h \sqrt{BW}` with the height :math:`h` in metres is the size of Ogiu (1997), whose equations, from
autopsies of Japanese of all ages, run from newborn to adult in one line each.

References:
    Ogiu, Nakamura, Ijiri, Hiraiwa, Ogiu (1997). Health Phys 72:368.
    Price, Conolly, Chaisson, Gross, Young, Mathis, Tedder (2003). Crit Rev Toxicol 33:469 (P3M).
    ICRP Publication 89 (2002). https://doi.org/10.1016/S0146-6453(03)00002-2
    Stader, Siccardi, Battegay, Kinvig, Penny, Marzolini (2019). Clin Pharmacokinet 58:483.
    https://doi.org/10.1007/s40262-018-0709-7
    Verscheijden, Koenderink, de Wildt, Russel (2019). PLoS Comput Biol 15:e1007117.
    https://doi.org/10.1371/journal.pcbi.1007117
"""

from __future__ import annotations

import torch
from torch import Tensor

from vpop.organs.curves import curve, mix
from vpop.people import People

_GRAM = 1e-3
_LIVER_DENSITY = 1.05  # kg/L, ICRP 89
_GUT = {"stomach": 0.13, "small_intestine": 0.555, "large_intestine": 0.315}  # of the wall, from ICRP 89


def _size(people: People) -> Tensor:
    return people.height / 100.0 * torch.sqrt(people.BW)


def liver(people: People) -> Tensor:
    r"""Returns the liver, :math:`1.05 \cdot 0.722\,BSA^{1.176}`, one line for all ages.

    References:
        Johnson, Tucker, Tanner, Rostami-Hodjegan (2005). Liver Transpl 11:1481.
    """
    return _LIVER_DENSITY * 0.722 * people.BSA**1.176


def kidney(people: People) -> Tensor:
    r"""Returns both kidneys, :math:`(15.4 t + 2.04\,BW + 51.8\,h^2) / 1000`.

    Verscheijden's adults; :math:`t = 0.3 + 0.7 \min(A, 1)` carries them to the newborn [ours].
    """
    taper = 0.3 + 0.7 * people.age.clamp(max=1.0)
    return _GRAM * (15.4 * taper + 2.04 * people.BW + 51.8 * (people.height / 100.0) ** 2)


def heart(people: People) -> Tensor:
    r"""Returns the heart, :math:`22.81 s - 4.15` (M) or :math:`19.99 s - 1.53` (F) grams (Ogiu 1997)."""
    s = _size(people)
    return _GRAM * mix(people.sex, 22.81 * s - 4.15, 19.99 * s - 1.53)


def brain(people: People) -> Tensor:
    """Returns the brain: ICRP 89 by age in log mass to 20 years, and 0.27 % less a year after 45.

    References:
        Dekaban, Sadowsky (1978). Ann Neurol 4:345. https://doi.org/10.1002/ana.410040410
    """
    shrunken = 1.0 - 0.0027 * (people.age - 45.0).clamp(min=0.0)
    return curve("brain", people.age, people.sex, log=True) * shrunken


def lung(people: People) -> Tensor:
    r"""Returns the lungs without blood: Ogiu's with blood, times the share that is tissue.

    :math:`(64.55 s + 16.59` (M) or :math:`66.76 s + 2.96` (F)) grams; the share, 0.42 in children and 0.505
    from 20 years, is [ours], from the two columns of ICRP 89.
    """
    s = _size(people)
    with_blood = mix(people.sex, 64.55 * s + 16.59, 66.76 * s + 2.96)
    return _GRAM * curve("lung_tissue_share", people.age, people.sex) * with_blood


def spleen(people: People) -> Tensor:
    r"""Returns the spleen, :math:`8.74 s + 11.06 u` (M) or :math:`9.36 s + 7.98 u` (F) grams.

    Ogiu (1997); :math:`u = 0.1 + 0.9 \min(A, 1)` lets the intercept grow in the first year [ours]: without it
    the newborn's spleen is twice that of ICRP 89.
    """
    s, u = _size(people), 0.1 + 0.9 * people.age.clamp(max=1.0)
    return _GRAM * mix(people.sex, 8.74 * s + 11.06 * u, 9.36 * s + 7.98 * u)


def pancreas(people: People) -> Tensor:
    r"""Returns the pancreas, :math:`7.46 s - 0.79` (M) or :math:`7.92 s - 2.09` (F) grams (Ogiu 1997)."""
    s = _size(people)
    return _GRAM * mix(people.sex, 7.46 * s - 0.79, 7.92 * s - 2.09)


def _gut(people: People, part: str) -> Tensor:
    r"""Returns a part of the gut wall, :math:`3 \cdot 10^{-6} H^{2.49}` (Stader 2019), split as in ICRP 89.

    Written for adults, it meets ICRP 89 from the newborn on (0.91 to 1.11).
    """
    return _GUT[part] * 3e-6 * people.height**2.49


def stomach(people: People) -> Tensor:
    """Returns the wall of the stomach: 0.13 of the gut (see :func:`_gut`)."""
    return _gut(people, "stomach")


def small_intestine(people: People) -> Tensor:
    """Returns the wall of the small intestine: 0.555 of the gut (see :func:`_gut`)."""
    return _gut(people, "small_intestine")


def large_intestine(people: People) -> Tensor:
    """Returns the wall of the large intestine: 0.315 of the gut (see :func:`_gut`)."""
    return _gut(people, "large_intestine")


def skin(people: People) -> Tensor:
    """Returns the skin: its mass per body surface in ICRP 89, 0.73 kg/m2 before puberty, times BSA [ours]."""
    return curve("skin_per_BSA", people.age, people.sex) * people.BSA


def gonads(people: People) -> Tensor:
    """Returns testes or ovaries: ICRP 89 by age, in log mass."""
    return curve("gonads", people.age, people.sex, log=True)
