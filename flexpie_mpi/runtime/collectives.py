"""How the buffers of a collective lie in memory: one block per side, a part for each rank of the group.

MPI's collectives take one block with a count and an offset per rank. The buffers are views into it, so that what
the executor packs is what MPI sends::

    gather on the root, group (0, 1, 2)      | from 0 |..| from 1 |..| from 2 |      parts begin at multiples of 64

In an all-gather and a broadcast a rank sends the same bytes to everyone: its buffers share one memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..core.program import Exchange, Message
from ..lower.arena import ALIGNMENT, block_bytes, packed_bytes, packed_sides, padded
from .transport import MessageBuffer


@dataclass(frozen=True, slots=True)
class Block:
    """Memory (uint8, one axis) with a part for each rank of the group: `counts` bytes at `offsets`."""

    memory: np.ndarray
    counts: tuple[int, ...]
    offsets: tuple[int, ...]

    def part(self, place: int) -> np.ndarray:
        """The bytes of one rank of the group."""
        return self.memory[self.offsets[place] : self.offsets[place] + self.counts[place]]


@dataclass(frozen=True, slots=True)
class Packing:
    """The memory of one rank's part of a collective.

    Attributes
    ----------
    root : int
        Place in the group of the one sender (broadcast, scatter) or receiver (gather); 0 for the others.
    send, receive : Block
        In the order of the group. In an all-gather and a broadcast what this rank sends is its own part of `receive`.
    outgoing, incoming : tuple of MessageBuffer
        Views into the blocks, in the order of the exchange's messages.
    """

    root: int
    send: Block
    receive: Block
    outgoing: tuple[MessageBuffer, ...]
    incoming: tuple[MessageBuffer, ...]


def pack(exchange: Exchange, rank: int, memory: np.ndarray | None = None) -> Packing:
    """Lay out `rank`'s part of a collective in `memory`, or in memory of its own.

    Parameters
    ----------
    exchange : Exchange
    rank : int
    memory : array of uint8, optional
        At least :func:`packed_bytes`, aligned; may be shared with collectives that are never under way together.
    """
    send_bytes, receive_bytes = packed_sides(exchange, rank)
    size = packed_bytes(exchange, rank)
    memory = aligned(size) if memory is None else memory
    end = block_bytes(exchange, send_bytes)
    send = _block(exchange, send_bytes, memory[:end])
    receive = _block(exchange, receive_bytes, memory[end:size])
    place = {member: index for index, member in enumerate(exchange.group)}

    def outgoing(message: Message) -> np.ndarray:
        return send.part(place[message.target]) if send_bytes else receive.part(place[rank])

    return Packing(
        root=place[_root(exchange, rank)],
        send=send,
        receive=receive,
        outgoing=tuple(MessageBuffer(m.target, m.pieces, outgoing(m)) for m in exchange.sends),
        incoming=tuple(MessageBuffer(m.source, m.pieces, receive.part(place[m.source])) for m in exchange.receives),
    )


def _root(exchange: Exchange, rank: int) -> int:
    """The rank that all messages of a broadcast, scatter or gather have in common."""
    if exchange.kind in ("broadcast", "scatter"):
        return exchange.receives[0].source if exchange.receives else rank
    if exchange.kind == "gather":
        return exchange.sends[0].target if exchange.sends else rank
    return exchange.group[0]


def _block(exchange: Exchange, nbytes: Mapping[int, int], memory: np.ndarray) -> Block:
    counts = tuple(nbytes.get(rank, 0) for rank in exchange.group)
    return Block(memory, counts, tuple(accumulate(map(padded, counts[:-1]), initial=0)))


def aligned(nbytes: int) -> np.ndarray:
    """Fresh memory that begins at a multiple of `ALIGNMENT`."""
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + nbytes]
