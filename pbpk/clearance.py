r"""From what was measured to what a liver, a kidney and a gut wall clear in this body.

In vitro to in vivo: with :math:`M` the body's liver [kg],

.. math:: CL_{int} = \sum_p CL_{int,p} \, M \, F(A) \, \frac{MPPGL(A)}{MPPGL(35)}

over the pathways :math:`p`, each for a kg of adult liver (:mod:`pbpk.in_vitro`); :math:`F` is the maturation
of the enzyme (:mod:`pbpk.ontogeny`). The cells of a gram of liver are taken to mature as its microsomal
protein does [ours], so that one child does not differ between the systems.

Observed: the intrinsic clearance that explains the measured plasma clearance in a reference man (ICRP 89), by
the well-stirred model, scaled to the body by the same factors. An animal is its own reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.compound import Compound
from pbpk.extraction import dispersion, gut_wall, intrinsic_from_plasma, parallel_tube, well_stirred
from pbpk.in_vitro import ABUNDANCE, Pathway
from pbpk.ontogeny import ADULT, OTHER, gut_maturation, maturation, microsomal_protein
from pbpk.organs import PORTAL
from pbpk.partition import HAEMATOCRIT, blood_to_plasma
from pbpk.physiology import Physiology

__all__ = [
    "CLEARANCES",
    "MAN",
    "dispersion",
    "gut_availability",
    "hepatic_flow",
    "hepatic_intrinsic",
    "hepatic_saturable",
    "intrinsic_from_plasma",
    "parallel_tube",
    "renal",
    "well_stirred",
]

CLEARANCES: tuple[str, ...] = ("observed", "in-vitro")
"""Where the intrinsic clearance comes from."""

GUT_CYP3A = 70.5e3
"""CYP3A of the small intestine [pmol]: Paine et al. (1997) J Pharmacol Exp Ther 283:1552; later 70e3."""

VILLI = 18.0 / 39.0
"""The share of the small intestine's flow that reaches the villi: 18 L/h (Yang 2007) of ICRP 89's 39."""

SURFACE = 6600.0
"""The absorbing surface of an adult's small intestine [cm2]: 0.66 m2, Yang (2007)."""


@dataclass(frozen=True)
class Reference:
    """The adult in whom a clearance was observed.

    Attributes:
        BW: The body weight [kg].
        liver: The liver's mass [kg].
        small_intestine: The mass of the small intestine's wall [kg].
        Q: The liver's whole blood flow [L/h].
        GFR: The glomerular filtration rate [L/h].
        HCT: The haematocrit [1]; that of the man is the one at which BP was measured [ours].
    """

    BW: Tensor | float
    liver: Tensor | float
    small_intestine: Tensor | float
    Q: Tensor | float
    GFR: Tensor | float
    HCT: Tensor | float


MAN = Reference(
    BW=73.0,
    liver=1.8,
    small_intestine=0.65,
    Q=0.255 * 390.0,
    GFR=107.3 * 1.9 / 1.73 * 0.06,
    HCT=HAEMATOCRIT,
)
"""ICRP 89 (2002) tables 2.8, 2.9, 2.39, 2.40; GFR of Pottel (2016) doi:10.1093/ndt/gfv454 at 1.9 m2."""


def _reference(physiology: Physiology) -> Reference:
    if physiology.species == "human":
        return MAN
    return Reference(
        physiology.BW,
        physiology.mass("liver"),
        physiology.mass("small_intestine"),
        hepatic_flow(physiology),
        physiology.GFR,
        physiology.HCT,
    )


def hepatic_flow(physiology: Physiology) -> Tensor:
    """Returns the liver's blood flow, hepatic artery and portal vein [L/h], with shape :math:`(*)`."""
    return physiology.flow("liver", *PORTAL)


def _check_species(compound: Compound, physiology: Physiology) -> None:
    if compound.species != physiology.species:
        raise ValueError(
            f"physiology.species must be {compound.species!r}, in which the clearance of {compound.name!r} "
            f"was measured, but is {physiology.species!r}. Give a compound measured in that species."
        )


