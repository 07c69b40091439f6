"""Memory of a program: buffers that are never alive together share the same bytes."""

from __future__ import annotations

import numpy as np

from ..core.program import Arena, Compute, Finish, Program, Start, Step

ALIGNMENT = 64


def place(program: Program) -> Arena:
    """Offsets of all buffers in one block of memory, largest first, each at the lowest free place.

    A buffer is alive from the first step that writes it to the last that reads it; a request's inputs from the
    beginning and its outputs to the end.
    """
    begins, ends = np.array(lifetimes(program), int).reshape(-1, 2).T
    offsets = [0] * len(program.buffers)
    placed = np.zeros(len(offsets), bool)
    for buffer in sorted(program.buffers, key=lambda b: (-b.nbytes, b.index)):
        rivals = np.flatnonzero(placed & (begins <= ends[buffer.index]) & (begins[buffer.index] <= ends)).tolist()
        offset = 0
        for lo, hi in sorted((offsets[i], offsets[i] + program.buffers[i].nbytes) for i in rivals):
            if offset + buffer.nbytes <= lo:
                break
            offset = max(offset, -(-hi // ALIGNMENT) * ALIGNMENT)
        offsets[buffer.index] = offset
        placed[buffer.index] = True
    size = max((offset + b.nbytes for offset, b in zip(offsets, program.buffers, strict=True)), default=0)
    return Arena(tuple(offsets), size)


def lifetimes(program: Program) -> list[tuple[int, int]]:
    """First and last step at which each buffer is in use."""
    end = len(program.steps)
    uses: list[list[int]] = [[] for _ in program.buffers]
    for _, index in program.inputs:
        uses[index].append(-1)
    for _, index in program.outputs:
        uses[index].append(end)
    for place_, step in enumerate(program.steps):
        for index in touched(step):
            uses[index].append(place_)
    return [(min(places, default=0), max(places, default=0)) for places in uses]


def touched(step: Step) -> set[int]:
    """Buffers that a step reads or writes."""
    if isinstance(step, Compute):
        return {index for _, index in (*step.inputs, *step.outputs)}
    if isinstance(step, Start):
        return {piece.buffer for message in step.exchange.sends for piece in message.pieces}
    assert isinstance(step, Finish)
    received = {piece.buffer for message in step.exchange.receives for piece in message.pieces}
    return received | {index for copy in step.exchange.copies for index in (copy.source, copy.target)}
