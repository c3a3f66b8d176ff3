r"""What a drug does in given bodies: where it goes, where it is lost, and what it leaves behind.

Everything here refers to the unbound drug: an intrinsic clearance, a Km or a permeability-surface product
acts on the unbound concentration of the plasma that leaves the tissue. Whatever is not given is not there: a
drug without ``CLbile`` has no bile, one without ``kge`` no stomach.

What a compound file says of an organ holds for the reference adult of its species. In a body it goes with the
organ's mass, and what the liver metabolises also with the maturation of its enzymes [ours]. Where a file says
what the small intestine metabolises, no other loss in the gut wall is calculated (Fg = 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pbpk.bodies import reference_body
from pbpk.checks import choose
from pbpk.clearance import (
    CLEARANCES,
    gut_availability,
    hepatic_intrinsic,
    hepatic_saturable,
    maturity,
    renal,
)
from pbpk.compound import Compound
from pbpk.elements import BARRIER, TISSUES
from pbpk.graph import COMPARTMENTS, OrganGraph
from pbpk.organs import ORGANS
from pbpk.partition import Kp, blood_to_plasma
from pbpk.physiology import Physiology
from pbpk.units import quantity


def _as_tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)


def _if_given(value: float | None) -> Tensor | None:
    return None if value is None else _as_tensor(value)


def _take_numbers(record: Any) -> None:
    """Makes the numbers, lists and mappings of numbers of a frozen record tensors."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if "unit" in field.metadata and isinstance(value, Mapping):
            object.__setattr__(record, field.name, {key: _as_tensor(part) for key, part in value.items()})
        elif "unit" in field.metadata and value is not None:
            object.__setattr__(record, field.name, _as_tensor(value))


@dataclass(frozen=True)
class BrainBarrier:
    """What passes between the brain's four spaces (:mod:`pbpk.brain`), each with shape :math:`(*)`.

    Attributes:
        PSb: The permeability-surface product of the blood-brain barrier [L/h].
        PSc: That of the barrier between blood and cranial fluid [L/h].
        PSe: That between the brain's mass and its fluid [L/h].
        fum: The unbound fraction in the brain's mass [1].
        fuc: That in its fluid [1].
        CLbout: What the blood-brain barrier carries out actively [L/h].
    """

    PSb: Tensor = quantity("L/h")
    PSc: Tensor = quantity("L/h")
    PSe: Tensor = quantity("L/h")
    fum: Tensor = quantity("1", default=1.0)
    fuc: Tensor = quantity("1", default=1.0)
    CLbout: Tensor = quantity("L/h", default=0.0)

    def __post_init__(self) -> None:
        """Takes plain numbers as tensors."""
        _take_numbers(self)


