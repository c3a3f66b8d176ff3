r"""Constraint coordinates: lawful bodies and :math:`\mathbb R^d` in one-to-one correspondence.

A body is written down in an order in which each quantity is bounded by those before it: sex, race, age;
height, body-mass index, haematocrit, creatinine; cardiac output; masses; flows; filtration; fat and bone
mineral. Each bounded quantity becomes one free number (:mod:`vpop.intervals`), and parts of a whole close
on it exactly. Any vector of free numbers is therefore a body that breaks no law, and every such body has
its vector. No column that is a function of others is a coordinate.

The scores are centred on law tables and round textbook shares, never on the regressions of an organ
layer, so that the coordinates flatter no layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.organs import ORGANS, PORTAL, indices
from pbpk.physiology import Physiology
from pbpk.units import unit_of
from vpop import compiled, growth, intervals, limits
from vpop.growth import Growth, Row
from vpop.intervals import Interval
from vpop.limits import FLOW_ORDER, LAWS_OF, MASS_ORDER

WHO = ("height", "BMI", "HCT", "SCR")
NAMES = (
    *WHO,
    "CO",
    *(f"M_{organ}" for organ in MASS_ORDER[:-1]),
    *(f"Q_{organ}" for organ in FLOW_ORDER[:-1]),
    *(f"Q_{organ}:artery" for organ in PORTAL),
    "GFR",
    "FAT",
    "BMC",
)
GIVEN = ("height", "BMI", "BW", "HCT", "SCR")  # what can be asked for beside sex, race and age
L_PER_H = 60.0  # L/min in L/h
_EDGE = 2e-3  # how far inside the bounds that are drawn a value outside them counts to stand


class Impossible(ValueError):
    """A request that no lawful body can meet."""


@dataclass(frozen=True)
class Coordinates:
    """The correspondence, with the growth charts on which height, BMI, haematocrit and creatinine stand.

    Attributes:
        charts: The growth chart of each of :data:`WHO`.
        youngest: The age [year] from which creatinine was known; below it a body has none (NaN).
    """

    charts: Mapping[str, Growth]
    youngest: float = 0.0

    @classmethod
    def fit(cls, people: Physiology, weights: Tensor) -> Coordinates:
        """Learns the growth charts from people of shape (n,) with weights of shape (n,)."""
        charts = {name: Growth.fit(_column(people, name), people.sex, people.age, weights) for name in WHO}
        tested = torch.isfinite(_column(people, "SCR"))
        youngest = float(people.age[tested].min()) if bool(tested.any()) else math.inf
        return cls(charts, youngest)

    def encode(self, bodies: Physiology) -> Tensor:
        """Maps bodies to free numbers.

        Arguments:
            bodies: Bodies with batch shape :math:`(n)`.

        Returns:
            The free numbers, with shape :math:`(n, d)` in the order of :data:`NAMES`; NaN where a value is
            missing, and not finite where a body breaks a law.
        """
        charts = self._rows(bodies)
        who = [_encode_who(name, _column(bodies, name), charts[name], bodies) for name in WHO]
        output = intervals.encode(bodies.CO / (L_PER_H * bodies.BSA), limits.cardiac_index(bodies))
        masses = intervals.join(bodies.M[..., indices(MASS_ORDER)], limits.masses(bodies))
        beds = bodies.Q[..., indices(FLOW_ORDER)].clone()
        artery = bodies.flow("liver")
        beds[..., FLOW_ORDER.index("liver")] = artery + bodies.flow(*PORTAL)
        flows = intervals.join(beds, limits.flows(bodies))
        portal = torch.log(bodies.Q[..., indices(list(PORTAL))] / artery[..., None])
        ends = [
            intervals.encode(bodies.GFR, limits.filtration(bodies)),
            intervals.encode(_column(bodies, "FAT"), limits.fat(bodies)),
            intervals.encode(_column(bodies, "BMC"), limits.mineral(bodies)),
        ]
        first, last = torch.stack([*who, output], dim=-1), torch.stack(ends, dim=-1)
        return torch.cat([first, masses, flows, portal, last], dim=-1)

    def decode(
        self, free: Tensor, people: Mapping[str, Tensor], given: Mapping[str, Tensor] | None = None
    ) -> Physiology:
        """Maps free numbers to bodies, each of which obeys every law.

        Arguments:
            free: The free numbers, with shape :math:`(n, d)`.
            people: Sex, age and race, with shape :math:`(n)`.
            given: Values of :data:`GIVEN` that must come back exactly, with shape :math:`(n)`.

        Raises:
            Impossible: If the bounds cannot meet a body's weight or cardiac output.
        """
        given = given or {}
        if not given and compiled.here(free, people["sex"], people["age"]):
            from vpop import coordinates_compiled

            bodies = coordinates_compiled.decode(self, free, people)
            if bodies is not None:
                return bodies
        each = free.movedim(-1, 0).contiguous()
        free, part = each.movedim(0, -1), dict(zip(NAMES, each, strict=True))
        body = blank(people)
        charts = self._rows(body)
        for name in WHO:
            value = given.get(name)
            if value is None and name == "BMI" and "BW" in given:
                value = given["BW"] / (body.height / 100.0) ** 2
            if value is None:
                standing = intervals.decode(part[name], _interval(name, charts[name], body))
                value = charts[name].value(torch.log(standing))
            if name == "BMI":
                body = body.replace(BW=given.get("BW", value * (body.height / 100.0) ** 2))
            else:
                body = body.replace(**{name: value})
        body = body.replace(CO=L_PER_H * body.BSA * intervals.decode(part["CO"], limits.cardiac_index(body)))
        body = body.replace(M=_divide(free, "M_", body.BW, limits.masses(body), MASS_ORDER))
        body = body.replace(Q=self._decode_flows(free, body))
        body = body.replace(GFR=intervals.decode(part["GFR"], limits.filtration(body)))
        return body.replace(
            FAT=intervals.decode(part["FAT"], limits.fat(body)),
            BMC=intervals.decode(part["BMC"], limits.mineral(body)),
            SCR=torch.where(self.tested(body.age), _column(body, "SCR"), torch.nan),
        )

    def known(self, people: Physiology, given: Mapping[str, Tensor]) -> Tensor:
        """Maps given values to free numbers, NaN for all that is not given, with shape :math:`(n, d)`.

        Raises:
            Impossible: If a value lies outside its law, naming the value, the person and the law; or if
                creatinine is given to someone too young to have one.
        """
        free = people.BW.new_full((*people.shape, len(NAMES)), torch.nan)
        body = people.replace(**{name: value for name, value in given.items() if name in ("height", "BW")})
        wanted = {name: given[name] for name in WHO if name in given}
        if "BW" in given and "height" in given:
            wanted["BMI"] = given["BW"] / (given["height"] / 100.0) ** 2
        charts = self._rows(body)
        if "SCR" in wanted:
            self._refuse_too_young(people)
        for name, value in wanted.items():
            _refuse_outside(name, value, limits.who(name, body), body)
            near = _into_drawn(value, limits.drawn(name, body))
            free[..., NAMES.index(name)] = _encode_who(name, near, charts[name], body)
        return free

    def density(self, name: str, value: Tensor, people: Mapping[str, Tensor]) -> Tensor:
        """Returns how likely people of that sex and age are to have a value; 0 outside the laws.

        Arguments:
            name: One of :data:`WHO`.
            value: The values, with shape :math:`(n)`.
            people: Sex, race and age, with shape :math:`(n)`.
        """
        lower, upper = limits.who(name, blank(people))
        lawful = (value > lower) & (value < upper)
        if name == "SCR":
            lawful = lawful & self.tested(people["age"])
        return lawful * self.charts[name].density(value, people["sex"], people["age"])

    def tested(self, age: Tensor) -> Tensor:
        """Tells who is old enough, to the month, to have a creatinine, with the shape of the ages."""
        return torch.floor(12.0 * age) >= torch.floor(torch.tensor(12.0 * self.youngest))

    def _refuse_too_young(self, people: Physiology) -> None:
        young = people.age[~self.tested(people.age)]
        if len(young):
            raise Impossible(
                f"SCR must be given from {self.youngest:.3g} years on, below which none was learnt, but is "
                f"given at {float(young[0]):.3g} years. Leave it out."
            )

    def _rows(self, people: Physiology) -> dict[str, Row]:
        """Returns what each chart says of people of that sex and age."""
        charts = [self.charts[name] for name in WHO]
        return dict(zip(WHO, growth.rows(charts, people.sex, people.age), strict=True))

    def _decode_flows(self, free: Tensor, body: Physiology) -> Tensor:
        Q = _divide(free, "Q_", body.CO, limits.flows(body), FLOW_ORDER)
        liver = Q[..., ORGANS.index("liver")]
        ratios = torch.exp(torch.stack([free[..., NAMES.index(f"Q_{o}:artery")] for o in PORTAL], dim=-1))
        artery = liver / (1.0 + ratios.sum(-1))
        Q[..., indices(list(PORTAL))] = ratios * artery[..., None]
        Q[..., ORGANS.index("liver")] = artery
        return Q


def _column(bodies: Physiology, name: str) -> Tensor:
    value = getattr(bodies, name)
    return torch.full_like(bodies.BW, torch.nan) if value is None else value


def _interval(name: str, chart: Row, people: Physiology) -> Interval:
    """Returns the interval of e to the power of the growth chart's score, fields of shape (n,)."""
    lower, upper = (torch.exp(chart.score(bound)) for bound in limits.drawn(name, people))
    zero = torch.zeros_like(people.age)
    return Interval(lower, upper, zero, zero + 1.0)


