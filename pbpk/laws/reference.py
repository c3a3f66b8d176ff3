r"""Reference numbers of the laws: what an organ weighs, and how tall and heavy people of an age are.

An organ's reference mass is log-linear in log height between the six reference people of ICRP 89 of that
sex. Above the adult it grows as :math:`h^2`, below the newborn it falls as :math:`h^3`. The brain goes by
age, not by height: it is fully grown at 20 years whatever the stature.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from pbpk.checks import choose

_DATA = Path(__file__).parent.parent / "data"
_SLOPE_BELOW_NEWBORN, _SLOPE_ABOVE_ADULT = 3.0, 2.0  # [ours] volume below, area above
_Z = 3.0902  # of the percentiles 0.1 and 99.9
_DAYS = 365.25  # a year


def _rows(name: str) -> list[dict[str, str]]:
    with (_DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def _knots() -> dict[str, dict[str, Tensor]]:
    """Returns per organ and sex the knots (2, k): the coordinate (log height, or age), and log mass."""
    knots: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in _rows("icrp89_reference_masses.csv"):
        column = "age_year" if row["organ"] == "brain" else "height_cm"
        point = (float(row[column]), float(row["mass_kg"]))
        knots.setdefault(row["organ"], {}).setdefault(row["sex"], []).append(point)
    return {
        organ: {sex: _line(points, by_age=organ == "brain") for sex, points in by_sex.items()}
        for organ, by_sex in knots.items()
    }


def _line(points: list[tuple[float, float]], by_age: bool) -> Tensor:
    """Returns the knots of one organ, with one more at either end that carries the slope beyond it."""
    x, y = torch.tensor(sorted(points), dtype=torch.float64).T
    x, y = (x if by_age else x.log()), y.log()
    below, above = (0.0, 0.0) if by_age else (_SLOPE_BELOW_NEWBORN, _SLOPE_ABOVE_ADULT)
    x = torch.cat([x[:1] - 1, x, x[-1:] + 1])
    y = torch.cat([y[:1] - below, y, y[-1:] + above])
    return torch.stack([x, y])


def _interpolate(x: Tensor, knots: Tensor) -> Tensor:
    """Interpolates linearly between ``knots`` and continues the first and the last line."""
    at, value = knots.to(x)
    right = torch.searchsorted(at, x.detach().contiguous()).clamp(1, len(at) - 1)
    left = right - 1
    slope = (value[right] - value[left]) / (at[right] - at[left])
    return value[left] + slope * (x - at[left])


def between_sexes(sex: Tensor, female: Tensor, male: Tensor) -> Tensor:
    """Returns ``female`` where sex is 0, ``male`` where it is 1, and lies between where it is unknown.

    Arguments:
        sex: 1 male, 0 female, 0.5 unknown, with shape :math:`(*)`.
        female: The number of a woman, with shape :math:`(*)`.
        male: The number of a man, same unit, with shape :math:`(*)`.

    Returns:
        The number of this person, with shape :math:`(*)`; exact at both ends.
    """
    return torch.lerp(female, male, sex)


REFERENCE_ORGANS: tuple[str, ...] = tuple(
    dict.fromkeys(row["organ"] for row in _rows("icrp89_reference_masses.csv"))
)


def reference_people(organ: str, sex: str) -> list[tuple[float, float]]:
    """Returns height [cm] and organ mass [kg] of the reference people of one sex, ``"M"`` or ``"F"``."""
    choose("organ", organ, REFERENCE_ORGANS)
    rows = [row for row in _rows("icrp89_reference_masses.csv") if (row["organ"], row["sex"]) == (organ, sex)]
    return sorted((float(row["height_cm"]), float(row["mass_kg"])) for row in rows)


def reference_mass(organ: str, sex: Tensor, age: Tensor, height: Tensor) -> Tensor:
    """Returns the mass that a reference person of that stature, or age for the brain, would have [kg].

    Arguments:
        organ: One of :data:`REFERENCE_ORGANS`.
        sex: 1 male, 0 female, 0.5 unknown, with shape :math:`(*)`.
        age: The age [year], with shape :math:`(*)`.
        height: The height, or length under two years [cm], with shape :math:`(*)`.

    Returns:
        The mass of the tissue without blood [kg], with shape :math:`(*)`; differentiable in age and height.

    Raises:
        ValueError: If ICRP 89 has no such organ in the table; the message offers the nearest.

    References:
        ICRP Publication 89 (2002). https://doi.org/10.1016/S0146-6453(03)00002-2

    >>> man = torch.tensor(1.0, dtype=torch.float64)
    >>> round(reference_mass("liver", man, 30 * man, 176 * man).item(), 6)
    1.8
    """
    choose("organ", organ, REFERENCE_ORGANS)
    knots = _knots()[organ]
    x = age if organ == "brain" else height.log()
    female, male = _interpolate(x, knots["F"]), _interpolate(x, knots["M"])
    return between_sexes(sex.to(x), female, male).exp()


@cache
def _by_height() -> dict[str, tuple[Tensor, Tensor]]:
    """Returns per sex the knots (k) and log masses (k, organ) of the organs that go by height, in order."""
    organs = [_knots()[organ] for organ in REFERENCE_ORGANS if organ != "brain"]
    return {sex: (organs[0][sex][0], torch.stack([knots[sex][1] for knots in organs], -1)) for sex in "FM"}


def reference_masses(sex: Tensor, age: Tensor, height: Tensor) -> Tensor:
    """Returns :func:`reference_mass` of every organ of :data:`REFERENCE_ORGANS` at once, shape (*, organ).

    The reference people of one sex have one height each: their place among them is looked up once.
    """
    log_height = height.log()
    by_sex = []
    for at, value in (_by_height()["F"], _by_height()["M"]):
        at, value = at.to(log_height), value.to(log_height)
        right = torch.searchsorted(at, log_height.detach().contiguous()).clamp(1, len(at) - 1)
        share = (log_height - at[right - 1]) / (at[right] - at[right - 1])
        by_sex.append(torch.lerp(value[right - 1], value[right], share[..., None]))
    others = between_sexes(sex.to(log_height)[..., None], *by_sex).exp().movedim(-1, 0)
    brain = REFERENCE_ORGANS.index("brain")
    own = reference_mass("brain", sex, age, height)[None]
    return torch.cat([others[:brain], own, others[brain:]]).movedim(0, -1)


@cache
def _nhanes(column: str) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the upper ages [year], and the women's and the men's values of one column."""
    rows = {sex: [row for row in _rows("nhanes_bands.csv") if row["sex"] == sex] for sex in "FM"}
    lists = [[float(row["age_to_month"]) / 12 for row in rows["F"]]]
    lists += [[float(row[column]) for row in rows[sex]] for sex in "FM"]
    age_to, female, male = (torch.tensor(values, dtype=torch.float64) for values in lists)
    return age_to, female, male


