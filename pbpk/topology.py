r"""The one place where the differential equation is assembled: organ graph + body + drug -> system.

Every space is well mixed. Write :math:`A_i` for the amount in space :math:`i` [mg] and
:math:`P_i = \sum_o V_o K_{p,o}` for its capacity, the volume of plasma that would hold the same amount at
equilibrium, summed over the organs :math:`o` it pools (blood: :math:`K_p = BP`). What leaves it has the
concentrations

.. math:: C_{plasma,i} = A_i / P_i, \qquad C_{blood,i} = BP \, A_i / P_i, \qquad C_u = f_{up} A_i / P_i,

so that for an organ :math:`dA_i/dt = Q_i (C_{art} - C_i BP / K_{p,i})`. A system is a list of transitions,
each a flow of drug from a source to a target at rate :math:`k` times the amount in a driver, the source
itself but for one of them:

    blood on edge (u, v)     u -> v                        k = Q BP / P_u
    hepatic metabolism       liver -> metabolised          k = fup CLint / P_liver
    in another organ         organ -> metabolised          k = fup CLint_in / P_organ
    renal excretion          kidney -> excreted            k = CLrenal / P_arterial, driver arterial
    absorption               depot -> graph.absorbs        k = ka Fa Fg
    loss in the gut wall     depot -> gut_metabolised      k = ka Fa (1 - Fg)
    not absorbed             depot -> unabsorbed           k = ka (1 - Fa)
    saturable metabolism     organ -> metabolised          Vmax Cu / (Km + Cu)
    emptying of the stomach  gastric -> depot              k = kge
    into bile, and out       liver -> bile -> depot        k = fup CLbile / P_liver, k = kbile
    through a wall           organ_blood <-> organ         k = fup PS / P_organ_blood, k = fup PS / P_organ
    in the brain             between its four spaces       as in pbpk.brain

A transition takes from one state what it gives to another, so the total amount is conserved by construction.
Renal excretion is driven by the arterial plasma that is filtered, so that its clearance is the plasma
clearance that is measured; this is also how httk defines it. ``CLint`` and ``Cu`` refer to the plasma that
leaves the tissue (well-stirred). In the gut wall this is the simplest of the models in use: the enzymes see
what has left the gut's content and all that the blood brings, and the whole flow of the small intestine
carries away what they leave, so that :math:`F_g = Q BP / (Q BP + f_{up} CL_{int})` for a linear enzyme.

The blood of a walled organ is part of the body's blood: its share of the organ's volume (``vascular.csv``)
leaves the arterial and the venous pool. A brain with its fluid keeps its volume, as its authors count it.

What metabolism takes, in every organ and in the gut wall, goes to the metabolites in their shares and the
rest to the sink.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pbpk import csf
from pbpk.clearance import CLEARANCES
from pbpk.graph import OrganGraph
from pbpk.kinetics import BrainBarrier, Kinetics, Metabolite, kinetics
from pbpk.organs import ORGANS
from pbpk.physiology import Physiology
from pbpk.spaces import density, each_sum, spaces, vascular_share
from pbpk.system import Distribution, System

__all__ = [
    "CLEARANCES",
    "SINKS",
    "BrainBarrier",
    "Distribution",
    "Kinetics",
    "Metabolite",
    "System",
    "assemble",
    "density",
    "kinetics",
    "vascular_share",
]

SINKS: tuple[str, ...] = ("metabolised", "gut_metabolised", "excreted", "unabsorbed")

_BALANCE = 1e-6  # of the cardiac output: more than rounding leaves, even in single precision
_CARDIAC_OUTPUT = 1e-3  # of the cardiac output: a foreign table's flows are rounded to four digits


def assemble(graph: OrganGraph, physiology: Physiology, kinetics: Kinetics) -> System:
    """Assembles the equations of a drug in a batch of bodies.

    Arguments:
        graph: The organ graph; it is split where the kinetics have a wall or the brain's fluid.
        physiology: The bodies, with shape :math:`(*)`.
        kinetics: What the drug does in them.

    Returns:
        The system; differentiable in every tensor of ``physiology`` and ``kinetics``.

    Raises:
        ValueError: If the graph's flows do not balance at a node (the message says where and by how much), or
            the graph splits a node that the kinetics say nothing of.

    >>> from pbpk.graph import LUMPED
    >>> one = torch.ones((), dtype=torch.float64)
    >>> body = Physiology("human", *[one] * 7, M=one.repeat(17), Q=one.repeat(17))
    >>> system = assemble(LUMPED, body, Kinetics(Kp=[1.0] * 17, BP=1.0, fup=0.5))
    >>> system.states[:3], system.matrix().shape
    (('gut', 'liver', 'kidney'), torch.Size([12, 12]))
    """
    parts = _Parts(physiology)
    _add_drug(parts, "", graph, kinetics, torch.ones_like(physiology.BW))
    return parts.system()


@dataclass
class _Parts:
    """What a system is put together from."""

    body: Physiology
    spaces: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    sinks: list[str] = field(default_factory=list)
    moves: list[tuple[str, str, str, Tensor]] = field(default_factory=list)  # source, target, driver, rate
    saturable: list[tuple[str, str, Tensor, Tensor, Tensor]] = field(
        default_factory=list
    )  # Vmax, Km, unbound
    drugs: list[Distribution] = field(default_factory=list)
    fault: dict[str, Tensor] = field(default_factory=dict)

    def move(self, source: str, target: str, rate: Tensor, driver: str = "") -> None:
        self.moves.append((source, target, driver or source, rate))

    def system(self) -> System:
        states = (*self.spaces, *self.contents, *self.sinks)
        at = {name: position for position, name in enumerate(states)}
        like, batch = self.body.M, self.body.shape

        def positions(names: list[str]) -> Tensor:
            return torch.tensor([at[name] for name in names], dtype=torch.long, device=like.device)

        def stacked(columns: list[Tensor]) -> Tensor:
            return _last(columns, batch) if columns else like.new_zeros(*batch, 0)

        rate = stacked([move[3] for move in self.moves])
        fault = dict(self.fault)
        if not bool(torch.isfinite(rate.detach().sum())):  # one pass; the mask takes several
            fault["a rate is not finite"] = ~torch.isfinite(rate).all(-1)
        return System(
            graph=self.drugs[0].graph,
            states=states,
            sinks=tuple(self.sinks),
            source=positions([move[0] for move in self.moves]),
            target=positions([move[1] for move in self.moves]),
            driver=positions([move[2] for move in self.moves]),
            rate=rate,
            saturable_source=positions([move[0] for move in self.saturable]),
            saturable_target=positions([move[1] for move in self.saturable]),
            Vmax=stacked([move[2] for move in self.saturable]),
            Km=stacked([move[3] for move in self.saturable]),
            unbound=stacked([move[4] for move in self.saturable]),
            drugs=tuple(self.drugs),
            fault={reason: mask for reason, mask in fault.items() if bool(mask.any())},
        )


@dataclass(frozen=True)
class _Drug:
    """A drug, or a metabolite, on its way into the parts."""

    name: str
    graph: OrganGraph
    kinetics: Kinetics
    given: Mapping[str, Tensor]  # the kinetics' tensors, with the bodies' shape
    V: dict[str, Tensor]  # volumes by space [L]
    P: dict[str, Tensor]  # capacities by space [L of plasma]
    weight: Tensor

    def state(self, space: str) -> str:
        return f"{self.name}:{space}" if self.name else space

    def blood(self, node: str) -> str:
        """Returns the space of a node that lies on the edges."""
        node = "brain" if self._is_brain(node) else node
        return f"{node}_blood" if f"{node}_blood" in self.V else node

    def tissue(self, organ: str) -> str:
        """Returns the space in which an organ's tissue is."""
        node = self.graph.home(organ)
        return "brain" if self._is_brain(node) else node

    def _is_brain(self, node: str) -> bool:
        """Tells whether a node, whatever its name, is the brain that has its fluid."""
        return self.graph.csf and node == self.graph.home("brain")

    def share(self, space: str) -> Tensor:
        """Returns the unbound plasma concentration for each mg in a space [1/L]."""
        return self.given["fup"] / self.P[space]


