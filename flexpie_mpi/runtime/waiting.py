"""How a rank waits for others: it looks often at first, then sleeps in short naps, and gives up at a deadline.

Naps grow with the time already waited, so that a wait ends at most a fraction too late and a long one costs next to
nothing::

    with a core of its own   |spin|nap|-nap-|--nap--|----nap----| ...
    ranks outnumber cores    |yield|nap|-nap-|--nap--|----nap----| ...

Work has no deadline, silence has one. A rank that works alone sends signs of life (:class:`Signs`) to those who can
only wait for it, several within the deadline, as long as the work lasts; who waits gives up when no sign comes, since
then the rank, its process or the link to it is gone. All signs are received; the last one says that the work is over::

    rank 0   |-- work -------------------------------------|   (on with the job)
                 | sign      | sign      | sign            | over
    rank 1       |-- wait ---|-- wait ---|-- wait ---------|   (on with the job)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isinf
from threading import Event, Thread
from typing import Any, Protocol, TypeVar

import numpy as np

from ..core.errors import TransportError
from .machine import offer_core

T = TypeVar("T")

DEADLINE_S = 120.0
"""How long a rank waits for another before it gives up, unless told otherwise."""

PER_DEADLINE = 6
"""Signs within a deadline: so many may be late together, while the work lets no other thread run."""

_OVER = 0.0


class Onlooker(Protocol):
    """What finds out who keeps a rank waiting; see :class:`flexpie_mpi.runtime.watch.Watch`."""

    @property
    def period_s(self) -> float:
        """How often it is to be told of a wait."""

    def tell(self, late: Late) -> None:
        """A wait goes on."""

    def finding(self, late: Late) -> str:
        """Who keeps a rank waiting, and what can be told of it."""


@dataclass(slots=True)
class Patience:
    """A waiting policy; all times in seconds. All that wait alike share one: its deadline may change between waits."""

    deadline_s: float = DEADLINE_S  # the wait fails after this long
    predicted_s: float | None = None  # the same where it is known how long waits are to be; of requests
    onlooker: Onlooker | None = None
    eager_s: float = 100e-6  # the wait only looks for this long, then it also naps
    # `shortest_nap_s` and `longest_nap_s`: bounds of a nap
    shortest_nap_s: float = 20e-6
    longest_nap_s: float = 1e-3
    share: float = 1 / 32  # length of a nap as a part of the time already waited
    yields: bool = False  # while eager, offer the core to other processes between two looks

    @property
    def limit_s(self) -> float:
        """After so long a wait fails."""
        return self.deadline_s if self.predicted_s is None else self.predicted_s

    @property
    def look_s(self) -> float:
        """After so long a wait is first told of, or fails."""
        return min(self.limit_s, self.onlooker.period_s if self.onlooker else inf)

    def tell(self, late: Late | str) -> float:
        """Tell the onlooker of a wait; seconds until it is to be told again."""
        if self.onlooker is None or isinstance(late, str):
            return inf
        self.onlooker.tell(late)
        return self.onlooker.period_s

    def error(self, late: Late | str) -> TransportError:
        """The error of a wait that has failed, with what can be found out."""
        if self.onlooker is None or isinstance(late, str):
            return LateError(str(late))
        return LateError(late.said(f"{self.onlooker.finding(late)}. --deadline SECONDS allows more time"))

    def nap_s(self, waited_s: float) -> float:
        """Length of the nap after `waited_s` seconds; 0 means look again at once.

        >>> [round(Patience().nap_s(waited_s) * 1e6) for waited_s in (50e-6, 200e-6, 4e-3, 60.0)]
        [0, 20, 125, 1000]
        """
        if waited_s < self.eager_s:
            return 0.0
        return min(self.longest_nap_s, max(self.shortest_nap_s, waited_s * self.share))


def wait(
    is_done: Callable[[], bool],
    patience: Patience,
    explain: Callable[[float], Late | str],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when `is_done` says so.

    Parameters
    ----------
    is_done : callable
        A look, which is also what drives the messages forward.
    patience : Patience
    explain : callable
        Who is late, from the seconds waited.
    clock, sleep : callable
        Of the machine, unless a test brings its own.

    Raises
    ------
    LateError
        At the deadline.
    """
    if is_done():
        return
    begin_s, limit_s, look_s = clock(), patience.limit_s, patience.look_s
    while not is_done():
        waited_s = clock() - begin_s
        if waited_s >= limit_s:
            raise patience.error(explain(waited_s))
        if waited_s >= look_s:
            look_s = waited_s + patience.tell(explain(waited_s))
        nap_s = patience.nap_s(waited_s)
        if nap_s > 0.0:
            sleep(nap_s)
        elif patience.yields:
            offer_core()


