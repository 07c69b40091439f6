"""What the exchanges of a job move, as rows that a cost model is asked or that a trace records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from ..core.program import Compute, Exchange, Program
from ..core.region import Region
from ..lower.facts import moved_bytes
from ..testbed import Testbed
from .links import Network, transfer_rows
from .rows import TRANSFER

Part = tuple[Exchange, Program]
"""One rank's part of an exchange, and the program it is a part of."""

_SLAB = 1 << 22
"""Pairs of ranks looked at together."""


def job_parts(programs: Sequence[Program]) -> Mapping[int, Sequence[Part]]:
    """Every rank's part of each exchange of a job, by the exchange's number, ascending."""
    found: dict[int, list[Part]] = {}
    for program in programs:
        parts = {step.exchange.index: step.exchange for step in program.steps if not isinstance(step, Compute)}
        for index, exchange in parts.items():
            found.setdefault(index, []).append((exchange, program))
    return {index: found[index] for index in sorted(found)}


def job_transfers(programs: Sequence[Program], testbed: Testbed) -> tuple[tuple[int, ...], np.ndarray]:
    """Numbers of a job's exchanges, and a row of `TRANSFER` for each.

    Parameters
    ----------
    programs : sequence of Program
        Of all ranks.
    testbed : Testbed
    """
    found = job_parts(programs)
    rows = np.zeros(len(found), TRANSFER)
    if not found:
        return (), rows
    network, everyones = Network(testbed), list(found.values())
    step = max(1, _SLAB // len(programs) ** 2)
    for first in range(0, len(rows), step):
        some = everyones[first : first + step]
        nbytes = np.stack([_moved(parts, len(programs)) for parts in some])
        local = np.array([max(copied_bytes(*part) for part in parts) for parts in some], float)
        rows[first : first + step] = transfer_rows(nbytes, local, network)
    rows["runs"] = [max(_runs(*part) for part in parts) for parts in everyones]
    return tuple(found), rows


def _moved(parts: Sequence[Part], ranks: int) -> np.ndarray:
    """Bytes from each rank to each other."""
    return moved_bytes((message for exchange, _ in parts for message in exchange.sends), ranks)


def copied_bytes(exchange: Exchange, program: Program) -> int:
    """Bytes that a rank copies: packs, unpacks, has already."""
    return sum(message.nbytes for message in (*exchange.sends, *exchange.receives)) + own_bytes(exchange, program)


def own_bytes(exchange: Exchange, program: Program) -> int:
    """Bytes that a rank copies between its own buffers."""
    sizes = ((copy.region.size, program.buffers[copy.target]) for copy in exchange.copies)
    return sum(size * buffer.nbytes // max(1, buffer.region.size) for size, buffer in sizes if buffer.region)


def _runs(exchange: Exchange, program: Program) -> int:
    """Contiguous runs of memory in which a rank copies."""
    return sum(
        max((runs(region, held) for held in buffers), default=1) for region, buffers in _copies(exchange, program)
    )


def _copies(exchange: Exchange, program: Program) -> Iterator[tuple[Region, list[Region]]]:
    """Every region that is copied, with the regions of the buffers it is copied from or to."""
    for message in (*exchange.sends, *exchange.receives):
        for piece in message.pieces:
            yield piece.region, [held for held in (program.buffers[piece.buffer].region,) if held]
    for copy in exchange.copies:
        both = (program.buffers[index].region for index in (copy.source, copy.target))
        yield copy.region, [held for held in both if held]


def runs(region: Region, held: Region) -> int:
    """Contiguous runs that a region makes in the memory of a buffer that holds `held`, row-major.

    >>> runs(Region(((0, 8), (3, 4), (0, 9))), Region(((0, 8), (0, 4), (0, 9))))
    8
    """
    cut = [axis for axis, (ours, all_) in enumerate(zip(region.shape, held.shape, strict=True)) if ours != all_]
    return prod(region.shape[: cut[-1]]) if cut else 1
