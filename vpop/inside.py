r"""Bodies of which parts of the inside are given: the parts come back exactly, and every law holds.

A given part is a part of a whole like any other, in an interval without width. What is divided before it must
leave it room: a GFR asks for a kidney's flow (law C19), a flow for an organ (C15-C18) and a cardiac output
(C13, C14), fat for adipose tissue, bone mineral for bone. So the bounds of :mod:`vpop.limits` are first cut
to what the given values need; then the body is divided anew, and the others make room for what is given. Who
cannot have the values is told apart, with the law that forbids it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pbpk.laws import LAWS, mass_band
from pbpk.organs import ORGANS, PERFUSED, PORTAL, indices
from pbpk.physiology import Physiology
from vpop import intervals, limits
from vpop.coordinates import L_PER_H, NAMES, must_lie
from vpop.intervals import MARGIN, Interval
from vpop.limits import FLOW_ORDER, MASS_ORDER, ML_PER_MIN, PER_KG, SLACK

MASSES = tuple(f"M_{organ}" for organ in ORGANS)
FLOWS = tuple(f"Q_{organ}" for organ in PERFUSED)
INSIDE = ("CO", "GFR", "FAT", "BMC", *MASSES, *FLOWS)  # what can be given beside what is seen from outside
_BEDS = ("liver", *PORTAL)  # share what flows into the liver: its artery, and the portal organs
_CLEAR = 1.0 + 10.0 * MARGIN  # keeps what is divided early clear of the bounds of what comes later
_ROUNDING = 1e-12  # of a sum
_PERFUSION = {"brain": ("C15", 0.01), "heart": ("C18", 1.0), "kidney": ("C16", 1.0), "liver": ("C17", 1.0)}
_SHARE = {"kidney": "C14", "liver": "C13"}  # of the cardiac output
_ALONE = {"GFR": ("C12",), **{f"M_{o}": tuple(law.id for law in LAWS if law.organ == o) for o in ORGANS}}
_LAWS: Mapping[str, tuple[str, ...]] = {
    **_ALONE,
    "CO": ("C05", "C06", "C07"),
    "GFR": ("C12", "C19"),
    "M_kidney": ("C27", "C14", "C16"),
    "M_liver": ("C26", "C13", "C17"),
    "Q_brain": ("C15",),
    "Q_heart": ("C18",),
    "Q_kidney": ("C14", "C16", "C19"),
    "Q_liver": ("C13", "C17"),
}
# [ours] What share of an organ its content is: wider than among 20,000 people drawn without anything given,
# 0.55 to 1.21 and 0.15 to 0.43.
_CONTENTS = (("adipose", "FAT", (0.5, 1.25)), ("bone", "BMC", (0.1, 0.5)))
# [ours] And at most of body weight: among 400,000 people drawn without anything given, 0.64 and 0.068.
_MOST_OF_BODY = {"FAT": 0.70, "BMC": 0.08}
Bounds = tuple[Tensor, Tensor]
Given = Mapping[str, Tensor]


@dataclass
class Refused:
    """Who of some bodies cannot have what is given, and why.

    Attributes:
        who: True for them, with shape :math:`(n)`.
    """

    who: Tensor
    _reasons: list[tuple[Tensor, Callable[[int], str]]] = field(default_factory=list)

    def note(self, wrong: Tensor, reason: Callable[[int], str]) -> None:
        """Adds bodies, and what to say of one of them."""
        if bool(wrong.any()):
            self.who = self.who | wrong
            self._reasons.append((wrong, reason))

    def why(self, at: int) -> str:
        """Returns what was first noted against one body."""
        return next(reason(at) for wrong, reason in self._reasons if bool(wrong[at]))

    def placed(self, which: Tensor, rows: Tensor, n: int) -> Refused:
        """Returns what is said of some of the bodies as of the given rows of n bodies."""
        who = torch.zeros(n, dtype=torch.bool)
        who[rows] = self.who[which]
        return Refused(who, [(who, lambda at: self.why(int(which[rows == at])))])


def with_given(body: Physiology, free: Tensor, given: Given) -> tuple[Physiology, Refused]:
    """Puts given values into bodies and divides anew what is not given.

    Arguments:
        body: Lawful bodies of the right sex, age, height and weight, with batch shape :math:`(n)`.
        free: The free numbers of what is not given, with shape :math:`(n, d)`; see :mod:`vpop.coordinates`.
        given: By name of :data:`INSIDE`, values with shape :math:`(n)`, NaN where nothing is given.

    Returns:
        The bodies, and which of them cannot have what is given: these stay as they were.
    """
    refused = Refused(torch.zeros_like(body.BW, dtype=torch.bool))
    made = _Maker(given, dict(zip(NAMES, free.unbind(-1), strict=True)), body, refused).make()
    return chosen(refused.who, body, made), refused


def closed(given: Given) -> dict[str, Tensor]:
    """Adds the weight where all masses are given and it is not, and the cardiac output for the flows."""
    found = dict(given)
    for total, parts in (("BW", MASSES), ("CO", FLOWS)):
        if set(parts) <= set(given):
            whole = torch.stack([given[name] for name in parts]).sum(0)
            stated = given.get(total, torch.full_like(whole, torch.nan))
            found[total] = torch.where(torch.isnan(stated), whole, stated)
    return found


def chosen(which: Tensor, first: Physiology, second: Physiology) -> Physiology:
    """Returns the bodies of ``first`` where ``which`` holds, shape (n), and of ``second`` elsewhere."""
    others = second.tensors()
    both = {name: (value, others[name]) for name, value in first.tensors().items()}
    return second.replace(
        **{n: torch.where(which.view(-1, *[1] * (a.dim() - 1)), a, b) for n, (a, b) in both.items()}
    )


@dataclass
class _Maker:
    """Makes bodies, one quantity after another, each within what those before it leave.

    Attributes:
        given: The given values, NaN where nothing is given.
        free: The free numbers by name.
        body: The bodies as far as they are made.
        refused: Who cannot have what is given.
    """

    given: Given
    free: Given
    body: Physiology
    refused: Refused

    def make(self) -> Physiology:
        """Makes what can be given, in the order of :mod:`vpop.coordinates`."""
        self._refuse_alone()
        self._put(CO=self._one("CO", _per(limits.cardiac_index(self.body), L_PER_H * self.body.BSA)))
        self._put(M=self._masses())
        self._put(Q=self._flows())
        self._put(GFR=self._one("GFR", limits.filtration(self.body)))
        self._put(FAT=self._one("FAT", limits.fat(self.body)))
        self._put(BMC=self._one("BMC", limits.mineral(self.body)))
        return self.body

    def _refuse_alone(self) -> None:
        """Notes whose GFR, mass, fat or mineral no body of their size has, whatever its other parts."""
        masses = zip(*(bound.unbind(-1) for bound in mass_band(self.body)), strict=True)
        bounds = dict(zip(MASSES, masses, strict=True))
        per_173 = ML_PER_MIN * self.body.BSA / 1.73
        least, most = limits.band("C12", self.body)
        bounds["GFR"] = (least * per_173, most * per_173)
        for name, share in _MOST_OF_BODY.items():
            bounds[name] = (torch.zeros_like(self.body.BW), share * self.body.BW)
        for name, (low, high) in bounds.items():
            known = self._known(name)
            self._refuse(name, (known < low) | (known > high), (low, high), known, _ALONE.get(name))

    def _put(self, **values: Tensor) -> None:
        self.body = self.body.replace(**values)

    def _known(self, name: str) -> Tensor:
        """Returns what is given of a column, NaN where nothing is, with shape (n)."""
        value = self.given.get(name)
        return torch.full_like(self.body.BW, torch.nan) if value is None else value

    def _one(self, name: str, interval: Interval) -> Tensor:
        """Makes one quantity in its interval."""
        known = self._known(name)
        needed = self._output_needed() if name == "CO" else None
        value = intervals.decode(self.free[name], self._cut(name, interval, known, needed))
        return torch.where(torch.isnan(known), value, known)

    def _masses(self) -> Tensor:
        """Makes the masses, in the order of ORGANS."""
        known = {organ: self._known(f"M_{organ}") for organ in ORGANS}
        parts, needed = limits.masses(self.body), self._masses_needed()
        return self._exact("M_", self._divided("M_", MASS_ORDER, self.body.BW, parts, known, needed))

    def _flows(self) -> Tensor:
        """Makes the flows, in the order of ORGANS; at first the liver stands for all its beds."""
        known = {organ: self._known(f"Q_{organ}") for organ in PERFUSED}
        known["liver"] = self._beds().sum(-1)  # known where all of them are
        parts, needed = limits.flows(self.body), self._flows_needed()
        Q = self._divided("Q_", FLOW_ORDER, self.body.CO, parts, known, needed)
        Q[..., indices(list(_BEDS))] = self._parted(Q[..., ORGANS.index("liver")])
        return self._exact("Q_", Q)

    def _exact(self, prefix: str, values: Tensor) -> Tensor:
        """Returns values of organs with those that are given to the last digit."""
        known = torch.stack([self._known(prefix + organ) for organ in ORGANS], -1)
        return torch.where(torch.isnan(known), values, known)

    def _divided(
        self,
        prefix: str,
        order: list[str],
        total: Tensor,
        parts: Interval,
        known: Given,
        needed: Mapping[str, Bounds],
    ) -> Tensor:
        """Divides a total among organs, in the order of ORGANS."""
        each = [
            self._cut(prefix + organ, Interval(*fields), known[organ], needed.get(organ))
            for organ, *fields in zip(order, *(part.unbind(-1) for part in parts), strict=True)
        ]
        cut = Interval(*(torch.stack(fields, -1) for fields in zip(*each, strict=True)))
        self._refuse_unmet(prefix, total, cut.inside())
        free = torch.stack([self.free[prefix + organ] for organ in order[:-1]], -1)
        return limits.in_organ_order(intervals.split(free, total, cut), order)

    def _cut(self, name: str, interval: Interval, known: Tensor, needed: Bounds | None) -> Interval:
        """Returns an interval without width where a value is known, elsewhere cut to what is needed."""
        free = torch.isnan(known)
        if needed is None and bool(free.all()):
            return interval
        cut = interval if needed is None else interval.within(*needed)
        low, high = interval.inside()[:2]
        self._refuse(name, (known < low) | (known > high), (low, high), known)
        if needed is not None:
            empty = free & (cut.inside().lower > cut.inside().upper)
            self._refuse(name, empty, (low, high), torch.where(needed[0] > low, *needed))
        return cut._replace(  # inside() draws bounds together by the margin
            lower=torch.where(free, cut.lower, known / (1.0 + MARGIN)),
            upper=torch.where(free, cut.upper, known / (1.0 - MARGIN)),
        )

    def _refuse(
        self, name: str, wrong: Tensor, bounds: Bounds, asked: Tensor, laws: Sequence[str] | None = None
    ) -> None:
        """Notes who is asked for a value outside bounds: one that is given, or that what is given needs."""
        body = self.body

        def reason(at: int) -> str:
            low, high = (float(bound[at]) for bound in bounds)
            applies = [law for law in laws or _LAWS.get(name, ()) if _applies(law, body, at)]
            known = [other for other, value in self.given.items() if not bool(torch.isnan(value[at]))]
            said = "is asked for" if name in known else f"is what {', '.join(known)} must have"
            return f"{must_lie(name, (low, high), applies, body, at)}, but {float(asked[at]):.4g} {said}."

        self.refused.note(wrong, reason)

    def _refuse_unmet(self, prefix: str, total: Tensor, parts: Interval) -> None:
        """Notes whose total the parts cannot meet."""
        least, most = parts.lower.sum(-1), parts.upper.sum(-1)

        def reason(word: str, need: Tensor) -> Callable[[int], str]:
            return lambda at: (
                f"{prefix}* must sum to {float(total[at]):.4g}, but what is given and the laws ask for "
                f"{word} {float(need[at]):.4g}."
            )

        self.refused.note(least > total * (1.0 + _ROUNDING), reason("at least", least))
        self.refused.note(most < total * (1.0 - _ROUNDING), reason("at most", most))

    def _beds(self) -> Tensor:
        """Returns what is given of the liver's artery and the portal organs, with shape (n, 6)."""
        return torch.stack([self._known(f"Q_{organ}") for organ in _BEDS], -1)

    def _parted(self, total: Tensor) -> Tensor:
        """Parts what flows into the liver; beds that are not given share the rest as the free numbers say."""
        known = self._beds()
        ratios = torch.stack([torch.zeros_like(total), *(self.free[f"Q_{o}:artery"] for o in PORTAL)], -1)
        shares = torch.softmax(torch.where(torch.isnan(known), ratios, -torch.inf), -1)
        left = total - torch.nan_to_num(known).sum(-1)
        return torch.where(torch.isnan(known), shares * left[..., None], known)

    def _flows_needed(self) -> dict[str, Bounds]:
        """Returns the bounds of some flows [L/h] by what is given; the liver's is that of all its beds."""
        needed = {organ: _exactly(self._known(f"Q_{organ}")) for organ in ("brain", "heart", "kidney")}
        plasma = 1.0 - self.body.HCT
        filtered = self._known("GFR") / (limits.filtration_limit(self.body) * plasma)
        low, high = needed["kidney"]
        beds = self._beds()
        some = _CLEAR * torch.nan_to_num(beds).sum(-1)
        return needed | {
            "kidney": (torch.maximum(low, _CLEAR * torch.nan_to_num(filtered)), high),
            "liver": (some, _exactly(beds.sum(-1))[1]),
        }

    def _masses_needed(self) -> dict[str, Bounds]:
        """Returns between which bounds some masses [kg] lie for the flows and contents that are given."""
        needed = {}
        for organ, (low, high) in self._flows_needed().items():
            least, most = self._perfusion(organ)
            needed[organ] = (_CLEAR * low / most, high / least / _CLEAR)
        for organ, content, (thin, rich) in _CONTENTS:
            low, high = _exactly(self._known(content))
            needed[organ] = (_CLEAR * low / rich, high / thin / _CLEAR)
        return needed

    def _output_needed(self) -> Bounds:
        """Returns between which bounds the output [L/h] lies for the masses and flows that are given."""
        flows = torch.stack([torch.nan_to_num(self._known(name)) for name in FLOWS]).sum(0)
        bounds = [(flows, torch.full_like(flows, torch.inf))]
        for organ, law in _SHARE.items():
            least, most = limits.band(law, self.body)
            low, high = self._flows_needed()[organ]
            bounds.append((_CLEAR * low / most, high / least / _CLEAR))
            thin, thick = self._perfusion(organ)
            low, high = _exactly(self._known(f"M_{organ}"))
            bounds.append((SLACK * low * thin / most, high * thick / least / SLACK))
        return limits.meet(*bounds)

    def _perfusion(self, organ: str) -> Bounds:
        """Returns the band of the flow per mass of an organ [L/h/kg]."""
        law, unit = _PERFUSION[organ]
        return limits.times(limits.band(law, self.body), unit * PER_KG)


def _applies(law: str, body: Physiology, at: int) -> bool:
    return bool(torch.isfinite(limits.band(law, body)[1][at]))


def _exactly(known: Tensor) -> Bounds:
    """Returns bounds that leave a known value alone, and any other free."""
    return torch.nan_to_num(known), torch.where(torch.isnan(known), torch.inf, known)


def _per(interval: Interval, scale: Tensor) -> Interval:
    """Returns the interval of a quantity times a scale."""
    low, high, centre, spread = interval
    return Interval(low * scale, high * scale, centre + torch.log(scale), spread)
