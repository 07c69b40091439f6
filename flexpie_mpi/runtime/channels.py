"""Channels over MPI: persistent requests for messages, nonblocking collectives for patterns that are one.

Communicators and requests come from outside and are only called, so that MPI itself is imported in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..program import Exchange
from .collectives import Packing, pack
from .transport import Parcel, parcels
from .waiting import Patience, late, wait


class HaloChannel:
    """One rank's end of an exchange by messages: a persistent request for each, made once.

    Receives are begun by ``post``, so that a message finds its place when it arrives.
    """

    def __init__(self, exchange: Exchange, rank: int, communicator: Any, patience: Patience) -> None:
        self.exchange = exchange
        self.outgoing, self.incoming = parcels(exchange)
        self._sends = [
            communicator.Send_init(parcel.memory, message.target, message.tag)
            for message, parcel in zip(exchange.sends, self.outgoing, strict=True)
        ]
        self._receives = [
            communicator.Recv_init(parcel.memory, message.source, message.tag)
            for message, parcel in zip(exchange.receives, self.incoming, strict=True)
        ]
        self._rank = rank
        self._patience = patience

    def post(self) -> None:
        _start_all(self._receives)

    def start(self) -> None:
        _start_all(self._sends)

    def finish(self) -> None:
        self._complete(self._receives, self.incoming)

    def drain(self) -> None:
        self._complete(self._sends, self.outgoing)

    def free(self) -> None:
        """Give the requests back; those that are still under way end with MPI."""
        for request in (*self._sends, *self._receives):
            if request.Test():
                request.Free()
        self._sends, self._receives = [], []

    def _complete(self, requests: list[Any], parcels: Sequence[Parcel]) -> None:
        if requests:
            explain = partial(self._late, requests, parcels)
            wait(partial(type(requests[0]).Testall, requests), self._patience, explain)

    def _late(self, requests: list[Any], parcels: Sequence[Parcel], waited_s: float) -> str:
        pairs = zip(parcels, requests, strict=True)
        peers = [parcel.peer for parcel, request in pairs if not request.Test()]
        return late(self._rank, _name(self.exchange), peers, waited_s)


class CollectiveChannel:
    """One rank's end of an exchange by a nonblocking collective, begun anew for each request.

    Every rank of the group starts it, whether it sends or not; `communicator` is the group's, and `memory` that of the
    exchange's lane.
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
            wait(self._request.Test, self._patience, self._late)

    def free(self) -> None:
        """Nothing is held between two requests."""

    def _late(self, waited_s: float) -> str:
        peers = [rank for rank in self.exchange.group if rank != self._rank]
        return late(self._rank, _name(self.exchange), peers, waited_s)


def _name(exchange: Exchange) -> str:
    return f"exchange {exchange.index} ({exchange.kind})"


def _start_all(requests: list[Any]) -> None:
    if requests:
        type(requests[0]).Startall(requests)


def _beginner(kind: str, packing: Packing, communicator: Any) -> Callable[[], Any]:
    """What begins the collective of a kind with these blocks, the same call for every request."""
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
