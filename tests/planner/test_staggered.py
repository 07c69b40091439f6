"""Ranks are done one after the other where large outputs can travel meanwhile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flexpie_mpi.core.graph import Graph, Node, Value
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.memory import PROCESS_BYTES, memory_of
from flexpie_mpi.planner import Search, Task, make_plans, price
from flexpie_mpi.simulate import simulate
from flexpie_mpi.testbed import Testbed, ring, star

from ..graphs import GraphBuilder
from .test_planners import boards

COST = AnalyticCost()


def dense(outputs: int = 1) -> Graph:
    """A network whose outputs are as large as its images."""
    b = GraphBuilder((1, 8, 96, 96))
    x = b.relu(b.conv("x", 32))
    names = [b.relu(b.conv(b.relu(b.conv(x, 32)), 24)) for _ in range(outputs)]
    return b.graph(*names)


def plans(graph: Graph, testbed: Testbed, *, overlap: bool = True, top: int = 1) -> Search:
    return make_plans("auto", Task(graph, testbed, COST, overlap=overlap, top=top))


def simulated_s(search: Search, graph: Graph, testbed: Testbed, number: int = 0) -> float:
    return simulate(lower(search.plans[number].plan, graph), graph, testbed, COST).latency_s


@pytest.mark.parametrize(
    "testbed",
    [boards(8, 8, 8, 8), boards(8, 8), boards(2, 4, 8), boards(8, 8, 8, 8, topology=ring), boards(8, 8, 8, 8, 8, 8)],
    ids=["4", "2", "mixed", "ring", "6"],
)
def test_what_is_predicted_to_be_gained_is_gained_in_simulation(testbed: Testbed) -> None:
    graph = dense()
    even, found = plans(graph, testbed, overlap=False), plans(graph, testbed)
    assert found.even == even.plans[0]
    assert found.plans[0].seconds < 0.99 * even.plans[0].seconds
    gained = simulated_s(even, graph, testbed) / simulated_s(found, graph, testbed)
    assert gained > 0.98 * even.plans[0].seconds / found.plans[0].seconds


def test_the_root_does_most() -> None:
    graph, testbed = dense(), boards(8, 8, 8, 8)
    layout = plans(graph, testbed).plans[0].plan.segments[-1].layout
    sizes = [region.size if (region := layout.region((1, 24, 96, 96), rank)) else 0 for rank in range(4)]
    assert sizes[0] == max(sizes) > min(sizes)


def test_only_the_last_segment_is_shared_out_anew() -> None:
    graph, testbed = dense(), boards(8, 8, 8, 8)
    found = plans(graph, testbed)
    assert found.even is not None
    assert found.plans[0].plan.segments[:-1] == found.even.plan.segments[:-1]
    assert found.plans[0].plan.segments[-1].nodes == found.even.plan.segments[-1].nodes


def test_it_is_priced_alike_by_whoever_prices_it() -> None:
    graph, testbed = dense(), boards(8, 8, 8, 8)
    found = plans(graph, testbed).plans[0]
    assert price(found.plan, graph, testbed, COST).seconds == pytest.approx(found.seconds)
    assert found.exit_s >= 0.0
    assert all(segment.compute_s > 0.0 for segment in found.segments)


def test_small_outputs_change_nothing() -> None:
    b = GraphBuilder((1, 8, 96, 96))
    graph = b.graph(b.pool(b.relu(b.conv(b.relu(b.conv("x", 32)), 32))))
    testbed = boards(8, 8, 8, 8)
    found = plans(graph, testbed)
    assert found.plans == plans(graph, testbed, overlap=False).plans
    assert found.even is None


def test_an_output_of_an_earlier_segment_hides_nothing() -> None:
    """Its messages would travel with the others: how many there are in between is not looked at."""
    b = GraphBuilder((1, 8, 96, 96))
    first = b.relu(b.conv("x", 32))
    graph, testbed = b.graph(first, b.relu(b.conv(first, 32))), boards(8, 8, 8, 8)
    split = plans(graph, testbed, overlap=False).plans[0].plan
    nodes, layout = [node.name for node in graph.nodes], split.segments[-1].layout
    segments = tuple(replace(split.segments[0], nodes=tuple(each), layout=layout) for each in (nodes[:2], nodes[2:]))
    even = price(replace(split, segments=segments), graph, testbed, COST)
    uneven = replace(layout, weights=tuple(np.linspace(1.2, 0.8, sum(layout.grid) or 4)))
    skewed = replace(split, segments=(segments[0], replace(segments[1], layout=uneven)))
    assert price(skewed, graph, testbed, COST).exit_s == pytest.approx(even.exit_s, rel=0.1)


def test_boards_without_room_for_more_keep_their_shares() -> None:
    graph, testbed = dense(), boards(8, 8, 8, 8)
    found = plans(graph, testbed)
    assert found.even is not None
    lower_than = [
        max(need.engine_bytes() for need in memory_of([lower(each.plan, graph)], graph))
        for each in (found.even, found.plans[0])
    ]
    assert lower_than[0] < lower_than[1], "the root holds more"
    devices = tuple(replace(device, memory_bytes=PROCESS_BYTES + sum(lower_than) // 2) for device in testbed.devices)
    tight = plans(graph, replace(testbed, devices=devices))
    assert tight.plans[0].plan.segments == found.even.plan.segments


def test_the_best_plans_stay_in_order() -> None:
    graph, testbed = dense(), boards(8, 8, 8, 8)
    found = plans(graph, testbed, top=5)
    assert len(found.plans) == len(found.paths) == 5
    assert [each.seconds for each in found.plans] == sorted(each.seconds for each in found.plans)
    assert found.lower_bound_s <= found.plans[0].seconds


def test_an_output_of_unknown_shape_is_left_to_the_root() -> None:
    b = GraphBuilder((1, 8, 96, 96))
    x = b.relu(b.conv("x", 32))
    b.values["found"] = Value("found", None, "int64")
    b.nodes.append(Node("found", "NonZero", (x,), ("found",)))
    graph, testbed = b.graph(x, "found"), boards(8, 8, 8, 8)
    found = plans(graph, testbed)
    assert found.plans[0].plan.segments[-1].layout.ranks == (0,)
    assert found.even is None


def test_links_of_their_own_need_no_turns() -> None:
    """In a star each board has its own link to the root, and all outputs travel at the same time."""
    graph, testbed = dense(), boards(8, 8, 8, 8, topology=star)
    even, found = plans(graph, testbed, overlap=False).plans[0], plans(graph, testbed).plans[0]
    assert found.seconds <= even.seconds
