"""Any plan under a stream of requests: how many a second, how long one takes, and how much memory it needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.plan import Plan, enough_in_flight
from ..cost.model import CostModel
from ..lower import turns_of
from ..lower.memory import RankMemory, memory_of, most_in_flight
from ..simulate import simulate
from ..simulate.occupancy import Occupancy, occupancy
from ..testbed import Testbed


@dataclass(frozen=True, eq=False)
class Streamed:
    """A plan with what a stream of requests is predicted to ask of the boards."""

    plan: Plan
    occupancy: Occupancy
    latency_s: float  # of one request alone, as simulated, in the slowest turn
    needs: tuple[RankMemory, ...]  # memory by rank
    # Requests under way at once: enough to keep all boards busy, or as many as the boards have room for. 0 where there
    # is no room for one.
    in_flight: int
    is_cramped: bool  # whether these are too few

    @property
    def seconds(self) -> float:
        """From one request to the next: what the bottleneck takes, or more where too few can be under way."""
        few_s = self.latency_s / max(1, self.in_flight) if self.is_cramped else 0.0
        return max(self.occupancy.seconds, few_s)

    @property
    def bottleneck(self) -> str:
        """What keeps requests from following each other faster."""
        if self.seconds > self.occupancy.seconds:
            return f"memory for {self.in_flight} at once"
        return self.occupancy.bottleneck

    @cached_property
    def boards(self) -> tuple[int, ...]:
        """Ranks that run any segment in any turn."""
        return tuple(sorted({rank for segment in self.plan.segments for rank in segment.ranks}))


def streamed(plan: Plan, graph: Graph, testbed: Testbed, cost: CostModel) -> Streamed:
    """What a stream of requests asks for when it follows a plan.

    Raises PlanError when the plan does not fit the graph or the testbed.
    """
    if plan.ranks != testbed.ranks:
        raise PlanError(f"the plan is for {plan.ranks} ranks and testbed '{testbed.name}' has {testbed.ranks}")
    turns = turns_of(plan, graph, testbed.blocks)
    needs, enough = memory_of(turns, graph, plan.root), enough_in_flight(plan)
    in_flight = most_in_flight(needs, testbed, enough)
    return Streamed(
        plan,
        occupancy(turns, graph, testbed, cost),
        max(simulate(programs, graph, testbed, cost).latency_s for programs in turns),
        needs,
        in_flight,
        in_flight < enough,
    )
