"""A thread that reads and decodes the next requests while those before them are computed."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread

from ...core.errors import FlexPieError
from .source import Request, Source
from .stop import Stop

DEPTH = 4
"""Requests that are read before they are asked for, at most."""

_LOOK_S = 0.05
"""How often a reader that has nothing to do looks whether it is to stop."""


class Reader:
    """The requests of a source, ready to be taken: a supply of the engine.

    Parameters
    ----------
    source : Source
    first : int
        Number of its first request.
    depth : int

    Attributes
    ----------
    count : int or None
        How many there will be, where known.
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

        Raises
        ------
        FlexPieError
            What is wrong with the next request, with its number, once those before it are taken.
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
        """Give nothing out any more, and read no further; may be called by a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and wait for the thread, if it is not in the middle of a slow disk's file."""
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
