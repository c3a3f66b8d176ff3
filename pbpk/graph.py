r"""The organ graph: which compartments there are, and which blood flows between them.

The finest graph is the circulation of :data:`pbpk.organs.ORGANS`, with the blood split into an arterial and a
venous pool: arterial -> organ carries the organ's arterial flow :math:`Q_o`; a portal organ drains into the
liver, any other into the venous pool; the liver returns its own flow and the portal flow; venous -> lung ->
arterial carries the whole cardiac output.

Every other graph is data of the same kind. The usual way to one is :meth:`OrganGraph.pool`: a partition of
the compartments. The flow between two nodes is then the sum of the flows between their members, and flow
inside a node vanishes, so that a pooled graph balances because the finest one does.

A node is one well-stirred space unless the graph splits it: :meth:`OrganGraph.permeable` puts a wall between
its blood and its tissue, :meth:`OrganGraph.with_csf` gives the brain its mass and its fluid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.organs import ORGANS, PERFUSED, PORTAL, index

COMPARTMENTS: tuple[str, ...] = (*PERFUSED, "lung", "arterial", "venous")
KINDS: tuple[str, ...] = ("arterial", "portal", "venous", "pulmonary")

ARTERIAL_SHARE = 0.25
"""The arterial share of the blood [1]: large arteries hold 6 % of it and large veins 18 %, and the same 1:3
is taken for the rest. ICRP reference values in National Research Council (1999), Risk Assessment of Radon in
Drinking Water, appendix A. https://doi.org/10.17226/6287"""


