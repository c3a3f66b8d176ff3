r"""The spaces of an organ graph in a body: their volumes, and their capacities for a drug.

A node pools the tissues of its organs and its share of the blood. Where the graph splits a node, what lies on
the edges is its blood, ``muscle_blood`` say, and its tissue follows after the nodes. The blood of a walled
organ is its share of the organ's volume (``vascular.csv``) and leaves the arterial and the venous pool; a
brain with its fluid keeps its volume, as its authors count it (:mod:`pbpk.csf`).
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Mapping

import torch
from torch import Tensor

from pbpk import csf
from pbpk.graph import OrganGraph
from pbpk.organs import ORGANS, index
from pbpk.physiology import Physiology


def _column(table: str, species: str = "") -> dict[str, float]:
    """Reads one number an organ from a table of ``pbpk/data``."""
    path = importlib.resources.files("pbpk") / "data" / table
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not species or row["species"] == species]
    return {row["organ"]: float(row["value"]) for row in rows}


@functools.cache
def density() -> Tensor:
    """Returns the density of each organ [kg/L] from ``data/density.csv``, with shape :math:`(17)`."""
    value = _column("density.csv")
    return torch.tensor([value[organ] for organ in ORGANS], dtype=torch.float64)


@functools.cache
def vascular_share(species: str = "human") -> Tensor:
    """Returns the blood in each organ as a share of both [1], with shape :math:`(17)`; 0 for blood itself.

    From ``data/vascular.csv``; every animal takes the rat's.
    """
    value = {"blood": 0.0, **_column("vascular.csv", "human" if species == "human" else "rat")}
    return torch.tensor([value[organ] for organ in ORGANS], dtype=torch.float64)


def spaces(
    graph: OrganGraph, body: Physiology, given: Mapping[str, Tensor], Kp: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the volumes and the capacities of a graph's spaces: what is on the edges first, then tissue."""
    columns = body.M.movedim(-1, 0).contiguous()  # what follows takes an organ at a time
    V_organ = columns.movedim(0, -1) / density().to(body.M)
    pooled = pooled_share(graph, V_organ)
    V = dict(zip(graph.nodes, each_sum(V_organ, pooled), strict=True))
    P = dict(zip(graph.nodes, each_sum(V_organ * Kp, pooled), strict=True))
    if graph.walled:
        V, P = _walled(graph, body, given, V_organ, V, P)
    if graph.csf and "fum" in given:
        V, P = _with_csf(graph, body, given, V, P)
    return V, P


def _walled(
    graph: OrganGraph,
    body: Physiology,
    given: Mapping[str, Tensor],
    V_organ: Tensor,
    V: dict[str, Tensor],
    P: dict[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits the walled nodes; their blood leaves the two pools."""
    share = vascular_share(body.species).to(V_organ)
    in_organ = V_organ * share / (1.0 - share)
    blood = {
        node: in_organ @ pooled_share(graph, V_organ)[:, graph.nodes.index(node)] for node in graph.walled
    }
    taken = torch.stack(list(blood.values())).sum(0)
    left_V, left_P = dict(V), dict(P)
    for pool, part in (("arterial", graph.arterial_share), ("venous", 1.0 - graph.arterial_share)):
        home = graph.home(pool)
        left_V[home], left_P[home] = left_V[home] - part * taken, left_P[home] - part * taken * given["BP"]
    on_edges = {f"{n}_blood" if n in blood else n: (blood.get(n, v)) for n, v in left_V.items()}
    held = {
        f"{n}_blood" if n in blood else n: (blood[n] * given["BP"] if n in blood else p)
        for n, p in left_P.items()
    }
    return on_edges | {n: V[n] for n in blood}, held | {n: P[n] for n in blood}


def _with_csf(
    graph: OrganGraph,
    body: Physiology,
    given: Mapping[str, Tensor],
    V: dict[str, Tensor],
    P: dict[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Splits the brain into its blood, its mass and its fluid."""
    node = graph.home("brain")
    own = csf.volumes(body, V[node])
    held = {
        name: volume * given["fup"] / given[csf.UNBOUND[name]]
        for name, volume in own.items()
        if name in csf.UNBOUND
    }
    blood, held_blood = own["brain_blood"], own["brain_blood"] * given["BP"]
    V = {("brain_blood" if n == node else n): (blood if n == node else v) for n, v in V.items()}
    P = {("brain_blood" if n == node else n): (held_blood if n == node else p) for n, p in P.items()}
    return V | {name: own[name] for name in held}, P | held


def each_sum(values: Tensor, shares: Tensor) -> tuple[Tensor, ...]:
    """Returns sums of values (*, 17) by shares (17, n): n tensors of shape (*).

    Few of the shares are not 0; and sums one by one are the same in any batch to the last bit.
    """
    columns = values.movedim(-1, 0).contiguous()
    made: dict[tuple[float, ...], Tensor] = {}
    rows = [tuple(row) for row in shares.mT.tolist()]
    for row in rows:
        if row not in made:
            terms = [
                columns[k] if share == 1.0 else share * columns[k] for k, share in enumerate(row) if share
            ]
            made[row] = functools.reduce(torch.add, terms, 0.0 * columns[0]) if len(terms) != 1 else terms[0]
    return tuple(made[row] for row in rows)


def pooled_share(graph: OrganGraph, like: Tensor) -> Tensor:
    """Returns the share of each organ that belongs to each node, with shape (17, nodes)."""
    share = like.new_zeros(len(ORGANS), len(graph.nodes))
    blood = {"arterial": graph.arterial_share, "venous": 1.0 - graph.arterial_share}
    for node, members in enumerate(graph.members):
        for member in members:
            share[index("blood" if member in blood else member), node] += blood.get(member, 1.0)
    return share
