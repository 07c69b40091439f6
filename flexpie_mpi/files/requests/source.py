"""Sources of requests: what all have in common, those that need no other module, and the thread that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count as counting
from itertools import islice
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Protocol

import numpy as np

from ...core.errors import DataError, FlexPieError
from ...core.graph import Graph
from ..synthetic import random_inputs

Request = Mapping[str, np.ndarray]
"""Every input of the graph by name."""

DEPTH = 4
"""At most so many requests are read before they are asked for."""

_LOOK_S = 0.05
"""How often a reader that has nothing to do looks whether it is to stop."""


class Stop:
    """Whether nothing more is wanted, for other threads to look at.

    No lock is behind it, as one is behind an event: a signal handler that interrupts another may set it.
    """

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Say that nothing more is wanted."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether :meth:`set` was called."""
        return self._is_set


class Source(Protocol):
    """Where requests come from; ``str`` names it for people."""

    @property
    def count(self) -> int | None:
        """How many there are; None where that is not known."""

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """The requests in order, the first of them numbered `first`; whatever waits gives up once `stop` is set.

        Raises DataError at the first that cannot be had.
        """


@dataclass(frozen=True, slots=True)
class RandomRequests:
    """Random requests; the seed and the number of a request decide its values."""

    graph: Graph
    seed: int
    count: int

    def __str__(self) -> str:
        return f"random, seed {self.seed}"

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """As of :class:`Source`."""
        for number in islice(counting(first), self.count):
            yield random_inputs(self.graph, self.seed, number)


def sample(source: Source, graph: Graph, seed: int = 0) -> Request | None:
    """A request like those of a source: its first, or, where it is not known when that comes, a random one.

    None when the first cannot be had, which whoever asks for it will be told, or none can be made up.
    """
    known = source if source.count is not None else RandomRequests(graph, seed, 1)
    try:
        return next(known.requests(0, Stop()), None)
    except DataError:
        return None


@dataclass(frozen=True, slots=True)
class AtMost:
    """The first requests of another source."""

    source: Source
    limit: int

    def __str__(self) -> str:
        return f"{self.source}; at most {self.limit}"

    @property
    def count(self) -> int | None:
        known = self.source.count
        return None if known is None else min(known, self.limit)

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """As of :class:`Source`."""
        return islice(self.source.requests(first, stop), self.limit)


class Reader:
    """The requests of a source from number `first` on, ready to be taken: a supply of the engine.

    Its `count` says how many there will be; None where that is not known.
    """

    def __init__(self, source: Source, first: int = 0, depth: int = DEPTH) -> None:
        self.count = source.count
        self._source = source
        self._first = first
        self._ready: Queue[Request] = Queue(depth)
        self._stop, self._is_done = Stop(), Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name="requests", daemon=True)
        self._thread.start()

    def take(self) -> Request | None:
        """The next request; None where none is ready. Never waits.

        Raises a FlexPieError that says what is wrong with the next request, with its number, once those before it are
        taken.
        """
        if self._stop.is_set():
            return None
        is_done = self._is_done.is_set()
        try:
            return self._ready.get_nowait()
        except Empty:
            if is_done and self._error is not None:
                raise self._error from None
            return None

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more."""
        return self._stop.is_set() or (self._is_done.is_set() and self._ready.empty() and self._error is None)

    @property
    def left(self) -> int:
        """Requests that were read and not taken."""
        return self._ready.qsize()

    def stop(self) -> None:
        """Stop reading and handing out requests; may be called by a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and wait a second at most for the thread, which may be in the middle of a file."""
        self.stop()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        number = self._first
        try:
            for request in self._source.requests(self._first, self._stop):
                self._put(request)
                number += 1
                if self._stop.is_set():
                    return
        except FlexPieError as error:
            self._error = type(error)(f"request {number}: {error}")
        except BaseException as error:  # a defect: raised where the next request is asked for
            self._error = error
        finally:
            self._is_done.set()

    def _put(self, request: Request) -> None:
        while not self._stop.is_set():
            with suppress(Full):
                self._ready.put(request, timeout=_LOOK_S)
                return
