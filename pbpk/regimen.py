r"""Doses: what is given, how, when, and how often.

A regimen is a tuple of doses. It is written as a clinician writes it,

    7.5 mg po
    100 mg iv over 2 h q24h x7
    5 mg/kg iv then 2 mg/kg/h iv over 12 h
    100 mg iv + 200 mg po at 6 h

by this grammar (blanks may be left out where a number meets a unit)::

    regimen   = dose { ("then" | "+") dose }
    dose      = amount unit ["/kg"] ["/h"] route { option }
    unit      = g | mg | ug | ng                       route  = iv | po
    option    = "over" duration | "at" duration | ("q" duration | qd | bid | tid) "x" count
    duration  = number (h | min | d | week)

``+`` counts time from zero; ``then`` counts from the end of the dose before it: the end of its infusion, or,
if it is repeated, when its next repetition would be due.

For the engines a regimen becomes a :class:`Schedule`: the sorted instants :math:`t_k` of all outputs and all
events; the jumps :math:`J_{kd}`, 1 where dose :math:`d` is given at once at :math:`t_k`; and the infusion
rates :math:`R_{kd}` [1/h] that hold from :math:`t_k` to :math:`t_{k+1}`. What enters is linear in the doses'
amounts. An output exactly at a dose time is the state *before* the dose.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.units import convert, quantity

ROUTES: tuple[str, ...] = ("iv", "po")
SAME_TIME = 1e-9
"""Times closer than this [h] are one instant: a computed grid may miss a dose by a rounding error."""

MOST_GIVEN = 1_000_000
"""More often is a slip of the pen: it is every minute for two years."""
FEWEST_HOURS, MOST_HOURS = 1e-3, 1e6
"""Shorter than some seconds or longer than a century [h] is no simulation of a drug."""
MOST_TIMES = 100_000
"""More output times than this fit neither a picture nor the memory."""

_EXAMPLE = "Write it like '7.5 mg po' or '100 mg iv over 2 h q24h x7'."
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_DURATION = rf"({_NUMBER})\s*(hours?|hrs?|h|minutes?|min|days?|d|weeks?)"
_AMOUNT = re.compile(rf"({_NUMBER})\s*(g|mg|ug|mcg|ng)\s*(/\s*kg)?\s*(/\s*(?:h|hr|min))?(?![a-z/])\s*", re.I)
_ROUTE = re.compile(r"([a-z]+)\s*(?:bolus\s*)?", re.I)
_ROUTE_WORDS = {"oral": "po", "orally": "po", "intravenous": "iv"}
_OVER = re.compile(rf"over\s+{_DURATION}(?![a-z])\s*", re.I)
_AT = re.compile(rf"at\s+{_DURATION}(?![a-z])\s*", re.I)
_EVERY = re.compile(rf"(?:q\s*{_DURATION}|(qd|bid|tid))(?![a-z])(?:\s*x\s*(\d+)(?![\d.]))?\s*", re.I)
_BETWEEN = re.compile(r"((?<![\d.]e)\+|\bthen\b)", re.I)  # but the plus of 1e+3
_PER_DAY = {"qd": 1, "bid": 2, "tid": 3}
_PINT_UNIT = {"h": "hour", "m": "minute", "d": "day", "w": "week"}  # by first letter


@dataclass(frozen=True)
class Dose:
    """One dose, or a dose that repeats.

    Attributes:
        time: When it is first given [h]; a number, or a tensor of shape :math:`(*)` with one time a body.
        amount: What is given each time [mg], or [mg/kg] if ``per_kg``; a number, or a tensor of shape
            :math:`(*)` with one amount a body.
        duration: How long each infusion takes [h]; 0 is a bolus.
        route: ``"iv"`` into the veins, or ``"po"`` into the gut.
        interval: The time between repetitions [h]; 0 if there is one.
        count: How many times it is given.
        per_kg: Whether ``amount`` is per kg of body weight.

    Raises:
        ValueError: If a number is negative or not finite, or the parts contradict each other.
    """

    time: float | Tensor = quantity("h")
    amount: float | Tensor = quantity("mg")
    duration: float = quantity("h", default=0.0)
    route: str = "iv"
    interval: float = quantity("h", default=0.0)
    count: int = 1
    per_kg: bool = False

    def __post_init__(self) -> None:
        """Checks each number and that they agree."""
        for name in ("time", "duration", "interval"):
            _check_not_negative(name, getattr(self, name))
        _check_not_negative("amount", self.amount)
        choose("Dose.route", self.route, ROUTES)
        if 0 < self.duration < 1e3 * SAME_TIME:
            raise ValueError(
                f"Dose.duration must be 0 (a bolus) or at least {1e3 * SAME_TIME:g} h, "
                f"but is {self.duration:g} h."
            )
        if self.route == "po" and self.duration:
            raise ValueError(
                f"Dose.duration must be 0 for a dose by mouth, but is {self.duration:g} h; "
                "give several smaller doses instead."
            )
        if self.count > MOST_GIVEN:
            raise ValueError(
                f"Dose.count must be at most {MOST_GIVEN:,}, but is more. Check the number after x."
            )
        if self.count < 1 or (self.count > 1) != (self.interval > 0):
            raise ValueError(
                "Dose.count must be at least 1 and needs an interval exactly when it is more, but "
                f"count is {self.count} and interval {self.interval:g} h. Write q12h x14."
            )

    @property
    def own_times(self) -> bool:
        """Whether each body has its own time, or a gradient with respect to it is wanted."""
        return isinstance(self.time, Tensor) and (self.time.ndim > 0 or self.time.requires_grad)

    @property
    def first(self) -> float:
        """When it is first given [h]; where each body has its own time, to the earliest."""
        return float(self.time.detach().min() if isinstance(self.time, Tensor) else self.time)

    @property
    def end(self) -> float:
        """When what follows by ``then`` begins [h]."""
        return self.first + (self.count * self.interval if self.count > 1 else self.duration)

    def mg(self, BW: Tensor) -> Tensor:
        """Returns the amount given each time [mg] to bodies of weight ``BW`` [kg], with shape of BW."""
        return _each_body("amount", self.amount, BW) * (BW if self.per_kg else torch.ones_like(BW))

    def __str__(self) -> str:
        """Returns the dose as :meth:`Regimen.parse` reads it."""
        parts = [f"{_text(self.amount)} mg{'/kg' if self.per_kg else ''} {self.route}"]
        parts += [f"at {_text(self.time)} h"] if self.own_times or self.first else []
        parts += [f"over {_number(self.duration)} h"] if self.duration else []
        parts += [f"q{_number(self.interval)}h x{self.count}"] if self.count > 1 else []
        return " ".join(parts)


@dataclass(frozen=True)
class Schedule:
    """A regimen laid out on a time axis.

    Attributes:
        time: The instants [h] at which something is given, ends, or is asked for, with shape :math:`(K)`.
        output: Which instants are outputs, T positions, ascending.
        jump: 1 where a dose is given at once, with shape :math:`(K, D)`.
        rate: The share of a dose that is infused per hour after the instant [1/h], with shape :math:`(K, D)`.
        route: The route of each of the D doses.
    """

    time: Tensor
    output: tuple[int, ...]
    jump: Tensor
    rate: Tensor
    route: tuple[str, ...]

    @property
    def infuses(self) -> bool:
        """Whether any dose is an infusion."""
        return bool(self.rate.any())

    def given(self) -> Tensor:
        """Returns how much of each dose's amount has entered before each instant, with shape (K, D)."""
        step = torch.diff(self.time).unsqueeze(-1)
        entered = self.jump[:-1] + step * self.rate[:-1]
        return torch.cat([torch.zeros_like(self.jump[:1]), entered.cumsum(0)])


