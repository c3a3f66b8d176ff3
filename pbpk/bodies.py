r"""Reference bodies: one table of facts, and a body of any of its species.

The table ``data/reference_bodies.csv`` holds tissue masses [kg] and arterial flows [L/h], each row with its
source. What nobody published is filled by a rule, and the row says so (``source`` starts with "filled").
Where sources disagree, the row names the other number; where no public copy of the source shows the number,
the row says "unconfirmed". ``rest`` is not in the table: it is what closes the masses on the body weight and
the flows on the cardiac output, so both sums are exact.

- Human: ICRP Publication 89 for both sexes at birth, 1, 5, 10 and 15 years and from 20 years. Its adipose
  tissue holds the yellow marrow, its bone does not. Two numbers of ICRP are outliers by a third, and the
  measurement is taken instead: the infants' cardiac output and the blood of the one-year-old. ICRP
  distributes the cardiac output for adults only; how children's is shared is our rule, and so each of
  their flows is a filled row.
- Mouse, rat, rabbit, monkey (rhesus), dog (beagle) and pig (Goettingen minipig): one adult, sexes mixed.
  Weights of bled organs count as tissue; PK-Sim's organ volumes sum to the body weight (1 kg/L) and hold
  their blood, so the vascular share of the rat's organ is taken off.

Between two of ICRP's ages every quantity :math:`x` follows :math:`\ln x` linear in :math:`\ln(a + 0.1)`, age
:math:`a` in years. [ours] With 0.1 the weight at 3, 6 and 12 months is 6.1, 7.7 and 10 kg; the medians of
NHANES 2013-2018 are 6.2, 7.7 and 10.6.

References:
    ICRP (2002). Publication 89, Ann ICRP 32(3-4). https://doi.org/10.1016/S0146-6453(03)00002-2
    Brown et al. (1997). Toxicol Ind Health 13:407. https://doi.org/10.1177/074823379701300401
    Birnbaum, Brown et al. (1994). Physiological parameter values for PBPK models. ILSI Risk Science
        Institute, Washington DC: the report that became Brown et al. (1997).
    Davies and Morris (1993). Pharm Res 10:1093. https://doi.org/10.1023/A:1018943613122
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.organs import ORGANS, WITHOUT_FLOW
from pbpk.physiology import SEXES, Physiology

SPECIES: tuple[str, ...] = ("human", "monkey", "dog", "pig", "rabbit", "rat", "mouse")
SIZE_EXPONENT = 0.75  # of flows and rates: Lindstedt and Schaeffer (2002) Lab Anim 36:1, PMID 11833526

_TABLE = Path(__file__).parent / "data" / "reference_bodies.csv"
_AGES = {"0": 0.0, "1": 1.0, "5": 5.0, "10": 10.0, "15": 15.0, "adult": 20.0}  # year
_AGE_OFFSET = 0.1  # year, [ours], see above
_OLDEST = 120.0  # year
_LARGEST_CHANGE = 5.0  # of the body weight, either way [ours]

_Quantities = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Fact:
    """One row of the table.

    Attributes:
        species: One of :data:`SPECIES`.
        sex: ``"M"``, ``"F"``, or ``""`` where sexes are mixed.
        age: ICRP's age in years as text, or ``"adult"``.
        organ: One of :data:`pbpk.organs.ORGANS`, or ``"body"``.
        quantity: ``"mass"``, ``"flow"``, or of the body ``"BW"``, ``"CO"``, ``"GFR"``, ``"HCT"``,
            ``"height"``, ``"age"``.
        value: The value in ``unit``.
        unit: kg, L/h, cm, year or 1.
        source: Authors, year, table or page, and how the value follows from what they print.
    """

    species: str
    sex: str
    age: str
    organ: str
    quantity: str
    value: float
    unit: str
    source: str

    @property
    def filled(self) -> bool:
        """Whether a rule made the value because nobody published one."""
        return self.source.startswith("filled")


@cache
def facts() -> tuple[Fact, ...]:
    """Returns the rows of the table.

    >>> liver = next(f for f in facts() if (f.species, f.organ, f.quantity) == ("rat", "liver", "mass"))
    >>> liver.value, liver.source
    (0.00915, 'Brown et al. 1997 doi:10.1177/074823379701300401 Table 5: 3.66 % of BW')
    """
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Fact(**{**row, "value": float(row["value"])})  # type: ignore[arg-type]
            for row in csv.DictReader(file)
        )


def reference_body(
    species: str = "human",
    sex: str | None = None,
    age: float | None = None,
    BW: float | None = None,
) -> Physiology:
    r"""Returns the reference body of a species.

    Masses sum to ``BW`` and flows to ``CO`` exactly; ``rest`` closes both. At another body weight than the
    reference's, masses go with :math:`BW` and CO, GFR and flows with :math:`BW^{0.75}`: that is a larger or
    smaller body of the same build, at the same height, and not a fatter one.

    Arguments:
        species: One of :data:`SPECIES`.
        sex: ``"M"`` or ``"F"``, for people only; None is male. The animals' sources mix the sexes.
        age: The age [year], for people only; None is 30. From 20 years on the body does not change.
        BW: The body weight [kg]; None is the reference's own, or for people that of their age.

    Returns:
        The body, with batch shape ``()``. Its height is NaN for animals.

    Raises:
        ValueError: If there is no such species, sex or age, or no such body weight in that species.

    Example:
        >>> man = reference_body("human", sex="M", age=30)
        >>> float(man.BW), float(man.mass("liver")), round(float(man.M.sum()), 9)
        (73.0, 1.8, 73.0)
    """
    choose("species", species, SPECIES)
    if species == "human":
        sex = choose("sex", "M" if sex is None else sex, ("M", "F"))
        years = _checked_age(30.0 if age is None else age)
        quantities = _at_age(sex, years)
    elif sex is not None or age is not None:
        raise ValueError(
            f"sex and age must be left out for {species!r}, but are {sex!r} and {age!r}: its one reference "
            "body is an adult with the sexes mixed."
        )
    else:
        sex, quantities = "", _adult(species)
        years = quantities["body", "age"]
    return _body(species, SEXES[sex], years, _resized(species, quantities, BW))


def _checked_age(age: float) -> float:
    if not 0.0 <= age <= _OLDEST:
        raise ValueError(f"age must lie between 0 and {_OLDEST:g} years, but is {age}.")
    return float(age)


@cache
def _table() -> dict[tuple[str, str, str], _Quantities]:
    """Returns the quantities of each (species, sex, age)."""
    table: dict[tuple[str, str, str], _Quantities] = {}
    for fact in facts():
        body = table.setdefault((fact.species, fact.sex, fact.age), {})
        body[fact.organ, fact.quantity] = fact.value
    return table


def _adult(species: str) -> _Quantities:
    return _table()[species, "", "adult"]


def _at_age(sex: str, age: float) -> _Quantities:
    """Interpolates log-linearly between ICRP's ages; ``rest`` closes what is interpolated."""
    labels = list(_AGES)
    years = [*_AGES.values()]
    right = next((i for i, knot in enumerate(years) if age <= knot), len(years) - 1)
    upper = _table()["human", sex, labels[right]]
    if age >= years[right]:
        return upper
    lower = _table()["human", sex, labels[right - 1]]
    start, end = (math.log(knot + _AGE_OFFSET) for knot in years[right - 1 : right + 1])
    share = (math.log(age + _AGE_OFFSET) - start) / (end - start)
    return {key: lower[key] ** (1.0 - share) * upper[key] ** share for key in upper}