def _encode_who(name: str, value: Tensor, chart: Row, people: Physiology) -> Tensor:
    return intervals.encode(torch.exp(chart.score(value)), _interval(name, chart, people))


def _into_drawn(value: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
    """Moves values that are lawful but never drawn, an infant's, to just inside what is drawn."""
    lower, upper = bounds
    value = torch.where(value <= lower, lower * (1.0 + _EDGE), value)
    return torch.where(value >= upper, upper * (1.0 - _EDGE), value)


def blank(people: Mapping[str, Tensor]) -> Physiology:
    """Returns bodies of which only sex, age and race are known."""
    age = people["age"]
    organs = age.new_full((*age.shape, len(ORGANS)), torch.nan)
    unknown = torch.full_like(age, torch.nan)
    names = ("height", "BW", "HCT", "GFR", "CO", "SCR")
    return Physiology("human", **people, M=organs, Q=organs, **dict.fromkeys(names, unknown))


def _divide(free: Tensor, prefix: str, total: Tensor, parts: Interval, order: list[str]) -> Tensor:
    """Divides a total among organs and returns them in the order of ORGANS."""
    side = intervals.infeasible(total, parts)
    if bool((side != 0).any()):
        who = int(torch.nonzero(side)[0])
        need = parts.lower[who].sum() if side[who] < 0 else parts.upper[who].sum()
        word = "at least" if side[who] < 0 else "at most"
        raise Impossible(
            f"{prefix}* must sum to {float(total[who]):.4g}, but the laws ask for {word} "
            f"{float(need):.4g} in body {who}."
        )
    first = NAMES.index(prefix + order[0])
    values = intervals.split(free[..., first : first + len(order) - 1], total, parts)
    return limits.in_organ_order(values, order)


def _refuse_outside(name: str, value: Tensor, bounds: tuple[Tensor, Tensor], body: Physiology) -> None:
    outside = ~((value > bounds[0]) & (value < bounds[1]))
    if bool(outside.any()):
        at = int(torch.nonzero(outside)[0])
        wanted = must_lie(name, (float(bounds[0][at]), float(bounds[1][at])), LAWS_OF.get(name, ()), body, at)
        raise Impossible(f"{wanted}, but {float(value[at]):.4g} is asked for.")


def unit(name: str) -> str:
    """Returns the unit of a column after a blank, nothing where it has none."""
    found = "kg/m2" if name == "BMI" else unit_of(Physiology, name[0] if name[1] == "_" else name)
    return "" if found == "1" else f" {found}"


def must_lie(name: str, bounds: tuple[float, float], laws: Sequence[str], body: Physiology, at: int) -> str:
    """Says between which bounds laws keep a column of one of these bodies."""
    listed = " and ".join([", ".join(laws[:-1]), *laws[-1:]] if len(laws) > 1 else laws)
    binding = f"by law{'s' if len(laws) > 1 else ''} {listed}" if laws else "to be believed"
    child = bool(body.age[at] < 18.0)
    words = {1.0: "boy", 0.0: "girl"} if child else {1.0: "man", 0.0: "woman"}
    sex = words.get(float(body.sex[at]), "person")
    return (
        f"{name} must lie in ({bounds[0]:.4g}, {bounds[1]:.4g}){unit(name)} for a {sex} "
        f"of {float(body.age[at]):.3g} years {binding}"
    )
