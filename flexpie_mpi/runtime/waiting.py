"""How a rank waits for others: it looks often at first, then sleeps in short naps, and gives up at a deadline.

Naps grow with the time already waited, so that a wait ends at most a fraction too late and a long one costs next to
nothing::

    with a core of its own   |spin|nap|-nap-|--nap--|----nap----| ...
    ranks outnumber cores    |yield|nap|-nap-|--nap--|----nap----| ...

Work has no deadline, silence has one. Who waits for what others do by themselves asks them now and then, and gives up
when one of them has not answered for as long as the deadline, since then its process, its host or the link is gone::

    rank 0   |-- work -----------------------------------------|   (on with the job)
                answers      answers      answers              | over
    rank 1   |-- ask -------- ask -------- ask ----------------|   (on with the job)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

from ..core.errors import TransportError
from .machine import offer_core

DEADLINE_S = 120.0
"""How long a rank waits for another before it gives up, unless told otherwise."""

PER_DEADLINE = 6
"""So often others are asked within a deadline: so many answers may be missing while work lets no other thread run."""


class Onlooker(Protocol):
    """What finds out who keeps a rank waiting; see :class:`flexpie_mpi.runtime.watch.Watch`."""

    @property
    def period_s(self) -> float:
        """How often it is to be told of a wait."""

    def tell(self, late: Late) -> None:
        """A wait goes on."""

    def silence_s(self, late: Late) -> float:
        """How long a rank that is waited for has not answered by now; of the wait, and 0 where all of them answer."""

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
    is_for_work: bool = False  # the wait fails after so long a silence only; never where nobody can be asked

    def for_work(self) -> Patience:
        """The same for what others do by themselves, which may take any time."""
        return replace(self, predicted_s=None, is_for_work=True)

    @property
    def limit_s(self) -> float:
        """After so long a wait fails."""
        if self.is_for_work and self.onlooker is None:
            return inf
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

    def rest_s(self, late: Late | str) -> float:
        """For how long a wait at its limit may go on; raises LateError where it may not."""
        if self.is_for_work and self.onlooker is not None and isinstance(late, Late):
            rest_s = self.limit_s - self.onlooker.silence_s(late)
            if rest_s > 0.0:
                return rest_s
        raise self.error(late)

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
            limit_s = waited_s + patience.rest_s(explain(waited_s))
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