def _source(compound: Compound, clearance: str) -> str:
    """Returns what the intrinsic clearance is taken from, given what was asked for and what is known."""
    choose("clearance", clearance, CLEARANCES)
    if compound.CL is None:
        return "in-vitro"
    return clearance if compound.pathways else "observed"


def maturity(enzymes: Mapping[str, float], physiology: Physiology) -> Tensor:
    """Returns intrinsic clearance per kg of liver as a share of the adult's: enzymes times protein."""
    if physiology.species != "human":
        return torch.ones_like(physiology.BW)
    protein = microsomal_protein(physiology.age) / microsomal_protein(ADULT)
    shares = enzymes or {OTHER: 1.0}
    active = [share * maturation(name, physiology.age) for name, share in shares.items()]
    return protein * sum(active) / sum(shares.values())


def _scaled(compound: Compound, pathways: Iterable[Pathway], physiology: Physiology) -> Tensor:
    total = torch.zeros_like(physiology.BW)
    for pathway in pathways:
        enzymes = {pathway.enzyme: 1.0} if pathway.enzyme else compound.enzymes
        total = total + pathway.per_kg(physiology.species) * maturity(enzymes, physiology)
    return total * physiology.mass("liver")


def _reference_intrinsic(compound: Compound, person: Reference) -> Tensor:
    """Returns the intrinsic clearance that explains the observed one in the reference adult [L/h]."""
    total = (compound.CL or 0.0) * person.BW
    hepatic = total - _renal_reference(compound, person)
    if float(torch.as_tensor(hepatic).min()) < 0.0:
        raise ValueError(
            f"Compound.CL must be at least the renal clearance, but that of {compound.name!r} is less. "
            "Check CL, CLrenal and filtration."
        )
    return intrinsic_from_plasma(hepatic, person.Q, compound.fup, blood_to_plasma(compound, person.HCT))


def hepatic_intrinsic(compound: Compound, physiology: Physiology, clearance: str = "observed") -> Tensor:
    """Computes the linear unbound intrinsic clearance of the whole liver.

    Arguments:
        compound: The drug.
        physiology: The bodies, with shape :math:`(*)`.
        clearance: ``"observed"`` from the measured plasma clearance; ``"in-vitro"`` from cells, microsomes or
            recombinant enzymes, without its saturable pathways (:func:`hepatic_saturable`). A compound that
            has only one of them takes that.

    Returns:
        The intrinsic clearance [L/h], with shape :math:`(*)`.

    Raises:
        ValueError: If the compound was measured in another species.

    References:
        Barter et al. (2007). Curr Drug Metab 8:33. https://doi.org/10.2174/138920007779315053
    """
    _check_species(compound, physiology)
    if _source(compound, clearance) == "observed":
        person = _reference(physiology)
        per_kg = _reference_intrinsic(compound, person) / person.liver
        return per_kg * physiology.mass("liver") * maturity(compound.enzymes, physiology)
    linear = [pathway for pathway in compound.pathways if not pathway.saturable]
    return _scaled(compound, linear, physiology)


def hepatic_saturable(
    compound: Compound, physiology: Physiology, clearance: str = "observed"
) -> tuple[Tensor, Tensor]:
    r"""Computes the saturable metabolism of the whole liver.

    .. math:: rate = \sum_e V_{max,e} C_u / (K_{m,e} + C_u)

    Arguments: as :func:`hepatic_intrinsic`; an observed clearance is linear and leaves none.

    Returns:
        Vmax [mg/h] with shape :math:`(*, E)`, and Km of the unbound drug [mg/L] with shape :math:`(E)`;
        E is the number of saturable pathways and may be 0.
    """
    _check_species(compound, physiology)
    saturable = [pathway for pathway in compound.pathways if pathway.saturable]
    if _source(compound, clearance) == "observed":
        saturable = []
    # Km refers to the unbound drug of the incubation, as Vmax / Km is divided by fu_inc
    Km = [(pathway.Km or 0.0) * pathway.fu_inc * compound.MW * 1e-3 for pathway in saturable]
    CLint = [_scaled(compound, [pathway], physiology) for pathway in saturable]
    Vmax = [slope * limit for slope, limit in zip(CLint, Km, strict=True)]
    empty = physiology.BW.new_zeros(*physiology.shape, 0)
    return torch.stack(Vmax, -1) if Vmax else empty, torch.tensor(Km, dtype=physiology.BW.dtype)