@dataclass(frozen=True)
class Regimen:
    """What a person is given: doses, each on its own clock.

    >>> print(Regimen.parse("5 mg/kg iv then 2 mg/kg/h iv over 12 h"))
    5 mg/kg iv + 24 mg/kg iv over 12 h
    """

    doses: tuple[Dose, ...] = field(default_factory=tuple)

    @classmethod
    def parse(cls, text: str) -> Regimen:
        """Reads a regimen.

        Arguments:
            text: A regimen in the grammar of this module.

        Raises:
            ValueError: If it cannot be read; the message names the part and gives an example.

        >>> Regimen.parse("250 ug/kg po bid x 4").doses
        (Dose(time=0.0, amount=0.25, duration=0.0, route='po', interval=12.0, count=4, per_kg=True),)
        """
        parts = _BETWEEN.split(str(text).replace("µ", "u").replace("μ", "u"))
        doses: list[Dose] = []
        for position in range(0, len(parts), 2):
            after = position > 0 and parts[position - 1].lower() == "then"
            doses.append(_parse_dose(parts[position].strip(), doses[-1].end if after else None))
        return cls(tuple(doses))

    def __str__(self) -> str:
        """Returns text that :meth:`parse` reads back to an equal regimen."""
        return " + ".join(str(dose) for dose in self.doses)

    def times_of(self, like: Tensor) -> Tensor:
        """Returns when each dose is first given [h] to the bodies of ``like``, with shape :math:`(*, D)`."""
        return torch.stack([_each_body("time", dose.time, like) for dose in self.doses], -1)

    def amounts(self, BW: Tensor) -> Tensor:
        """Returns each dose's amount [mg] for bodies of weight ``BW`` [kg], with shape :math:`(*, D)`."""
        return torch.stack([dose.mg(BW) for dose in self.doses], -1)

    @property
    def own_times(self) -> bool:
        """Whether a dose has its own time in each body."""
        return any(dose.own_times for dose in self.doses)

    def delayed(self, lag: float | Tensor) -> Regimen:
        """Returns the regimen with every dose by mouth later by ``lag`` [h], a number or one a body."""
        _check_not_negative("lag", lag)
        shifted = [replace(dose, time=dose.time + lag) if dose.route == "po" else dose for dose in self.doses]
        return Regimen(tuple(shifted))

    def starts(self, until: float = math.inf) -> list[tuple[int, float]]:
        """Lists what is given up to ``until`` [h]: the number of the dose and the time [h], in time order.

        Of a dose that has its own time in each body the earliest is taken.
        """
        all_starts = [
            (number, dose.first + repeat * dose.interval)
            for number, dose in enumerate(self.doses)
            for repeat in range(dose.count)
        ]
        return sorted((s for s in all_starts if s[1] <= until), key=lambda start: start[1])

    def schedule(self, times: Sequence[float] | Tensor) -> Schedule:
        """Lays the regimen and the output times on one axis.

        Arguments:
            times: The output times [h], ascending, with shape :math:`(T)`.

        Returns:
            The schedule up to the last output; what is given at or after it has no effect.
        """
        asked = torch.as_tensor(times, dtype=torch.float64).tolist()
        starts = self.starts(asked[-1])
        ends = [start + self.doses[number].duration for number, start in starts]
        axis = _merge(sorted([0.0, *asked, *(s for _, s in starts), *ends]), asked[-1])
        jump = torch.zeros(len(axis), len(self.doses), dtype=torch.float64)
        rate = torch.zeros_like(jump)
        for (number, start), end in zip(starts, ends, strict=True):
            first, duration = _find(axis, start), self.doses[number].duration
            if duration == 0:
                jump[first, number] += 1.0
            else:
                rate[first : _find(axis, end), number] += 1.0 / duration
        output = tuple(_find(axis, time) for time in asked)
        route = tuple(dose.route for dose in self.doses)
        return Schedule(torch.tensor(axis, dtype=torch.float64), output, jump, rate, route)

    def times(self, hours: float, points: int = 100) -> Tensor:
        """Chooses output times: about ``points`` even steps, finer just after a dose, where Cmax lies.

        The step divides the shortest interval between doses, so that few distinct steps occur: the linear
        engine pays for each distinct step and not for each point. Of very many doses only the first and the
        last are followed finely.

        Arguments:
            hours: The last time [h].
            points: About how many times there are without the finer ones.

        Returns:
            Ascending times [h] from 0 to ``hours``.

        >>> Regimen.parse("7.5 mg po").times(24, 24)[:6]
        tensor([0.0000, 0.1250, 0.2500, 0.3750, 0.5000, 0.6250], dtype=torch.float64)
        """
        if not FEWEST_HOURS <= hours <= MOST_HOURS:
            raise ValueError(
                f"hours must be positive and lie in [{FEWEST_HOURS:g}, {MOST_HOURS:g}], but is {hours}. "
                "24 is one day."
            )
        if points < 2:
            raise ValueError(f"points must be at least 2, but is {points}. 100 draw a smooth curve.")
        intervals = [d.interval for d in self.doses if 0 < d.interval < hours]
        span = min(intervals, default=hours)
        if max(points, hours / span) > MOST_TIMES:
            raise ValueError(
                f"points and the number of dose intervals must be at most {MOST_TIMES:,}, but they are "
                f"{points} and {hours / span:.4g}. Ask for fewer points or hours."
            )
        step = span / math.ceil(span * points / hours - SAME_TIME)
        grid = [step * k for k in range(math.ceil(hours / step - SAME_TIME) + 1)]
        starts = self.starts(hours)
        events = sorted({e for n, s in starts for e in (s, s + self.doses[n].duration) if e < hours})
        if 16 * len(events) > 4 * points:
            events = [events[0], events[-1]]
        fine = [
            event + step * k / parts
            for event in events
            for first, parts in ((0, 8), (1, 4), (2, 2), (3, 2))
            for k in range(first * parts, (first + 1) * parts)
        ]
        return torch.tensor(_merge(sorted([*grid, *fine, hours]), hours), dtype=torch.float64)


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _text(value: float | Tensor) -> str:
    """Writes a number, or the range of one a body."""
    if isinstance(value, Tensor) and value.ndim:
        return f"{value.min().item():.4g}-{value.max().item():.4g} (one a body)"
    return _number(float(value.detach() if isinstance(value, Tensor) else value))


