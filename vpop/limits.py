r"""The laws as intervals: between which bounds each part of a body lies, given what is already known.

The bands are those of :mod:`pbpk.laws`, read and not repeated. Where a law ties two quantities, the one
that comes first is bounded so that the second always finds room: the liver by the cardiac output that
must perfuse it, for instance. Bounds marked *room* are not laws: they keep a part positive and finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pbpk.laws import LAWS, REFERENCE_ORGANS, mass_band, nhanes_band, reference_masses
from pbpk.organs import ORGANS, indices
from pbpk.physiology import Physiology
from vpop.intervals import Interval

# Small parts first: what remains at the end is shared by muscle and fat.
MASS_ORDER = [organ for organ in ORGANS if organ not in ("bone", "blood", "rest", "muscle", "adipose")]
MASS_ORDER += ["bone", "blood", "rest", "muscle", "adipose"]
# The liver stands here for artery and portal vein together; muscle takes what remains.
FLOW_ORDER = ["brain", "heart", "kidney", "liver", "gonads", "bone", "skin", "rest", "adipose", "muscle"]


class Room(NamedTuple):
    """A typical value and the bounds, not laws, that keep a part positive and finite: shares of a whole."""

    typical: float
    lower: float
    upper: float
    spread: float = 0.25


_FAR = Room(1.0, 0.01, 100.0)  # of a reference mass, or of the body surface: far outside the laws
# Shares of body weight. Typical values only centre a score: ICRP 89 (2002), table 2.8, adult man.
_MASS_ROOM: Mapping[str, Room] = {
    "gonads": Room(4e-4, 1e-6, 0.01, 0.5),
    "large_intestine": Room(5e-3, 5e-4, 0.04),
    "bone": Room(0.12, 0.015, 0.30),
    "blood": Room(0.075, 0.02, 0.20),
    "rest": Room(0.04, 1e-4, 0.15, 0.5),  # the upper bound is C02
    "muscle": Room(0.35, 0.05, 0.75, 0.12),
    "adipose": Room(0.25, 0.01, 0.80, 0.4),
}
# Shares of cardiac output, typical values from ICRP 89 (2002), table 2.40; the liver's with the portal vein.
_FLOW_ROOM: Mapping[str, Room] = {
    "brain": Room(0.12, 1e-3, 0.80, 0.35),
    "heart": Room(0.04, 1e-3, 0.30),
    "kidney": Room(0.18, 1e-3, 0.50),
    "liver": Room(0.26, 1e-2, 0.80),
    "gonads": Room(5e-4, 1e-7, 0.01, 0.5),
    "bone": Room(0.05, 1e-3, 0.30),
    "skin": Room(0.05, 1e-3, 0.40),
    "rest": Room(0.06, 1e-5, 0.20, 0.5),  # the upper bound is C04
    "adipose": Room(0.06, 1e-3, 0.40, 0.4),
    "muscle": Room(0.17, 1e-2, 0.80),
}
MASS_ROOMS = [_MASS_ROOM.get(organ, _FAR) for organ in MASS_ORDER]
FLOW_ROOMS = [_FLOW_ROOM[organ] for organ in FLOW_ORDER]
FILTERED = Room(0.2, 0.0, 1.0)  # the GFR, of the kidney's plasma flow; the laws C12 and C19 bound it
FAT = Room(0.8, 0.1, 3.0)  # fat as DXA measures it, of adipose tissue
FAT_OF_BODY = 0.9  # and at most so much of body weight
MINERAL = Room(0.25, 0.01, 0.95)  # bone mineral, of bone
SLACK = 1.02  # [ours] how far inside one law a part stays that must leave another law room
LAWS_OF: Mapping[str, tuple[str, ...]] = {"height": ("C11",), "BMI": ("C09", "C10"), "HCT": ("C08",)}
"""The laws that bound what is seen from outside."""
_LAWS_OF_OUTPUT = ("C05", "C06", "C07")
# Muscle [kg] of a man and a woman of 70 kg and 170 cm in the organ layer [ours], carried to other sizes as
# lean mass by DXA goes (11,790 adults of NHANES 2011-2018: weight to the 0.675, height to the 0.702). Law C21
# ends at a BMI of 45, where its bound on fat cuts close to people's muscle: only a score with the centre and
# spread of people is smooth across that edge.
MUSCLE_M, MUSCLE_F = 27.0, 20.2
MUSCLE_BY_BW, MUSCLE_BY_HEIGHT = 0.675, 0.702
_TYPICAL_CI = 3.2  # L/min/m2, between the laws C05 and C06
ML_PER_MIN = 0.06  # mL/min in L/h
PER_KG = 1000.0 * ML_PER_MIN  # mL/min/g in L/h/kg
_HIGH_PLASMA_FLOW = 1200.0  # mL/min per 1.73 m2; below it the two arms of C19 leave no gap
_LAW = {law.id: law for law in LAWS}


def band(law: str, people: Physiology) -> tuple[Tensor, Tensor]:
    """Returns the band of a law where it applies to these people, else (0, infinity), shape :math:`(n)`."""
    lower, upper = _LAW[law].band(people)
    applies = _LAW[law].applies(people)
    return torch.where(applies, lower, 0.0), torch.where(applies, upper, torch.inf)


def meet(*bands: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the band in which all of the bands hold."""
    lowers, uppers = zip(*bands, strict=True)
    return torch.stack(lowers).amax(0), torch.stack(uppers).amin(0)


