"""A request for people: who is drawn, what they must have exactly, and what they must satisfy.

A ``where`` is taken apart so that little is drawn in vain: bounds on age narrow the ages drawn, parts
about sex, race and age are settled before a body is made, ``column == value`` conditions the model, and
only the rest is left to choosing among what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.laws.exact import column
from pbpk.organs import ORGANS, WITHOUT_FLOW
from pbpk.physiology import RACES, Physiology
from vpop import limits
from vpop.bayes import CANDIDATES, draw_again
from vpop.coordinates import GIVEN, Coordinates, Impossible, blank
from vpop.demographics import OLDEST, Demographics
from vpop.inside import FLOWS, INSIDE, MASSES, closed
from vpop.where import Bound, Range, Where

_SEX = np.array(["F", "M"])
_RACE = np.array(RACES)
_LOUD = 1e9
_MOST_SCR = 30.0  # [ours] mg/dL: no one's; less in umol/L is a newborn's
_MOST_GFR = 24.0  # L/h: the ceiling of C12 in a body surface of 3.5 m2 [ours]
_FIXED = ("age", *GIVEN, *INSIDE)  # what can be asked for exactly


@cache
def columns() -> Mapping[str, Range]:
    """Returns the columns that a request can name, and between which values the laws keep them."""
    found = {
        "age": Range(0.0, OLDEST, reason="the ages of the reference population"),
        "sex": Range(0, 0, ("F", "M")),
        "race": Range(0, 0, RACES),
    }
    found |= {name: _anyone(laws) for name, laws in limits.LAWS_OF.items()}
    flows = [f"Q_{organ}" for organ in ORGANS if organ not in WITHOUT_FLOW]
    BMI, height = found["BMI"], found["height"]
    lightest, heaviest = (b * (h / 100.0) ** 2 for b, h in zip(BMI[:2], height[:2], strict=True))
    found["BW"] = Range(lightest, heaviest, reason="laws C09, C10 and C11")
    parts = ["FAT", "BMC", *(f"M_{organ}" for organ in ORGANS)]
    found |= {name: Range(0.0, heaviest, reason="a part of BW, laws C09, C10 and C11") for name in parts}
    found["eGFR"] = _anyone(("C12",))
    found["SCR"] = Range(0.0, _MOST_SCR, reason="mg/dL, which are umol/L divided by 88.4")
    found["GFR"] = Range(0.0, _MOST_GFR, reason="L/h, which are mL/min divided by 16.7")
    return found | {name: Range(0.0, _LOUD, reason="it is positive") for name in ("CO", *flows)}


def _anyone(laws: tuple[str, ...]) -> Range:
    """Returns the widest bounds that laws leave to anyone, of either sex and any month of age."""
    months = torch.arange(0.0, 12.0 * OLDEST + 1.0, dtype=torch.float64).repeat(2) / 12.0
    sex = torch.arange(2, dtype=torch.float64).repeat_interleave(len(months) // 2)
    people = blank({"sex": sex, "race": torch.zeros_like(sex).long(), "age": months})
    lower, upper = limits.meet(*(limits.band(law, people) for law in laws))
    word = "law" if len(laws) == 1 else "laws"
    return Range(float(lower.min()), float(upper.max()), reason=f"{word} {' and '.join(laws)}")


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        age: The closed range of ages [year].
        sex: 1 male, 0 female, or None for both.
        given: The values that come back exactly.
        before: The parts about sex, race and age alone.
        after: The parts that need a body.
    """

    age: tuple[float, float]
    sex: float | None = None
    given: Mapping[str, float] = field(default_factory=dict)
    before: tuple[Where, ...] = ()
    after: tuple[Where, ...] = ()

    @classmethod
    def make(
        cls,
        age: tuple[float, float],
        sex: str | None,
        where: str | None,
        given: Mapping[str, float] | None,
    ) -> Request:
        """Takes a request apart; see :meth:`vpop.pcdm.PCDM.sample`.

        Raises:
            ValueError: If a part cannot be read or can never hold.
        """
        _refuse_ages(age)
        exact = {} if given is None else dict(given)
        _refuse_values(exact)
        parts = _conjuncts(where)
        bounds = [bound for part in parts for bound in part.bounds()]
        _fix(exact, bounds)
        low, high = _narrow(*age, bounds)
        if low > high:
            raise ValueError(
                f"where must not contradict age, but no age of {age[0]:g}:{age[1]:g} satisfies {where!r}. "
                "Change one of them."
            )
        if "age" in exact:
            if not low <= exact["age"] <= high:
                raise ValueError(
                    f"age must be one, but {exact['age']:g} contradicts the range {low:g}:{high:g}."
                )
            low = high = exact.pop("age")
        exact = _settled(_closed(exact))
        who = {"age", "sex", "race"}
        left = [part for part in parts if not all(_exact(b) for b in part.bounds()) or not part.bounds()]
        _refuse_contradicted(left, exact if sex is None else {**exact, "sex": sex})
        return cls(
            (low, high),
            None if sex is None else float(_SEX.tolist().index(choose("sex", sex, ["F", "M"]))),
            exact,
            tuple(part for part in left if part.columns() <= who),
            tuple(part for part in left if not part.columns() <= who),
        )

    def asked(self) -> dict[str, str | float]:
        """Returns the columns that must come back exactly, for the law E4."""
        exact: dict[str, str | float] = dict(self.given)
        if self.sex is not None:
            exact["sex"] = str(_SEX[int(self.sex)])
        if self.age[0] == self.age[1]:
            exact["age"] = self.age[0]
        return exact

    def text(self) -> str:
        """Writes the request down for the provenance."""
        parts = [f"{self.age[0]:g} <= age <= {self.age[1]:g}"]
        if self.sex is not None:
            parts.append(f"sex == {str(_SEX[int(self.sex)])!r}")
        parts += [f"{name} == {value:.15g}" for name, value in self.given.items()]
        return " and ".join([*parts, *(f"({part.text})" for part in (*self.before, *self.after))])

    def people(
        self,
        demographics: Demographics,
        coordinates: Coordinates,
        n: int,
        generator: torch.Generator,
        inside: Callable[[dict[str, Tensor]], Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draws up to n people of the right sex, race and age, and what each of them is given.

        ``inside`` says how likely people are to have what is given inside: a log density.
        """
        for bound in (bound for part in self.before for bound in part.bounds()):
            if (bound.column, bound.comparison) == ("sex", "=="):
                demographics.refuse_absent(str(bound.value))
        chosen = demographics.of_sex(self.sex) if self.sex is not None else demographics
        people = chosen.draw(CANDIDATES * n if self.given else n, generator, self.age)
        if self.before:
            table = who_table(people["sex"], people["race"], people["age"])
            keep = torch.from_numpy(np.logical_and.reduce([part.holds(table) for part in self.before]))
            people = {name: value[keep] for name, value in people.items()}
        if not self.given or not len(people["age"]):
            return people, {}
        likely = None if inside is None else inside(people)
        return draw_again(people, self.given, n, coordinates, generator, likely)

    def holds(self, bodies: Physiology) -> np.ndarray:
        """Returns who satisfies the parts that need a body, and has what is given inside; shape (m)."""
        held = [np.ones(len(bodies.BW), dtype=bool)]
        held += [(column(bodies, name) == self.given[name]).numpy() for name in INSIDE if name in self.given]
        table = body_table(bodies) if self.after else {}
        return np.logical_and.reduce([*held, *(part.holds(table) for part in self.after)])

    def slack(self, table: Mapping[str, np.ndarray], among: Mapping[str, np.ndarray]) -> Tensor:
        """Returns by how much bodies satisfy those parts, with shape :math:`(m)`; see :meth:`Where.slack`.

        Arguments:
            table: The columns of the bodies, as of :func:`body_table`.
            among: The columns of other people's bodies, which give the unit.
        """
        return torch.from_numpy(np.minimum.reduce([part.slack(table, among) for part in self.after]))

    def told(self, body: Physiology) -> str:
        """Returns what one body has of the columns that those parts name."""
        table = body_table(body)
        names = sorted(set[str]().union(*(part.columns() for part in self.after)))
        return _told((name, table[name][0]) for name in names)

    def too_rare(self, drawn: int, found: int, nearest: str) -> Impossible:
        """Returns the error that says no one is found.

        Arguments:
            drawn: How many people were drawn.
            found: How many of them were found before the search was given up.
            nearest: What the nearest of them has, if that is known.
        """
        met = f"is by only {found}" if found else "by none"
        word = f" The nearest has {nearest}." if nearest else ""
        return Impossible(
            f"where must be met by someone, but {met} of {drawn:,} people drawn: {self.text()}.{word} "
            "Widen it, or fix a column with '=='."
        )


def _refuse_values(given: Mapping[str, float]) -> None:
    """Raises if given values are of no known column, no numbers, or in another unit than ours."""
    for name, value in given.items():
        choose("given", name, _FIXED)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise TypeError(f"given must hold a number for {name}, but holds {value!r}. Write 175.0.")
        if not 0.0 <= value < np.inf:
            raise ValueError(f"given must hold numbers of 0 or more, but {name} is {value}.")
        span = columns()[name]
        if name in ("SCR", "GFR") and value > span.upper:
            raise ValueError(
                f"{name} must be at most {span.upper:g} ({span.reason}), but {value:g} is given."
            )


def _refuse_ages(age: tuple[float, float]) -> None:
    """Raises if ages are no range inside the reference population's."""
    try:
        low, high = map(float, age)
    except (TypeError, ValueError):
        raise TypeError(f"age must be two numbers, (18, 65) say, but is {age!r}.") from None
    if not 0 <= low <= high <= OLDEST:
        raise ValueError(
            f"age must be a range inside 0:{OLDEST:g}, the ages of the reference population, "
            f"but is {low:g}:{high:g}. Write 18:65."
        )


def _conjuncts(where: str | None) -> list[Where]:
    """Returns the parts of a ``where`` that must all hold, once it is known that they can."""
    if where is None:
        return []
    if not isinstance(where, str):
        raise TypeError(f"where must be text, such as 'BMI >= 30', but is {where!r}.")
    parsed = Where.parse(where, columns())
    parsed.refuse_impossible(columns())
    return parsed.conjuncts()


def _fix(exact: dict[str, float], bounds: Sequence[Bound]) -> None:
    """Adds what bounds fix to what is given exactly.

    Raises:
        ValueError: If that is given otherwise, or if nobody has a value of that column exactly.
    """
    for bound in bounds:
        if _exact(bound):
            value = float(bound.value)
            if exact.setdefault(bound.column, value) != value:
                raise ValueError(
                    f"{bound.column} must be one, but is given as {exact[bound.column]:g} and {value:g}."
                )
        elif bound.comparison == "==" and not isinstance(bound.value, str):
            raise ValueError(
                f"where: '==' must fix one of {', '.join(_FIXED[: -len(MASSES + FLOWS)])}, M_<organ>, "
                f"Q_<organ>, but {bound.column} is fixed, which nobody has exactly. Ask for a range: "
                f"{_around(bound)}."
            )


def _refuse_contradicted(parts: Sequence[Where], exact: Mapping[str, float | str]) -> None:
    """Raises if what is given exactly decides against a part: no one need be drawn to see it."""
    known = dict(exact)
    if {"height", "BW"} <= set(known):
        known["BMI"] = float(known["BW"]) / (float(known["height"]) / 100.0) ** 2
    table = {name: np.array([value]) for name, value in known.items()}
    for part in parts:
        if part.columns() and part.columns() <= set(table) and not part.holds(table)[0]:
            said = _told((name, known[name]) for name in sorted(part.columns()))
            raise ValueError(f"where must not contradict what is given, but ({part.text}) does: {said}.")


def _told(values: Iterable[tuple[str, float | str]]) -> str:
    """Returns columns and their values as words."""
    return ", ".join(f"{n} {v if isinstance(v, str) else format(v, '.4g')}" for n, v in values)


def _closed(exact: Mapping[str, float]) -> dict[str, float]:
    """Adds the weight or the cardiac output where all its parts are given."""
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in exact.items()}
    return {name: float(value) for name, value in closed(values).items()}


def _settled(exact: dict[str, float]) -> dict[str, float]:
    """Returns height and weight where two of height, weight and BMI are given; all three must agree.

    Raises:
        ValueError: If they do not.
    """
    height, BW, BMI = (exact.get(name) for name in ("height", "BW", "BMI"))
    if BMI is None or (height is None and BW is None):
        return exact
    if height is not None and BW is not None:
        stated = BW / (height / 100.0) ** 2
        if abs(stated / BMI - 1.0) > 1e-6:
            raise ValueError(
                f"BMI must be BW / (height/100)^2, but BMI {BMI:g} is asked for beside {BW:g} kg and "
                f"{height:g} cm, which make {stated:.4g}. Leave one of the three out."
            )
        return {name: value for name, value in exact.items() if name != "BMI"}
    if height is None and BW is not None:
        return exact | {"height": 100.0 * (BW / BMI) ** 0.5}
    return exact


def _around(bound: Bound) -> str:
    """Returns one per cent around the value of a bound, as a request."""
    low, high = (float(bound.value) * share for share in (0.99, 1.01))
    return f"{low:.4g} <= {bound.column} <= {high:.4g}"


def _exact(bound: Bound) -> bool:
    """Tells whether a bound fixes a column that the model conditions on."""
    return bound.comparison == "==" and bound.column in _FIXED


def _narrow(low: float, high: float, bounds: list[Bound]) -> tuple[float, float]:
    """Narrows the range of ages by the bounds on age."""
    for bound in bounds:
        if bound.column == "age" and not isinstance(bound.value, str):
            if bound.comparison in (">", ">="):
                low = max(low, bound.value)
            if bound.comparison in ("<", "<="):
                high = min(high, bound.value)
    return low, high


def who_table(sex: Tensor, race: Tensor, age: Tensor) -> dict[str, np.ndarray]:
    """Returns sex, race and age as the columns of a cohort file."""
    return {
        "sex": _SEX[sex.long().numpy()],
        "race": np.where(race.numpy() < 0, "", _RACE[race.numpy()]),
        "age": age.numpy(),
    }


def body_table(bodies: Physiology) -> dict[str, np.ndarray]:
    """Returns the columns that a request can name: those of a cohort file, and eGFR [mL/min/1.73 m2]."""
    names = ("height", "BW", "BMI", "HCT", "SCR", "GFR", "CO", "FAT", "BMC")
    race = bodies.race if bodies.race is not None else torch.full(bodies.shape, -1)
    table = who_table(bodies.sex, race, bodies.age)
    table |= {name: value.numpy() for name in names if (value := getattr(bodies, name)) is not None}
    table["eGFR"] = (bodies.GFR / limits.ML_PER_MIN * 1.73 / bodies.BSA).numpy()
    table |= {f"M_{organ}": bodies.M[:, i].numpy() for i, organ in enumerate(ORGANS)}
    return table | {f"Q_{organ}": bodies.Q[:, i].numpy() for i, organ in enumerate(ORGANS)}
