"""Who is to blame when a wait reaches its deadline: ranks that wait tell each other so, and what for.

A rank that has waited for a while says so to all others, again and again, on a communicator of its own. Who then gives
up follows what it was told: rank 0 waits for rank 1, which waits for rank 2, which says nothing. Only of the last one
more is to be known, and the machine is asked for it. Nothing of this happens while messages come in time::

    rank 0   |-- wait ----|------------|-----------| deadline: rank 2 is stopped
    rank 1      |-- wait ----| for 2 ------| for 2 ---
    rank 2         stopped
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .presence import Presence
from .waiting import PER_DEADLINE, Late

PERIOD_S = 1.0
"""How long a rank waits before it says so, and from then on between two times, unless its deadline is near."""

MOST_BLAMED = 2
"""So many ranks are looked at: each may take a second."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a rank has said last."""

    when_s: float
    what: str  # it waits in
    peers: tuple[int, ...]  # it waits for


class Watch:
    """One rank's view of who waits for whom.

    Parameters
    ----------
    communicator
        Of all ranks, used for nothing else.
    presences : sequence of Presence
        By rank.
    deadline_s : float
        Of the shortest waits: several times within it a rank says that it waits.
    clock : callable
    """

    def __init__(
        self,
        communicator: Any,
        presences: Sequence[Presence],
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.period_s = min(PERIOD_S, deadline_s / PER_DEADLINE)
        self._communicator = communicator
        self._presences = presences
        self._clock = clock
        self._heard: dict[int, Heard] = {}
        self._sent: list[Any] = []

    def tell(self, late: Late) -> None:
        """Tell all others that this rank waits, and hear what they say."""
        self.hear()
        self._sent = [request for request in self._sent if not request.Test()]
        for rank in range(self._communicator.size):
            if rank != late.rank:
                self._sent.append(self._communicator.isend((late.rank, late.what, tuple(late.peers)), rank))

    def hear(self) -> None:
        """Take in what others have said."""
        while (message := self._communicator.improbe()) is not None:
            rank, what, peers = message.recv()
            self._heard[rank] = Heard(self._clock(), what, peers)

    def finding(self, late: Late) -> str:
        """Who keeps a rank waiting, and what can be told of it."""
        self.hear()
        chains = [self._chain(late.rank, peer) for peer in reversed(late.peers)]
        silent = [chain for chain in chains if self._fresh(chain[-1]) is None]
        blamed = {chain[-1]: chain for chain in silent or chains}
        return "; ".join(map(self._said, list(reversed(blamed.values()))[:MOST_BLAMED]))

    def _chain(self, rank: int, peer: int) -> list[int]:
        """Ranks that wait for each other, from a late one on, up to one that does not say that it waits."""
        chain = [peer]
        while (heard := self._fresh(chain[-1])) is not None:
            others = [other for other in heard.peers if other != rank and other not in chain]
            if not others:
                break
            chain.append(min(others, key=lambda other: self._fresh(other) is not None))
        return chain

    def _fresh(self, rank: int) -> Heard | None:
        """What a rank has said, if it would have said so again by now were it not so any more."""
        heard = self._heard.get(rank)
        return heard if heard and self._clock() - heard.when_s <= 2.5 * self.period_s else None

    def _said(self, chain: Sequence[int]) -> str:
        """A chain as a sentence."""
        links = [f"rank {a} waits for rank {b} in {self._heard[a].what}" for a, b in pairwise(chain)]
        last = chain[-1]
        heard, there, here = self._heard.get(last), self._presences[last], self._presences[self._communicator.rank]
        if heard is not None and self._fresh(last) is not None:
            plight = f"waits itself, in {heard.what}: messages between them are slow or were lost"
        else:
            plight = there.seen_from(here)
            if heard is not None:
                plight += f"; it was heard of {self._clock() - heard.when_s:.3g} s ago, when it waited in {heard.what}"
        return ", ".join([*links, f"rank {last} on '{there.host}' {plight}"])
