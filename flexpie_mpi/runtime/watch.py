"""Who is to blame when a wait reaches its deadline: every rank is asked what it does.

Who gives up follows what it is told: rank 0 waits for rank 1, which waits for rank 2, which computes, or does not
answer. While a wait goes on the others are asked now and then, so that it is known when they have last been heard of.
Nothing of this happens while messages come in time::

    rank 0   |-- wait --ask all----ask all----ask all--| deadline: rank 2 is stopped, and last answered 2.1 s ago
    rank 1      |-- wait for 2 ------------------------
    rank 2      computes | stopped
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from threading import Thread

from .life import Called, Doing, Life
from .presence import Presence
from .waiting import PER_DEADLINE, Late

PERIOD_S = 1.0
"""How long a rank waits before it asks, and from then on between two times, unless its deadline is near."""

MOST_BLAMED = 2
"""So many ranks are looked at closely: each may take a second."""

_AT_ONCE = 32
"""So many ranks are called together."""

_FRESH = 2.5
"""So many periods a wait that was told of may still go on without being told of again."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a rank has said last."""

    when_s: float
    doing: Doing


class Watch:
    """One rank's view of who waits for whom.

    Parameters
    ----------
    rank : int
        This one.
    presences : sequence of Presence
        By rank.
    life : Life
        Of this rank: it is told of waits.
    deadline_s : float
        Of the shortest waits: several times within it others are asked.
    clock : callable
    """

    def __init__(
        self,
        rank: int,
        presences: Sequence[Presence],
        life: Life,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.period_s = min(PERIOD_S, deadline_s / PER_DEADLINE)
        self._rank = rank
        self._presences = presences
        self._life = life
        self._clock = clock
        self._heard: dict[int, Heard] = {}
        self._asking: Thread | None = None

    def tell(self, late: Late) -> None:
        """This rank waits: it says so when it is asked, and others are asked meanwhile."""
        self._life.waits(late, _FRESH * self.period_s)
        if self._asking is None or not self._asking.is_alive():
            self._asking = Thread(target=self._survey, name="watch", daemon=True)
            self._asking.start()

    def finding(self, late: Late) -> str:
        """Who keeps a rank waiting, and what can be told of it."""
        called = self._survey()
        chains = [_chain(called, late.rank, peer) for peer in reversed(late.peers)]
        guilt = [_guilt(called[chain[-1]]) for chain in chains]
        blamed = {chain[-1]: chain for chain, each in zip(chains, guilt, strict=True) if each == max(guilt)}
        said = partial(self._said, called, self._clock() - late.waited_s)
        with ThreadPoolExecutor(MOST_BLAMED) as pool:
            return "; ".join(pool.map(said, list(reversed(blamed.values()))[:MOST_BLAMED]))

    def _survey(self) -> dict[int, Called]:
        """What all other ranks say."""
        here = self._presences[self._rank]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            called = {
                rank: pool.submit(self._presences[rank].called_from, here)
                for rank in range(len(self._presences))
                if rank != self._rank
            }
        found = {rank: each.result() for rank, each in called.items()}
        for rank, each in found.items():
            if each.answer is not None:
                self._heard[rank] = Heard(self._clock(), each.answer.doing)
        return found

    def _said(self, called: Mapping[int, Called], since_s: float, chain: Sequence[int]) -> str:
        """A chain as a sentence, of a wait that began at `since_s`."""
        heard = self._heard
        links = [f"rank {a} {heard[a].doing.what} for rank {b}" for a, b in pairwise(chain)]
        last, here = chain[-1], self._presences[self._rank]
        there = self._presences[last]
        plight = there.plight(called[last], here)
        if called[last].answer is None and last in heard and heard[last].when_s > since_s:
            plight += f", and last said {self._clock() - heard[last].when_s:.3g} s ago that it {heard[last].doing.what}"
        return ", ".join([*links, f"rank {last} on '{there.host}' {plight}"])


def _chain(called: Mapping[int, Called], rank: int, peer: int) -> list[int]:
    """Ranks that wait for each other, from a late one on, up to one that does not say that it waits."""
    chain = [peer]
    while _waits(called[chain[-1]]):
        others = [other for other in _peers(called[chain[-1]]) if other != rank and other not in chain]
        if not others:
            break
        chain.append(min(others, key=lambda other: _waits(called[other])))
    return chain


def _guilt(called: Called) -> int:
    """How sure it is that a rank keeps others waiting: 3 where it does not answer, down to 0 where it waits itself."""
    if called.answer is None:
        return 3
    doing = called.answer.doing
    return 0 if doing.peers else 1 + doing.is_work


def _peers(called: Called) -> tuple[int, ...]:
    return called.answer.doing.peers if called.answer else ()


def _waits(called: Called) -> bool:
    return bool(_peers(called))
