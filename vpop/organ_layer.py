r"""The organ layer: what is inside people, given who they are.

Real people have a sex, an age, a height and a weight; no survey has weighed their organs. This layer puts a
complete body into each, from the equations of the literature (:mod:`vpop.organs`) and the spread of real
people about them, so that its masses sum to the body weight and its flows to the cardiac output:

    people -> fat -> organs, medians x exp(sd z) -> closed on BW -> M
    people -> creatinine -> GFR -> kidney's flow;  cardiac output -> flows -> closed on CO -> Q

Organ masses, flows, cardiac output and filtration were never measured together in the same people: their
joint spread is built, not learnt, and no figure should be read as if it were. Layers go by name: `LAYERS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.organs import ORGANS, PERFUSED, index, indices
from pbpk.physiology import Physiology
from vpop.organs import blood, circulation, composition, viscera
from vpop.organs.closing import close
from vpop.organs.curves import curve
from vpop.organs.height import ORGANS as BY_HEIGHT
from vpop.organs.height import by_height
from vpop.organs.spread import Residuals, log_sd
from vpop.people import People

_Viscera = dict[str, Callable[[People], Tensor]]
_VISCERA: _Viscera = {
    "brain": viscera.brain,
    "gonads": viscera.gonads,
    "heart": viscera.heart,
    "kidney": viscera.kidney,
    "large_intestine": viscera.large_intestine,
    "liver": viscera.liver,
    "lung": viscera.lung,
    "pancreas": viscera.pancreas,
    "skin": viscera.skin,
    "small_intestine": viscera.small_intestine,
    "spleen": viscera.spleen,
    "stomach": viscera.stomach,
    "blood": blood.blood,
}
_DRAWN = ("HCT", "GFR", "CO", "M", "Q", "SCR", "FAT", "BMC")
TRIES = 100


class _Composition(NamedTuple):
    """Fat, bone mineral and masses [kg]."""

    FAT: Tensor
    BMC: Tensor
    M: Tensor


def means(people: People, layer: str = "literature") -> Physiology:
    """Returns the typical body of each person: the layer with every residual at zero.

    Arguments:
        people: Who they are, with shape :math:`(n)`.
        layer: The layer's name, one of :data:`LAYERS`.

    Returns:
        Complete bodies with shape :math:`(n)`. SCR is NaN under two years where it was not measured.

    Raises:
        ValueError: If there is no such layer; the message offers the nearest.

    >>> man = People.of(sex=1, age=[35.0], height=176.0, BW=73.0)
    >>> body = means(man)
    >>> round(body.mass("liver").item(), 2), round(body.M.sum().item(), 9)
    (1.6, 73.0)
    """
    return _layer(layer)(people, Residuals.zero(len(people)))


def draw(
    people: People,
    generator: torch.Generator,
    layer: str = "literature",
    correlation: str = "one-factor",
    laws: bool = False,
) -> Physiology:
    """Draws a body for each person.

    Arguments:
        people: Who they are, with shape :math:`(n)`.
        generator: The source of randomness; the same state, the same bodies.
        layer: The layer's name, one of :data:`LAYERS`.
        correlation: ``"one-factor"``, where viscera share a factor known from animals, or ``"independent"``.
        laws: Whether who breaks a law is drawn again (see :func:`draw_lawful`); a warning tells how many
            people never comply.

    Returns:
        Complete bodies with shape :math:`(n)`. What was measured of a person is what comes back.

    Raises:
        ValueError: If there is no such layer or correlation; the message offers the nearest.
    """
    if not laws:
        return _draw(people, generator, layer, correlation)
    bodies, complied = draw_lawful(people, generator, layer, correlation, TRIES)
    if not complied.all():
        left = int((~complied).sum())
        warnings.warn(f"{left} of {len(people)} people break a law in each of {TRIES} bodies.", stacklevel=2)
    return bodies


def draw_lawful(
    people: People,
    generator: torch.Generator,
    layer: str = "literature",
    correlation: str = "one-factor",
    tries: int = TRIES,
) -> tuple[Physiology, Tensor]:
    """Draws bodies, and for whoever breaks a law another body, up to ``tries`` times in all.

    This truncates the residuals to what the laws allow and leaves the people as they are.

    Returns:
        The bodies, and who of them is lawful, bool with shape :math:`(n)`; the others keep their last body.
    """
    bodies = _draw(people, generator, layer, correlation)
    left = torch.nonzero(~lawful(bodies)).flatten()
    for _ in range(tries - 1):
        if not len(left):
            break
        again = _draw(people[left], generator, layer, correlation)
        for name in _DRAWN:
            getattr(bodies, name)[left] = getattr(again, name)
        left = left[~lawful(again)]
    kept = torch.ones(len(people), dtype=torch.bool)
    kept[left] = False
    return bodies, kept


def lawful(bodies: Physiology) -> Tensor:
    """Returns who can be learnt from, bool with shape :math:`(n)`.

    They break none of the laws that count, and lie inside :func:`vpop.limits.drawn`.
    """
    from pbpk.laws import LAWS

    broken = [law.residual(bodies) > 1.0 for law in LAWS if law.counted]  # NaN: does not apply
    return ~torch.stack([*broken, outside_drawn(bodies)]).any(0)


def outside_drawn(bodies: Physiology) -> Tensor:
    """Returns whose height or BMI the coordinates cannot write, bool with shape :math:`(n)`."""
    from vpop import limits

    outside = []
    for name in ("height", "BMI"):
        lower, upper = limits.drawn(name, bodies)
        value = getattr(bodies, name)
        outside.append((value < lower) | (value > upper))
    return torch.stack(outside).any(0)


def _layer(name: str) -> Callable[[People, Residuals], Physiology]:
    return LAYERS[choose("layer", name, LAYERS)]


def _draw(people: People, generator: torch.Generator, layer: str, correlation: str) -> Physiology:
    inside = _layer(layer)
    unusual = torch.log(people.SCR / circulation.creatinine(people)) / log_sd()["creatinine"]
    return inside(people, Residuals.draw(unusual, composition.fat_with_bone(people), generator, correlation))


def literature(people: People, residuals: Residuals) -> Physiology:
    """Builds bodies from the equations of the literature and given residuals."""
    return _build(people, residuals, _VISCERA)


def height_allometry(people: People, residuals: Residuals) -> Physiology:
    """Builds bodies whose viscera go by sex and height alone; everything else as :func:`literature`."""
    return _build(people, residuals, _VISCERA | {organ: partial(by_height, organ) for organ in BY_HEIGHT})


def _build(people: People, residuals: Residuals, viscera: _Viscera) -> Physiology:
    z = residuals.body
    people = _measured(people, z)
    typical = _masses(people, Residuals.zero(len(people)).body, viscera)
    made = _masses(people, z, viscera)
    CO_typical = circulation.cardiac_output(people)
    CO = CO_typical * torch.exp(curve("output_spread", people.age, people.sex) * z["output"])
    GFR_typical = circulation.filtration(people)
    GFR = GFR_typical * torch.exp(curve("filtration_spread", people.age, people.sex) * z["filtration"])
    at = indices(list(PERFUSED))
    flows = circulation.typical_flows(
        people, _for_flow(people, typical), _renal(people, GFR_typical), CO_typical
    )
    fraction_residual = torch.exp(circulation.perfusion().spread * residuals.flow)[
        :, PERFUSED.index("kidney")
    ]
    flows = circulation.flows(
        flows, _ratio(made.M, typical.M)[:, at], _renal(people, GFR) / fraction_residual, CO, residuals.flow
    )
    Q = torch.zeros_like(made.M)
    Q[:, at] = flows
    Q[:, index("rest")] = 0.0
    Q[:, index("rest")] = CO - Q.sum(-1)
    return Physiology(
        species="human", sex=people.sex, age=people.age, height=people.height, BW=people.BW, HCT=people.HCT,
        GFR=GFR, CO=CO, M=made.M, Q=Q, SCR=people.SCR, FAT=made.FAT, BMC=made.BMC, race=people.race,
    )  # fmt: skip


def _measured(people: People, z: dict[str, Tensor]) -> People:
    """Returns the people with haematocrit and creatinine where they were not measured."""
    sd = log_sd()
    HCT = blood.haematocrit(people) * torch.exp(sd["haematocrit"] * z["haematocrit"])
    SCR = circulation.creatinine(people) * torch.exp(sd["creatinine"] * z["creatinine"])
    return People(
        people.sex, people.age, people.height, people.BW, people.race,
        torch.where(people.HCT.isnan(), HCT, people.HCT), torch.where(people.SCR.isnan(), SCR, people.SCR),
    )  # fmt: skip


def _masses(people: People, z: dict[str, Tensor], viscera: _Viscera) -> _Composition:
    sd = log_sd()
    FAT = composition.fat(people, z["fat"])
    BMC = composition.bone_mineral(people, z["bone_mineral"])
    median = {organ: equation(people) for organ, equation in viscera.items()}
    median |= {
        "adipose": composition.adipose(people, FAT),
        "bone": composition.bone(people, BMC),
        "muscle": composition.muscle(people, FAT),
        "rest": composition.rest(people, FAT),
    }
    parts = torch.stack([median[organ] * torch.exp(sd[organ] * z[organ]) for organ in ORGANS], -1)
    variance = torch.tensor([sd[organ] ** 2 for organ in ORGANS], dtype=torch.float64)
    M = close(parts, people.BW, variance * parts)
    last = index("rest")
    M[:, last] = people.BW - (M.sum(-1) - M[:, last])
    return _Composition(FAT, BMC, M)


def _for_flow(people: People, typical: _Composition) -> dict[str, Tensor]:
    masses = {organ: typical.M[:, index(organ)] for organ in PERFUSED}
    return masses | {"rest": people.BW - typical.FAT}


def _ratio(M: Tensor, typical: Tensor) -> Tensor:
    """Returns how much larger each organ is than typical; the flow of the rest does not follow its mass."""
    ratio = M / typical
    ratio[:, index("rest")] = 1.0
    return ratio


def _renal(people: People, GFR: Tensor) -> Tensor:
    return GFR / (circulation.filtration_fraction(people, GFR) * (1.0 - people.HCT))


LAYERS: dict[str, Callable[[People, Residuals], Physiology]] = {
    "literature": literature,
    "height-allometry": height_allometry,
}