def _add_drug(
    parts: _Parts, name: str, whole: OrganGraph, kinetics: Kinetics, weight: Tensor, depot: str = ""
) -> None:
    """Adds a drug and its metabolites; ``depot`` is where bile returns to, if not to a depot of its own."""
    body, graph = parts.body, kinetics.split(whole)
    given = _expanded(kinetics, body)
    blood = _is_blood(body.M.device).reshape(-1, *[1] * given["BP"].ndim)
    Kp = torch.where(blood, given["BP"], given["Kp"].movedim(-1, 0)).movedim(0, -1)
    V, P = spaces(graph, body, given, Kp)
    drug = _Drug(name, graph, kinetics, given, V, P, weight)
    carried = graph.carried(body.Q.dtype).to(body.Q.device)
    flow = each_sum(body.Q, carried.mT)
    _check_balance(graph, body, carried)
    in_spaces = _last(list(V.values()), body.shape), _last(list(P.values()), body.shape)
    parts.spaces += [drug.state(space) for space in V]
    parts.drugs.append(
        Distribution(
            name, graph, tuple(V), *in_spaces, Kp, given["BP"], given["fup"], weight.expand(body.shape)
        )
    )  # fmt: skip
    parts.fault |= {
        (f"{name}: {reason}" if name else reason): mask
        for reason, mask in _faults(graph, body, drug, flow).items()
    }
    leaving = {space: given["BP"] / held for space, held in P.items()}
    for (u, v), blood in zip(graph.edges, flow, strict=True):
        source, target = drug.blood(u), drug.blood(v)
        parts.move(drug.state(source), drug.state(target), blood * leaving[source])
    _add_walls(parts, drug)
    _add_losses(parts, drug)
    _add_gut(parts, drug, depot)
    for key, metabolite in kinetics.metabolites.items():
        _add_drug(
            parts,
            drug.state(key),
            whole,
            metabolite.kinetics,
            weight * metabolite.weight.to(weight),
            depot=_depot(drug) if metabolite.returns else "",
        )


