r"""The physiological laws C01-C34, each once, as data and small functions.

The laws of organ masses (C20-C34) state their bands in kg or L, from sex, age, height and weight alone:
who the person is fixes how large the organ may be, so that a generator can draw inside the band
(:func:`mass_band`).

Kinds: P one quantity, J joint, R a mass against the reference person of that stature, sex and age.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pbpk.laws.law import (
    Band,
    Bounds,
    Law,
    Number,
    adults,
    band,
    by_sex,
    either,
    everyone,
    from_age,
    minors,
    times,
    under_age,
)
from pbpk.laws.reference import REFERENCE_ORGANS, growth_band, reference_mass, reference_masses
from pbpk.organs import ORGANS, PERFUSED, PORTAL, indices
from pbpk.physiology import Physiology

HUMAN = "human"
BLOOD_DENSITY = 1.06  # kg/L, ICRP Publication 89 (2002)
FAT_OF_ADIPOSE = 0.8  # adults, ICRP Publication 89 (2002): fat over all adipose tissue
_NAMED = tuple(organ for organ in ORGANS if organ != "rest")
_NAMED_PERFUSED = tuple(organ for organ in PERFUSED if organ != "rest")
_ICRP = "ICRP Publication 89 (2002), https://doi.org/10.1016/S0146-6453(03)00002-2"


def cardiac_index(p: Physiology) -> Tensor:
    r"""Returns the cardiac index :math:`CO / BSA` [L/min/m2]."""
    return p.CO / 60 / p.BSA


def gfr_per_173(p: Physiology) -> Tensor:
    """Returns the GFR of a body of 1.73 m2 [mL/min]."""
    return p.GFR * (1000 / 60) / p.BSA * 1.73


def perfusion(*organs: str) -> Number:
    """Returns the function that gives the blood flow per tissue mass of an organ [mL/min/g]."""
    return lambda p: p.flow(*organs) / 60 / p.mass(*organs)


def _hepatic_flow(p: Physiology) -> Tensor:
    return p.flow("liver", *PORTAL)


def _filtration_fraction(p: Physiology) -> Tensor:
    return p.GFR / (p.flow("kidney") * (1 - p.HCT))


def _filtration_band(p: Physiology) -> Bounds:
    healthy = gfr_per_173(p) >= 60
    return torch.where(healthy, 0.05, 0.0).to(p.BW), torch.full_like(p.BW, 0.35)


def _positive(p: Physiology) -> Tensor:
    """Returns 1 where every number of a body is finite and positive, else 0.

    What the table of an animal does not state (NaN height, haematocrit, GFR) is not held against it.
    """
    scalars = [p.CO, p.BW]
    for value in (p.height, p.HCT, p.GFR):
        stated = value if p.species == HUMAN else torch.where(torch.isnan(value), 1.0, value)
        scalars.append(stated)
    values = torch.cat([p.M, p.Q[..., indices(PERFUSED)], torch.stack(scalars, -1)], -1)
    return (torch.isfinite(values) & (values > 0)).all(-1).to(p.BW)


def _highest_BMI(p: Physiology) -> Tensor:
    return torch.where(adults(p), 70.0, torch.where(p.age >= 2, 50.0, 27.0)).to(p.BW)


def _age_trend(p: Physiology) -> Bounds:
    expected = 4.874 - 0.023 * p.age
    return 0.7 * expected, 1.3 * expected


def _deurenberg(p: Physiology) -> Bounds:
    percent = 1.20 * p.BMI + 0.23 * p.age - 10.8 * p.sex - 5.4
    return (percent / 100 - 0.15) * p.BW, (percent / 100 + 0.15) * p.BW


def _lemmens(p: Physiology) -> Tensor:
    """Returns the expected blood volume [L]."""
    return 0.070 / torch.sqrt(p.BMI / 22) * p.BW


def _mass_law(
    id: str,
    title: str,
    kind: str,
    organ: str,
    source: str,
    interval: Band,
    applies: Number = everyone,
    unit: str = "kg",
    per_mass: float = 1.0,
    difference: bool = False,
    of_reference: tuple[float, float] | None = None,
) -> Law:
    def quantity(p: Physiology) -> Tensor:
        return per_mass * p.mass(organ)

    return Law(
        id=id, title=title, kind=kind, unit=unit, source=source, applies=applies, quantity=quantity,
        band=interval, difference=difference, organ=organ, per_mass=per_mass, of_reference=of_reference,
    )  # fmt: skip


def _reference_law(id: str, organ: str, lower: float, upper: float) -> Law:
    def scale(p: Physiology) -> Tensor:
        return reference_mass(organ, p.sex, p.age, p.height)

    title = f"{organ.replace('_', ' ')} mass / reference"
    return _mass_law(id, title, "R", organ, _ICRP, times(scale, lower, upper), of_reference=(lower, upper))


def _factor_law(id: str, organ: str, factor: float) -> Law:
    return _reference_law(id, organ, 1 / factor, factor)


def _bsa(p: Physiology) -> Tensor:
    return p.BSA


def _weight(p: Physiology) -> Tensor:
    return p.BW


LAWS: tuple[Law, ...] = (
    Law(
        "C01", "all masses, flows, sizes > 0", "P", "1", "definition",
        everyone, _positive, band(1, 1), any_species=True,
    ),
    Law(
        "C02", "sum of 16 named masses / BW", "P", "1",
        "Brown et al. (1997), https://doi.org/10.1177/074823379701300401; " + _ICRP,
        everyone, lambda p: p.mass(*_NAMED) / p.BW, band(0.85, 1.00), any_species=True,
    ),
    Law(
        "C04", "sum of named flows / CO", "P", "1", _ICRP + ", table 2.40",
        everyone, lambda p: p.flow(*_NAMED_PERFUSED) / p.CO, band(0.80, 1.00), any_species=True,
    ),
    Law(
        "C05", "cardiac index, adults", "P", "L/min/m2",
        "normal limits by Doppler echocardiography, 4,040 adults, https://hal.science/hal-03579647",
        adults, cardiac_index, band(1.9, 4.3),
    ),
    Law(
        "C06", "cardiac index, 1 to 17 y", "P", "L/min/m2",
        "Jegier (1963) Br Heart J 25:425: dye dilution, mean 3.38 at BSA 0.2 to 2 m2",
        lambda p: (p.age >= 1) & minors(p), cardiac_index, band(2.0, 6.0),
    ),
    Law(
        "C07", "cardiac index, under 1 y", "P", "L/min/m2",
        "Alverson (1987), https://doi.org/10.7863/jum.1987.6.9.519: 3.48 +- 0.74, three SD",
        under_age(1), cardiac_index, band(1.26, 5.70),
    ),
    Law(
        "C08", "haematocrit", "P", "1", "clinical limits [unchecked]",
        everyone, lambda p: p.HCT, band(0.20, 0.60),
    ),
    Law(
        "C09", "BMI, absolute limits", "P", "kg/m2",
        "Henry (1990); Collins (1995) Nat Med 1:810, lowest survived; upper and children's [unchecked]",
        everyone, lambda p: p.BMI,
        band(either(from_age(2), 10.0, 9.0), _highest_BMI),
    ),
    Law(
        "C10", "BMI for sex and age", "P", "kg/m2",
        "NHANES 2013-2018, P0.1 to P99.9; to 15 months WHO's (2006) too, the wider",
        everyone, lambda p: p.BMI, lambda p: growth_band("BMI", p.sex, p.age),
    ),
    Law(
        "C11", "height for sex and age", "P", "cm",
        "NHANES 2013-2018, P0.1 to P99.9; to 15 months WHO's (2006) too, the wider",
        everyone, lambda p: p.height, lambda p: growth_band("height", p.sex, p.age),
    ),
    Law(
        "C12", "GFR per 1.73 m2", "P", "mL/min",
        "term newborn 19.6 on day 0, 40.6 on day 5 (PMC9257816); ceilings [unchecked]",
        everyone, gfr_per_173,
        band(either(from_age(2), 5.0, 10.0), either(from_age(2), 200.0, 160.0)),
    ),
    Law(
        "C13", "total liver flow / CO", "P", "1", _ICRP + ": 0.255 M, 0.27 F",
        everyone, lambda p: _hepatic_flow(p) / p.CO, band(0.15, 0.35),
    ),
    Law(
        "C14", "kidney flow / CO", "P", "1", _ICRP + ": 0.19 M, 0.17 F",
        from_age(1), lambda p: p.flow("kidney") / p.CO, band(0.10, 0.28),
    ),
    Law(
        "C15", "brain perfusion", "J", "mL/min/100 g",
        "Wintermark et al. (2004): 40 under 6 months, peak 130 at 2 to 4 y, 50 at 7 to 8 y",
        everyone, lambda p: 100 * perfusion("brain")(p),
        band(either(adults, 25.0, 18.0), either(adults, 130.0, 150.0)),
    ),
    Law(
        "C16", "kidney perfusion", "J", "mL/min/g", _ICRP + ": 3.98 M, 3.65 F; newborn 0.8 to 1.2",
        everyone, perfusion("kidney"),
        band(either(from_age(0.25), 1.0, 0.5), 8.0),
    ),
    Law(
        "C17", "total liver flow / liver mass", "J", "mL/min/g", _ICRP + ": about 0.92",
        from_age(1), lambda p: _hepatic_flow(p) / 60 / p.mass("liver"), band(0.4, 2.0),
    ),
    Law(
        "C18", "heart perfusion", "J", "mL/min/g", _ICRP + ": 0.79 M, 1.18 F",
        everyone, perfusion("heart"),
        band(0.3, either(from_age(1), 2.5, 3.0)),
    ),
    Law(
        "C19", "filtration fraction", "J", "1", "normal 0.20: " + _ICRP,
        adults, _filtration_fraction, _filtration_band,
    ),
    _mass_law(
        "C20", "body fat / BW", "P", "adipose",
        "NHANES DXA: means 0.28 M, 0.40 F; extremes [unchecked]",
        by_sex(female=times(_weight, 0.10, 0.65), male=times(_weight, 0.05, 0.60)),
        adults, per_mass=FAT_OF_ADIPOSE,
    ),
    _mass_law(
        "C21", "body fat / BW - Deurenberg's", "J", "adipose",
        "Deurenberg, Weststrate, Seidell (1991), https://doi.org/10.1079/BJN19910073",
        _deurenberg, lambda p: adults(p) & (p.BMI < 45), per_mass=FAT_OF_ADIPOSE, difference=True,
    ),
    _mass_law(
        "C22", "blood volume / Lemmens's", "J", "blood",
        "Lemmens, Bernstein, Brodsky (2006) Obes Surg: 70 / sqrt(BMI / 22) mL/kg",
        times(_lemmens, 0.65, 1.35), adults, "L", 1 / BLOOD_DENSITY, difference=True,
    ),
    _mass_law(
        "C23", "blood volume / BW", "P", "blood",
        "Linderkamp (1977), https://doi.org/10.1007/BF00493567: means 68 to 86 mL/kg, widened",
        times(_weight, 0.050, 0.110), minors, "L", 1 / BLOOD_DENSITY,
    ),
    _mass_law(
        "C24", "muscle / BW", "P", "muscle",
        "Janssen et al. (2000), https://doi.org/10.1152/jappl.2000.89.1.81",
        by_sex(female=times(_weight, 0.10, 0.52), male=times(_weight, 0.18, 0.58)), adults,
    ),
    _mass_law("C25", "skin mass / BSA", "J", "skin", _ICRP, times(_bsa, 0.5, 2.8)),
    _factor_law("C26", "liver", 2.0),
    _factor_law("C27", "kidney", 2.0),
    _factor_law("C28", "heart", 2.0),
    _factor_law("C29", "lung", 2.5),
    _factor_law("C30", "spleen", 3.0),
    _factor_law("C31", "pancreas", 2.5),
    _factor_law("C32", "stomach", 2.5),
    _factor_law("C33", "small_intestine", 2.0),
    _reference_law("C34", "brain", 0.70, 1.35),
)  # fmt: skip
"""The laws that are counted, in order. C03 needs a second weight: see :func:`drawn_weight_law`."""

BESIDE: tuple[Law, ...] = (
    Law(
        "C05-age", "cardiac index / age trend", "P", "L/min/m2",
        "dye dilution, n = 151: 4.874 - 0.023 age within 30 %; lies 15 to 28 % above ICRP 89",
        from_age(20), cardiac_index, _age_trend, difference=True, counted=False,
    ),
)  # fmt: skip
"""What is reported beside the laws and never counted."""


def drawn_weight_law(drawn: Tensor) -> Law:
    """Returns C03 for a foreign table: BW within 10 % of the weight that the body was drawn from.

    Reported and not counted, so that the rates of tables with and without such a column compare.

    Arguments:
        drawn: The weight that each body was drawn from [kg], with shape :math:`(*)`.
    """
    return Law(
        "C03", "BW / weight it was drawn from", "P", "kg", "mass closure",
        everyone, lambda p: p.BW, lambda p: (0.9 * drawn.to(p.BW), 1.1 * drawn.to(p.BW)),
        difference=True, counted=False,
    )  # fmt: skip


def mass_band(p: Physiology, reference: Tensor | None = None) -> Bounds:
    """Returns the interval that the laws leave to the mass of each organ of these people [kg].

    The intersection of the laws C20-C34 that apply; an organ that no law bounds has [0, infinity). It
    depends on sex, age, height and BW alone, never on ``p.M``.

    Arguments:
        p: Who the people are, with batch shape :math:`(*)`.
        reference: What :func:`reference_masses` says of them, where it is at hand.

    Returns:
        The lower and the upper masses [kg], each with shape :math:`(*, 17)`.
    """
    if reference is None:
        reference = reference_masses(p.sex, p.age, p.height)
    found = mass_band_by_size(p)
    for organ, typical in zip(REFERENCE_ORGANS, reference.unbind(-1), strict=True):
        least, most = OF_REFERENCE[organ]
        found[organ] = least * typical, most * typical
    anything = (torch.zeros_like(p.BW), torch.full_like(p.BW, torch.inf))
    lower, upper = zip(*(found.get(organ, anything) for organ in ORGANS), strict=True)
    return torch.stack(lower).movedim(0, -1), torch.stack(upper).movedim(0, -1)


OF_REFERENCE: Mapping[str, tuple[float, float]] = {
    law.organ: law.of_reference for law in LAWS if law.organ is not None and law.of_reference is not None
}
"""Between which multiples of its reference mass the laws C26-C34 keep an organ: its only law, of everyone."""


def mass_band_by_size(p: Physiology) -> dict[str, Bounds]:
    """Returns the masses [kg] that the laws C20-C25 leave to organs, by organ, each with shape :math:`(*)`.

    They go by sex, age, height and BW, and not by a reference mass.
    """
    found: dict[str, Bounds] = {}
    for law in LAWS:
        if law.organ is None or law.of_reference is not None:
            continue
        here = law.applies(p)
        low, high = (bound / law.per_mass for bound in law.band(p))
        low, high = torch.where(here, low, 0.0), torch.where(here, high, torch.inf)
        if law.organ in found:
            low, high = torch.maximum(found[law.organ][0], low), torch.minimum(found[law.organ][1], high)
        found[law.organ] = low, high
    return found
