"""Flows: what goes into a stream of requests, what comes out, and what is said of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Deliver = Callable[[int, Mapping[str, Any], float], object]
"""Takes a request's number, its outputs by name (views, valid during the call only) and its latency in seconds."""

KEPT = 1 << 16
"""Latencies that are kept: of an endless stream, those of the last requests."""


class Supply(Protocol):
    """Where requests come from; asked on the root only.

    Attributes
    ----------
    count : int or None
        How many requests there will be in all, where that is known.
    is_over : bool
        Nothing will come any more.
    """

    @property
    def count(self) -> int | None: ...

    @property
    def is_over(self) -> bool: ...

    def take(self) -> Mapping[str, Any] | None:
        """Inputs of the next request by name; None when it is not there yet, or nothing will come. Never waits.

        Tensors are copied at once; values of unknown shape are used as they are until their request is delivered.

        Raises
        ------
        DataError
            When the next request cannot be used: the stream ends with those before it.
        """


class Requests:
    """The supply of a list, or of anything that can be iterated over without waiting.

    >>> supply = Requests([{"x": 1}])
    >>> supply.count, supply.is_over, supply.take(), supply.take(), supply.is_over
    (1, False, {'x': 1}, None, True)
    """

    def __init__(self, requests: Iterable[Mapping[str, Any]]) -> None:
        self.count = len(requests) if isinstance(requests, Sized) else None
        self.is_over = False
        self._source = iter(requests)

    def take(self) -> Mapping[str, Any] | None:
        """The next request; None after the last."""
        request = next(self._source, None)
        self.is_over = request is None
        return request


@dataclass(frozen=True, slots=True)
class Flow:
    """What one rank has to say of a stream.

    Attributes
    ----------
    rank : int
    requests : int
        Of the whole stream, the same on every rank.
    elapsed_s : float
        On the root from the first admission to the last delivery; elsewhere from its own first to its own last step.
    busy_s : float
        Seconds in which the rank computed, pacing included.
    sent_bytes : int
        Of the requests' values, by this rank.
    latencies_s : tuple of float
        On the root: seconds from the admission of a request to its delivery, of the last `KEPT` requests, in order.
        Empty elsewhere.
    """

    rank: int
    requests: int
    elapsed_s: float
    busy_s: float
    sent_bytes: int
    latencies_s: tuple[float, ...] = ()


class Latencies:
    """The last `KEPT` numbers of a row, in memory that does not grow."""

    def __init__(self) -> None:
        self._kept = np.empty(KEPT)
        self._count = 0

    def add(self, seconds: float) -> None:
        """Note one more; the oldest makes room."""
        self._kept[self._count % KEPT] = seconds
        self._count += 1

    def tuple(self) -> tuple[float, ...]:
        """All that are kept, oldest first."""
        first = self._count % KEPT if self._count > KEPT else 0
        return tuple(np.roll(self._kept, -first)[: min(self._count, KEPT)].tolist())
