"""Occupancy: what requests occupy, on average over turns, and the bottleneck by name."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.core.errors import ProgramError
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.lower import lower, turns_of
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.simulate.occupancy import Occupancy, occupancy, of_traffic
from flexpie_mpi.simulate.prices import compute_seconds
from flexpie_mpi.testbed import Device, Testbed, one_host, ring, switch

from ..graphs import GRAPHS

COST = AnalyticCost()


def boards(count: int, bandwidth: float = 1e6, topology=switch) -> Testbed:
    return topology([Device(f"b{rank}", slowdown=1.0 + rank) for rank in range(count)], bandwidth, 1e-3)


def asked(plan: Plan, testbed: Testbed, graph) -> Occupancy:
    return occupancy(turns_of(plan, graph), graph, testbed, COST)


@pytest.mark.parametrize("preset", ["rows", "channels", "single"])
def test_a_rank_computes_for_as_long_as_its_steps_take_and_messages_occupy_what_they_pass(preset):
    graph, testbed = GRAPHS["residual"], boards(3)
    plan = layout_plan(graph, 3, preset)
    programs, found = lower(plan, graph), asked(plan, testbed, graph)
    steps = compute_seconds(programs, graph, testbed, COST)
    for rank in range(3):
        assert found.compute_s[rank] == pytest.approx(sum(s for (of, _), s in steps.items() if of == rank))
        sent = sum(message.nbytes for message in programs[rank].sends)
        assert found.sent_bytes[rank] == sent
        if sent:
            port = next(place for place, each in enumerate(testbed.resources) if each.name == f"b{rank} out")
            assert found.resource_s[port] == found.send_s[rank] == pytest.approx(sent / 1e6)


def test_what_is_forwarded_occupies_every_link_on_its_way():
    testbed = boards(5, topology=ring)
    moved = np.zeros((5, 5))
    moved[0, 2] = 3e6
    found = of_traffic(testbed, np.zeros(5), moved)
    busy = {testbed.resources[place].name: s for place, s in enumerate(found.resource_s.tolist()) if s}
    assert busy == {"b0 -> b1": pytest.approx(3.0), "b1 -> b2": pytest.approx(3.0)}
    assert found.seconds == pytest.approx(3.0) and found.bottleneck in busy
    assert found.send_s[0] == found.receive_s[2] == pytest.approx(3.0) and found.send_s[1] == 0


def test_replicas_share_the_requests():
    graph, testbed = GRAPHS["chain"], boards(3, bandwidth=1e9)
    nodes = tuple(node.name for node in graph.nodes)
    alone = [Layout("single", (rank,)) for rank in range(3)]
    single = [asked(Plan((Segment(nodes, each),), 3, graph.digest), testbed, graph) for each in alone]
    both = asked(Plan((Segment(nodes, alone[1], (alone[2],)),), 3, graph.digest), testbed, graph)
    assert both.compute_s.tolist() == pytest.approx([0, single[1].compute_s[1] / 2, single[2].compute_s[2] / 2])
    assert both.resource_s == pytest.approx((single[1].resource_s + single[2].resource_s) / 2)
    assert both.bottleneck == "b2 computes" and both.per_s == pytest.approx(1 / both.seconds)


def test_ranks_of_one_host_crowd_each_other_in_different_stages():
    graph = GRAPHS["chain"]
    segments = tuple(Segment((node.name,), Layout("single", (rank % 2,))) for rank, node in enumerate(graph.nodes))
    plan = Plan(segments, 2, graph.digest)
    crowded, free = (asked(plan, one_host(2, cores=cores), graph).compute_s for cores in (1, 2))
    assert (crowded > 1.2 * free).all()


def test_programs_must_be_those_of_the_testbed():
    graph = GRAPHS["chain"]
    with pytest.raises(ProgramError, match="2 programs do not fit the 3 boards"):
        occupancy([lower(layout_plan(graph, 2, "rows"), graph)], graph, boards(3), COST)