def nhanes_band(quantity: str, sex: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the 0.1st and the 99.9th percentile of US people of that sex and age band.

    Arguments:
        quantity: ``"BMI"`` [kg/m2] or ``"height"`` [cm].
        sex: 1 male, 0 female, 0.5 unknown, with shape :math:`(*)`.
        age: The age [year], with shape :math:`(*)`. The last band has no end: NHANES codes all who are
            80 or older as 80.

    Returns:
        The lower and the upper percentile, each with shape :math:`(*)`.

    References:
        CDC/NCHS, National Health and Nutrition Examination Survey 2013-2018.
    """
    unit = {"BMI": "kg_m2", "height": "cm"}[quantity]
    sides = [_nhanes(f"{quantity}_{side}_{unit}") for side in ("lower", "upper")]
    age_to = sides[0][0].to(age)
    row = torch.searchsorted(age_to, age.detach().contiguous(), right=True).clamp(max=len(age_to) - 1)
    lower, upper = (
        between_sexes(sex.to(age), female.to(age)[row], male.to(age)[row]) for _, female, male in sides
    )
    return lower, upper


@cache
def _who_infants(quantity: str) -> tuple[Tensor, Tensor, Tensor]:
    """Returns ages [year], and women's and men's P0.1 and P99.9 at them, each with shape (2, k)."""
    unit = {"BMI": "_kg_m2", "height": "_cm"}[quantity]
    columns = ("day", *(f"{quantity}_{name}" for name in ("L", f"M{unit}", "S")))
    sexes = []
    for sex in "FM":
        rows = [row for row in _rows("who_infants.csv") if row["sex"] == sex]
        day, L, M, S = torch.tensor([[float(row[c]) for row in rows] for c in columns], dtype=torch.float64)
        z = torch.tensor([[-_Z], [_Z]], dtype=torch.float64)
        sexes.append(M * (1.0 + L * S * z) ** (1.0 / L))
    return day / _DAYS, *sexes


def growth_band(quantity: str, sex: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
    """Returns :func:`nhanes_band`, to 15 months of age the wider of it and WHO's percentiles 0.1 and 99.9.

    A band of three or six months is no bound for who has just entered it: a newborn stands among those of up
    to three months. WHO's standards are known by the day, between some of which straight lines run.

    Arguments:
        quantity: ``"BMI"`` [kg/m2] or ``"height"`` [cm].
        sex: 1 male, 0 female, 0.5 unknown, with shape :math:`(*)`.
        age: The age [year], with shape :math:`(*)`.

    References:
        CDC/NCHS, National Health and Nutrition Examination Survey 2013-2018.
        WHO Multicentre Growth Reference Study Group (2006). WHO Child Growth Standards: length and body mass
        index for age. Geneva. https://www.who.int/publications/i/item/924154693X
    """
    lower, upper = nhanes_band(quantity, sex, age)
    ages, *sexes = _who_infants(quantity)
    low, high = (
        between_sexes(sex.to(age), *(_interpolate(age, torch.stack([ages, one[side]])) for one in sexes))
        for side in (0, 1)
    )
    infant = age <= float(ages[-1])
    return (
        torch.where(infant, torch.minimum(lower, low), lower),
        torch.where(infant, torch.maximum(upper, high), upper),
    )
