r"""People of other countries: published anthropometry laid over the reference population.

A table says, by sex and age, the mean and SD, or the quartiles, of height and of BW or BMI. Someone drawn
from the reference population keeps the rank that she has among her sex and age band, and with it the
correlation of height and weight; the value at that rank is the other population's,

.. math:: \ln x' = c + s \, (\ln x - \operatorname{med} \ln x) / \sigma_{ref}

with :math:`s` the SD of the logarithm (by default the reference's own, :math:`\sigma_{ref}`) and :math:`c`
such that the published mean or median comes out. Her body is then drawn with exactly that height and weight.
The shares of ages are those of the reference population, and the equations of organs stay what they are:
[ours], a first approximation where nothing better was measured.
"""

from __future__ import annotations

import csv
import importlib.resources
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.physiology import RACES, Cohort, Physiology
from pbpk.table import Table, read_table
from vpop import limits
from vpop.coordinates import blank
from vpop.patients import Patients, complete
from vpop.pcdm import PCDM

QUANTITIES = ("height", "BW", "BMI")
_STATISTICS = ("mean", "sd", "P25", "median", "P75")
_REFERENCE, _EACH = 4000, 200  # people drawn to know the reference's ranks: in all, and a stratum
_FEWEST = 20  # people of a stratum that a spread is taken of
_QUARTILES = 1.3489795  # between the quartiles of a normal distribution, in SD
_ROUNDS = 20


@dataclass(frozen=True)
class Stratum:
    """What is published of one quantity among one sex and age band.

    Attributes:
        sex: 1 male, 0 female.
        age: From and to [year], the end left out.
        quantity: One of :data:`QUANTITIES`.
        figures: The published statistics among mean, sd, P25, median, P75, in the quantity's unit.
        race: The race that the model is told, a position in RACES, -1 for the one it draws.
    """

    sex: float
    age: tuple[float, float]
    quantity: str
    figures: Mapping[str, float]
    race: int = -1

    def holds(self, sex: Tensor, age: Tensor) -> Tensor:
        """Returns who belongs to the stratum, bool with shape (n)."""
        return (sex == self.sex) & (age >= self.age[0]) & (age < self.age[1])

    def spread(self) -> float | None:
        """Returns the published SD of the logarithm, None where none is."""
        f = self.figures
        if "P25" in f:
            return float(np.log(f["P75"] / f["P25"]) / _QUARTILES)
        if "sd" in f:
            return float(np.log1p((f["sd"] / f["mean"]) ** 2) ** 0.5)
        return None

    def carry(self, value: Tensor, reference: Tensor) -> Tensor:
        """Carries values to the other population by their rank in the reference, shapes (m) and (k)."""
        ln = torch.log(reference)
        centre, sd = ln.median(), ln.std()
        ratio = (self.spread() or float(sd)) / sd
        shape = torch.exp(ratio * (ln - centre))
        level = self.figures["median"] if "median" in self.figures else self.figures["mean"] / shape.mean()
        return level * torch.exp(ratio * (torch.log(value) - centre))


def names() -> list[str]:
    """Returns the populations that ship with the package."""
    return sorted({row["population"] for row in _shipped()})


