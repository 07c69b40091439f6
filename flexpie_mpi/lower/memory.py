"""The memory that a plan needs on every rank: the one model of it, for planning, simulating, starting and reporting.

A rank holds its process, the constants of its segments, what it works with, and a *slot* for every request that it has
under way::

    process | constants | while it starts: further copies of the constants being laid out anew         <- the larger
                        | while it runs:   values inside a segment | slots: buffers and messages       <- of these two

How the terms were measured, with onnxruntime 1.32 on x86-64 (``bench/memory.py`` sets their sum beside the peak):

- The process is what a rank that is alone on its machine has resident (Rss) when it has loaded a model's skeleton:
  Python, numpy, onnx, onnxruntime and MPI.
- onnxruntime maps constants from files. Those of convolutions and matrix products it lays out anew, and gives the
  mapped file back, so that each is held once: the bytes that a session adds to a process that has returned its free
  memory are 1.00 to 1.04 times those of its constants. Of a table of which rows are gathered, only pages around those
  rows become resident.
- Convolutions are laid out while the session is made. Of each there are up to three further copies meanwhile: one of
  144 MB took 577 MB. Copies of at most `HEAP_BYTES` stay with the process when they are freed, until it returns its
  free memory, which it does every `RETURN_BYTES`: 0.5 to 0.8 of the bytes laid out since in ResNets, VGG-16 and
  Inception, 1.0 where many convolutions are all of one size. They are all counted.
- A segment with blocked values is laid out once, by a session that is gone before the next one is made, and mapped from
  the cache then: its constants become resident when it runs. While it is laid out they are there twice.
- All sessions of a process share one arena. It keeps what a first request took value by value, and the one block for
  all of them that onnxruntime asks for from the second request on: twice what the values of the hungriest segment
  take, where the memory of one that is over serves only values of the same size.
- Buffers and messages are allocated by this package, so their sizes are known.

What is left out: a model that the root sees for the first time is prepared in a process of its own, before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.graph import BoundNode, Graph
from ..core.program import Compute, NodeBlock, Program
from ..core.region import Region
from ..ops import rule_for, whole
from ..ops.elementwise import Elementwise
from ..ops.gather import Gather
from ..testbed import Testbed
from .arena import message_bytes
from .facts import slice_bytes

PROCESS_BYTES = 88 << 20
"""Of a rank's process before it holds any of the model."""

RETURN_BYTES = 16 << 20
"""Constants that sessions may lay out until the process returns its free memory to the system."""

COPIES_OF_ONE = 3
"""Of the constant that a convolution lays out, beside the one that stays."""

HEAP_BYTES = 32 << 20
"""What is larger than this the C library gives back to the system at once."""

INNER_COPIES = 2
"""Of what is alive inside a segment, in the arena of onnxruntime."""

TABLE_PAGE_BYTES = 64 << 10
"""Bytes that become resident around each row that is gathered from a mapped file."""

SLOTS_PER_TURN = 3
"""Of a rank that is not the root: a request that comes, one that is computed, one that leaves."""

_CONVOLUTIONS = ("Conv", "FusedConv", "ConvTranspose", "QLinearConv", "ConvInteger")

Number = Any
"""An int, or an array of one number for each of many shards."""

Slice = tuple[str, Region | None]
"""A region of a constant."""


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Memory of one rank, in bytes."""

    rank: int
    weight_bytes: int  # of the constants of all segments of all turns, as they are held
    starting_bytes: int  # of further copies of constants while sessions are made
    inner_bytes: int  # what onnxruntime takes for values inside the segment in which they are most
    slot_bytes: int  # buffers and messages of one request of every turn, in a stream
    # The same where one request is under way at a time, so that collectives may share memory, and with states, which
    # are kept then
    single_bytes: int
    turns: int
    is_root: bool

    def slots_bytes(self, in_flight: int) -> int:
        """Of so many requests under way in the job."""
        if in_flight == 1:
            return self.single_bytes
        return self.slot_bytes * slots_of(self.is_root, in_flight, self.turns) // self.turns

    def working_bytes(self, in_flight: int) -> int:
        """What the rank takes beside its weights and slots: inside a segment, or before there are any slots."""
        return max(self.inner_bytes, self.starting_bytes - self.slots_bytes(in_flight))

    def engine_bytes(self, in_flight: int = 1) -> int:
        """All that an engine adds to a process."""
        slots = self.slots_bytes(in_flight)
        return int(engine_bytes(self.weight_bytes, self.inner_bytes, self.starting_bytes, slots))

    def total_bytes(self, in_flight: int = 1) -> int:
        """All of it, with the rank's process."""
        return PROCESS_BYTES + self.engine_bytes(in_flight)


def engine_bytes(weight_bytes: Number, inner_bytes: Number, starting_bytes: Number, slots_bytes: Number) -> Number:
    """What an engine adds to a rank's process: its weights, and what it needs more of, to start or to run."""
    return weight_bytes + np.maximum(inner_bytes + slots_bytes, starting_bytes)