def times(band: tuple[Tensor, Tensor], scale: Tensor | float) -> tuple[Tensor, Tensor]:
    """Returns a band of shares as a band of what they are shares of."""
    return band[0] * scale, band[1] * scale


def who(name: str, people: Physiology) -> tuple[Tensor, Tensor]:
    """Returns the bounds of height, BMI, haematocrit or creatinine for these people, each of shape (n,).

    No law bounds creatinine: its bounds are room, and far away.
    """
    if name == "SCR":
        return torch.full_like(people.age, 1e-2), torch.full_like(people.age, 1e2)
    return meet(*(band(law, people) for law in LAWS_OF[name]))


def drawn(name: str, people: Physiology) -> tuple[Tensor, Tensor]:
    """Returns the bounds inside which those of :func:`who` are drawn, each of shape (n,).

    They are the laws' own but for infants, of whom the laws allow more than the reference population has:
    on its bounds the coordinates stand, so that those laws can be widened without learning anew.
    """
    bounds = who(name, people)
    if name not in ("height", "BMI"):
        return bounds
    return meet(bounds, nhanes_band(name, people.sex, people.age))


def cardiac_index(people: Physiology) -> Interval:
    """Returns the interval of the cardiac output per body surface [L/min/m2], fields of shape (n,)."""
    bounds = meet(*(band(law, people) for law in _LAWS_OF_OUTPUT))
    return Interval.around(torch.full_like(people.age, _TYPICAL_CI), bounds)


def masses(people: Physiology) -> Interval:
    """Returns the interval of each organ mass [kg], fields of shape (n, 17), in :data:`MASS_ORDER`.

    Arguments:
        people: Sex, age, height, BW and CO are read.
    """
    reference = reference_masses(people.sex, people.age, people.height)
    wholes = dict.fromkeys(_MASS_ROOM, people.BW) | {"skin": people.BSA}
    wholes |= dict(zip(REFERENCE_ORGANS, reference.unbind(-1), strict=True))
    cuts = {
        organ: perfusable(times(band(flow, people), people.CO), band(perfusion, people))
        for organ, flow, perfusion in (("liver", "C13", "C17"), ("kidney", "C14", "C16"))
    }
    by_law = (
        bound.movedim(-1, 0)[indices(MASS_ORDER)].movedim(0, -1) for bound in mass_band(people, reference)
    )
    whole = torch.stack([wholes[organ] for organ in MASS_ORDER]).movedim(0, -1)
    parts = _inside_rooms(MASS_ROOMS, whole)
    parts.centre[..., MASS_ORDER.index("muscle")] = torch.log(_typical_muscle(people))
    return _cut(parts.within(*by_law), MASS_ORDER, cuts)


def _typical_muscle(people: Physiology) -> Tensor:
    """Returns the skeletal muscle [kg] on which its score is centred, with shape (n,)."""
    size = (people.BW / 70.0) ** MUSCLE_BY_BW * (people.height / 170.0) ** MUSCLE_BY_HEIGHT
    return size * torch.lerp(torch.full_like(size, MUSCLE_F), torch.full_like(size, MUSCLE_M), people.sex)


