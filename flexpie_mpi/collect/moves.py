"""What the exchanges of a job move, as rows of a trace that wait for their seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from ..cost.links import Network, transfer_rows
from ..cost.rows import EXCHANGE_TRACE
from ..program import Compute, Exchange, Program
from ..region import Region
from ..testbed import Testbed


def exchange_rows(programs: Sequence[Program], testbed: Testbed) -> tuple[tuple[int, ...], np.ndarray]:
    """Numbers of a job's exchanges, and a row of `EXCHANGE_TRACE` for each with what it moves.

    Parameters
    ----------
    programs : sequence of Program
        Of all ranks.
    testbed : Testbed
    """
    found: dict[int, list[tuple[Exchange, Program]]] = {}
    for program in programs:
        parts = {step.exchange.index: step.exchange for step in program.steps if not isinstance(step, Compute)}
        for index, exchange in parts.items():
            found.setdefault(index, []).append((exchange, program))
    rows = np.zeros(len(found), EXCHANGE_TRACE)
    if found:
        parts_of = [found[index] for index in sorted(found)]
        nbytes = np.stack([_matrix(parts, len(programs)) for parts in parts_of])
        local = np.array([max(_copied(*part) for part in parts) for parts in parts_of], float)
        described = transfer_rows(nbytes, local, Network(testbed))
        for name in described.dtype.names or ():
            rows[name] = described[name]
        rows["runs"] = [max(_runs(*part) for part in parts) for parts in parts_of]
    return tuple(sorted(found)), rows


def _matrix(parts: Sequence[tuple[Exchange, Program]], ranks: int) -> np.ndarray:
    """Bytes from each rank to each other."""
    nbytes = np.zeros((ranks, ranks))
    for exchange, _ in parts:
        for message in exchange.sends:
            nbytes[message.source, message.target] += message.nbytes
    return nbytes


def _copied(exchange: Exchange, program: Program) -> int:
    """Bytes that a rank copies: packs, unpacks, has already."""
    moved = sum(message.nbytes for message in (*exchange.sends, *exchange.receives))
    sizes = ((copy.region.size, program.buffers[copy.target]) for copy in exchange.copies)
    return moved + sum(size * buffer.nbytes // max(1, buffer.region.size) for size, buffer in sizes if buffer.region)


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