def _shipped() -> list[dict[str, str]]:
    table = importlib.resources.files("vpop") / "data" / "populations.csv"
    with table.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def load(name_or_path: str) -> list[Stratum]:
    """Returns the strata of a shipped population, or of a table of the user's own.

    The table's columns: sex (M, F), from_age, to_age [year], quantity (height, BW, BMI), and mean and,
    optionally, sd; or P25, median, P75; optionally race, as the model knows it.

    Raises:
        ValueError: If there is no such population, or the table is not one.
        OSError: If there is no such file.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in (".csv", ".parquet"):
        return _strata(read_table(path))
    import pandas as pd

    name = choose("--population", name_or_path, names())
    frame = pd.DataFrame([row for row in _shipped() if row["population"] == name], dtype=object)
    return _strata(Table(f"population {name}", frame))


def _strata(table: Table) -> list[Stratum]:
    table.require(["sex", "from_age", "to_age", "quantity"])
    table.refuse_misspelt((*_STATISTICS, "race"))
    row = np.array([f"{k}" for k in range(1, len(table) + 1)], dtype=object)
    start, end = (table.numbers(name, row) for name in ("from_age", "to_age"))
    sexes, quantities = table.text("sex"), table.text("quantity")
    races = table.text("race") if "race" in table.columns else [""] * len(table)
    numbers = {s: table.numbers(s, row, blank=True) for s in _STATISTICS if s in table.columns}
    strata = []
    for k in range(len(table)):
        choose(f"sex of row {k + 1}", sexes[k], ["M", "F"])
        choose(f"quantity of row {k + 1}", quantities[k], QUANTITIES)
        figures = {s: float(v[k]) for s, v in numbers.items() if np.isfinite(v[k])}
        whole = "mean" in figures or {"P25", "median", "P75"} <= set(figures)
        if not whole or not start[k] < end[k] or min(figures.values()) <= 0:
            raise ValueError(
                f"{table.name} must give a positive mean, or P25, median and P75, and from_age below to_age, "
                f"but row {k + 1} gives {figures} from {start[k]:g} to {end[k]:g} years."
            )
        strata.append(
            Stratum(
                float(sexes[k] == "M"),
                (float(start[k]), float(end[k])),
                quantities[k],
                figures,
                RACES.index(choose(f"race of row {k + 1}", races[k], RACES)) if races[k] else -1,
            )
        )
    _check_both(strata, table.name)
    return strata


def _check_both(strata: list[Stratum], name: str) -> None:
    """Checks that every band has a height, and either a weight or a BMI, and that no two overlap."""
    bands: dict[tuple[float, float, float], set[str]] = {}
    for stratum in strata:
        bands.setdefault((stratum.sex, *stratum.age), set()).add(stratum.quantity)
    for (sex, start, end), found in bands.items():
        if found not in ({"height", "BW"}, {"height", "BMI"}):
            raise ValueError(
                f"{name} must give height and one of BW and BMI for each sex and age band, but gives "
                f"{', '.join(sorted(found))} for {'men' if sex else 'women'} of {start:g} to {end:g} years."
            )
    for (sex, _, end), (other, start, _) in itertools.pairwise(sorted(bands)):
        if sex == other and start < end:
            raise ValueError(
                f"the age bands of {name} must not overlap, but one of {'men' if sex else 'women'} ends at "
                f"{end:g} and another begins at {start:g} years."
            )


def sample(
    model: PCDM,
    population: str,
    n: int,
    seed: int = 0,
    age: tuple[float, float] | None = None,
    sex: str | None = None,
) -> Cohort:
    """Draws people of another population.

    Arguments:
        model: The model.
        population: A name of :func:`names`, or the path of a table (:func:`load`).
        n: How many people.
        seed: The same seed, the same people.
        age: The closed range of ages [year]; by default the ages of the table.
        sex: ``"M"``, ``"F"`` or None for both.

    Returns:
        The cohort; ``provenance["outside"]`` is the share of draws whose height or weight breaks a law and
        that were drawn again.

    Raises:
        ValueError: If the table has no one of these ages, or cannot be met by lawful people.
    """
    strata = load(population)
    low, high = min(s.age[0] for s in strata), max(s.age[1] for s in strata)
    start, end = age or (low, high)
    if not low <= start <= end <= high:
        raise ValueError(f"age must lie in the table's {low:g}:{high:g} years, but is {start:g}:{end:g}.")
    reference = model.sample(max(_REFERENCE, _EACH * len(strata)), 0, age=(low, high)).physiology
    found: list[Patients] = []
    drawn = kept = 0
    for round_ in range(_ROUNDS):
        people = model.sample(n, seed * _ROUNDS + round_, age=(start, end), sex=sex).physiology
        known, inside, lawful = _carried(people, reference, strata)
        drawn += int(inside.sum())
        kept += int(lawful.sum())
        given = {name: value[lawful] for name, value in known.items()}
        race = _told(people, strata)[lawful]
        found.append(Patients(_names(kept), people.sex[lawful], people.age[lawful], race, given))
        if kept >= n:
            break
    else:
        raise ValueError(
            f"population {population!r} must be lawful people, but {kept} of {drawn} draws of its ages were. "
            "Check the units of its height [cm], BW [kg] or BMI, and its bands."
        )
    cohort = complete(model, _first(found, n), seed=seed)
    origin = dict(cohort.provenance) | {
        "generator": "vpop PCDM, other population",
        "population": population,
        "n": n,
        "outside": 1.0 - kept / drawn,
    }
    return Cohort(cohort.physiology, cohort.id, origin)


def _told(people: Physiology, strata: list[Stratum]) -> Tensor:
    """Returns the race that the model is told of each of the people, -1 where it draws one, shape (n)."""
    race = torch.full(people.shape, -1)
    for stratum in strata:
        race[stratum.holds(people.sex, people.age)] = stratum.race
    return race


def _names(n: int) -> np.ndarray:
    return np.arange(1, n + 1).astype(str).astype(object)


def _first(found: list[Patients], n: int) -> Patients:
    def joined(pieces: list[Tensor]) -> Tensor:
        return torch.cat(pieces)[:n]

    given = {name: joined([part.given[name] for part in found]) for name in found[0].given}
    sex, age, race = (joined([getattr(part, name) for part in found]) for name in ("sex", "age", "race"))
    return Patients(_names(n), sex, age, race, given)


def _carried(
    people: Physiology, reference: Physiology, strata: list[Stratum]
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Returns the carried height and weight, who is in a band, and who of them is lawful, of shape (n)."""
    values = {name: getattr(people, name).clone() for name in QUANTITIES}
    of = {name: torch.zeros(people.shape, dtype=torch.bool) for name in QUANTITIES}
    for stratum in strata:
        here = stratum.holds(people.sex, people.age)
        ranks = stratum.holds(reference.sex, reference.age)
        if bool(here.any()) and int(ranks.sum()) < _FEWEST:
            raise ValueError(
                f"a population's age bands must hold {_FEWEST} of {len(reference.BW):,} people drawn, but "
                f"{stratum.age[0]:g} to {stratum.age[1]:g} years holds {int(ranks.sum())}. Widen the band."
            )
        values[stratum.quantity][here] = stratum.carry(
            values[stratum.quantity][here], getattr(reference, stratum.quantity)[ranks]
        )
        of[stratum.quantity] |= here
    BW = torch.where(of["BMI"], values["BMI"] * (values["height"] / 100.0) ** 2, values["BW"])
    who = blank({"sex": people.sex, "race": torch.zeros_like(people.sex).long(), "age": people.age})
    inside = of["height"] & (of["BW"] | of["BMI"])
    lawful = inside.clone()
    for name, value in (("height", values["height"]), ("BMI", BW / (values["height"] / 100.0) ** 2)):
        who = who.replace(**{"height": values["height"], "BW": BW})
        lower, upper = limits.who(name, who)
        lawful = lawful & (value > lower) & (value < upper)
    return {"height": values["height"], "BW": BW}, inside, lawful
