"""Memory that a program shares: of buffers that are never alive together, and of collectives never under way together.

A buffer has its place in the *arena*. The messages of a collective lie in its *staging slot*, beside the arena.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from ..core.program import Arena, Buffer, Compute, Exchange, Finish, Program, Start, Step

ALIGNMENT = 64
"""Buffers, and the parts of a collective, begin at multiples of so many bytes."""


def arena_of(program: Program) -> Arena:
    """Offsets of all buffers in one block of memory, largest first, each at the lowest free place.

    A buffer is alive from the first step that writes it to the last that reads it; a request's inputs from the
    beginning and its outputs to the end. Buffers of states lie elsewhere.
    """
    begins, ends = np.array(lifetimes(program), int).reshape(-1, 2).T
    offsets = [0] * len(program.buffers)
    placed = np.zeros(len(offsets), bool)
    for buffer in sorted(in_arena(program), key=lambda b: (-b.nbytes, b.index)):
        rivals = np.flatnonzero(placed & (begins <= ends[buffer.index]) & (begins[buffer.index] <= ends)).tolist()
        offset = 0
        for lo, hi in sorted((offsets[i], offsets[i] + program.buffers[i].nbytes) for i in rivals):
            if offset + buffer.nbytes <= lo:
                break
            offset = max(offset, padded(hi))
        offsets[buffer.index] = offset
        placed[buffer.index] = True
    size = max((offsets[b.index] + b.nbytes for b in in_arena(program)), default=0)
    return Arena(tuple(offsets), size)


def in_arena(program: Program) -> Iterator[Buffer]:
    """Buffers that hold something during a request only."""
    return (buffer for buffer in program.buffers if not buffer.is_state)


def lifetimes(program: Program) -> list[tuple[int, int]]:
    """First and last step at which each buffer is in use."""
    end = len(program.steps)
    uses: list[list[int]] = [[] for _ in program.buffers]
    for _, index in program.inputs:
        uses[index].append(-1)
    for index in (*(index for _, index in program.outputs), *(kept.source for kept in program.kept)):
        uses[index].append(end)
    for number, step in enumerate(program.steps):
        for index in touched(step):
            uses[index].append(number)
    return [(min(numbers, default=0), max(numbers, default=0)) for numbers in uses]


def touched(step: Step) -> set[int]:
    """Buffers that a step reads or writes."""
    if isinstance(step, Compute):
        return {index for _, index in (*step.inputs, *step.outputs)}
    if isinstance(step, Start):
        return {piece.buffer for message in step.exchange.sends for piece in message.pieces}
    assert isinstance(step, Finish)
    received = {piece.buffer for message in step.exchange.receives for piece in message.pieces}
    return received | {index for copy in step.exchange.copies for index in (copy.source, copy.target)}


Span = tuple[int, int]
"""First and last step at which the messages of a collective hold something."""


def with_staging_slots(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with a staging slot for every collective: the lowest that none it overlaps with has.

    Messages of a halo exchange can arrive from the beginning of a request on, so they share with none.
    """
    slots: dict[int, int] = {}
    busy: dict[int, int] = {}  # last step of each staging slot that is taken
    for index, (begin, end) in sorted(spans_of(steps).items(), key=lambda item: item[1]):
        busy = {slot: last for slot, last in busy.items() if last >= begin}
        slots[index] = next(slot for slot in count() if slot not in busy)
        busy[slots[index]] = end
    return tuple(_in_staging_slot(step, slots) for step in steps)


def spans_of(steps: Sequence[Step]) -> dict[int, Span]:
    """Span of every collective, by index: from the step that packs it to the step that unpacks it."""
    spans: dict[int, Span] = {}
    for number, step in enumerate(steps):
        if isinstance(step, (Start, Finish)) and step.exchange.is_collective:
            begin, _ = spans.get(step.exchange.index, (number, number))
            spans[step.exchange.index] = (begin, number)
    return spans


def _in_staging_slot(step: Step, slots: Mapping[int, int]) -> Step:
    if isinstance(step, Compute) or step.exchange.index not in slots:
        return step
    return replace(step, exchange=replace(step.exchange, staging_slot=slots[step.exchange.index]))


def message_bytes(program: Program, *, has_staging_slots: bool = True) -> int:
    """Memory of a rank's messages, beside the arena; messages of the same pieces share theirs.

    In a stream all is messages and there are no staging slots.
    """
    slots = staging_bytes(program.exchanges, program.rank) if has_staging_slots else {}
    total = sum(slots.values())
    for exchange in program.exchanges:
        if not (exchange.is_collective and exchange.staging_slot in slots):
            total += sum({message.pieces: message.nbytes for message in exchange.sends}.values())
            total += sum(message.nbytes for message in exchange.receives)
    return total


def staging_bytes(exchanges: Iterable[Exchange], rank: int) -> dict[int, int]:
    """Bytes of each staging slot: as many as the largest of its collectives needs."""
    slots: dict[int, int] = {}
    for exchange in exchanges:
        if exchange.is_collective and exchange.staging_slot >= 0:
            slots[exchange.staging_slot] = max(slots.get(exchange.staging_slot, 0), packed_bytes(exchange, rank))
    return slots


def packed_bytes(exchange: Exchange, rank: int) -> int:
    """Memory of one rank's part of a collective: a block of what it sends, and one of what it receives."""
    return sum(block_bytes(exchange, nbytes) for nbytes in packed_sides(exchange, rank))


def packed_sides(exchange: Exchange, rank: int) -> tuple[dict[int, int], dict[int, int]]:
    """Bytes sent to and received from each rank, as a collective counts them.

    In an all-gather and a broadcast a rank sends the same to everyone: that is its own part of what is received.
    """
    received = {message.source: message.nbytes for message in exchange.receives}
    if exchange.kind in ("allgather", "broadcast"):
        return {}, received | {rank: exchange.sends[0].nbytes if exchange.sends else 0}
    return {message.target: message.nbytes for message in exchange.sends}, received


def block_bytes(exchange: Exchange, nbytes: Mapping[int, int]) -> int:
    """Bytes of a block with a part of so many for each rank of the group; never none.

    An empty block would begin where the other one does, and Open MPI takes two blocks at one address for a collective
    in place.
    """
    return max(ALIGNMENT, sum(padded(nbytes.get(rank, 0)) for rank in exchange.group))


def padded(nbytes: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