@dataclass(frozen=True, slots=True)
class Late:
    """A wait for messages that do not come; its text is the sentence of an error.

    >>> print(Late(1, "exchange 3 (halo)", [2], 120.0))
    rank 1 waited 120 s in exchange 3 (halo) for rank 2: see whether that rank and its link are up, or allow more time
    """

    rank: int  # that waits
    what: str  # it waits in
    peers: Sequence[int]  # from which something is missing
    waited_s: float

    def __str__(self) -> str:
        which = "that rank and its link are" if len(self.peers) == 1 else "they are"
        return self.said(f"see whether {which} up, or allow more time")

    def said(self, finding: str) -> str:
        """The sentence, with what was found out at its end."""
        names = ", ".join(map(str, self.peers))
        whom = f"rank{'s' * (len(self.peers) != 1)} {names}"
        return f"rank {self.rank} waited {self.waited_s:.3g} s in {self.what} for {whom}: {finding}"


class LateError(TransportError):
    """A wait has reached its deadline: the others wait still, and nothing more is to be expected of them."""


class Signs:
    """One rank's end of all signs.

    Parameters
    ----------
    communicator
        Of all ranks, used for nothing else. It comes from outside, so that MPI is imported in one place.
    patience : Patience
        Its deadline is how long a sign may take.
    has_thread : bool
        Whether another thread than the main one may call MPI. Where none may, the work of this rank is waited for
        without a deadline.
    """

    def __init__(self, communicator: Any, patience: Patience, *, has_thread: bool) -> None:
        self._communicator = communicator
        self._patience = patience
        self._period_s = patience.deadline_s / PER_DEADLINE if has_thread else inf
        self._sent: list[tuple[Any, np.ndarray]] = []

    def give(self, work: Callable[[], T]) -> T:
        """The result of `work`, which calls no MPI, with signs to all others while it lasts."""
        over = Event()
        thread = Thread(target=self._beat, args=(over,), name="signs", daemon=True)
        self._send(self._period_s)
        if not isinf(self._period_s):
            thread.start()
        try:
            return work()
        finally:
            over.set()
            if thread.ident is not None:
                thread.join()
            self._send(_OVER)

    def take(self, worker: int) -> None:
        """Return when the work of another rank is over.

        Raises TransportError when no sign has come within the deadline.
        """
        patience = self._patience
        explain = partial(Late, self._communicator.rank, "work on one rank", (worker,))
        sign = np.full(1, inf)
        while sign[0] != _OVER:
            wait(self._communicator.Irecv(sign, worker).Test, patience, explain)
            patience = replace(patience, deadline_s=inf) if isinf(sign[0]) else self._patience

    def has_left(self) -> bool:
        """Whether everybody could be told everything that was sent."""
        self._sent = [(request, sign) for request, sign in self._sent if not request.Test()]
        return not self._sent

    def _beat(self, over: Event) -> None:
        with suppress(Exception):  # of MPI, where a rank is lost: the main thread meets it as well
            while not over.wait(self._period_s):
                self._send(self._period_s)

    def _send(self, sign: float) -> None:
        self.has_left()
        memory, me = np.array([sign]), self._communicator.rank
        others = (rank for rank in range(self._communicator.size) if rank != me)
        self._sent += [(self._communicator.Isend(memory, rank), memory) for rank in others]
