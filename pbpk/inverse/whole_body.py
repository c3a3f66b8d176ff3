r"""The whole body as a model whose CLint, fup, Kp scalar and ka can be estimated.

The flows, volumes and transitions are those of :func:`pbpk.topology.assemble`. Partition coefficients are
:math:`K_p = s \, K_p(f_{up})`: the predicted ones at this unbound fraction times one scalar s. Rodgers and
Rowland's, Poulin and Theil's and Schmitt's are affine in :math:`f_{up}`; two evaluations fix the line, and a
third checks it. States that only collect (sinks) are left out: nothing returns from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pbpk.compound import Compound
from pbpk.graph import WHOLE_BODY, OrganGraph
from pbpk.organs import ORGANS
from pbpk.partition import Kp
from pbpk.physiology import Physiology
from pbpk.topology import Kinetics, System, assemble, kinetics

UNITS: Mapping[str, str] = {
    "CLint": "L/h",
    "CLrenal": "L/h",
    "fup": "1",
    "Kp_scale": "1",
    "ka": "1/h",
    "Fa": "1",
    "Fg": "1",
}
_AFFINE = 1e-9  # relative: how straight Kp must be in fup


@dataclass(frozen=True)
class WholeBody:
    """A drug in a body, or in a batch of bodies; a :class:`pbpk.inverse.model.Linear` model.

    Attributes:
        physiology: The bodies, with shape :math:`(*)`.
        compound: The drug; its own values are the known ones' defaults, see :meth:`defaults`.
        graph: The organ graph.
        Kp_method: One of :data:`pbpk.partition.METHODS`.
        clearance: One of :data:`pbpk.clearance.CLEARANCES`.
    """

    physiology: Physiology
    compound: Compound
    graph: OrganGraph = WHOLE_BODY
    Kp_method: str = "rodgers-rowland"
    clearance: str = "observed"
    linear = True

    @property
    def name(self) -> str:
        """The model's name."""
        return self.graph.name

    @property
    def states(self) -> tuple[str, ...]:
        """Amounts [mg]: the graph's nodes, the stomach where it is not empty at once, and the depot."""
        return (*self.graph.nodes, *(() if self._own.kge is None else ("gastric",)), "depot")

    @property
    def parameters(self) -> Mapping[str, str]:
        """The unit of each parameter, by name."""
        return UNITS

    @property
    def compartments(self) -> tuple[str, ...]:
        """What can be seen: plasma, blood, and the nodes."""
        return ("plasma", "blood", *self.graph.nodes)

    @cached_property
    def _own(self) -> Kinetics:
        return kinetics(self.compound, self.physiology, self.Kp_method, self.clearance)

    @property
    def complete(self) -> bool:
        """Whether the equations here say all of this drug: no saturable enzyme, bile, wall or metabolite."""
        own = self._own
        more = own.saturable or own.CLint_in or own.PS or own.metabolites
        return not more and own.CLbile is None and own.brain is None

    def defaults(self) -> dict[str, Any]:
        """Returns what is known of the compound in these bodies: each parameter's value."""
        values = {name: getattr(self._own, name) for name in UNITS if name != "Kp_scale"}
        return {"Kp_scale": 1.0, **{name: number(value) for name, value in values.items()}}

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """Returns node capacities P = blood + s (flat + slope fup) and what flows, at the reference."""
        fup, species = self._own_fup, self.physiology.species
        levels = [fup, 0.5 * fup, 0.25 * fup]
        systems = [self._system(Kp(self.compound.replace(fup=f), species, self.Kp_method)) for f in levels]
        P = [system.P for system in systems]
        none = self._system(torch.zeros(len(ORGANS), dtype=torch.float64)).P
        slope = (P[0] - P[1]) / (0.5 * fup)
        flat = P[0] - none - slope * fup
        bend = (none + flat + slope * levels[2] - P[2]).abs() / P[2].clamp(min=1e-12)
        return {
            "blood": none,
            "flat": flat,
            "slope": slope,
            "system": systems[0],
            "bent": bool((bend > _AFFINE).any()),
        }

    def _system(self, Kp_organ: Tensor) -> System:
        own = self._own
        return assemble(self.graph, self.physiology, Kinetics(Kp=Kp_organ, BP=own.BP, fup=own.fup))

    def capacity(self, p: Mapping[str, Any]) -> list[Any]:
        """Returns the plasma that would hold what each node holds [L], one entry a node."""
        parts = self._parts
        if parts["bent"] and not self._has_own_fup(p["fup"]):
            raise ValueError(
                f"fup must be the compound's own with Kp_method {self.Kp_method!r}, of which Kp is no "
                "straight line. Leave it at that, or choose 'rodgers-rowland'."
            )
        triples = zip(*(numbers(parts[name]) for name in ("blood", "flat", "slope")), strict=True)
        return [blood + p["Kp_scale"] * (flat + slope * p["fup"]) for blood, flat, slope in triples]

    @property
    def _own_fup(self) -> float:
        return float(torch.as_tensor(self.compound.fup, dtype=torch.float64))

    def _has_own_fup(self, fup: Any) -> bool:
        """Tells whether fup is the compound's; of an exact number only whether it is known."""
        if isinstance(fup, float):
            return fup == self._own_fup
        return not any(getattr(fup, "slope", (True,)))

    def rates(self, p: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        """Returns the entries of the rate matrix [1/h], by (row, column)."""
        graph, system, P = self.graph, self._parts["system"], self.capacity(p)
        at = {node: k for k, node in enumerate(graph.nodes)}
        QBP = numbers(system.rate[..., : len(graph.edges)] * system.P[..., [at[u] for u, _ in graph.edges]])
        A: dict[tuple[str, str], Any] = {}

        def flows(source: str, target: str | None, driver: str, rate: Any) -> None:
            A[source, driver] = A.get((source, driver), 0.0) - rate
            if target is not None:
                A[target, driver] = A.get((target, driver), 0.0) + rate

        for (u, v), flow in zip(graph.edges, QBP, strict=True):
            flows(u, v, u, flow / P[at[u]])
        arterial, kidney, liver = (graph.home(c) for c in ("arterial", "kidney", "liver"))
        flows(liver, None, liver, p["fup"] * p["CLint"] / P[at[liver]])
        flows(kidney, None, arterial, p["CLrenal"] / P[at[arterial]])
        if self._own.kge is not None:
            flows("gastric", "depot", "gastric", number(self._own.kge))
        flows("depot", graph.home(graph.absorbs), "depot", p["ka"] * p["Fa"] * p["Fg"])
        flows("depot", None, "depot", p["ka"] - p["ka"] * p["Fa"] * p["Fg"])
        return A

    def reads(self, p: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns what each compartment reads: concentration per mg [1/L]."""
        venous = self.graph.home("venous")
        plasma = 1.0 / self.capacity(p)[self.graph.nodes.index(venous)]
        V = numbers(self._parts["system"].V)
        nodes = {node: {node: 1.0 / v} for node, v in zip(self.graph.nodes, V, strict=True)}
        BP = number(self._own.BP)
        return {"plasma": {venous: plasma}, "blood": {venous: plasma * BP}, **nodes}

    def inlets(self, p: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
        """Returns where doses enter: the veins (plasma, iv), or the stomach or the gut (depot, po)."""
        venous = self.graph.home("venous")
        return {
            "plasma": (venous, 1.0),
            "depot": ("depot" if self._own.kge is None else "gastric", 1.0),
            **{node: (node, 1.0) for node in self.graph.nodes},
        }

    def initial(self, p: Mapping[str, Any]) -> dict[str, Any]:
        """Returns nothing: all states are 0 before the first dose."""
        return {}


def number(value: Tensor) -> Any:
    """Returns a float for one body; for a batch the tensor."""
    return float(value) if value.numel() == 1 else value


def numbers(values: Tensor) -> list[Any]:
    """Returns the entries of the last dimension, floats for one body."""
    return [number(value) for value in values.unbind(-1)]
