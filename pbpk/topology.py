r"""The one place where the differential equation is assembled: organ graph + body + drug -> rate matrix.

Every node is well mixed and limited by its perfusion. Write :math:`A_i` for the amount in node :math:`i` [mg]
and :math:`P_i = \sum_o V_o K_{p,o}` for its capacity, the volume of plasma that would hold the same amount at
equilibrium, summed over the organs :math:`o` it pools (blood: :math:`K_p = BP`). What leaves the node has the
concentrations

.. math:: C_{plasma,i} = A_i / P_i, \qquad C_{blood,i} = BP \, A_i / P_i,

so that for an organ :math:`dA_i/dt = Q_i (C_{art} - C_i BP / K_{p,i})`. A system is a list of transitions,
each a flow of drug from a source to a target at rate :math:`k` times the amount in a driver, the source
itself but for one of them:

    blood on edge (u, v)     u -> v                        k = Q BP / P_u
    hepatic metabolism       liver -> metabolised          k = fup CLint / P_liver
    renal excretion          kidney -> excreted            k = CLrenal / P_arterial, driver arterial
    absorption               depot -> graph.absorbs        k = ka Fa Fg
    loss in the gut wall     depot -> gut_metabolised      k = ka Fa (1 - Fg)
    not absorbed             depot -> unabsorbed           k = ka (1 - Fa)
    saturable metabolism     liver -> metabolised          sum_e Vmax_e Cu / (Km_e + Cu)

with the unbound concentration in the liver :math:`Cu = f_{up} A_{liver} / P_{liver}`. A transition takes
from one state what it gives to another, so the total amount is conserved by construction. Renal excretion
is driven by the arterial plasma that is filtered, so that its clearance is the plasma clearance that is
measured; this is also how httk defines it. ``CLint`` and ``Cu`` refer to the plasma that leaves the liver
(well-stirred).
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.clearance import CLEARANCES, gut_availability, hepatic_intrinsic, hepatic_saturable, renal
from pbpk.compound import Compound
from pbpk.graph import OrganGraph
from pbpk.organs import ORGANS, index
from pbpk.partition import Kp, blood_to_plasma
from pbpk.physiology import Physiology
from pbpk.units import quantity

SINKS: tuple[str, ...] = ("metabolised", "gut_metabolised", "excreted", "unabsorbed")
INLETS = {"iv": "venous", "po": "depot"}
"""Where each route enters: a compartment, or the depot."""

_BALANCE = 1e-6  # of the cardiac output: more than rounding leaves, even in single precision
_CARDIAC_OUTPUT = 1e-3  # of the cardiac output: a foreign table's flows are rounded to four digits


@functools.cache
def density() -> Tensor:
    """Returns the density of each organ [kg/L] from ``data/density.csv``, with shape :math:`(17)`."""
    table = importlib.resources.files("pbpk") / "data" / "density.csv"
    with table.open(encoding="utf-8") as file:
        value = {row["organ"]: float(row["value"]) for row in csv.DictReader(file)}
    return torch.tensor([value[organ] for organ in ORGANS], dtype=torch.float64)


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
        Fg: The share of what is absorbed that survives the gut wall [1].
        Vmax: The maximal rates of saturable metabolism in the liver [mg/h], with shape :math:`(*, E)`.
        Km: The unbound concentrations of half the maximal rate [mg/L], with shape :math:`(E)`.
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

    def __post_init__(self) -> None:
        """Takes plain numbers and lists as tensors."""
        for name in self.tensors():
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                object.__setattr__(self, name, torch.as_tensor(value, dtype=torch.float64))
        if self.Kp.shape[-1:] != (len(ORGANS),):
            raise ValueError(
                f"Kinetics.Kp must end in {len(ORGANS)} organs, but has shape {tuple(self.Kp.shape)}."
            )
        if self.Vmax.shape[-1:] != self.Km.shape[-1:]:
            raise ValueError(
                "Kinetics.Vmax and Km must have one entry an enzyme each, but have shapes "
                f"{tuple(self.Vmax.shape)} and {tuple(self.Km.shape)}."
            )

    def tensors(self) -> dict[str, Any]:
        """Returns the fields by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def saturable(self) -> bool:
        """Whether any enzyme is saturable: then the system is not linear."""
        return self.Km.numel() > 0


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
    return Kinetics(
        Kp=Kp(compound, species=physiology.species, method=Kp_method),
        BP=blood_to_plasma(compound, physiology.HCT),
        fup=torch.as_tensor(compound.fup, dtype=torch.float64),
        CLint=hepatic_intrinsic(compound, physiology, clearance),
        CLrenal=renal(compound, physiology),
        ka=torch.tensor(compound.ka, dtype=torch.float64),
        Fa=torch.tensor(compound.Fa, dtype=torch.float64),
        Fg=gut_availability(compound, physiology, clearance),
        Vmax=Vmax,
        Km=Km,
    )


