"""Bodies of people of whom nothing is given, by compiled kernels: what :mod:`vpop.coordinates` does, faster.

The laws and rooms of :mod:`vpop.limits` are written down as shares of sizes. Those that sex and age decide
change only at whole months: they are asked once for every month, and looked up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pbpk.laws import (
    LAWS,
    OF_REFERENCE,
    REFERENCE_ORGANS,
    mass_band_by_size,
    reference_mass,
    reference_masses,
)
from pbpk.laws.reference import reference_people
from pbpk.physiology import Physiology
from vpop import coordinates_kernel as kernel
from vpop import limits
from vpop.coordinates import L_PER_H, WHO, Coordinates, blank
from vpop.coordinates_kernel import BY_HEIGHT, ENDS, SIZES, Parts
from vpop.growth import GRID, among_knots
from vpop.limits import FLOW_ORDER, MASS_ORDER, ML_PER_MIN, PER_KG, Room, band, perfusable, times

Bounds = tuple[Tensor, Tensor]

_OLDEST = 100  # years: no law changes later
_BY_SIZE = tuple(dict.fromkeys(law.organ for law in LAWS if law.organ and not law.of_reference))


class Cut(NamedTuple):
    """A law, or room, that bounds a part as a share of one of :data:`vpop.coordinates_kernel.SIZES`.

    Attributes:
        part: The part.
        size: What it is a share of.
        shares: Takes people, returns the shares; None where they are given to the kernel for each body.
    """

    part: str
    size: str
    shares: Callable[[Physiology], Bounds] | None = None


class Stage(NamedTuple):
    """Parts that are drawn together.

    Attributes:
        parts: Their names.
        wholes: Of which size the room of each is a share.
        rooms: Their rooms.
        cuts: What bounds them further.
    """

    parts: Sequence[str]
    wholes: Sequence[str]
    rooms: Sequence[Room]
    cuts: Sequence[Cut]


def _whole(organ: str) -> str:
    return organ if organ in OF_REFERENCE else "BSA" if organ == "skin" else "BW"


def _lawful(organ: str, room: Room) -> Room:
    """Returns the room that the laws leave to an organ's share of its reference mass, if it has one."""
    lower, upper = OF_REFERENCE.get(organ, (0.0, math.inf))
    return room._replace(lower=max(room.lower, lower), upper=min(room.upper, upper))


_STAGES = (
    Stage(
        MASS_ORDER,
        [_whole(organ) for organ in MASS_ORDER],
        [_lawful(organ, room) for organ, room in zip(MASS_ORDER, limits.MASS_ROOMS, strict=True)],
        [
            *(Cut(organ, "1") for organ in _BY_SIZE),
            Cut("liver", "CO", lambda p: perfusable(band("C13", p), band("C17", p))),
            Cut("kidney", "CO", lambda p: perfusable(band("C14", p), band("C16", p))),
        ],
    ),
    Stage(
        FLOW_ORDER,
        ["CO"] * len(FLOW_ORDER),
        limits.FLOW_ROOMS,
        [
            Cut("brain", "M_brain", lambda p: times(band("C15", p), PER_KG / 100.0)),
            Cut("heart", "M_heart", lambda p: times(band("C18", p), PER_KG)),
            Cut("kidney", "CO", lambda p: band("C14", p)),
            Cut("kidney", "M_kidney", lambda p: times(band("C16", p), PER_KG)),
            Cut("kidney", "BSA / plasma", limits.filterable),
            Cut("liver", "CO", lambda p: band("C13", p)),
            Cut("liver", "M_liver", lambda p: times(band("C17", p), PER_KG)),
        ],
    ),
    Stage(
        ENDS,
        ["plasma flow", "M_adipose", "M_bone"],
        [limits.FILTERED, limits.FAT, limits.MINERAL],
        [
            Cut("GFR", "BSA", lambda p: times(band("C12", p), ML_PER_MIN / 1.73)),
            Cut("GFR", "plasma flow", lambda p: (0.0 * p.age, limits.filtration_limit(p))),
            Cut("FAT", "BW", lambda p: (0.0 * p.age, torch.full_like(p.age, limits.FAT_OF_BODY))),
        ],
    ),
)
_CUTS = [cut for stage in _STAGES for cut in stage.cuts]