def memory_of(turns: Sequence[Sequence[Program]], graph: Graph, root: int = 0) -> tuple[RankMemory, ...]:
    """What every rank needs, by rank.

    Parameters
    ----------
    turns : sequence of sequence of Program
        Programs of all ranks, for every turn of the replicas.
    graph : Graph
    root : int
    """
    return tuple(_rank_memory(programs, graph, root) for programs in zip(*turns, strict=True))


def with_weights(needs: Sequence[RankMemory], more: Sequence[int]) -> tuple[RankMemory, ...]:
    """The same with so many bytes of weights more on every rank."""
    pairs = zip(needs, more, strict=True)
    return tuple(replace(need, weight_bytes=need.weight_bytes + nbytes) for need, nbytes in pairs)


def _rank_memory(programs: Sequence[Program], graph: Graph, root: int) -> RankMemory:
    steps = [(program, step) for program in programs for step in program.computes]
    held: dict[Slice, int] = {}
    for piece, nbytes in (item for _, step in steps for item in constants_of(graph, step)):
        held[piece] = max(held.get(piece, 0), nbytes)
    return RankMemory(
        programs[0].rank,
        weight_bytes=sum(held.values()),
        starting_bytes=_starting_bytes(graph, steps),
        inner_bytes=INNER_COPIES * max((inner_bytes(graph, program, step) for program, step in steps), default=0),
        slot_bytes=sum(program.arena.nbytes + message_bytes(program, has_staging_slots=False) for program in programs),
        single_bytes=sum(program.arena.nbytes + message_bytes(program) + program.state_bytes for program in programs),
        turns=len(programs),
        is_root=programs[0].rank == root,
    )


def _starting_bytes(graph: Graph, steps: Sequence[tuple[Program, Compute]]) -> int:
    """Bytes of further copies of constants while a rank's sessions are made, beyond the constants of all of them.

    Of a step with blocked values they are made before anything of it is held, one step after the other.
    """
    plain: list[list[int]] = []
    first = held = 0
    for program, step in steps:
        sizes = laid_out(graph, step.blocks)
        if any(program.buffers[index].block for _, index in (*step.inputs, *step.outputs)):
            own = sum(nbytes for _, nbytes in constants_of(graph, step))
            first, held = max(first, 2 * own + COPIES_OF_ONE * max(sizes, default=0)), held + own
        else:
            plain.append(sizes)
    heaps, largest = list(map(heap_bytes, plain)), max((size for sizes in plain for size in sizes), default=0)
    later = int(starting_bytes(largest, min(sum(heaps), max(heaps, default=0) + RETURN_BYTES)))
    return max(first - held, later)


def constants_of(graph: Graph, step: Compute) -> Iterator[tuple[Slice, int]]:
    """(slice, bytes that stay resident) of all constants that a step reads, once for every node that reads it."""
    for block in step.blocks:
        node = graph.bound[graph.position[block.node]]
        rows = block.inputs[1].size if len(block.inputs) > 1 and block.inputs[1] is not None else 0
        for index, (value, region) in enumerate(zip(node.inputs, block.inputs, strict=True)):
            if value is not None and value.is_constant and (region is not None or value.is_opaque):
                nbytes = slice_bytes(graph, [(value.name, region)])
                yield (value.name, region), int(held_bytes(node, index, nbytes, rows))
        for name in node.node.captures:
            value = graph.value(name)
            if value.is_constant:
                yield (name, whole(value)), value.nbytes


def laid_out(graph: Graph, blocks: Iterable[NodeBlock]) -> list[int]:
    """Bytes of every constant that a session lays out anew and copies meanwhile: those of convolutions."""
    nodes = ((graph.bound[graph.position[block.node]], block) for block in blocks)
    read = (zip(node.inputs, block.inputs, strict=True) for node, block in nodes if node.op in _CONVOLUTIONS)
    pieces = ((value.name, region) for pairs in read for value, region in pairs if value and value.is_constant)
    return [slice_bytes(graph, [piece]) for piece in dict.fromkeys(pieces)]


def heap_bytes(sizes: Iterable[int]) -> int:
    """Bytes of those constants whose copies stay with the process when they are freed."""
    return sum(size for size in sizes if size <= HEAP_BYTES)


def held_bytes(node: BoundNode, index: int, nbytes: Number, rows: Number) -> Number:
    """Bytes that stay resident of input `index` of a node, a constant.

    Parameters
    ----------
    node : BoundNode
    index : int
    nbytes : int, or float array (n,)
        Of the region that the node reads of it.
    rows : int, or float array (n,)
        Elements that it reads of input 1: of a Gather, how many rows; 0 where these are known before the run.
    """
    if index or not isinstance(rule_for(node), Gather):
        return nbytes
    return np.where(rows > 0, np.minimum(nbytes, rows * TABLE_PAGE_BYTES), nbytes)


