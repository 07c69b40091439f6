"""Which plans memory holds together."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.graph import Graph
from ..core.plan import Plan
from ..lower import lower
from ..lower.memory import memory_of
from ..measure.race import fitting_turns, room
from ..runtime.transport import Transport
from ..testbed import Testbed


def turns_of_plans(
    transport: Transport, graph: Graph, plans: Sequence[Plan], testbed: Testbed
) -> tuple[tuple[int, ...], ...]:
    """Places of plans by the turns in which memory holds their engines together; called by all ranks together."""
    jobs = [[lower(plan, graph, testbed.blocks)] for plan in plans]
    needed = [[need.engine_bytes() for need in memory_of(job, graph)] for job in jobs]
    return fitting_turns(needed, room(transport, testbed))
