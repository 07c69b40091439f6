"""Memory of ranks while requests stream: what a plan needs, and how many requests the boards have room for.

A rank holds its process, the weights of its segments, what is alive inside the segment it runs, and a *slot* for every
request it has under way: buffers of all that comes and goes, once for computing and once as messages. The root keeps a
slot for every request that it has let in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.graph import Graph
from ..core.program import Compute, Program
from ..lower.facts import slice_bytes, weight_bytes
from ..lower.slots import slots_of
from ..planner.problem import RESERVE_BYTES
from ..testbed import Testbed

COPIES = 2
"""Of everything that comes and goes: in a buffer, and in a message."""


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of one rank, in bytes.

    Attributes
    ----------
    rank : int
    weight_bytes : int
    inner_bytes : int
        Of values alive inside the segment in which they are most.
    slot_bytes : int
        Of one request of every turn.
    turns : int
    is_root : bool
    """

    rank: int
    weight_bytes: int
    inner_bytes: int
    slot_bytes: int
    turns: int
    is_root: bool

    def slots_bytes(self, in_flight: int) -> int:
        """Of so many requests under way in the job."""
        return self.slot_bytes * slots_of(self.is_root, in_flight, self.turns) // self.turns

    def total_bytes(self, in_flight: int) -> int:
        """All of it, with the rank's process."""
        return RESERVE_BYTES + self.weight_bytes + self.inner_bytes + self.slots_bytes(in_flight)


def needs(turns: Sequence[Sequence[Program]], graph: Graph, root: int = 0) -> tuple[Need, ...]:
    """What every rank needs, by rank.

    Parameters
    ----------
    turns : sequence of sequence of Program
        Programs of all ranks, for every turn of the replicas.
    graph : Graph
    root : int
    """
    return tuple(_need(programs, graph, root) for programs in zip(*turns, strict=True))


def memory_problems(found: Sequence[Need], testbed: Testbed, in_flight: int = 1) -> list[str]:
    """Every board that has less memory than it needs, as sentences; empty when all have enough."""
    lacking = []
    for need in found:
        device = testbed.devices[need.rank]
        if device.memory_bytes is not None and need.total_bytes(in_flight) > device.memory_bytes:
            lacking.append(
                f"rank {need.rank} needs {mb(need.total_bytes(in_flight))} of memory ({mb(need.weight_bytes)} for "
                f"weights, {mb(need.inner_bytes)} while it computes, {mb(need.slots_bytes(in_flight))} for requests "
                f"under way, {mb(RESERVE_BYTES)} for its process) and '{device.name}' has {mb(device.memory_bytes)}: "
                "make a plan for this testbed, or take larger boards"
            )
    return lacking


def most_in_flight(found: Sequence[Need], testbed: Testbed, most: int) -> int:
    """Requests that the boards have room for at once, up to `most`; 0 where there is none for a single one."""
    return next((count for count in range(most, 0, -1) if not memory_problems(found, testbed, count)), 0)


def slot_bytes(program: Program) -> int:
    """Buffers and messages of one request."""
    messages = (message for exchange in program.exchanges for message in (*exchange.sends, *exchange.receives))
    return program.arena.nbytes + sum(message.nbytes for message in messages)


def mb(nbytes: float) -> str:
    """A number of bytes in a sentence.

    >>> mb(411_100_000), mb(float("inf"))
    ('411 MB', 'unlimited')
    """
    if nbytes == float("inf"):
        return "unlimited"
    return f"{nbytes / 1e6:.0f} MB"


def _need(programs: Sequence[Program], graph: Graph, root: int) -> Need:
    rank = programs[0].rank
    return Need(
        rank,
        weight_bytes(graph, *programs),
        max((_inner(graph, step) for program in programs for step in program.computes), default=0),
        sum(map(slot_bytes, programs)),
        len(programs),
        rank == root,
    )


def _inner(graph: Graph, step: Compute) -> int:
    """The most bytes that are alive inside a segment at once, besides its inputs and outputs."""
    outside = {name for name, _ in (*step.inputs, *step.outputs)}
    nodes = [graph.nodes[graph.position[block.node]] for block in step.blocks]
    last = {name: place for place, node in enumerate(nodes) for name in node.reads}
    alive, most, ending = 0, 0, dict[int, int]()
    for place, (node, block) in enumerate(zip(nodes, step.blocks, strict=True)):
        for name, region in zip(node.outputs, block.outputs, strict=True):
            if name and name not in outside and name not in graph.derived and region is not None:
                nbytes, until = slice_bytes(graph, [(name, region)]), last.get(name, place)
                alive += nbytes
                ending[until] = ending.get(until, 0) + nbytes
        most = max(most, alive)
        alive -= ending.pop(place, 0)
    return most