@dataclass(frozen=True)
class OrganGraph:
    r"""Nodes that pool compartments, and edges that carry blood.

    Attributes:
        name: The graph's name, for messages and provenance.
        nodes: The nodes' names.
        members: For each node the compartments it pools: organs, ``"arterial"`` and ``"venous"`` for blood.
        edges: Pairs (from, to) of nodes.
        carries: For each edge the organs whose arterial flows it carries, one name as often as it counts.
        arterial_share: The share of the blood that is in the arterial pool [1].
        absorbs: The compartment into which a dose by mouth is absorbed.
        walled: The nodes whose tissue is a space of its own, behind a wall of limited permeability.
        csf: Whether the brain is four spaces: its blood, its mass, cranial and spinal fluid.

    Raises:
        ValueError: If a compartment is missing or named twice, an edge joins what is not a node, or a node is
            split that holds more than tissue.
    """

    name: str
    nodes: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]
    edges: tuple[tuple[str, str], ...]
    carries: tuple[tuple[str, ...], ...]
    arterial_share: float = ARTERIAL_SHARE
    absorbs: str = "small_intestine"
    walled: tuple[str, ...] = ()
    csf: bool = False

    def __post_init__(self) -> None:
        """Checks that the nodes partition the compartments and that the edges join nodes."""
        for members in self.members:
            for member in members:
                choose(f"OrganGraph {self.name!r}: a member", member, COMPARTMENTS)
        counts = Counter(member for members in self.members for member in members)
        for what, wrong in (
            ("lacks", [c for c in COMPARTMENTS if counts[c] == 0]),
            ("names twice", [c for c in COMPARTMENTS if counts[c] > 1]),
        ):
            if wrong:
                raise ValueError(
                    f"OrganGraph {self.name!r} must hold every compartment once, but {what} "
                    f"{', '.join(wrong)}; pool what you do not need into a node 'rest'."
                )
        for edge in self.edges:
            for node in edge:
                choose(f"OrganGraph {self.name!r}: an edge's node", node, self.nodes)
        choose("OrganGraph.absorbs", self.absorbs, COMPARTMENTS)
        for node in self.walled:
            choose(f"OrganGraph {self.name!r}: a walled node", node, self.nodes)
        self._check_split()

    def _check_split(self) -> None:
        """Checks that what is split can be split."""
        home = {member: n for n, group in zip(self.nodes, self.members, strict=True) for member in group}
        bloody = [node for node in self.walled if node in (home["arterial"], home["venous"])]
        if bloody:
            raise ValueError(
                f"OrganGraph.walled must name nodes of tissue, but {bloody[0]!r} pools blood with it; "
                "pool the organ alone."
            )
        if self.csf and (self.members[self.nodes.index(home["brain"])] != ("brain",) or self.brain_walled):
            raise ValueError(
                f"OrganGraph {self.name!r} must keep the brain alone and not walled to give it its fluid, "
                f"but the brain is in node {home['brain']!r}; pool it alone, or leave out its fluid."
            )

    @property
    def brain_walled(self) -> bool:
        """Whether the node of the brain is one of those with a wall."""
        return any("brain" in self.members[self.nodes.index(node)] for node in self.walled)

    def permeable(self, *organs: str) -> OrganGraph:
        """Returns the graph with a wall between the blood and the tissue of some organs.

        The node is then two spaces: its blood, ``muscle_blood`` say, on the edges, and its tissue ``muscle``.
        What passes the wall is given by ``Kinetics.PS``.

        Arguments:
            organs: The organs; an organ of a pooled node stands for the node.

        >>> WHOLE_BODY.permeable("muscle", "skin").walled
        ('muscle', 'skin')
        """
        homes = [organ if organ in self.nodes else self.home(organ) for organ in organs]
        return replace(self, walled=tuple(dict.fromkeys([*self.walled, *homes])))

    def with_csf(self) -> OrganGraph:
        """Returns the graph with a brain of four spaces; ``Kinetics.brain`` says what passes between them.

        They are ``brain_blood``, on the edges, the mass ``brain``, ``cranial_csf`` and ``spinal_csf``.
        """
        return replace(self, csf=True)

    def pool(self, name: str, pools: Mapping[str, Sequence[str]]) -> OrganGraph:
        """Returns a coarser graph whose nodes are groups of this graph's compartments.

        Arguments:
            name: The new graph's name.
            pools: For each new node the compartments it pools; ``"blood"`` means both blood pools.

        Raises:
            ValueError: If a compartment is missing, unknown, or named twice.

        >>> others = [c for c in COMPARTMENTS if c != "muscle"]
        >>> two = WHOLE_BODY.pool("two", {"body": others, "muscle": ["muscle"]})
        >>> two.edges, two.carries
        ((('body', 'muscle'), ('muscle', 'body')), (('muscle',), ('muscle',)))
        """
        members = {
            node: tuple(part for m in group for part in (("arterial", "venous") if m == "blood" else (m,)))
            for node, group in pools.items()
        }
        home = {member: node for node, group in members.items() for member in group}
        for node, group in zip(self.nodes, self.members, strict=True):
            if len({home.get(member) for member in group}) > 1:
                raise ValueError(
                    f"pools must keep the nodes of {self.name!r} whole, but split {node!r}; pool WHOLE_BODY."
                )
        merged: dict[tuple[str, str], tuple[str, ...]] = {}
        for (source, target), carried in zip(self.edges, self.carries, strict=True):
            edge = (home.get(self._first(source), ""), home.get(self._first(target), ""))
            if edge[0] != edge[1]:
                merged[edge] = merged.get(edge, ()) + carried
        graph = OrganGraph(
            name, tuple(members), tuple(members.values()), (), (), self.arterial_share, self.absorbs
        )
        return graph.with_edges(merged)

    def with_edges(self, carries: Mapping[tuple[str, str], Sequence[str]]) -> OrganGraph:
        """Returns the same nodes with other edges, given as the organs whose flow each one carries."""
        carried = tuple(tuple(organs) for organs in carries.values())
        return replace(self, edges=tuple(carries), carries=carried)

    def _first(self, node: str) -> str:
        return self.members[self.nodes.index(node)][0]

    def home(self, compartment: str) -> str:
        """Returns the node that holds ``compartment``.

        >>> LUMPED.home("spleen")
        'gut'
        """
        choose("compartment", compartment, COMPARTMENTS)
        return next(n for n, m in zip(self.nodes, self.members, strict=True) if compartment in m)

    def carried(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Returns how often each edge carries each organ's flow, with shape :math:`(E, 17)`."""
        counts = torch.zeros(len(self.edges), len(ORGANS), dtype=dtype)
        for edge, organs in enumerate(self.carries):
            for organ in organs:
                counts[edge, index(organ)] += 1
        return counts

    @property
    def edge_index(self) -> Tensor:
        """The edges as pairs of node positions, with shape :math:`(2, E)`."""
        pairs = [[self.nodes.index(s), self.nodes.index(t)] for s, t in self.edges]
        return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T

    @property
    def kind(self) -> Tensor:
        """Each edge's position in :data:`KINDS`, with shape :math:`(E)`."""
        return torch.tensor([KINDS.index(self._kind(s, t)) for s, t in self.edges])

    def _kind(self, source: str, target: str) -> str:
        if self.home("lung") in (source, target):
            return "pulmonary"
        if source == self.home("arterial"):
            return "arterial"
        return "portal" if target == self.home("liver") else "venous"

    def to_data(self) -> Any:
        """Returns the graph as a PyTorch Geometric ``Data``; ``edge_attr`` is the kind."""
        from torch_geometric.data import Data

        return Data(edge_index=self.edge_index, edge_attr=self.kind, num_nodes=len(self.nodes))


def _circulation() -> dict[tuple[str, str], tuple[str, ...]]:
    edges: dict[tuple[str, str], tuple[str, ...]] = {}
    for organ in PERFUSED:
        edges["arterial", organ] = (organ,)
        edges[organ, "liver" if organ in PORTAL else "venous"] = (organ,)
    edges["liver", "venous"] = ("liver", *PORTAL)
    edges["venous", "lung"] = edges["lung", "arterial"] = PERFUSED
    return edges


WHOLE_BODY = OrganGraph("whole-body", COMPARTMENTS, tuple((c,) for c in COMPARTMENTS), (), ()).with_edges(
    _circulation()
)
"""The default: 15 organs side by side, the lung, and two blood pools."""

LUMPED = WHOLE_BODY.pool(
    "lumped",
    {
        "gut": PORTAL,
        "liver": ["liver"],
        "kidney": ["kidney"],
        "lung": ["lung"],
        "rest": [o for o in PERFUSED if o not in (*PORTAL, "liver", "kidney")],
        "arterial": ["arterial"],
        "venous": ["venous"],
    },
)
"""Seven compartments, the structure of httk's ``pbtk``: Pearce et al. (2017), J Stat Softw 79(4).
https://doi.org/10.18637/jss.v079.i04"""

GRAPHS: Mapping[str, OrganGraph] = {graph.name: graph for graph in (WHOLE_BODY, LUMPED)}
