"""From a plan to a job that can run it: plans and boards from outside are read and checked before anything starts.

A rank that is given its plan needs this module, the engine and no planner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..core.choices import AUTO
from ..core.document import DocumentError, read_document
from ..core.errors import PlanError, TestbedError, count_of
from ..core.graph import Graph
from ..core.plan import MOST_BYTES, Plan, enough_in_flight
from ..lower import turns_of
from ..lower.memory import mb, memory_of, memory_problems, most_in_flight, with_weights
from ..lower.states import check_in_flight
from ..runtime.transport import Control, Transport, on_root
from ..testbed import Device, Testbed
from ..testbed import read as read_testbed

T = TypeVar("T")

Tell = Callable[[str], None]
"""Is told what goes on, for people to see."""

ROOT = 0
"""The rank that reads and writes files."""


@dataclass(frozen=True, slots=True)
class PlanChoice:
    """Who plans, and how."""

    planner: str = AUTO  # one of :data:`flexpie_mpi.core.choices.PLANNERS`
    fuse: str | None = None  # of rules: one of :data:`flexpie_mpi.core.choices.FUSIONS`, or a number of nodes
    weights: Sequence[float] | None = None  # of rules: the relative share of each rank
    grid: tuple[int, int] | None = None  # (r, c) or None. Rows and columns of the layout ``grid``.
    autotune: int = 1  # so many of the best plans are run, and the fastest is kept
    partial: bool = True  # whether ``auto`` may share out sums
    overlap: bool = False  # whether ``auto`` may let outputs travel behind the last segment, by unequal shares of it


@dataclass(frozen=True, slots=True)
class CostSources:
    """Where boards and costs come from; what is left out is measured, taken from the cache, or assumed."""

    # `testbed` and `cost`: files of boards and of a cost model
    testbed: str | None = None
    cost: str | None = None
    # Files of measurements: boards and links unless `testbed` says, costs unless `cost` does
    traces: Sequence[str] | None = None
    threads: int = 1  # onnxruntime threads of a rank
    trace_budget_s: float = 0.0  # most that a job measures before it plans
    boundaries: str = "auto"  # one of :data:`flexpie_mpi.core.choices.BOUNDARIES`: the form between segments
    places: tuple[int, ...] = ()  # which of its boards the ranks are, after a loss; the first ones where empty

    @property
    def traced(self) -> str:
        """Where boards or costs come from that `traces` show, in words."""
        return ", ".join(self.traces or ())


def ignore(number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
    """Takes what is delivered on a rank where nothing is."""


def from_root(transport: Control, function: Callable[[], T]) -> T:
    """The root's result of `function`, on every rank; so is its error."""
    result: T = transport.broadcast(on_root(transport, function, ROOT), ROOT)
    return result


def read_plan(path: str) -> Plan:
    """A plan from its file.

    Raises PlanError when there is no such file, or it holds no plan; the sentence names the file.
    """
    try:
        content = read_document(path, MOST_BYTES)
    except DocumentError as error:
        raise PlanError(f"plan file '{path}' cannot be read: {error}") from error
    try:
        return Plan.from_json(content)
    except PlanError as error:
        raise PlanError(f"plan file '{path}': {error}") from error


def shared_plan(transport: Transport, path: str) -> Plan:
    """The plan of a file for this job, on every rank; the root reads it.

    Raises PlanError on every rank, when it cannot be read, is for another number of ranks, or has another root.
    """

    def read() -> Plan:
        plan = read_plan(path)
        if plan.ranks != transport.size:
            raise PlanError(
                f"plan file '{path}' is for {plan.ranks} ranks and the job has {transport.size}: "
                f"start it with mpirun -n {plan.ranks}, or make a plan for {transport.size}"
            )
        if plan.root != ROOT:
            raise PlanError(f"plan file '{path}' has root {plan.root}: infer reads and writes on rank {ROOT}")
        return plan

    return from_root(transport, read)


def read_boards(path: str, ranks: int | Sequence[int] | None = None) -> Testbed:
    """Some boards of a testbed's file; see :func:`boards_of`. Raises TestbedError when it cannot be read as well."""
    return boards_of(read_testbed(path), ranks)


def boards_of(testbed: Testbed, ranks: int | Sequence[int] | None) -> Testbed:
    """The first `ranks` boards of a testbed, or those with these numbers; all without either.

    Raises TestbedError when it has fewer.
    """
    chosen = ranks if isinstance(ranks, Sequence) else range(testbed.ranks if ranks is None else ranks)
    least = max(chosen) + 1
    if least > testbed.ranks:
        raise TestbedError(
            f"testbed '{testbed.name}' has {count_of(testbed.ranks, 'board')} and {count_of(least, 'rank')} are asked "
            "for: take fewer ranks, or describe more boards"
        )
    return testbed.only(chosen)


def shared_devices(transport: Transport, path: str | None, places: Sequence[int] = ()) -> tuple[Device, ...]:
    """The boards of all ranks as a testbed's file has them, on every rank; none without a file.

    Raises TestbedError on every rank, when it cannot be read, or has fewer boards than the job has ranks.
    """
    return () if path is None else from_root(transport, lambda: read_boards(path, places or transport.size).devices)


def slowdown_of(transport: Transport, devices: Sequence[Device]) -> float:
    """How many times longer this rank's compute is to take, as its board of `devices`; 1 where there are none."""
    return devices[transport.rank].slowdown if devices else 1.0


def requests_in_flight(
    plan: Plan,
    graph: Graph,
    testbed: Testbed | None,
    asked: int | None = None,
    *,
    holds_whole: bool = False,
    beside: Sequence[int] = (),
) -> int:
    """Requests that are under way at once: as asked, or enough to keep all ranks busy, as far as boards have room.

    The root `holds_whole` the model beside its part where outputs are compared with it, and ranks hold `beside` it what
    other engines of theirs take, in bytes by rank. Without a testbed no memory is looked at. Raises PlanError when a
    board has no room for its part of the plan, not for so many requests, or not for the whole model.
    """
    check_in_flight(graph, asked or 1)
    wanted = asked or (1 if graph.states else enough_in_flight(plan))
    if testbed is None:
        return wanted
    needed = memory_of(turns_of(plan, graph, testbed.blocks), graph, plan.root)
    if beside:
        needed = with_weights(needed, beside)
    problems = memory_problems(needed, testbed, asked or 1)
    if problems:
        raise PlanError(problems[0])
    if holds_whole:
        whole, root = graph.weight_bytes, plan.root
        needed = with_weights(needed, [whole * (need.rank == root) for need in needed])
        if memory_problems(needed, testbed, asked or 1):
            part, device = needed[root].total_bytes(asked or 1) - whole, testbed.devices[root]
            raise PlanError(
                f"--verify holds the whole model on rank {root}, {mb(whole)} of weights beside {mb(part)} for its "
                f"part of the stream, and '{device.name}' has {mb(device.memory_bytes or 0)}: leave it out here, and "
                "verify the same plan on larger machines, without --testbed"
            )
    return asked or most_in_flight(needed, testbed, wanted)
