"""Plans of the searching planners, for boards so slow and links so fast that work is shared."""

from __future__ import annotations

from flexpie_mpi import Plan
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.planner import Task, make_plans
from flexpie_mpi.testbed import Device, switch

SEARCHING = ("auto", "flexpie", "fused", "layerwise")

_FREE = AnalyticCost(call=(1e-9, 0.0, 0.0, 1e12, 1e12), exchange=(1e-9,) * 6 + (1e12, 1e12, 0.0))


def planned(graph: Graph, ranks: int, planner: str) -> Plan:
    """The best plan of a planner for that many ranks; every second one is half as fast as the others."""
    devices = [Device(f"board{rank}", slowdown=100.0 * (1 + rank % 2)) for rank in range(ranks)]
    testbed = switch(devices, bandwidth=1e10, latency=1e-9)
    return make_plans(planner, Task(graph, testbed, _FREE)).plans[0].plan