def starting_bytes(largest: Number, heap: Number) -> Number:
    """Bytes of further copies of constants while sessions are made.

    Parameters
    ----------
    largest : int, or array of int
        Of the constants that are laid out, the largest one's bytes.
    heap : int, or array of int
        The most `heap_bytes` that are laid out between two returns of free memory.
    """
    return COPIES_OF_ONE * largest + np.maximum(heap - largest, 0)


def inner_bytes(graph: Graph, program: Program, step: Compute) -> int:
    """The most bytes of values that a session has alive at once while it runs."""
    sizes = {name: program.buffers[index].nbytes for name, index in step.inputs}
    for block in step.blocks:
        node = graph.nodes[graph.position[block.node]]
        pairs = [(n, region) for n, region in zip(node.outputs, block.outputs, strict=True) if n and region is not None]
        sizes |= {name: slice_bytes(graph, [(name, region)]) for name, region in pairs}
    return max(
        alive_bytes(graph, [graph.position[block.node] for block in step.blocks], lambda name: sizes.get(name, 0)),
        default=0,
    )


def alive_bytes(graph: Graph, positions: Sequence[int], size_of: Callable[[str], int]) -> list[int]:
    """Bytes that a session's values take while each of some nodes runs, what it reads and writes included.

    A value is alive from the first node that reads or writes it to the last of the graph that reads it. onnxruntime
    then keeps its memory for the next value of exactly as many bytes, and gives it back when none is to come. What a
    node computes element by element takes the place of what ends there.

    Parameters
    ----------
    graph : Graph
    positions : sequence of int
        Nodes of the session, ascending.
    size_of : callable
        Bytes of a value by name, 0 where it is none of the session's.
    """
    begins = _begins(graph, positions, size_of)
    to_come = Counter(nbytes for values in begins for nbytes in values.values())
    taken, free = 0, Counter[int]()
    ending: dict[int, list[int]] = {}
    totals = []
    for position, values in zip(positions, begins, strict=True):
        is_elementwise = isinstance(rule_for(graph.bound[position]), Elementwise)
        for name, nbytes in values.items():
            to_come[nbytes] -= 1
            ends_here = ending.setdefault(position, [])
            if is_elementwise and nbytes in ends_here:
                ends_here.remove(nbytes)
            elif free[nbytes]:
                free[nbytes] -= 1
            else:
                taken += nbytes
            ending.setdefault(graph.last_use.get(name, position), []).append(nbytes)
        totals.append(taken)
        ended = ending.pop(position, [])
        free.update(ended)
        for nbytes in {*ended, *values.values()}:
            if not to_come[nbytes]:
                taken -= nbytes * free.pop(nbytes, 0)
    return totals


def _begins(graph: Graph, positions: Sequence[int], size_of: Callable[[str], int]) -> list[dict[str, int]]:
    """Values of a session that each of its nodes is the first to read or write, and their bytes."""
    known: set[str] = set()
    begins = []
    for position in positions:
        node = graph.nodes[position]
        sizes = {name: size_of(name) for name in (*node.reads, *node.writes) if name not in known}
        known.update(sizes)
        begins.append(
            {
                name: nbytes
                for name, nbytes in sizes.items()
                if nbytes and not graph.value(name).is_constant and name not in graph.derived
            }
        )
    return begins


def slots_of(is_root: bool, in_flight: int, turns: int) -> int:
    """Requests that a rank has room for at once, a multiple of `turns`; each has buffers and channels of its own.

    >>> slots_of(True, 8, 1), slots_of(False, 8, 1), slots_of(True, 7, 2), slots_of(False, 1, 2)
    (8, 3, 8, 2)
    """
    per_turn = -(-in_flight // turns)
    return turns * (per_turn if is_root else min(SLOTS_PER_TURN, per_turn))


def memory_problems(needs: Sequence[RankMemory], testbed: Testbed, in_flight: int = 1) -> list[str]:
    """Every board that has less memory than it needs, as sentences; empty when all have enough."""
    lacking = []
    for need in needs:
        device = testbed.devices[need.rank]
        if device.memory_bytes is not None and need.total_bytes(in_flight) > device.memory_bytes:
            lacking.append(
                f"rank {need.rank} needs {mb(need.total_bytes(in_flight))} of memory ({mb(need.weight_bytes)} for "
                f"weights, {mb(need.working_bytes(in_flight))} while it computes, {mb(need.slots_bytes(in_flight))} "
                f"for requests under way, {mb(PROCESS_BYTES)} for its process) and '{device.name}' has "
                f"{mb(device.memory_bytes)}: make a plan for this testbed, or take larger boards"
            )
    return lacking


def most_in_flight(needs: Sequence[RankMemory], testbed: Testbed, most: int) -> int:
    """Requests that the boards have room for at once, up to `most`; 0 where there is none for a single one."""
    return next((count for count in range(most, 0, -1) if not memory_problems(needs, testbed, count)), 0)


def mb(nbytes: float) -> str:
    """A number of bytes in a sentence.

    >>> mb(411_100_000), mb(float("inf"))
    ('411 MB', 'unlimited')
    """
    if nbytes == float("inf"):
        return "unlimited"
    return f"{nbytes / 1e6:.0f} MB"