@dataclass(frozen=True)
class Kinetics:
    r"""What a drug does in these bodies. Every field broadcasts to the bodies' shape :math:`(*)`.

    Attributes:
        Kp: The tissue-to-plasma partition coefficients [1], with shape :math:`(17)` or :math:`(*, 17)`; the
            entry of blood is not used, it is ``BP``.
        BP: The blood-to-plasma ratio [1].
        fup: The unbound fraction in plasma [1].
        CLint: The unbound intrinsic clearance of the whole liver [L/h].
        CLrenal: The renal plasma clearance [L/h].
        ka: The rate at which a dose by mouth leaves the gut's content [1/h].
        Fa: The share of it that is absorbed [1].
        Fg: The share of what is absorbed that survives the gut wall before it enters the body [1]; leave it
            at 1 where enzymes of the gut wall are given below.
        Vmax: The maximal rates of saturable metabolism [mg/h], with shape :math:`(*, E)`.
        Km: The unbound concentrations of half the maximal rate [mg/L], with shape :math:`(E)` or
            :math:`(*, E)`.
        enzymes_in: The organ of each of the E enzymes; the liver if none is named.
        CLint_in: The unbound intrinsic clearance of other organs [L/h], by name.
        PS: The permeability-surface product of each organ that the graph has walled, for the unbound drug
            [L/h], by name.
        kge: The rate at which the stomach empties [1/h], :data:`pbpk.compound.EMPTYING` say, or None: a dose
            is at once where it is absorbed. Not for a ``ka`` that was fitted to plasma, which holds the
            stomach's delay.
        CLbile: The liver's unbound intrinsic clearance into bile [L/h], or None.
        kbile: The rate at which bile empties into the gut [1/h].
        brain: What passes between the four spaces of a brain with its fluid, or None.
        metabolites: What metabolism leaves, by name.
    """

    Kp: Tensor = quantity("1")
    BP: Tensor = quantity("1")
    fup: Tensor = quantity("1")
    CLint: Tensor = quantity("L/h", default=0.0)
    CLrenal: Tensor = quantity("L/h", default=0.0)
    ka: Tensor = quantity("1/h", default=1.0)
    Fa: Tensor = quantity("1", default=1.0)
    Fg: Tensor = quantity("1", default=1.0)
    Vmax: Tensor = quantity("mg/h", default=())
    Km: Tensor = quantity("mg/L", default=())
    enzymes_in: tuple[str, ...] = ()
    CLint_in: Mapping[str, Tensor] = quantity("L/h", default_factory=dict)
    PS: Mapping[str, Tensor] = quantity("L/h", default_factory=dict)
    kge: Tensor | None = quantity("1/h", default=None)
    CLbile: Tensor | None = quantity("L/h", default=None)
    kbile: Tensor | None = quantity("1/h", default=None)
    brain: BrainBarrier | None = None
    metabolites: Mapping[str, Metabolite] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Takes plain numbers and lists as tensors, and checks that the parts fit together."""
        _take_numbers(self)
        if self.Kp.shape[-1:] != (len(ORGANS),):
            raise ValueError(
                f"Kinetics.Kp must end in {len(ORGANS)} organs, but has shape {tuple(self.Kp.shape)}."
            )
        if self.Vmax.shape[-1:] != self.Km.shape[-1:]:
            raise ValueError(
                "Kinetics.Vmax and Km must have one entry an enzyme each, but have shapes "
                f"{tuple(self.Vmax.shape)} and {tuple(self.Km.shape)}."
            )
        if self.enzymes_in and len(self.enzymes_in) != self.Vmax.shape[-1]:
            raise ValueError(
                f"Kinetics.enzymes_in must name an organ for each of the {self.Vmax.shape[-1]} enzymes, "
                f"but names {len(self.enzymes_in)}. Leave it out if all are in the liver."
            )
        for organ in (*self.enzymes_in, *self.CLint_in):
            choose("Kinetics.enzymes_in and CLint_in: an organ", organ, TISSUES)
        if (self.CLbile is None) != (self.kbile is None):
            raise ValueError("Kinetics.CLbile and kbile must both be given or neither: into bile, and out.")
        for name in self.metabolites:
            if not name or ":" in name or name in COMPARTMENTS:
                raise ValueError(
                    f"Kinetics.metabolites must have names of their own without a colon, but one is {name!r}."
                )

    def split(self, graph: OrganGraph) -> OrganGraph:
        """Returns the graph with a wall where the drug has one, and with a brain of four spaces if it does.

        >>> from pbpk.graph import WHOLE_BODY
        >>> Kinetics(Kp=[1.0] * 17, BP=1.0, fup=1.0, PS={"skin": 2.0}).split(WHOLE_BODY).walled
        ('skin',)
        """
        graph = graph.permeable(*self.PS)
        return graph if self.brain is None else graph.with_csf()

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors by name; those of a mapping or a barrier under a name of their own."""
        given: dict[str, Tensor] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                given[field.name] = value
            elif isinstance(value, Mapping) and "unit" in field.metadata:
                given |= {f"{field.name} of {organ}": part for organ, part in value.items()}
            elif isinstance(value, BrainBarrier):
                given |= {part.name: getattr(value, part.name) for part in dataclasses.fields(value)}
        return given

    @property
    def saturable(self) -> bool:
        """Whether any enzyme is saturable, of the drug or of a metabolite: then the system is not linear."""
        return self.Km.numel() > 0 or any(m.kinetics.saturable for m in self.metabolites.values())


@dataclass(frozen=True)
class Metabolite:
    """What metabolism leaves: a second body in which it goes its own way.

    Attributes:
        kinetics: What it does in these bodies.
        share: The share of the parent's metabolism, in every organ, that forms it [1], with shape
            :math:`(*)`.
        weight: Its molecular weight as a share of the parent's [1], with shape :math:`(*)`.
        returns: Whether what its bile carries into the gut becomes the parent again, as a glucuronide does;
            else it is there to be absorbed itself.
    """

    kinetics: Kinetics
    share: Tensor = quantity("1", default=1.0)
    weight: Tensor = quantity("1", default=1.0)
    returns: bool = False

    def __post_init__(self) -> None:
        """Takes plain numbers as tensors."""
        _take_numbers(self)
        if self.returns and self.kinetics.CLbile is None:
            raise ValueError("Metabolite.returns must come with bile, but its kinetics have no CLbile.")


