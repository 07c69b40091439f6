"""Gates: which requests of a stream have been admitted. The root decides, the others are told by tickets.

A ticket is a message of two numbers: requests admitted so far, and whether there will be no more. It is sent when the
one before has left, so several admissions may share one; none is sent ahead of an admission, so a source that fails
leaves no rank waiting for a request that was promised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..core.errors import FlexPieError
from ..core.program import Exchange, Message
from .flow import Deliver, Latencies, Supply
from .transport import Channel

_TICKET = np.dtype(np.int64)


def ticket_exchange(rank: int, size: int, root: int, index: int) -> Exchange:
    """One rank's part of what carries tickets, numbered `index`."""
    messages = [Message(root, target, index, (), 2 * _TICKET.itemsize) for target in range(size) if target != root]
    sends = tuple(messages) if rank == root else ()
    receives = tuple(message for message in messages if message.target == rank)
    return Exchange(index, "halo" if messages else "local", tuple(range(size)), sends, receives, ())


class Gate:
    """The gate of a rank that is told.

    Attributes
    ----------
    admitted : int
        Requests that are known to exist.
    is_over : bool
        There will be no more.
    error : FlexPieError or None
        Why there are no more, where that was not meant to be.
    latencies : Latencies
        Of requests delivered here.
    """

    def __init__(self, channel: Channel) -> None:
        self.admitted = 0
        self.is_over = False
        self.error: FlexPieError | None = None
        self.latencies = Latencies()
        self._channel = channel
        channel.post()
        self._ticket = channel.incoming[0].memory.view(_TICKET)

    @property
    def is_settled(self) -> bool:
        """Whether no ticket is under way."""
        return self.is_over

    @property
    def awaited(self) -> tuple[Channel, ...] | None:
        """What must arrive before a request can be admitted; None when that is not up to messages."""
        return () if self.is_over else (self._channel,)

    def take(self, number: int) -> Mapping[str, Any] | None:
        """Inputs of request `number`, once it is admitted: on this rank none."""
        return {} if number < self.admitted else None

    def look(self) -> bool:
        """Read the next ticket, if there is one."""
        if self.is_over or not self._channel.has_arrived():
            return False
        self.admitted, self.is_over = int(self._ticket[0]), bool(self._ticket[1])
        if not self.is_over:
            self._channel.post()
        return True

    def deliver(self, number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
        """Nothing is delivered here."""


class RootGate:
    """The gate of the root: takes requests from a supply, tells the others, and delivers.

    When the supply or the delivery fails no more is admitted; what is in flight goes on, and is still delivered where
    only the supply has failed.

    Parameters
    ----------
    supply : Supply
    deliver : callable
    check : callable
        Returns the inputs that are taken; raises a DataError when they do not fit.
    channel : Channel
        Of :func:`ticket_exchange`.
    """

    def __init__(
        self,
        supply: Supply,
        deliver: Deliver,
        check: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        channel: Channel,
    ) -> None:
        self.admitted = 0
        self.is_over = False
        self.error: FlexPieError | None = None
        self.latencies = Latencies()
        self._supply = supply
        self._deliver = deliver
        self._delivers = True
        self._check = check
        self._channel = channel
        self._told = (0, False)
        self._ticket = channel.outgoing[0].memory.view(_TICKET) if channel.outgoing else np.empty(2, _TICKET)

    @property
    def is_settled(self) -> bool:
        """Whether all have been told that it is over."""
        return self.is_over and self._told == (self.admitted, True) and self._channel.has_left()

    @property
    def awaited(self) -> tuple[Channel, ...] | None:
        """No message: what is admitted is up to the supply."""
        return () if self.is_over else None

    def take(self, number: int) -> Mapping[str, Any] | None:
        """Inputs of the next request, which is admitted; None when there is none, or none yet."""
        if self.is_over:
            return None
        try:
            taken = self._supply.take()
            inputs = None if taken is None else self._check(taken)
        except FlexPieError as error:
            self._fail(error)
            return None
        if inputs is None:
            self.is_over = self._supply.is_over
        else:
            self.admitted += 1
        return inputs

    def look(self) -> bool:
        """Tell the others what they do not know yet, as soon as what they were told before has left."""
        news = (self.admitted, self.is_over)
        if news == self._told or not self._channel.has_left():
            return False
        self._ticket[:] = self._told = news
        self._channel.post()
        self._channel.start()
        return True

    def deliver(self, number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
        """Hand on the outputs of a request."""
        if not self._delivers:
            return
        self.latencies.add(latency_s)
        try:
            self._deliver(number, outputs, latency_s)
        except FlexPieError as error:
            self._delivers = False
            self._fail(error)

    def _fail(self, error: FlexPieError) -> None:
        self.error = self.error or error
        self.is_over = True
