"""How the parcels of a collective lie in memory: one block per side, a part for each rank of the group.

MPI's collectives take one block with a count and an offset per rank. The parcels are views into it, so that what
the executor packs is what MPI sends::

    gather on the root, group (0, 1, 2)      | from 0 |..| from 1 |..| from 2 |      parts begin at multiples of 64

In an all-gather and a broadcast a rank sends the same bytes to everyone: its parcels share one memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import TransportError
from ..program import Exchange, Message
from .transport import Parcel

ALIGNMENT = 64
MAX_BYTES = 2**31 - 1
"""Counts and offsets of MPI before version 4 are 32-bit integers."""


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
    outgoing, incoming : tuple of Parcel
        Views into the blocks, in the order of the exchange's messages.
    """

    root: int
    send: Block
    receive: Block
    outgoing: tuple[Parcel, ...]
    incoming: tuple[Parcel, ...]


def pack(exchange: Exchange, rank: int) -> Packing:
    """Allocate the memory of `rank`'s part of a collective.

    Raises
    ------
    TransportError
        When the blocks are too large for one MPI call.
    """
    send_bytes = {message.target: message.nbytes for message in exchange.sends}
    receive_bytes = {message.source: message.nbytes for message in exchange.receives}
    if exchange.kind in ("allgather", "broadcast"):
        receive_bytes[rank] = exchange.sends[0].nbytes if exchange.sends else 0
        send_bytes = {}
    send, receive = _block(exchange, send_bytes), _block(exchange, receive_bytes)
    place = {member: index for index, member in enumerate(exchange.group)}

    def outgoing(message: Message) -> np.ndarray:
        return send.part(place[message.target]) if send_bytes else receive.part(place[rank])

    return Packing(
        root=place[_root(exchange, rank)],
        send=send,
        receive=receive,
        outgoing=tuple(Parcel(m.target, m.pieces, outgoing(m)) for m in exchange.sends),
        incoming=tuple(Parcel(m.source, m.pieces, receive.part(place[m.source])) for m in exchange.receives),
    )


def _root(exchange: Exchange, rank: int) -> int:
    """The rank that all messages of a broadcast, scatter or gather have in common."""
    if exchange.kind in ("broadcast", "scatter"):
        return exchange.receives[0].source if exchange.receives else rank
    if exchange.kind == "gather":
        return exchange.sends[0].target if exchange.sends else rank
    return exchange.group[0]


def _block(exchange: Exchange, nbytes: Mapping[int, int]) -> Block:
    counts = tuple(nbytes.get(rank, 0) for rank in exchange.group)
    offsets, end = [], 0
    for count in counts:
        offsets.append(end)
        end += -(-count // ALIGNMENT) * ALIGNMENT
    if end > MAX_BYTES:
        raise TransportError(
            f"exchange {exchange.index} ({exchange.kind}) moves {end} bytes at once and MPI takes {MAX_BYTES}: "
            "use a smaller batch or a layout that cuts the value further"
        )
    return Block(_aligned(end), counts, tuple(offsets))


def _aligned(nbytes: int) -> np.ndarray:
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + nbytes]
