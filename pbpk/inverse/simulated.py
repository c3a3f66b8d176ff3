r"""The whole body as it is simulated: with enzymes that saturate, bile, walls, a stomach, metabolites.

The equations are those of :func:`pbpk.topology.assemble`; each saturable enzyme takes

.. math:: V_{max} \frac{C_u}{K_m + C_u}

beside the linear CLint. They are integrated by the engine that :func:`pbpk.simulate.simulate` chooses, the
stiff one where an enzyme saturates; its adjoint gives exact derivatives on the steps it took. That takes tens
of milliseconds an evaluation, where :mod:`pbpk.inverse.whole_body` takes one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pbpk.compound import Compound
from pbpk.graph import WHOLE_BODY, OrganGraph
from pbpk.inverse import whole_body
from pbpk.inverse.parts import Given
from pbpk.kinetics import Kinetics, kinetics
from pbpk.partition import Kp
from pbpk.physiology import Physiology
from pbpk.regimen import Dose, Regimen
from pbpk.simulate import simulate

ROUTES: Mapping[str, str] = {"plasma": "iv", "depot": "po"}
"""Where a dose can be given, and what the engine calls it."""
_ENZYME: Mapping[str, str] = {"Vmax": "mg/h", "Km": "mg/L"}
_RTOL = 1e-7  # of the engine: ten times finer than it simulates with, for the sake of differences


@dataclass(frozen=True)
class SimulatedBody:
    """A drug in a body or a batch of bodies; a :class:`pbpk.inverse.model.Simulated` model.

    With ``saturates``, a drug whose own metabolism is linear has one enzyme in the liver; its Vmax and Km
    must be given or estimated, and there is no CLint besides unless one is given.

    Attributes:
        physiology: The bodies, with shape :math:`(*)`.
        compound: The drug.
        graph: The organ graph.
        Kp_method: One of :data:`pbpk.partition.METHODS`.
        clearance: One of :data:`pbpk.clearance.CLEARANCES`; only ``"in-vitro"`` knows saturable pathways.
        saturates: Whether the metabolism of a linear drug is made saturable.
    """

    physiology: Physiology
    compound: Compound
    graph: OrganGraph = WHOLE_BODY
    Kp_method: str = "rodgers-rowland"
    clearance: str = "observed"
    saturates: bool = False
    linear = False

    @property
    def name(self) -> str:
        """The model's name."""
        return f"simulated {self.graph.name}"

    @cached_property
    def _own(self) -> Kinetics:
        return kinetics(self.compound, self.physiology, self.Kp_method, self.clearance)

    @cached_property
    def enzymes(self) -> tuple[str, ...]:
        """What the names of each enzyme's Vmax and Km end in: nothing if there is one."""
        count = self._own.Km.shape[-1] or int(self.saturates)
        return ("",) if count == 1 else tuple(f"_{number + 1}" for number in range(count))

    @property
    def parameters(self) -> Mapping[str, str]:
        """The unit of each parameter, by name: Vmax of the whole organ, Km of the unbound drug."""
        own = {f"{what}{enzyme}": unit for enzyme in self.enzymes for what, unit in _ENZYME.items()}
        return {**whole_body.UNITS, **own}

    @property
    def compartments(self) -> tuple[str, ...]:
        """What can be seen: plasma, blood, and the nodes."""
        return ("plasma", "blood", *self.graph.nodes)

    def defaults(self) -> dict[str, Any]:
        """Returns what is known of the compound in these bodies: each parameter's value."""
        own = self._own
        values = {name: getattr(own, name) for name in whole_body.UNITS if name != "Kp_scale"}
        if self.enzymes and not own.Km.numel():
            values["CLint"] = torch.zeros_like(values["CLint"])
        for e, enzyme in enumerate(self.enzymes if own.Km.numel() else ()):
            values |= {f"Vmax{enzyme}": own.Vmax[..., e], f"Km{enzyme}": own.Km[..., e]}
        return {"Kp_scale": 1.0, **{name: whole_body.number(value) for name, value in values.items()}}

    def inlets(self, p: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
        """Returns where doses enter: the veins (plasma, iv), or the depot (po)."""
        return {where: (where, 1.0) for where in ROUTES}

    def course(self, p: Mapping[str, Any], given: Sequence[Given], times: Tensor) -> Tensor:
        """Returns the concentrations [mg/L] at ascending times [h] of shape (T), with shape (*, T, m).

        They are 0 where a body cannot be solved, which no observation agrees with.
        """
        _load_kernel()
        batch = torch.broadcast_shapes(self.physiology.shape, *(v.shape for v in p.values() if _is(v)))
        # the engine wants a time later than the first dose
        asked = times if float(times[-1]) > 0 else torch.cat([times, times[-1:] + 1.0])
        found = simulate(
            _expanded(self.physiology, batch),
            self._kinetics(p),
            Regimen(tuple(_dose(one, batch) for one in given)),
            asked,
            graph=self.graph,
            rtol=_RTOL,
            throw=False,
        )
        C = torch.stack([found.concentration(where) for where in self.compartments], -1)
        return torch.where(C.isnan(), 0.0, C)[..., : len(times), :]

    def _kinetics(self, p: Mapping[str, Any]) -> Kinetics:
        organs = Kp(self.compound.replace(fup=p["fup"]), self.physiology.species, self.Kp_method)
        changed: dict[str, Any] = {name: _tensor(p[name]) for name in whole_body.UNITS if name != "Kp_scale"}
        for name in _ENZYME if self.enzymes else ():
            columns = torch.broadcast_tensors(*(_tensor(p[f"{name}{enzyme}"]) for enzyme in self.enzymes))
            changed[name] = torch.stack(columns, -1)
        return dataclasses.replace(self._own, Kp=_tensor(p["Kp_scale"]).unsqueeze(-1) * organs, **changed)


@functools.cache
def _load_kernel() -> None:
    """Loads the compiled engine, where it is installed: a fit solves often enough to repay it."""
    with suppress(ImportError, RuntimeError):
        importlib.import_module("pbpk.stiff_compiled")


def _expanded(body: Physiology, batch: torch.Size) -> Physiology:
    own = len(body.shape)
    return body.replace(**{name: v.expand(batch + v.shape[own:]) for name, v in body.tensors().items()})


def _dose(given: Given, batch: torch.Size) -> Dose:
    amount = given.amount.expand(batch) if isinstance(given.amount, Tensor) else given.amount
    return Dose(given.time, amount, given.duration, ROUTES[given.compartment])


def _is(value: Any) -> bool:
    return isinstance(value, Tensor)


def _tensor(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)
