"""How a rank waits for others: it looks often at first, then sleeps in short naps, and gives up at a deadline.

Naps grow with the time already waited, so that a wait ends at most a fraction too late and a long one costs next to
nothing::

    with a core of its own   |spin|nap|-nap-|--nap--|----nap----| ...
    ranks outnumber cores    |yield|nap|-nap-|--nap--|----nap----| ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.errors import TransportError
from .machine import offer_core

DEADLINE_S = 120.0
"""How long a rank waits for another before it gives up, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Patience:
    """A waiting policy; all times in seconds.

    Attributes
    ----------
    deadline_s : float
        The wait fails after this long.
    eager_s : float
        The wait only looks for this long, then it also naps.
    shortest_nap_s, longest_nap_s : float
        Bounds of a nap.
    share : float
        Length of a nap as a part of the time already waited.
    yields : bool
        While eager, offer the core to other processes between two looks.
    """

    deadline_s: float = DEADLINE_S
    eager_s: float = 100e-6
    shortest_nap_s: float = 20e-6
    longest_nap_s: float = 1e-3
    share: float = 1 / 32
    yields: bool = False

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
    explain: Callable[[float], str],
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
        The sentence for who is late, from the seconds waited.
    clock, sleep : callable
        Of the machine, unless a test brings its own.

    Raises
    ------
    TransportError
        At the deadline.
    """
    if is_done():
        return
    begin_s = clock()
    while not is_done():
        waited_s = clock() - begin_s
        if waited_s >= patience.deadline_s:
            raise TransportError(explain(waited_s))
        nap_s = patience.nap_s(waited_s)
        if nap_s > 0.0:
            sleep(nap_s)
        elif patience.yields:
            offer_core()


def late(rank: int, what: str, peers: Sequence[int], waited_s: float) -> str:
    """The sentence of a wait that came to nothing.

    >>> late(1, "exchange 3 (halo)", [2], 120.0)
    'rank 1 waited 120 s in exchange 3 (halo) for rank 2: see whether that rank and its link are up, or allow more time'
    """
    names = ", ".join(map(str, peers))
    whom, which = (f"rank {names}", "that rank and its link are") if len(peers) == 1 else (f"ranks {names}", "they are")
    return f"rank {rank} waited {waited_s:.3g} s in {what} for {whom}: see whether {which} up, or allow more time"
