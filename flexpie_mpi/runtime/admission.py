"""The way into a stream and out of it: where requests come from, which are admitted, and what is said afterwards.

The root decides which requests are admitted, and tells the other ranks by credits. A credit is a message of two
numbers: how many requests are admitted so far, and whether there will be no more. It is sent when the one before has
left, so several admissions may share one. None is sent ahead of an admission, so a source that fails leaves no rank
waiting for a request that was promised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np

from ..core.errors import FlexPieError
from ..core.program import Exchange, Message
from .transport import Channel

Deliver = Callable[[int, Mapping[str, Any], float], object]
"""Takes a request's number, its outputs by name (views, valid during the call only) and its latency in seconds."""

KEPT = 1 << 16
"""Latencies that are kept: of an endless stream, those of the last requests."""

_CREDIT = np.dtype(np.int64)


class RequestSource(Protocol):
    """Where requests come from; asked on the root only."""

    @property
    def count(self) -> int | None:
        """How many requests there will be in all, where that is known."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more."""

    def take(self) -> Mapping[str, Any] | None:
        """Inputs of the next request by name; None when it is not there yet, or nothing will come. Never waits.

        Tensors are copied at once; values of unknown shape are used as they are until their request is delivered.
        Raises DataError when the next request cannot be used: the stream ends with those before it.
        """


class Requests:
    """The requests of a list, or of anything that can be iterated over without waiting.

    >>> source = Requests([{"x": 1}])
    >>> source.count, source.is_over, source.take(), source.take(), source.is_over
    (1, False, {'x': 1}, None, True)
    """

    def __init__(self, requests: Iterable[Mapping[str, Any]]) -> None:
        self.count = len(requests) if isinstance(requests, Sized) else None
        self.is_over = False
        self._requests = iter(requests)

    def take(self) -> Mapping[str, Any] | None:
        """The next request; None after the last."""
        request = next(self._requests, None)
        self.is_over = request is None
        return request


@dataclass(frozen=True, slots=True)
class StreamStats:
    """What one rank has to say of a stream that is over."""

    rank: int
    requests: int  # of the whole stream, the same on every rank
    # On the root from the first admission to the last delivery; elsewhere from its own first to its own last step
    elapsed_s: float
    busy_s: float  # seconds in which the rank computed, pacing included
    sent_bytes: int  # of the requests' values, by this rank
    # On the root: seconds from the admission of a request to its delivery, of the last `KEPT` requests, in order. Empty
    # elsewhere.
    latencies_s: tuple[float, ...] = ()


def joined(legs: Sequence[StreamStats]) -> StreamStats:
    """What a rank has to say of a stream that several engines have carried out, one after the other."""
    return StreamStats(
        rank=legs[-1].rank,
        requests=sum(leg.requests for leg in legs),
        elapsed_s=sum(leg.elapsed_s for leg in legs),
        busy_s=sum(leg.busy_s for leg in legs),
        sent_bytes=sum(leg.sent_bytes for leg in legs),
        latencies_s=tuple(chain.from_iterable(leg.latencies_s for leg in legs))[-KEPT:],
    )


def credit_exchange(rank: int, size: int, root: int, index: int, numbers: int = 2) -> Exchange:
    """One rank's part of the exchange that carries credits, or so many other `numbers`; its own number is `index`."""
    messages = [
        Message(root, target, index, (), numbers * _CREDIT.itemsize) for target in range(size) if target != root
    ]
    sends = tuple(messages) if rank == root else ()
    receives = tuple(message for message in messages if message.target == rank)
    return Exchange(index, "halo" if messages else "local", tuple(range(size)), sends, receives, ())


class Admission:
    """Which requests of a stream are admitted, as a rank knows it that is told by the root.

    It takes no inputs and delivers nothing. `channel` is that of :func:`credit_exchange`.

    Attributes
    ----------
    admitted : int
        Requests that are known to exist.
    is_over : bool
        Whether there will be no more.
    error : FlexPieError or None
        Why there are no more, where that was not meant to be.
    """

    def __init__(self, channel: Channel) -> None:
        self.admitted = 0
        self.is_over = False
        self.error: FlexPieError | None = None
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._channel = channel
        ends = channel.incoming or channel.outgoing
        self._credit = ends[0].memory.view(_CREDIT) if ends else np.empty(2, _CREDIT)
        channel.post()

    @property
    def is_settled(self) -> bool:
        """Whether it is over and no credit is under way any more."""
        return self.is_over

    @property
    def latencies_s(self) -> tuple[float, ...]:
        """Latencies of requests that were delivered on this rank: the last `KEPT`, oldest first."""
        return tuple(self._latencies)

    @property
    def awaited(self) -> tuple[Channel, ...] | None:
        """Channels of which one must arrive before a request can be admitted; None when that is not up to messages."""
        return () if self.is_over else (self._channel,)

    def take(self, number: int) -> Mapping[str, Any] | None:
        """Inputs of request `number`, which is admitted; None when there is none, or none yet."""
        return {} if number < self.admitted else None

    def look(self) -> bool:
        """Send or receive the next credit, if that is possible at once; whether it was."""
        if self.is_over or not self._channel.has_arrived():
            return False
        self.admitted, self.is_over = int(self._credit[0]), bool(self._credit[1])
        if not self.is_over:
            self._channel.post()
        return True

    def deliver(self, number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
        """Hand on the outputs of a request."""


class RootAdmission(Admission):
    """The admission of the root: takes requests from a source, tells the other ranks, and delivers.

    When the source or the delivery fails no more is admitted. What is in flight goes on, and is still delivered where
    only the source has failed. `check` returns the inputs that are taken; it raises a DataError when they do not fit.
    """

    def __init__(
        self,
        source: RequestSource,
        deliver: Deliver,
        check: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        channel: Channel,
    ) -> None:
        super().__init__(channel)
        self._source, self._deliver, self._check = source, deliver, check
        self._delivers = True
        self._told = (0, False)

    @property
    def is_settled(self) -> bool:
        return self.is_over and self._told == (self.admitted, True) and self._channel.has_left()

    @property
    def awaited(self) -> tuple[Channel, ...] | None:
        return () if self.is_over else None

    def take(self, number: int) -> Mapping[str, Any] | None:
        if self.is_over:
            return None
        try:
            request = self._source.take()
            inputs = None if request is None else self._check(request)
        except FlexPieError as error:
            self._fail(error)
            return None
        if inputs is None:
            self.is_over = self._source.is_over
        else:
            self.admitted += 1
        return inputs

    def look(self) -> bool:
        news = (self.admitted, self.is_over)
        if news == self._told or not self._channel.has_left():
            return False
        self._credit[:] = self._told = news
        self._channel.post()
        self._channel.start()
        return True

    def deliver(self, number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
        if not self._delivers:
            return
        self._latencies.append(latency_s)
        try:
            self._deliver(number, outputs, latency_s)
        except FlexPieError as error:
            self._delivers = False
            self._fail(error)

    def _fail(self, error: FlexPieError) -> None:
        self.error = self.error or error
        self.is_over = True
