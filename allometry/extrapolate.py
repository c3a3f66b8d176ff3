r"""Human clearance, volume and half-life foretold from animals, with intervals that were checked.

The logarithms of a quantity in rat, dog, monkey and human, with that of the unbound fraction in human plasma
for the volume, follow a multivariate Student distribution (:mod:`allometry.student`). Its mean is the fixed
exponent with the bias of each species taken out; its scale says how much each species tells of a human and
of each other. A drug measured in any subset of species is conditioned on just these: nothing is imputed.

.. math:: \ln CL_h \mid \ln CL_{seen} \sim t(m, s), \qquad
          t_{1/2} = \ln 2 \; V_{ss} / CL \quad \text{(the effective half-life)}

The interval is :math:`m \pm q s`: q is the conformal quantile of :math:`|\ln x - m|/s` over drugs that were
left out of the fit (cross-validation), apart for drugs known of one, two and three species, so that it holds
whatever the errors' distribution. The other methods of :data:`METHODS` are :mod:`allometry.scaling`; their
intervals are the quantiles of their own errors over the same drugs.

References:
    Lei, G'Sell, Rinaldo, Tibshirani, Wasserman (2018). Distribution-free predictive inference for
        regression. J Am Stat Assoc 113:1094. https://doi.org/10.1080/01621459.2017.1307116
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from allometry import scaling, student
from allometry.drugs import ANIMALS, Array, Drugs
from allometry.student import Student
from pbpk.checks import choose

if TYPE_CHECKING:
    import pandas as pd

SPECIES: tuple[str, ...] = ("rat", "dog", "monkey")
"""The species that the learnt model reads."""

METHODS: tuple[str, ...] = ("learned", *scaling.METHODS)
LEVELS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
"""The coverages of which an interval can be asked for."""

QUANTITIES: tuple[str, ...] = ("CL", "Vss", "t_half")
WEIGHTS = Path(__file__).parent / "data" / "human_pk.json"
_COLUMNS = {"CL": (), "Vss": (("fu", "human"),)}  # beside the quantity itself in SPECIES and human
_HUMAN = len(SPECIES)  # the position of the human's column
_CORRELATION = 0.8  # between species in the prior, of weight 2 rows; see experiments/drug_scaling.py
_FOLDS = 10
_FEWEST = 20  # errors of a group that a quantile is taken of; fewer share the pooled one
_PER_HOUR = 1e3 / 60.0  # L/kg over mL/min/kg, in h


@dataclass(frozen=True)
class Foretold:
    """What a method says of one quantity in humans.

    Attributes:
        centre: The natural logarithm of the value, with shape (n,); NaN where nothing can be said.
        scale: The scale of its error in the logarithm, with shape (n,).
        species: How many of the species it read were measured, with shape (n,).
    """

    centre: Array
    scale: Array
    species: NDArray[np.int64]


@dataclass(frozen=True)
class Extrapolation:
    """The learnt distributions, and the quantiles of every method's errors.

    Attributes:
        laws: The distribution of each of CL and Vss.
        quantiles: By method, quantity and number of species (``"1"``, ``"2"``, ``"3"``) one quantile for each
            of :data:`LEVELS`.
        seen: The smallest and the largest value of each column that was learnt from.
        origin: What it was learnt from.
    """

    laws: Mapping[str, Student]
    quantiles: Mapping[str, Mapping[str, Mapping[str, list[float]]]]
    seen: Mapping[str, tuple[float, float]]
    origin: Mapping[str, Any]

    def foretell(self, drugs: Drugs, quantity: str, method: str = "learned") -> Foretold:
        """Returns what a method says of CL, Vss or t_half; human values are not looked at."""
        if quantity == "t_half":
            CL, Vss = (self.foretell(drugs, name, method) for name in ("CL", "Vss"))
            centre = Vss.centre - CL.centre + math.log(math.log(2.0) * _PER_HOUR)
            return Foretold(centre, np.hypot(CL.scale, Vss.scale), np.minimum(CL.species, Vss.species))
        if method == "learned":
            return _learned(self.laws[quantity], drugs, quantity)
        centre = np.log(scaling.METHODS[method](drugs, quantity))
        count = (~np.isnan(drugs.columns(quantity, ANIMALS))).sum(1)
        return Foretold(centre, np.where(np.isnan(centre), np.nan, 1.0), np.minimum(count, len(SPECIES)))

    def interval(
        self, drugs: Drugs, quantity: str, method: str = "learned", level: float = 0.9
    ) -> tuple[Array, Array, Array]:
        """Returns the value, the lower and the upper end of its interval, each with shape (n,)."""
        found = self.foretell(drugs, quantity, method)
        at = LEVELS.index(level)
        quantiles = self.quantiles[method].get(quantity, {})
        q = np.array([quantiles.get(str(count), [math.nan] * len(LEVELS))[at] for count in found.species])
        half = q * found.scale
        return np.exp(found.centre), np.exp(found.centre - half), np.exp(found.centre + half)

    def save(self, path: str | Path) -> None:
        """Writes the numbers as JSON, to ten decimals: the last ones differ from run to run."""
        laws = {
            name: {"mean": law.mean.round(10).tolist(), "scale": law.scale.round(10).tolist(), "dof": law.dof}
            for name, law in self.laws.items()
        }
        stored = {"origin": self.origin, "levels": LEVELS, "laws": laws, "seen": self.seen}
        text = json.dumps({**stored, "quantiles": self.quantiles}, indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path | None = None) -> Extrapolation:
        """Reads what :meth:`save` wrote; by default what the package ships.

        >>> Extrapolation.load().laws["CL"].mean.shape
        (4,)
        """
        stored = json.loads(Path(path or WEIGHTS).read_text(encoding="utf-8"))
        laws = {
            name: Student(np.array(law["mean"]), np.array(law["scale"]), law["dof"])
            for name, law in stored["laws"].items()
        }
        seen = {name: (low, high) for name, (low, high) in stored["seen"].items()}
        return cls(laws, stored["quantiles"], seen, stored["origin"])


@cache
def shipped() -> Extrapolation:
    """Returns the numbers that the package ships."""
    return Extrapolation.load()


def fit(drugs: Drugs, seed: int = 0, origin: Mapping[str, Any] | None = None) -> Extrapolation:
    """Learns from drugs whose human values are known.

    Arguments:
        drugs: The drugs; their human clearance and volume may have gaps.
        seed: Of the folds in which the errors of the intervals are found.
        origin: What the drugs are, kept with the numbers.
    """
    errors: dict[str, dict[str, list[tuple[NDArray, Array]]]] = {
        m: {q: [] for q in QUANTITIES} for m in METHODS
    }
    for train, test in folds(len(drugs), _FOLDS, seed):
        apart = Extrapolation(laws_of(drugs.take(train)), {}, {}, {})
        part = drugs.take(test)
        for method in METHODS:
            for quantity in QUANTITIES:
                found = apart.foretell(part, quantity, method)
                miss = np.abs(np.log(observed(part, quantity)) - found.centre) / found.scale
                errors[method][quantity].append((found.species, miss))
    quantiles = {
        method: {quantity: _quantiles(parts) for quantity, parts in by_quantity.items()}
        for method, by_quantity in errors.items()
    }
    seen = {
        f"{species}_{quantity}": (float(np.nanmin(values)), float(np.nanmax(values)))
        for (quantity, species), values in drugs.values.items()
        if quantity in ("CL", "Vss") and species in SPECIES
    }
    return Extrapolation(laws_of(drugs), quantiles, seen, origin or {})


def observed(drugs: Drugs, quantity: str) -> Array:
    """Returns the human value of a quantity, with shape (n,), NaN where it is not known."""
    if quantity == "t_half":
        ratio = drugs.column("Vss", "human") / drugs.column("CL", "human")
        return math.log(2.0) * _PER_HOUR * ratio
    return drugs.column(quantity, "human")


def folds(n: int, k: int, seed: int) -> Iterator[tuple[NDArray, NDArray]]:
    """Gives k times the positions to learn from and the positions left out."""
    order = np.random.default_rng(seed).permutation(n)
    for test in np.array_split(order, k):
        yield np.setdiff1d(order, test), test


def _rows(drugs: Drugs, quantity: str) -> Array:
    """Returns the logarithms that a law is of: the quantity in SPECIES and human, and what goes with it."""
    columns = [drugs.columns(quantity, (*SPECIES, "human"))]
    columns += [drugs.column(*name)[:, None] for name in _COLUMNS[quantity]]
    return np.log(np.concatenate(columns, 1))


def laws_of(drugs: Drugs) -> dict[str, Student]:
    """Learns the distribution of CL and of Vss in the species and in humans."""
    laws = {}
    for quantity in _COLUMNS:
        rows = _rows(drugs, quantity)
        correlation = np.eye(rows.shape[1])
        block = slice(0, _HUMAN + 1)
        correlation[block, block] += _CORRELATION * (1.0 - correlation[block, block])
        laws[quantity] = student.fit(rows, correlation)
    return laws


def _learned(law: Student, drugs: Drugs, quantity: str) -> Foretold:
    rows = _rows(drugs, quantity)
    centre, scale = law.given(rows, _HUMAN)
    count = (~np.isnan(rows[:, :_HUMAN])).sum(1)
    nothing = np.where(count == 0, np.nan, 1.0)
    return Foretold(nothing * centre, nothing * scale, count)


def _quantiles(parts: list[tuple[NDArray, Array]]) -> dict[str, list[float]]:
    """Returns the conformal quantiles of errors for each number of species."""
    count, miss = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    known = ~np.isnan(miss)
    if not known.any():
        return {}
    result = {}
    for number in range(1, len(SPECIES) + 1):
        group = miss[known & (count == number)]
        if len(group) == 0:
            continue
        group = group if len(group) >= _FEWEST else miss[known]
        result[str(number)] = [_conformal(group, level) for level in LEVELS]
    return result


def _conformal(errors: Array, level: float) -> float:
    """Returns the ceil((n + 1) level)-th smallest error, or the largest."""
    rank = math.ceil((len(errors) + 1) * level)
    return round(float(np.sort(errors)[min(rank, len(errors)) - 1]), 4)


def predict(
    drugs: Drugs,
    method: str = "learned",
    level: float = 0.9,
    dose: float | None = None,
    model: Extrapolation | None = None,
) -> pd.DataFrame:
    """Foretells the human kinetics of drugs.

    Arguments:
        drugs: What was measured in animals; human clearances and volumes among it are not looked at.
        method: One of :data:`METHODS`.
        level: The coverage of the intervals, one of :data:`LEVELS`.
        dose: An intravenous dose [mg/kg], of which the area under the curve is told.
        model: What was learnt; by default what the package ships.

    Returns:
        One row a drug: ``drug``, then CL [mL/min/kg], Vss [L/kg], t_half [h], and with a dose AUC [mg h/L],
        each as ``human_X, human_X_lower, human_X_upper``; ``method``, the ``species`` read, and a ``note``
        where something should be known; NaN where a quantity cannot be foretold.

    Raises:
        ValueError: If there is no such method or level, or the dose is not positive.

    >>> rat = Drugs(np.array(["x"], dtype=object), {("CL", "rat"): np.array([40.0])})
    >>> predict(rat)["note"][0]
    'CL rests on rat alone: a wider interval; no Vss of rat, dog or monkey'
    """
    import pandas as pd

    choose("method", method, METHODS)
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(f'{x:g}' for x in LEVELS)}, but is {level:g}.")
    if dose is not None and not 0.0 < dose < math.inf:
        raise ValueError(f"dose must be a positive number of mg/kg, but is {dose:g}.")
    model, drugs = model or shipped(), drugs.without_humans()
    columns: dict[str, Any] = {"drug": drugs.name}
    for quantity in QUANTITIES:
        columns |= _triple(quantity, *model.interval(drugs, quantity, method, level))
    if dose is not None:
        CL, lower, upper = model.interval(drugs, "CL", method, level)
        columns |= _triple("AUC", *(dose * _PER_HOUR / x for x in (CL, upper, lower)))
    columns |= _targets(drugs, columns)
    columns["method"] = method
    columns["species"] = ["+".join(s for s in ANIMALS if (i, s) in known) for i, known in _known(drugs)]
    columns["note"] = [_note(drugs, i, known, method, model) for i, known in _known(drugs)]
    return pd.DataFrame(columns)


def _triple(name: str, value: Array, lower: Array, upper: Array) -> dict[str, Array]:
    return {f"human_{name}": value, f"human_{name}_lower": lower, f"human_{name}_upper": upper}


def _targets(drugs: Drugs, columns: Mapping[str, Any]) -> dict[str, Array]:
    """Returns the doses [mg/kg] that the table's further columns ask for."""
    from allometry.first_dose import recommended_start

    found: dict[str, Array] = {}
    if any(quantity == "NOAEL" for quantity, _ in drugs.values):
        found["starting_dose"] = recommended_start(drugs)
    if ("AUC", "target") in drugs.values:
        per_CL = drugs.column("AUC", "target") / _PER_HOUR
        names = ("", "_lower", "_upper")
        found |= {f"target_dose{name}": per_CL * columns[f"human_CL{name}"] for name in names}
    return found