def perfusable(flow: tuple[Tensor, Tensor], perfusion: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the masses [kg] for which some flow [L/h] has a perfusion [mL/min/g] inside its band."""
    per_kg = times(perfusion, PER_KG)
    return flow[0] / per_kg[1] * SLACK, flow[1] / per_kg[0].clamp(min=1e-9) / SLACK


def flows(people: Physiology) -> Interval:
    """Returns the interval of each flow [L/h], fields of shape (n, 10), in :data:`FLOW_ORDER`.

    Arguments:
        people: Sex, age, height, BW, HCT, CO and the organ masses are read.
    """
    CO = people.CO
    scale = {organ: PER_KG * people.mass(organ) for organ in ("brain", "heart", "kidney", "liver")}
    kidney = (times(band("C14", people), CO), times(band("C16", people), scale["kidney"]))
    liver = (times(band("C13", people), CO), times(band("C17", people), scale["liver"]))
    cuts = {
        "brain": times(band("C15", people), scale["brain"] / 100.0),
        "heart": times(band("C18", people), scale["heart"]),
        "kidney": meet(*kidney, times(filterable(people), people.BSA / (1.0 - people.HCT))),
        "liver": meet(*liver),
    }
    whole = CO.expand(len(FLOW_ROOMS), *CO.shape).movedim(0, -1)
    return _cut(_inside_rooms(FLOW_ROOMS, whole), FLOW_ORDER, cuts)


def filterable(people: Physiology) -> tuple[Tensor, Tensor]:
    """Returns the kidney flows [L/h] that leave room for a GFR inside C12 and C19, over BSA / (1 - HCT)."""
    per_173 = ML_PER_MIN / 1.73
    lowest = band("C12", people)[0] * per_173 / filtration_limit(people)
    highest = torch.where(people.age >= 18.0, _HIGH_PLASMA_FLOW * per_173, torch.inf).to(people.age)
    return SLACK * lowest, highest


def filtration_limit(people: Physiology) -> Tensor:
    """Returns the largest filtration fraction: C19 for adults; room, 0.9, for children."""
    return torch.where(people.age >= 18.0, 0.35, 0.9).to(people.age)


def filtration(people: Physiology) -> Interval:
    """Returns the interval of the GFR [L/h], fields of shape (n,), by C12 and C19.

    Arguments:
        people: Sex, age, height, BW, HCT and the kidney's flow are read.
    """
    plasma_flow = people.flow("kidney") * (1.0 - people.HCT)
    clinical = times(band("C12", people), ML_PER_MIN * people.BSA / 1.73)
    bounds = meet(clinical, (FILTERED.lower * plasma_flow, filtration_limit(people) * plasma_flow))
    return Interval.around(FILTERED.typical * plasma_flow, bounds)


def fat(people: Physiology) -> Interval:
    """Returns the interval of fat as DXA measures it: near 0.8 of adipose tissue; the bounds are room."""
    adipose = people.mass("adipose")
    most = torch.minimum(FAT.upper * adipose, FAT_OF_BODY * people.BW)
    return Interval.around(FAT.typical * adipose, (FAT.lower * adipose, most))


def mineral(people: Physiology) -> Interval:
    """Returns the interval of bone mineral: about a quarter of bone; the bounds are room."""
    bone = people.mass("bone")
    return Interval.around(MINERAL.typical * bone, (MINERAL.lower * bone, MINERAL.upper * bone))


def _inside_rooms(rooms: list[Room], whole: Tensor) -> Interval:
    """Returns the interval of each part of a whole of shape (*, k)."""
    typical, lower, upper, spread = whole.new_tensor(rooms).T
    return Interval.around(typical * whole, (lower * whole, upper * whole), spread)


def _cut(parts: Interval, order: list[str], cuts: Mapping[str, tuple[Tensor, Tensor]]) -> Interval:
    """Returns the intervals, some of them cut to tighter bounds."""
    lower, upper = parts.lower.clone(), parts.upper.clone()
    for organ, (low, high) in cuts.items():
        at = order.index(organ)
        lower[..., at] = torch.maximum(lower[..., at], low)
        upper[..., at] = torch.minimum(upper[..., at], high)
    return parts._replace(lower=lower, upper=upper)


def in_organ_order(values: Tensor, order: list[str]) -> Tensor:
    """Puts columns named by ``order`` into the order of ORGANS; organs that are not named are 0."""
    full = values.new_zeros((*values.shape[:-1], len(ORGANS)))
    full[..., [ORGANS.index(organ) for organ in order]] = values
    return full