@dataclass(frozen=True)
class System:
    r"""The equations of a batch of bodies: n states, and the transitions between them.

    Attributes:
        graph: The organ graph.
        states: The names of the n states: the graph's nodes, ``"depot"``, and the sinks.
        source: The state each transition takes from, with shape :math:`(N)`.
        target: The state it gives to, with shape :math:`(N)`.
        driver: The state whose amount drives it, with shape :math:`(N)`.
        rate: The rates :math:`k` [1/h], with shape :math:`(*, N)`.
        V: The nodes' volumes [L], with shape :math:`(*, nodes)`.
        P: The nodes' capacities [L of plasma], with shape :math:`(*, nodes)`.
        Kp: The organs' partition coefficients with that of blood set to BP, with shape :math:`(*, 17)`.
        BP: The blood-to-plasma ratio [1], with shape :math:`(*)`.
        fup: The unbound fraction in plasma [1], with shape :math:`(*)`.
        Vmax: The maximal rates of saturable metabolism [mg/h], with shape :math:`(*, E)`.
        Km: The concentrations of half the maximal rate [mg/L], with shape :math:`(*, E)`.
        fault: Why a body cannot be simulated, by reason, a mask with shape :math:`(*)`.
    """

    graph: OrganGraph
    states: tuple[str, ...]
    source: Tensor
    target: Tensor
    driver: Tensor
    rate: Tensor
    V: Tensor
    P: Tensor
    Kp: Tensor
    BP: Tensor
    fup: Tensor
    Vmax: Tensor
    Km: Tensor
    fault: dict[str, Tensor]

    @property
    def shape(self) -> torch.Size:
        """The batch shape ``*``."""
        return self.BP.shape

    def each(self, change: Any) -> System:
        """Returns a copy with ``change`` applied to every batched tensor."""
        names = ("rate", "V", "P", "Kp", "BP", "fup", "Vmax", "Km")
        return dataclasses.replace(
            self,
            **{name: change(getattr(self, name)) for name in names},
            fault={reason: change(mask) for reason, mask in self.fault.items()},
        )

    def flat(self) -> System:
        """Returns the bodies in one batch dimension B."""
        dims = len(self.shape)
        return self.each(lambda value: value.reshape(self.shape.numel(), *value.shape[dims:]))

    def __getitem__(self, which: Any) -> System:
        """Returns the bodies ``which``."""
        return self.each(lambda value: value[which])

    def position(self, compartment: str) -> int:
        """Returns the position of a state, or of the node that holds a compartment."""
        if compartment in self.states:
            return self.states.index(compartment)
        return self.states.index(self.graph.home(compartment))

    def inlet(self, route: str) -> int:
        """Returns the position of the state that a dose by ``route`` enters."""
        return self.position(INLETS[route])

    @property
    def inner(self) -> int:
        """How many states are not sinks: they come first."""
        return len(self.states) - len(SINKS)

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the rate matrix as (rows, columns, values): shapes (2N), (2N) and (*, 2N); repeats add."""
        rows = torch.cat([self.target, self.source])
        columns = torch.cat([self.driver, self.driver])
        return rows, columns, torch.cat([self.rate, -self.rate], -1)

    def matrix(self) -> Tensor:
        r"""Returns the rate matrix :math:`A` [1/h] of :math:`dA/dt = A A`, with shape :math:`(*, n, n)`."""
        n = len(self.states)
        rows, columns, values = self.entries()
        flat = values.new_zeros(*self.shape, n * n).index_add(-1, rows * n + columns, values)
        return flat.reshape(*self.shape, n, n)

    @property
    def unbound(self) -> Tensor:
        """The unbound concentration in the liver for each mg in its node [1/L], with shape :math:`(*)`."""
        return self.fup / self.P[..., self.position("liver")]


def assemble(graph: OrganGraph, physiology: Physiology, kinetics: Kinetics) -> System:
    """Assembles the equations of a drug in a batch of bodies.

    Arguments:
        graph: The organ graph.
        physiology: The bodies, with shape :math:`(*)`.
        kinetics: What the drug does in them.

    Returns:
        The system; differentiable in every tensor of ``physiology`` and ``kinetics``.

    Raises:
        ValueError: If the graph's flows do not balance at a node; the message says where and by how much.

    >>> from pbpk.graph import LUMPED
    >>> one = torch.ones((), dtype=torch.float64)
    >>> body = Physiology("human", *[one] * 7, M=one.repeat(17), Q=one.repeat(17))
    >>> system = assemble(LUMPED, body, Kinetics(Kp=[1.0] * 17, BP=1.0, fup=0.5))
    >>> system.states[:3], system.matrix().shape
    (('gut', 'liver', 'kidney'), torch.Size([12, 12]))
    """
    batch = physiology.shape
    given = {}
    for name, value in kinetics.tensors().items():
        own = value.shape[-1:] if name in ("Kp", "Vmax", "Km") else ()
        given[name] = value.to(physiology.M).expand(batch + own)
    is_blood = torch.tensor([organ == "blood" for organ in ORGANS], device=physiology.M.device)
    Kp_organ = torch.where(is_blood, given["BP"].unsqueeze(-1), given["Kp"])
    V_organ = physiology.M / density().to(physiology.M)
    V = V_organ @ _pooled(graph, V_organ)
    P = (V_organ * Kp_organ) @ _pooled(graph, V_organ)
    flow = physiology.Q @ graph.carried(physiology.Q.dtype).to(physiology.Q.device).T
    _check_balance(graph, flow, physiology.CO)

    states = (*graph.nodes, "depot", *SINKS)
    at = {name: states.index(name) for name in states}
    art, kidney, liver = (graph.home(c) for c in ("arterial", "kidney", "liver"))
    P_of = {node: P[..., at[node]] for node in graph.nodes}
    Fa, Fg, ka = given["Fa"], given["Fg"], given["ka"]
    transitions = [
        (u, v, u, flow[..., edge] * given["BP"] / P_of[u]) for edge, (u, v) in enumerate(graph.edges)
    ]
    transitions += [
        (liver, "metabolised", liver, given["fup"] * given["CLint"] / P_of[liver]),
        (kidney, "excreted", art, given["CLrenal"] / P_of[art]),
        ("depot", graph.home(graph.absorbs), "depot", ka * Fa * Fg),
        ("depot", "gut_metabolised", "depot", ka * Fa * (1.0 - Fg)),
        ("depot", "unabsorbed", "depot", ka * (1.0 - Fa)),
    ]
    source, target, driver = (
        torch.tensor([at[transition[k]] for transition in transitions], device=V.device) for k in range(3)
    )
    rate = torch.stack([transition[3].expand(batch) for transition in transitions], -1)
    return System(
        graph=graph,
        states=states,
        source=source,
        target=target,
        driver=driver,
        rate=rate,
        V=V,
        P=P,
        Kp=Kp_organ,
        BP=given["BP"],
        fup=given["fup"],
        Vmax=given["Vmax"],
        Km=given["Km"],
        fault=_faults(graph, physiology, given, rate, P, flow),
    )


def _pooled(graph: OrganGraph, like: Tensor) -> Tensor:
    """Returns the share of each organ that belongs to each node, with shape (17, nodes)."""
    share = like.new_zeros(len(ORGANS), len(graph.nodes))
    blood = {"arterial": graph.arterial_share, "venous": 1.0 - graph.arterial_share}
    for node, members in enumerate(graph.members):
        for member in members:
            share[index("blood" if member in blood else member), node] += blood.get(member, 1.0)
    return share


def _check_balance(graph: OrganGraph, flow: Tensor, CO: Tensor) -> None:
    """Checks that as much blood leaves each node as enters it."""
    excess = flow.new_zeros(*flow.shape[:-1], len(graph.nodes))
    source, target = graph.edge_index.to(flow.device)
    excess = excess.index_add(-1, target, flow).index_add(-1, source, -flow)
    share = (excess / CO.unsqueeze(-1)).abs().nan_to_num().reshape(-1, len(graph.nodes))
    worst = int(share.argmax()) if share.numel() else 0
    body, node = divmod(worst, len(graph.nodes))
    if share.numel() and share[body, node] > _BALANCE:
        amount = excess.reshape(-1, len(graph.nodes))[body, node].item()
        raise ValueError(
            f"OrganGraph {graph.name!r} must let as much blood out of each node as into it, but "
            f"{abs(amount):.4g} L/h too {'little' if amount > 0 else 'much'} leaves "
            f"{graph.nodes[node]!r}; complete the organs that its edges carry."
        )


def _faults(
    graph: OrganGraph,
    physiology: Physiology,
    given: dict[str, Tensor],
    rate: Tensor,
    P: Tensor,
    flow: Tensor,
) -> dict[str, Tensor]:
    """Finds the bodies that no engine can simulate, by reason."""
    faults = {}
    for name, value in {"M": physiology.M, "Q": physiology.Q, **given}.items():
        wrong = ~(torch.isfinite(value) & (value >= 0))
        faults[f"{name} is negative or not finite"] = (
            wrong.flatten(physiology.BW.ndim).any(-1) if (value.ndim > physiology.BW.ndim) else wrong
        )
    for name in ("Fa", "Fg", "fup"):
        faults[f"{name} is above 1"] = given[name] > 1.0
    faults["a node has no mass or no Kp"] = (P <= 0).any(-1)
    gap = (physiology.Q.sum(-1) - physiology.CO).abs() > _CARDIAC_OUTPUT * physiology.CO
    faults["the organs' flows do not sum to CO, which the lung receives"] = gap
    into_kidney = sum(
        (
            flow[..., edge]
            for edge, ends in enumerate(graph.edges)
            if ends == (graph.home("arterial"), graph.home("kidney"))
        ),
        torch.zeros_like(physiology.CO),
    )
    if graph.home("arterial") != graph.home("kidney"):
        faults["CLrenal is more than the plasma that reaches the kidney"] = (
            given["CLrenal"] > given["BP"] * into_kidney
        )
    faults["a rate is not finite"] = ~torch.isfinite(rate).all(-1)
    return {reason: mask for reason, mask in faults.items() if bool(mask.any())}