def _known(drugs: Drugs) -> Iterator[tuple[int, set]]:
    """Gives each drug's position, and (position, species) of every animal that has CL or Vss."""
    for i in range(len(drugs)):
        yield (
            i,
            {
                (i, species)
                for (quantity, species), values in drugs.values.items()
                if quantity in ("CL", "Vss") and not math.isnan(values[i])
            },
        )


def _note(drugs: Drugs, i: int, known: set, method: str, model: Extrapolation) -> str:
    notes: list[str] = []
    alone: dict[str, list[str]] = {}
    read = SPECIES if method == "learned" else ANIMALS
    for quantity in ("CL", "Vss"):
        if method in ("fcim", "liver-flow") and quantity == "Vss":
            continue
        found = [species for species in read if not math.isnan(drugs.column(quantity, species)[i])]
        listed = f"{', '.join(read[:-1])} or {read[-1]}"
        if not found:
            notes.append(f"no {quantity} of {listed}")
        elif len(found) == 1:
            alone.setdefault(found[0], []).append(quantity)
        for species in found:
            low, high = model.seen.get(f"{species}_{quantity}", (0.0, math.inf))
            if not low <= drugs.column(quantity, species)[i] <= high:
                notes.append(f"{species} {quantity} lies outside the {low:.3g} to {high:.3g} seen")
    for species, resting in alone.items():
        verb = "rests" if len(resting) == 1 else "rest"
        notes.insert(0, f"{' and '.join(resting)} {verb} on {species} alone: a wider interval")
    unread = sorted(species for _, species in known if species not in read)
    if unread:
        notes.append(f"{', '.join(unread)} not read by this method")
    return "; ".join(notes)