def decode(coordinates: Coordinates, free: Tensor, people: Mapping[str, Tensor]) -> Physiology | None:
    """Maps free numbers to bodies as :meth:`vpop.coordinates.Coordinates.decode` does.

    Returns:
        The bodies; None if a sex is unknown, or the bounds cannot meet a body's weight or cardiac output.
    """
    sex, age = people["sex"].contiguous(), people["age"].contiguous()
    if bool(((sex != 0) & (sex != 1)).any()):
        return None
    ages, of_who, of_inside = _laws()
    since = torch.searchsorted(ages, age, right=True) - 1
    common = (free.contiguous().numpy(), sex.numpy(), since.numpy())
    body, SCR = _seen(coordinates, people, common, of_who)

    bands = mass_band_by_size(body)
    by_size = torch.stack([bound for organ in _BY_SIZE for bound in bands[organ]])
    brain = reference_mass("brain", body.sex, body.age, body.height)
    sizes = torch.stack([body.height, body.HCT, body.BW, body.BSA, body.CO, brain])
    tables = (of_inside, by_size.numpy(), sizes.numpy(), *_references(), *_parts())
    M, Q, rest = torch.empty_like(body.M), torch.zeros_like(body.Q), body.age.new_empty(3, len(body.age))
    if not kernel.inside(*common, *tables, M.numpy(), Q.numpy(), rest.numpy()):
        return None
    SCR = torch.where(coordinates.tested(body.age), SCR, torch.nan)
    return body.replace(M=M, Q=Q, SCR=SCR, **dict(zip(ENDS, rest, strict=True)))


def _seen(
    coordinates: Coordinates, people: Mapping[str, Tensor], common: tuple[np.ndarray, ...], laws: np.ndarray
) -> tuple[Physiology, Tensor]:
    """Returns bodies with height, BW, HCT and CO, and the creatinine of those who have one."""
    charts = torch.cat([coordinates.charts[name].quantiles for name in WHO], -1)
    knots, at = among_knots(people["age"])
    seen = at.new_empty(len(WHO) + 1, len(at))
    kernel.who(*common, laws, at.numpy(), charts.numpy(), knots.numpy(), *GRID, seen.numpy())
    height, BMI, HCT, SCR, index = seen
    body = blank(people).replace(height=height, BW=BMI * (height / 100.0) ** 2, HCT=HCT)
    return body.replace(CO=L_PER_H * body.BSA * index), SCR


@cache
def _laws() -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Returns from which ages [year] on other laws hold, and by sex and these the laws, (2, ages, c).

    First those of who people are, then those of what is inside.
    """
    ages = torch.arange(12 * _OLDEST + 1, dtype=torch.float64) / 12.0
    sex = torch.arange(2.0, dtype=torch.float64)[:, None].expand(-1, len(ages))
    people = blank({"sex": sex, "race": torch.zeros_like(sex).long(), "age": ages.expand_as(sex)})
    tables = [torch.stack(columns(people), -1) for columns in (_who_columns, _inside_columns)]
    both = torch.cat(tables, -1)
    new = torch.ones_like(ages, dtype=torch.bool)
    new[1:] = (both[:, 1:] != both[:, :-1]).any(-1).any(0)
    of_who, of_inside = (table[:, new].numpy() for table in tables)
    return ages[new], of_who, of_inside


def _who_columns(people: Physiology) -> list[Tensor]:
    """Returns the logarithms of the bounds of :data:`WHO`, and the cardiac index as the kernel has it."""
    columns = [torch.log(bound) for name in WHO for bound in limits.drawn(name, people)]
    index = limits.cardiac_index(people).inside()
    scores = [(torch.log(bound) - index.centre) / index.spread for bound in (index.lower, index.upper)]
    return [*columns, *scores, index.centre, index.spread]


def _inside_columns(people: Physiology) -> list[Tensor]:
    return [bound for cut in _CUTS if cut.shares is not None for bound in cut.shares(people)]


@cache
def _references() -> tuple[np.ndarray, np.ndarray]:
    """Returns the logarithms of reference masses by sex and height (2, knots, organs), and of the heights.

    They are straight lines between the reference people of both sexes, and go on beyond them.
    """
    known = sorted({height for sex in "FM" for height, _ in reference_people(BY_HEIGHT[0], sex)})
    heights = torch.tensor([known[0] / 2.0, *known, known[-1] * 2.0], dtype=torch.float64)
    sex = torch.arange(2.0, dtype=torch.float64)[:, None].expand(-1, len(heights))
    masses = reference_masses(sex, torch.zeros_like(sex), heights.expand_as(sex))
    organs = [REFERENCE_ORGANS.index(organ) for organ in BY_HEIGHT]
    return masses[..., organs].log().numpy(), heights.log().numpy()


@cache
def _parts() -> tuple[Parts, ...]:
    """Returns the stages as the kernel reads them; a cut's columns are where it stands among all cuts."""
    first, found = 0, []
    for stage in _STAGES:
        typical, lower, upper, spread = (np.array(column) for column in zip(*stage.rooms, strict=True))
        cuts = [
            (stage.parts.index(cut.part), 2 * column, SIZES.index(cut.size))
            for column, cut in enumerate(stage.cuts, first)
        ]
        whole = np.array([SIZES.index(name) for name in stage.wholes])
        found.append(Parts(whole, lower, upper, typical, spread, np.array(cuts)))
        first += len(stage.cuts)
    return tuple(found)