def _each_body(name: str, value: float | Tensor, like: Tensor) -> Tensor:
    """Returns a number, or one a body, with the shape of ``like``."""
    given = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if given.ndim and given.shape != like.shape:
        raise ValueError(
            f"Dose.{name} must be one number or one for each body {tuple(like.shape)}, "
            f"but has shape {tuple(given.shape)}."
        )
    return given.expand(like.shape)


def _check_not_negative(name: str, value: float | Tensor) -> None:
    values = torch.as_tensor(value).detach()
    wrong = ~(torch.isfinite(values) & (values >= 0))
    if bool(wrong.any()):
        raise ValueError(
            f"Dose.{name} must be finite and not negative, but is {float(values[wrong].reshape(-1)[0]):g}."
        )


def _merge(ascending: list[float], until: float) -> list[float]:
    """Keeps one of each group of times that are the same instant, and none after ``until``."""
    kept: list[float] = []
    for time in ascending:
        if time <= until + SAME_TIME and (not kept or time - kept[-1] > SAME_TIME):
            kept.append(time)
    return kept


def _find(axis: list[float], time: float) -> int:
    """Returns the position of the instant ``time``; past the end, the end."""
    return min(bisect.bisect_left(axis, time - SAME_TIME), len(axis) - 1)


def _hours(number: str, unit: str) -> float:
    return convert(float(number), _PINT_UNIT[unit[0].lower()], "hour")


