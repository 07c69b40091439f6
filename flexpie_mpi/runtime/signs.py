"""Signs of life: what a rank that works alone sends to those who can only wait for it.

Work has no deadline, silence has one. A thread sends a sign to everyone several times within the deadline, as long as
the work lasts; who waits gives up when no sign comes, since then the rank, its process or the link to it is gone. All
signs are received: the last one says that the work is over::

    rank 0   |-- work -------------------------------------|   (on with the job)
                 | sign      | sign      | sign            | over
    rank 1       |-- wait ---|-- wait ---|-- wait ---------|   (on with the job)

The communicator comes from outside and is only called, so that MPI itself is imported in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf, isinf
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np

from .waiting import Patience, late, wait

T = TypeVar("T")

PER_DEADLINE = 6
"""Signs within a deadline: so many may be late together, while the work lets no other thread run."""

_OVER = 0.0


class Signs:
    """One rank's end of all signs.

    Parameters
    ----------
    communicator
        Of all ranks, used for nothing else.
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

        Raises
        ------
        TransportError
            When no sign has come within the deadline.
        """
        patience = self._patience
        explain = partial(late, self._communicator.rank, "work on one rank", (worker,))
        sign = np.full(1, inf)
        while sign[0] != _OVER:
            wait(self._communicator.Irecv(sign, worker).Test, patience, explain)
            patience = replace(patience, deadline_s=inf) if isinf(sign[0]) else self._patience

    def has_left(self) -> bool:
        """Whether everybody could be told everything that was sent."""
        self._sent = [(request, sign) for request, sign in self._sent if not request.Test()]
        return not self._sent

    def _beat(self, over: Event) -> None:
        while not over.wait(self._period_s):
            self._send(self._period_s)

    def _send(self, sign: float) -> None:
        self.has_left()
        memory, me = np.array([sign]), self._communicator.rank
        others = (rank for rank in range(self._communicator.size) if rank != me)
        self._sent += [(self._communicator.Isend(memory, rank), memory) for rank in others]