def _last(columns: Sequence[Tensor], batch: torch.Size) -> Tensor:
    """Stacks columns of shape (*) along a new last dimension; in memory each one stays together."""
    return torch.stack([column.expand(batch) for column in columns]).movedim(0, -1)


@functools.cache
def _is_blood(device: torch.device) -> Tensor:
    return torch.tensor([organ == "blood" for organ in ORGANS], device=device)


def _expanded(kinetics: Kinetics, body: Physiology) -> dict[str, Tensor]:
    """Returns the kinetics' tensors with the bodies' shape, precision and device."""
    given = {}
    for name, value in kinetics.tensors().items():
        own = value.shape[-1:] if name in ("Kp", "Vmax", "Km") else ()
        given[name] = value.to(body.M).expand(body.shape + own)
    return given


def _add_walls(parts: _Parts, drug: _Drug) -> None:
    """Adds what passes between the blood and the tissue of walled organs, and inside the brain."""
    graph, kinetics = drug.graph, drug.kinetics
    _check_walls(drug)
    for node in graph.walled:
        members = graph.members[graph.nodes.index(node)]
        PS = torch.stack(
            [v for n, v in drug.given.items() if n in [f"PS of {m}" for m in (*members, node)]]
        ).sum(0)
        blood = drug.blood(node)
        parts.move(drug.state(blood), drug.state(node), PS * drug.share(blood))
        parts.move(drug.state(node), drug.state(blood), PS * drug.share(node))
    if graph.csf and kinetics.brain is not None:
        for source, target, rate in csf.exchange(parts.body, drug.given, drug.V):
            parts.move(drug.state(source), drug.state(target), rate)