def _unreadable(text: str, where: str) -> ValueError:
    return ValueError(f"Regimen text must be readable, but {where} in {text!r} is not. {_EXAMPLE}")


def _parse_dose(text: str, after: float | None) -> Dose:
    """Reads one dose; ``after`` is the time at which it follows another one, if it does."""
    amount = _AMOUNT.match(text)
    if not amount:
        raise _unreadable(text, "the amount at the beginning")
    value, unit, per_kg, per_time = amount.groups()
    route = _ROUTE.match(text, amount.end())
    if not route:
        raise _unreadable(text, "the route (iv or po)")
    dose = Dose(
        time=after or 0.0,
        amount=convert(float(value), unit.lower().replace("mcg", "ug"), "mg"),
        route=choose("Dose.route", _ROUTE_WORDS.get(route[1].lower(), route[1].lower()), ROUTES),
        per_kg=bool(per_kg),
    )
    dose = _parse_options(text, route.end(), dose, follows=after is not None)
    if not per_time:
        return dose
    if not dose.duration:
        raise ValueError(f"A dose rate must say how long, but {text!r} does not. Add 'over 12 h'.")
    per_hour = _hours("1", per_time.strip("/ "))
    return replace(dose, amount=dose.amount * dose.duration / per_hour)


def _parse_options(text: str, position: int, dose: Dose, follows: bool) -> Dose:
    """Reads 'over', 'at' and 'q.. x..' in any order, each at most once."""
    changes: dict[str, float | int] = {}
    while position < len(text):
        before = len(changes)
        if found := _OVER.match(text, position):
            changes.setdefault("duration", _hours(*found.groups()))
        elif found := _AT.match(text, position):
            changes.setdefault("time", _hours(*found.groups()))
        elif found := _EVERY.match(text, position):
            number, unit, word, count = found.groups()
            if count is None:
                raise ValueError(f"A repeated dose must say how often, but {text!r} does not. Add 'x7'.")
            every = 24.0 / _PER_DAY[word.lower()] if word else _hours(number, unit)
            changes.setdefault("count", int(min(float(count), MOST_GIVEN + 1)))
            if changes["count"] > 1:  # once is not a repetition
                changes["interval"] = every
        if not found or len(changes) == before:
            raise _unreadable(text, repr(text[position:]))
        position = found.end()
    if follows and "time" in changes:
        raise ValueError(f"A dose may follow by 'then' or come 'at' a time, but {text!r} does both.")
    return replace(dose, **changes)  # type: ignore[arg-type]
