"""Organ graphs: the circulation, pooling, and what is refused."""

import pytest
import torch

from pbpk.graph import COMPARTMENTS, GRAPHS, KINDS, LUMPED, WHOLE_BODY
from pbpk.organs import ORGANS, PERFUSED, PORTAL, index


def test_the_whole_body_has_every_organ_and_both_blood_pools_once():
    assert set(WHOLE_BODY.nodes) == {*ORGANS, "arterial", "venous"} - {"blood"}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=list(GRAPHS))
def test_as_much_blood_enters_each_node_as_leaves_it_whatever_the_flows_are(graph):
    net = torch.zeros(len(graph.nodes), len(ORGANS), dtype=torch.float64)
    source, target = graph.edge_index
    net.index_add_(0, target, graph.carried()).index_add_(0, source, -graph.carried())
    assert net.abs().max() == 0


def test_the_lung_carries_the_whole_cardiac_output_and_the_liver_returns_the_portal_flow():
    flow = dict(zip(WHOLE_BODY.edges, WHOLE_BODY.carries, strict=True))
    assert set(flow["venous", "lung"]) == set(PERFUSED) == set(flow["lung", "arterial"])
    assert set(flow["liver", "venous"]) == {"liver", *PORTAL}
    assert flow["spleen", "liver"] == ("spleen",) and ("spleen", "venous") not in flow


def test_a_pooled_graph_adds_flows_between_pools_and_drops_those_inside():
    flow = dict(zip(LUMPED.edges, LUMPED.carries, strict=True))
    assert set(flow["gut", "liver"]) == set(PORTAL)
    assert set(flow["arterial", "rest"]) == set(PERFUSED) - {*PORTAL, "liver", "kidney"}
    assert WHOLE_BODY.pool("one", {"body": COMPARTMENTS}).edges == ()


def test_flow_that_crosses_a_border_twice_is_counted_twice():
    inner = [c for c in COMPARTMENTS if c not in ("spleen", "venous")]
    graph = WHOLE_BODY.pool("odd", {"inner": inner, "outer": ["spleen", "venous"]})
    spleen = graph.carried()[graph.edges.index(("inner", "outer")), index("spleen")]
    assert spleen == 2  # to the spleen, and after the liver to the veins


def test_each_edge_has_its_kind():
    kind = {edge: KINDS[k] for edge, k in zip(WHOLE_BODY.edges, WHOLE_BODY.kind.tolist(), strict=True)}
    assert kind["arterial", "brain"] == "arterial" and kind["brain", "venous"] == "venous"
    assert kind["spleen", "liver"] == "portal" and kind["venous", "lung"] == "pulmonary"


def test_a_graph_becomes_pyg_data_of_the_same_shape():
    data = LUMPED.to_data()
    assert data.num_nodes == 7 and data.edge_index.shape == (2, len(LUMPED.edges))
    assert data.validate()


@pytest.mark.parametrize(
    "pools, named",
    [
        ({"body": [c for c in COMPARTMENTS if c not in ("muscle", "brain")]}, "lacks brain, muscle"),
        ({"body": COMPARTMENTS, "more": ["liver"]}, "names twice liver"),
        ({"body": COMPARTMENTS, "more": ["livr"]}, "Did you mean 'liver'"),
    ],
)
def test_pools_that_are_no_partition_are_refused(pools, named):
    with pytest.raises(ValueError, match=named):
        WHOLE_BODY.pool("mine", pools)


def test_a_node_that_was_pooled_cannot_be_split_again():
    parts = {"a": [c for c in COMPARTMENTS if c != "spleen"], "b": ["spleen"]}
    with pytest.raises(ValueError, match="split 'gut'"):
        LUMPED.pool("mine", parts)


def test_an_edge_to_what_is_no_node_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'liver'"):
        LUMPED.with_edges({("gut", "livr"): PORTAL})