def kinetics(
    compound: Compound,
    physiology: Physiology,
    Kp_method: str = "rodgers-rowland",
    clearance: str = "observed",
) -> Kinetics:
    """Computes what ``compound`` does in the bodies ``physiology``.

    Arguments:
        compound: The drug.
        physiology: The bodies, with shape :math:`(*)`.
        Kp_method: One of :data:`pbpk.partition.METHODS`.
        clearance: One of :data:`pbpk.clearance.CLEARANCES`.
    """
    choose("clearance", clearance, CLEARANCES)
    Vmax, Km = hepatic_saturable(compound, physiology, clearance)
    in_organs, Vmax_in, Km_in = _saturable(compound, physiology)
    wall_known = any(one.organ == "small_intestine" for one in compound.metabolism)
    metabolites = {
        formed.compound.name: Metabolite(
            kinetics(formed.compound, physiology, Kp_method, clearance),
            share=_as_tensor(formed.share),
            weight=_as_tensor(formed.compound.MW / compound.MW),
            returns=formed.returns,
        )
        for formed in compound.metabolites
    }
    return Kinetics(
        Kp=Kp(compound, species=physiology.species, method=Kp_method),
        BP=blood_to_plasma(compound, physiology.HCT),
        fup=torch.as_tensor(compound.fup, dtype=torch.float64),
        CLint=hepatic_intrinsic(compound, physiology, clearance),
        CLrenal=renal(compound, physiology),
        ka=_as_tensor(compound.ka),
        Fa=_as_tensor(compound.Fa),
        Fg=_as_tensor(1.0) if wall_known else gut_availability(compound, physiology, clearance),
        Vmax=torch.cat([Vmax, Vmax_in], -1),
        Km=torch.cat([Km, Km_in]),
        enzymes_in=("liver",) * len(Km) + in_organs,
        CLint_in=_linear(compound, physiology),
        PS={organ: PS * _size(organ, physiology) for organ, PS in compound.PS.items()},
        kge=_if_given(compound.kge),
        CLbile=None if compound.CLbile is None else compound.CLbile * _size("liver", physiology),
        kbile=_if_given(compound.kbile),
        brain=_barrier(compound, physiology),
        metabolites=metabolites,
    )


def _size(organ: str, physiology: Physiology) -> Tensor:
    """Returns the mass of an organ as a share of that of the species' reference adult [1]."""
    return physiology.mass(organ) / reference_body(physiology.species).mass(organ)


def _activity(organ: str, compound: Compound, physiology: Physiology) -> Tensor:
    """Returns what an organ metabolises as a share of what it does in the reference adult [1]."""
    size = _size(organ, physiology)
    return size * maturity(compound.enzymes, physiology) if organ == "liver" else size


def _linear(compound: Compound, physiology: Physiology) -> dict[str, Tensor]:
    """Returns the linear metabolism of each organ that a compound file names [L/h]."""
    total: dict[str, Tensor] = {}
    for one in compound.metabolism:
        if one.CLint is not None:
            CLint = one.CLint * _activity(one.organ, compound, physiology)
            total[one.organ] = total.get(one.organ, torch.zeros_like(CLint)) + CLint
    return total


def _saturable(compound: Compound, physiology: Physiology) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Returns the saturable metabolism a compound file names: organs, Vmax (*, E) [mg/h], Km (E) [mg/L]."""
    found = [one for one in compound.metabolism if one.Vmax is not None]
    Vmax = [(one.Vmax or 0.0) * _activity(one.organ, compound, physiology) for one in found]
    Km = torch.tensor([one.Km or 0.0 for one in found], dtype=physiology.BW.dtype)
    empty = physiology.BW.new_zeros(*physiology.shape, 0)
    return tuple(one.organ for one in found), torch.stack(Vmax, -1) if Vmax else empty, Km


def _barrier(compound: Compound, physiology: Physiology) -> BrainBarrier | None:
    if not compound.brain:
        return None
    size = {"L/h": _size("brain", physiology), "1": _as_tensor(1.0)}
    return BrainBarrier(**{name: value * size[BARRIER[name]] for name, value in compound.brain.items()})
