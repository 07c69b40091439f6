"""Channels over MPI: persistent requests for messages, nonblocking collectives for patterns that are one.

An all-gather of a few ranks is made of messages all the same. MPI's own goes in rounds, and a nonblocking round goes on
only when the ranks look in; of the ports it takes no less. On 3 and 4 ranks over TCP messages take 0.6 to 0.85 times as
long from 60 kB per rank on.

MPI's collectives take one block of memory with a count and an offset per rank. The message buffers of a collective are
views into it, so that what the executor packs is what MPI sends::

    gather on the root, group (0, 1, 2)      | from 0 |..| from 1 |..| from 2 |      parts begin at multiples of 64

In an all-gather and a broadcast a rank sends the same bytes to everyone: its buffers share one memory.

Communicators and requests come from outside and are only called, so that MPI itself is imported in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np

from ..core.errors import TransportError
from ..core.program import Exchange, Message
from ..lower.arena import block_bytes, packed_bytes, packed_sides, padded
from .transport import MessageBuffer, aligned, message_buffers
from .waiting import Late, Patience, wait

MOST_BYTES = 1 << 30
"""Most bytes of one call: counts and offsets of MPI before version 4 are 32-bit integers."""

FEW = 8
"""Ranks up to which an all-gather is made of messages."""


class HaloChannel:
    """One rank's end of an exchange by messages: a persistent request for each message, made once.

    Receives are begun by ``post``, so that memory is ready for a message when it arrives. In `communicator` ranks have
    the numbers that they have in the job. A message of more than `most_bytes` goes in pieces of so many, begun one
    after the other, so that none overtakes.
    """

    def __init__(
        self,
        exchange: Exchange,
        rank: int,
        communicator: Any,
        patience: Patience,
        most_bytes: int = MOST_BYTES,
        buffers: tuple[tuple[MessageBuffer, ...], tuple[MessageBuffer, ...]] | None = None,
    ) -> None:
        self.exchange = exchange
        self.outgoing, self.incoming = buffers or message_buffers(exchange)
        self._rank = rank
        self._patience = patience
        self._most_bytes = most_bytes
        self._sends, self._receivers = self._requests(communicator.Send_init, exchange.sends, self.outgoing)
        self._receives, self._senders = self._requests(communicator.Recv_init, exchange.receives, self.incoming)
        is_large = any(m.nbytes > most_bytes for m in (*exchange.sends, *exchange.receives))
        self._start_all = _start_in_turn if is_large else _start_all

    def post(self) -> None:
        self._start_all(self._receives)

    def start(self) -> None:
        self._start_all(self._sends)

    def finish(self) -> None:
        self._complete(self._receives, self._senders)

    def drain(self) -> None:
        self._complete(self._sends, self._receivers)

    def has_arrived(self) -> bool:
        return _are_over(self._receives)

    def has_left(self) -> bool:
        return _are_over(self._sends)

    def late(self, waited_s: float) -> Late:
        if self.has_arrived():
            return self._late(self._sends, self._receivers, waited_s)
        return self._late(self._receives, self._senders, waited_s)

    def free(self) -> None:
        """Give the requests back; those that are still under way end with MPI."""
        for request in (*self._sends, *self._receives):
            if request and request.Test():
                request.Free()
        self._sends, self._receives = [], []

    def abandon(self) -> list[Any]:
        """Give the requests back on a communicator that is of no use any more; those that MPI may still carry out."""
        return [request for request in (*self._sends, *self._receives) if request and not _is_given_back(request)]

    def _requests(
        self, make: Callable[..., Any], messages: Sequence[Message], buffers: Sequence[MessageBuffer]
    ) -> tuple[list[Any], list[int]]:
        """A persistent request for every message or piece of one, and the peer of each."""
        requests, peers = [], []
        for message, buffer in zip(messages, buffers, strict=True):
            for begin in range(0, max(1, buffer.memory.size), self._most_bytes):
                requests.append(make(buffer.memory[begin : begin + self._most_bytes], buffer.peer, message.tag))
                peers.append(buffer.peer)
        return requests, peers

    def _complete(self, requests: list[Any], peers: Sequence[int]) -> None:
        if requests:
            wait(partial(_are_over, requests), self._patience, partial(self._late, requests, peers))

    def _late(self, requests: list[Any], peers: Sequence[int], waited_s: float) -> Late:
        pairs = zip(peers, requests, strict=True)
        missing = list(dict.fromkeys(peer for peer, request in pairs if not request.Test()))
        return Late(self._rank, step_name(self.exchange), missing, waited_s)


class AllgatherChannel(HaloChannel):
    """One rank's end of an all-gather of few ranks: messages that are begun and awaited together, as a collective is.

    Nothing is received before ``start``: until then the memory may belong to others, as that of any collective. As for
    halos, ranks have the numbers in `communicator` that they have in the job.
    """

    def __init__(
        self, exchange: Exchange, rank: int, communicator: Any, patience: Patience, memory: np.ndarray | None = None
    ) -> None:
        packing = pack(exchange, rank, memory)
        super().__init__(exchange, rank, communicator, patience, buffers=(packing.outgoing, packing.incoming))
        self._sends = self._receives = [*self._receives, *self._sends]
        self._senders = self._receivers = [*self._senders, *self._receivers]

    def post(self) -> None:
        """Nothing to prepare."""


class CollectiveChannel:
    """One rank's end of an exchange by a nonblocking collective, begun anew for each request.

    Every rank of the group starts it, whether it sends or not. `communicator` is the group's, `memory` what the
    exchange shares with those that are never under way at the same time.
    """

    def __init__(
        self, exchange: Exchange, rank: int, communicator: Any, patience: Patience, memory: np.ndarray | None = None
    ) -> None:
        self.exchange = exchange
        packing = pack(exchange, rank, memory)
        self.outgoing, self.incoming = packing.outgoing, packing.incoming
        self._begin = _beginner(exchange.kind, packing, communicator)
        self._request: Any = None
        self._rank = rank
        self._patience = patience

    def post(self) -> None:
        """Nothing to prepare: a collective brings its own receives."""

    def start(self) -> None:
        self._request = self._begin()

    def finish(self) -> None:
        if self.incoming:
            self.drain()

    def drain(self) -> None:
        if self._request is not None:
            wait(self._request.Test, self._patience, self.late)

    def has_arrived(self) -> bool:
        return not self.incoming or self.has_left()

    def has_left(self) -> bool:
        return self._request is None or bool(self._request.Test())

    def free(self) -> None:
        """Nothing is held between two requests."""

    def abandon(self) -> list[Any]:
        """Of no use where ranks may be lost: see :meth:`.mpi.MPITransport.open`."""
        return [self._request]

    def late(self, waited_s: float) -> Late:
        peers = [rank for rank in self.exchange.group if rank != self._rank]
        return Late(self._rank, step_name(self.exchange), peers, waited_s)


def step_name(exchange: Exchange) -> str:
    """What an exchange is for, in the sentence of an error: its segment, its pattern, and one of its values."""
    pieces = (piece for message in (*exchange.receives, *exchange.sends) for piece in message.pieces)
    value = next((f" of '{piece.value}'" for piece in pieces), "")
    return f"exchange {exchange.index} ({exchange.kind}{value})"


def _are_over(requests: list[Any]) -> bool:
    return not requests or bool(type(requests[0]).Testall(requests))


def _is_given_back(request: Any) -> bool:
    """Free a persistent request unless it is under way; whether it is not."""
    with suppress(Exception):  # with which it may have ended
        if not request.Test():
            return False
    request.Free()
    return True


def _start_all(requests: list[Any]) -> None:
    if requests:
        type(requests[0]).Startall(requests)


def _start_in_turn(requests: Sequence[Any]) -> None:
    """Begin requests one after the other: together they may begin in any order."""
    for request in requests:
        request.Start()


def _beginner(kind: str, packing: Packing, communicator: Any) -> Callable[[], Any]:
    """The call that begins a collective of a kind on these blocks; it is the same for every request."""
    send, receive, root, me = packing.send, packing.receive, packing.root, communicator.rank
    sent = [send.memory, (send.counts, send.offsets)]
    received = [receive.memory, (receive.counts, receive.offsets)]
    if kind == "broadcast":
        return partial(communicator.Ibcast, receive.part(root), root)
    if kind == "scatter":
        return partial(communicator.Iscatterv, sent if me == root else None, receive.part(root), root)
    if kind == "gather":
        return partial(communicator.Igatherv, send.part(root), received if me == root else None, root)
    assert kind == "allgather", f"no collective carries out '{kind}'"
    return partial(communicator.Iallgatherv, None, received)


@dataclass(frozen=True, slots=True)
class Block:
    """Memory (uint8, one axis) with a part for each rank of the group: `counts` bytes at `offsets`."""

    memory: np.ndarray
    counts: tuple[int, ...]
    offsets: tuple[int, ...]

    def part(self, member: int) -> np.ndarray:
        """The bytes of one rank, by its number in the group."""
        return self.memory[self.offsets[member] : self.offsets[member] + self.counts[member]]


@dataclass(frozen=True, slots=True)
class Packing:
    """The memory of one rank's part of a collective."""

    root: int  # number in the group of the one sender (broadcast, scatter) or receiver (gather); 0 for the others
    # `send` and `receive`: in the order of the group. In an all-gather and a broadcast what this rank sends is its own
    # part of `receive`.
    send: Block
    receive: Block
    # `outgoing` and `incoming`: views into the blocks, in the order of the exchange's messages
    outgoing: tuple[MessageBuffer, ...]
    incoming: tuple[MessageBuffer, ...]


