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
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from threading import Thread
from typing import TypeVar

from .life import Answer, Called, Doing, Life
from .presence import Presence
from .waiting import PER_DEADLINE, Late

PERIOD_S = 1.0
"""How long a rank waits before it asks, and from then on between two times, unless its deadline is near."""

MOST_BLAMED = 2
"""So many ranks are looked at closely: each may take a second."""

PATIENT_S = 3.0
"""How long an answer may take that is asked for while nothing is wrong yet: behind messages, on a slow link."""

_AT_ONCE = 32
"""So many ranks are called together."""

S = TypeVar("S")
T = TypeVar("T")

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
        self._others = [other for other in range(len(presences)) if other != rank]
        self._presences = presences
        self._life = life
        self._clock = clock
        self._heard: dict[int, Heard] = {}
        self._has_reached = False  # a rank on another host: calls get through, and one that does not means something
        self._asking: Thread | None = None

    def tell(self, late: Late) -> None:
        """This rank waits: it says so when it is asked, and others are asked meanwhile."""
        self._life.waits(late, _FRESH * self.period_s)
        if self._asking is None or not self._asking.is_alive():
            self._asking = Thread(target=self._survey, args=(self._others,), name="watch", daemon=True)
            with suppress(RuntimeError):  # the process ends, and no thread can be started
                self._asking.start()

    def silence_s(self, late: Late) -> float:
        """How long a rank that is waited for has not answered by now; of the wait, and 0 where all of them answer.

        A host that does not take calls may do so because of a firewall, unless another one is known to take them.
        """
        called = self._survey(late.peers)
        silent = [rank for rank, each in called.items() if each.answer is None]
        now_s, began_s = self._clock(), self._clock() - late.waited_s
        heard_s = {rank: self._heard[rank].when_s if rank in self._heard else began_s for rank in silent}
        gone = [rank for rank in silent if called[rank].taken or called[rank].refused or self._has_reached]
        return max((now_s - max(began_s, heard_s[rank]) for rank in gone), default=0.0)

    def asked(self, rank: int, *, loaded: bool = False) -> Answer | None:
        """What a rank answers; as of :meth:`.transport.Transport.asked`."""
        here = self._presences[self._rank]
        called = self._presences[rank].called_from(here, loaded=loaded, limit_s=PATIENT_S)
        self._hear(rank, called)
        return called.answer

    def finding(self, late: Late) -> str:
        """Who keeps a rank waiting, and what can be told of it."""
        called = self._survey(self._others)
        chains = [_chain(called, late.rank, peer) for peer in reversed(late.peers)]
        guilt = [_guilt(called[chain[-1]]) for chain in chains]
        blamed = {chain[-1]: chain for chain, each in zip(chains, guilt, strict=True) if each == max(guilt)}
        said = partial(self._said, called, self._clock() - late.waited_s)
        return "; ".join(_at_once(said, list(reversed(blamed.values()))[:MOST_BLAMED]))

    def _survey(self, ranks: Sequence[int]) -> dict[int, Called]:
        """What ranks say."""
        here = self._presences[self._rank]
        called = dict(zip(ranks, _at_once(lambda rank: self._presences[rank].called_from(here), ranks), strict=True))
        for rank, each in called.items():
            self._hear(rank, each)
        return called

    def _hear(self, rank: int, called: Called) -> None:
        if called.answer is not None:
            self._heard[rank] = Heard(self._clock(), called.answer.doing)
            self._has_reached |= not self._presences[rank].is_beside(self._presences[self._rank])

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


def _at_once(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """What calls for all items give, made at once; one after the other where the process ends, without threads."""
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(function, items))
    except RuntimeError:
        return [function(item) for item in items]


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