def _check_walls(drug: _Drug) -> None:
    """Checks that the kinetics say something of everything that the graph splits."""
    graph, whose = drug.graph, f"the metabolite {drug.name!r}" if drug.name else "the drug"
    walled = {organ if organ in graph.nodes else graph.home(organ) for organ in drug.kinetics.PS}
    for node in graph.walled:
        if node not in walled:
            raise ValueError(
                f"Kinetics.PS must say what passes each wall of the graph, but {whose} has none for {node!r}."
            )
    if graph.csf and drug.kinetics.brain is None:
        raise ValueError(
            f"Kinetics.brain must be given where the graph's brain has its fluid, but {whose} has none. "
            "Give a BrainBarrier."
        )


def _add_losses(parts: _Parts, drug: _Drug) -> None:
    """Adds metabolism in every organ, and excretion."""
    given, liver = drug.given, drug.tissue("liver")
    organs = {"liver": given["CLint"]} | {
        organ: given[f"CLint_in of {organ}"] for organ in drug.kinetics.CLint_in if organ != "liver"
    }
    if "liver" in drug.kinetics.CLint_in:
        organs["liver"] = organs["liver"] + given["CLint_in of liver"]
    for organ, CLint in organs.items():
        space = drug.tissue(organ)
        for target, share in _destinations(drug, organ, "metabolised"):
            parts.move(drug.state(space), target, CLint * drug.share(space) * share)
    art = drug.graph.home("arterial")
    parts.move(
        drug.state(drug.blood(drug.graph.home("kidney"))),
        drug.state("excreted"),
        given["CLrenal"] / drug.P[art],
        driver=drug.state(art),
    )
    enzymes = given["Vmax"].shape[-1]
    for e, organ in enumerate(drug.kinetics.enzymes_in or ("liver",) * enzymes):
        space = drug.tissue(organ)
        for target, share in _destinations(drug, organ, "metabolised"):
            Vmax = given["Vmax"][..., e] * share / drug.weight
            unbound = drug.share(space) * drug.weight
            parts.saturable.append((drug.state(space), target, Vmax, given["Km"][..., e], unbound))
    if drug.kinetics.CLbile is not None:
        parts.move(drug.state(liver), drug.state("bile"), given["CLbile"] * drug.share(liver))


def _destinations(drug: _Drug, organ: str, sink: str) -> list[tuple[str, Tensor]]:
    """Returns where what an organ metabolises goes: to metabolites in their shares, the rest to a sink."""
    rest = torch.ones_like(drug.weight)
    targets = []
    for key, metabolite in drug.kinetics.metabolites.items():
        share = metabolite.share.to(rest).expand(rest.shape)
        targets.append((f"{drug.state(key)}:{drug.tissue(organ)}", share))
        rest = rest - share
    return [*targets, (drug.state(sink), rest)]


def _depot(drug: _Drug) -> str:
    return drug.state("depot")


def _add_gut(parts: _Parts, drug: _Drug, returns_to: str) -> None:
    """Adds the content of the stomach, the gut and the bile, and the sinks of the drug."""
    given, kinetics = drug.given, drug.kinetics
    has_depot = not drug.name or (kinetics.CLbile is not None and not returns_to)
    sinks = ["metabolised", "excreted"]
    if kinetics.kge is not None and not drug.name:
        parts.contents.append(drug.state("gastric"))
        parts.move(drug.state("gastric"), _depot(drug), given["kge"])
    if kinetics.CLbile is not None:
        parts.contents.append(drug.state("bile"))
        parts.move(drug.state("bile"), returns_to or _depot(drug), given["kbile"])
    if has_depot:
        sinks = list(SINKS)
        parts.contents.append(_depot(drug))
        Fa, Fg, ka = given["Fa"], given["Fg"], given["ka"]
        parts.move(_depot(drug), drug.state(drug.graph.home(drug.graph.absorbs)), ka * Fa * Fg)
        for target, share in _destinations(drug, drug.graph.absorbs, "gut_metabolised"):
            parts.move(_depot(drug), target, ka * Fa * (1.0 - Fg) * share)
        parts.move(_depot(drug), drug.state("unabsorbed"), ka * (1.0 - Fa))
    parts.sinks += [drug.state(sink) for sink in sinks]