def pack(exchange: Exchange, rank: int, memory: np.ndarray | None = None) -> Packing:
    """Lay out `rank`'s part of a collective in `memory`, or in memory of its own.

    `memory` (uint8, one axis) has at least :func:`packed_bytes`, and is aligned.
    """
    send_bytes, receive_bytes = packed_sides(exchange, rank)
    size = packed_bytes(exchange, rank)
    memory = aligned(size) if memory is None else memory
    end = block_bytes(exchange, send_bytes)
    send = _block(exchange, send_bytes, memory[:end])
    receive = _block(exchange, receive_bytes, memory[end:size])
    members = {member: index for index, member in enumerate(exchange.group)}

    def outgoing(message: Message) -> np.ndarray:
        return send.part(members[message.target]) if send_bytes else receive.part(members[rank])

    return Packing(
        root=members[_root(exchange, rank)],
        send=send,
        receive=receive,
        outgoing=tuple(MessageBuffer(m.target, m.pieces, outgoing(m)) for m in exchange.sends),
        incoming=tuple(MessageBuffer(m.source, m.pieces, receive.part(members[m.source])) for m in exchange.receives),
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


def tag_of(exchange: Exchange) -> int:
    """The tag of a collective's messages, the same on every rank that takes part."""
    return next(iter((*exchange.sends, *exchange.receives))).tag


def check_tags(exchange: Exchange, limit: int, library: str) -> None:
    """Raises TransportError where an exchange has a tag beyond what an MPI library takes."""
    highest = max((message.tag for message in (*exchange.sends, *exchange.receives)), default=0)
    if highest > limit:
        raise TransportError(
            f"exchange {exchange.index} has tag {highest} and {library} takes tags up to {limit}: use longer segments"
        )