def _resized(species: str, quantities: _Quantities, BW: float | None) -> _Quantities:
    """Scales a body to another weight, masses by 1 and rates by 0.75."""
    own = quantities["body", "BW"]
    if BW is None:
        return quantities
    if not own / _LARGEST_CHANGE <= BW <= own * _LARGEST_CHANGE:
        raise ValueError(
            f"BW must lie between {own / _LARGEST_CHANGE:.4g} and {own * _LARGEST_CHANGE:.4g} kg for this "
            f"{species}, whose reference weighs {own:.4g} kg, but is {BW}. For a body of another size use "
            "allometry.map."
        )
    power = {"BW": 1.0, "mass": 1.0, "flow": SIZE_EXPONENT, "CO": SIZE_EXPONENT, "GFR": SIZE_EXPONENT}
    return {key: value * (BW / own) ** power.get(key[1], 0.0) for key, value in quantities.items()}


def _body(species: str, sex: float, age: float, quantities: _Quantities) -> Physiology:
    def tensor(value: float | list[float]) -> Tensor:
        return torch.tensor(value, dtype=torch.float64)

    def of_body(quantity: str) -> Tensor:
        return tensor(quantities.get(("body", quantity), math.nan))

    BW, CO = quantities["body", "BW"], quantities["body", "CO"]
    return Physiology(
        species=species,
        sex=tensor(sex),
        age=tensor(age),
        height=of_body("height"),
        BW=tensor(BW),
        HCT=of_body("HCT"),
        GFR=of_body("GFR"),
        CO=tensor(CO),
        M=tensor(_closed(quantities, "mass", BW)),
        Q=tensor(_closed(quantities, "flow", CO)),
    )


def _closed(quantities: _Quantities, quantity: str, total: float) -> list[float]:
    """Returns the organs' values in order, with the rest that closes them on ``total``."""
    without = WITHOUT_FLOW if quantity == "flow" else ()
    named = [0.0 if organ in without else quantities[organ, quantity] for organ in ORGANS[:-1]]
    return [*named, total - math.fsum(named)]