def _check_balance(graph: OrganGraph, body: Physiology, carried: Tensor) -> None:
    """Checks that as much blood leaves each node as enters it."""
    source, target = graph.edge_index.to(carried.device)
    net = carried.new_zeros(
        len(graph.nodes), carried.shape[-1]
    )  # how often each organ's flow stays in a node
    net = net.index_add(0, target, carried).index_add(0, source, -carried)
    if not bool(net.any()):
        return
    excess = (body.Q @ net.mT).reshape(-1, len(graph.nodes))
    share = (excess / body.CO.reshape(-1, 1)).abs().nan_to_num()
    worst = int(share.argmax()) if share.numel() else 0
    at, node = divmod(worst, len(graph.nodes))
    if share.numel() and share[at, node] > _BALANCE:
        amount = excess[at, node].item()
        raise ValueError(
            f"OrganGraph {graph.name!r} must let as much blood out of each node as into it, but "
            f"{abs(amount):.4g} L/h too {'little' if amount > 0 else 'much'} leaves "
            f"{graph.nodes[node]!r}; complete the organs that its edges carry."
        )


def _faults(graph: OrganGraph, body: Physiology, drug: _Drug, flow: Sequence[Tensor]) -> dict[str, Tensor]:
    """Finds the bodies that no engine can simulate, by reason; a reason may have none."""
    faults, given = {}, drug.given
    for name, value in {"M": body.M, "Q": body.Q, **given}.items():
        if not _all_possible(value):
            wrong = ~(torch.isfinite(value) & (value >= 0))
            faults[f"{name} is negative or not finite"] = (
                wrong.flatten(body.BW.ndim).any(-1) if (value.ndim > body.BW.ndim) else wrong
            )
    for name in ("Fa", "Fg", "fup", "fum", "fuc"):
        if name in given:
            faults[f"{name} is above 1"] = given[name] > 1.0
    if "Km" in given:
        faults["a Km is 0"] = (given["Km"] <= 0).any(-1)
    faults["a node has no mass or no Kp"] = functools.reduce(torch.minimum, drug.P.values()) <= 0
    gap = (body.Q.sum(-1) - body.CO).abs() > _CARDIAC_OUTPUT * body.CO
    faults["the organs' flows do not sum to CO, which the lung receives"] = gap
    if graph.csf:
        faults["so young a brain makes no fluid by the published curve"] = csf.production(body.age) <= 0
    if drug.kinetics.metabolites:
        shares = [metabolite.share.to(body.M) for metabolite in drug.kinetics.metabolites.values()]
        wrong = torch.stack([share.expand(body.shape) for share in shares])
        faults["the metabolites' shares are negative or sum to more than 1"] = (
            (wrong < 0).any(0) | (wrong.sum(0) > 1 + 1e-12) | ~torch.isfinite(wrong).all(0)
        )
    arterial, kidney = graph.home("arterial"), graph.home("kidney")
    if arterial != kidney:
        reaching = zip(graph.edges, flow, strict=True)
        into_kidney = sum((blood for ends, blood in reaching if ends == (arterial, kidney)), 0.0 * body.CO)
        faults["CLrenal is more than the plasma that reaches the kidney"] = (
            given["CLrenal"] > given["BP"] * into_kidney
        )
    return faults


def _all_possible(value: Tensor) -> bool:
    """Tells whether all numbers of a tensor are finite and not negative; what is expanded is read once."""
    once = value.detach()[tuple(slice(None if stride else 1) for stride in value.stride())]
    if not once.numel():
        return True
    lowest, highest = torch.aminmax(once)
    return bool((lowest >= 0) & (highest < torch.inf))
