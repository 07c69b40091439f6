"""Work beside a stream: in a thread of every rank, while the main threads carry out requests.

One thread per process calls MPI. So a thread beside it leaves its calls to the main one, which makes them when nothing
moves and when it waits itself. What these threads tell each other has a communicator of its own::

    rank 0   main    | requests ----------------------------------|turn| requests by another engine ...
             beside       |call| plan, weights, sessions | agree |
    rank 1   main    | requests ----------------------------------|turn| requests ...
             beside         |  plan, weights, sessions - | agree |

Communicators come from outside and are only called, so that MPI itself is imported in one place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from math import inf
from threading import Thread, get_ident
from typing import Any, TypeVar

import numpy as np

from ..core.program import Exchange
from .control import ControlPlane
from .transport import Channel, Transport, Work, wait_for_work
from .waiting import Patience

T = TypeVar("T")

_CALLER, _CALL_TAG, _CALL = 0, 1, np.zeros(1, np.uint8)
"""Who calls, and the message; everything else that is sent beside has another tag."""


class Errands:
    """Calls of other threads that the one which has made this makes for them."""

    def __init__(self) -> None:
        self._owner = get_ident()
        self._left: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._begun: list[Any] = []
        self._is_over = False

    def run(self, function: Callable[[], T]) -> T:
        """The result of a call, waited for. Raises CancelledError where it is not, or no longer, made."""
        if get_ident() == self._owner:
            return function()
        future: Future[T] = Future()
        self._left.append((function, future))
        if self._is_over:
            future.cancel()
        return future.result()

    def serve(self) -> None:
        """Make the calls that are there. What one of them raises is for this thread, as of a call of its own."""
        for _ in range(len(self._left)):
            function, future = self._left.popleft()
            try:
                future.set_result(function())
            except BaseException:
                future.cancel()
                raise

    def begun(self, request: Any) -> None:
        """Keep a request of MPI until it is over."""
        self._begun = [each for each in self._begun if each] + [request]

    def end(self) -> list[Any]:
        """Make none any more; requests that MPI may still carry out."""
        self._is_over = True
        while self._left:
            self._left.popleft()[1].cancel()
        return [each for each in self._begun if each]


class Lent:
    """An object of MPI for a thread that leaves its calls to another; so are the requests that they begin."""

    def __init__(self, item: Any, errands: Errands) -> None:
        self._item = item
        self._errands = errands

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._item, name)
        return partial(self._call, found) if callable(found) else found

    def _call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        made = self._errands.run(partial(method, *args, **options))
        if not hasattr(made, "Test"):
            return made
        self._errands.begun(made)
        return Lent(made, self._errands)


class BesidePlane(ControlPlane):
    """What the threads beside tell each other; as of :class:`.transport.Control`.

    They wait as long as it takes: a rank that is gone is noticed by the main threads. Exchanges are opened as messages,
    since to make communicators would hold those up.
    """

    def __init__(self, home: Transport, communicator: Any, errands: Errands) -> None:
        self.patience = Patience(inf, longest_nap_s=10e-3)
        super().__init__(Lent(communicator, errands), self.patience)
        self._errands = errands
        self.host_ranks = home.host_ranks
        self._home = home

    def attend(self, work: Callable[[], T], root: int = 0) -> T | None:
        """The result of `work`, called on the root only; None elsewhere, where the next wait for it may be long."""
        return work() if self.rank == root else None

    def open(self, exchanges: Sequence[Exchange]) -> tuple[Channel, ...]:
        return self._errands.run(partial(self._home.open, exchanges, as_messages=True))

    def release(self, channels: Iterable[Channel]) -> None:
        self._errands.run(partial(self._home.release, channels))


class Aside:
    """One rank's end of the work that is done beside; all but `call` is for the main thread.

    Parameters
    ----------
    home : Transport
        Of the main thread.
    communicator
        Of all ranks, used for nothing else.
    """

    def __init__(self, home: Transport, communicator: Any) -> None:
        self._errands = Errands()
        self._plane = BesidePlane(home, communicator, self._errands)
        self._home = home
        self._communicator = communicator
        self._work: Work | None = None
        self._is_called = False
        self._thread: Thread | None = None

    def listen(self, work: Work | None) -> None:
        """As of :meth:`.transport.Transport.listen`."""
        self._work = work
        if work is None:
            wait_for_work(self._home, self._is_done, "work beside the stream")
            self._plane.flush()

    def call(self) -> None:
        """As of :meth:`.transport.Transport.call`."""
        self._is_called = True

    def look(self) -> None:
        """Make the calls that are left to this thread, and begin the work that is called for."""
        self._errands.serve()
        has_call = self._communicator.Iprobe(_CALLER, _CALL_TAG)  # also for the library to look around
        if self._work is None or self.is_busy or not (has_call or self._is_called):
            return
        if self._is_called:
            self._is_called = False
            for rank in range(1, self._plane.size):
                self._plane.send(_CALL, rank, _CALL_TAG)
        else:
            self._plane.receive(_CALL.copy(), _CALLER, _CALL_TAG)
        self._thread = Thread(target=self._do, args=(self._work,), name="beside", daemon=True)
        self._thread.start()

    def abandon(self) -> list[Any]:
        """Leave what is done beside in the lurch, where its communicator is of no use any more; as of channels."""
        return self._errands.end()

    @property
    def is_busy(self) -> bool:
        """Whether something is done beside."""
        return self._thread is not None and self._thread.is_alive()

    def _is_done(self) -> bool:
        self.look()
        return not self.is_busy

    def _do(self, work: Work) -> None:
        with suppress(CancelledError):
            work(self._plane)