def _renal_reference(compound: Compound, person: Reference) -> Tensor | float:
    """Returns the renal plasma clearance in the reference adult [L/h]."""
    if compound.filtration is not None:
        return compound.filtration * compound.fup * person.GFR
    if compound.CLrenal is not None:
        return compound.CLrenal * person.BW
    if compound.fe is not None and compound.CL is not None:
        return compound.fe * compound.CL * person.BW
    return 0.0


def renal(compound: Compound, physiology: Physiology) -> Tensor:
    r"""Computes the renal plasma clearance.

    .. math:: CL_R = share \cdot f_u \, GFR \quad \text{or} \quad CL_{R,observed} \, GFR / GFR_{reference}

    where the observed one is given, or is the share fe of the observed clearance.

    Arguments:
        compound: The drug.
        physiology: The bodies, with shape :math:`(*)`.

    Returns:
        The renal plasma clearance [L/h], with shape :math:`(*)`; 0 where none is known.

    Raises:
        ValueError: If the compound was measured in another species.
    """
    _check_species(compound, physiology)
    person = _reference(physiology)
    return _renal_reference(compound, person) * (physiology.GFR / person.GFR)


def gut_availability(compound: Compound, physiology: Physiology, clearance: str = "observed") -> Tensor:
    r"""Computes the share of an absorbed dose that survives the CYP3A of the gut wall.

    The intrinsic clearance of the wall is that of the adult's liver by CYP3A4, times the ratio of the enzyme
    in the two, 70.5 nmol to abundance x MPPGL x liver mass. It goes with the wall's mass and maturation, the
    surface with the wall's mass [ours], the villous flow with the wall's flow;
    :func:`pbpk.extraction.gut_wall` does the rest.

    Arguments: as :func:`hepatic_intrinsic`.

    Returns:
        :math:`F_g` [1], with shape :math:`(*)`: 1 for a drug that CYP3A4 does not metabolise, or without
        Peff, and in animals, whose gut has not been measured so.

    References:
        Yang et al. (2007). Curr Drug Metab 8:676. https://doi.org/10.2174/138920007782109733
    """
    _check_species(compound, physiology)
    hepatic = _adult_CYP3A(compound, clearance) if physiology.species == "human" else None
    if hepatic is None or compound.Peff is None:
        return torch.ones_like(physiology.BW)
    wall = physiology.mass("small_intestine") / MAN.small_intestine
    liver_CYP3A = ABUNDANCE["CYP3A4"] * float(microsomal_protein(ADULT)) * 1e3 * float(MAN.liver)
    CLint = hepatic * GUT_CYP3A / liver_CYP3A * wall * gut_maturation(physiology.age)
    CLperm = compound.Peff * SURFACE * 1e-3 * wall
    return gut_wall(VILLI * physiology.flow("small_intestine"), CLperm, CLint, compound.fu_gut)


def _adult_CYP3A(compound: Compound, clearance: str) -> Tensor | float | None:
    """Returns the intrinsic clearance of the reference man's liver by CYP3A4 [L/h], or None."""
    share = compound.enzymes.get("CYP3A4", 0.0)
    if _source(compound, clearance) == "observed":
        return share * _reference_intrinsic(compound, MAN) if share else None
    total = 0.0
    for pathway in compound.pathways:
        part = float(pathway.enzyme == "CYP3A4") if pathway.enzyme else share
        total += part * pathway.per_kg() * float(MAN.liver)
    return total or None
