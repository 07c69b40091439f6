"""The walk: ranks go through their programs on their own and meet only in what they wait for.

Two kinds of things happen, always the earliest next: a rank comes to the end of what it was busy with, or a message
has left. A rank is busy without looking at others while it computes, packs and unpacks; it stops where it must wait,
and whatever comes last of what it waits for sends it on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

from ..core.errors import ProgramError
from ..core.program import Compute, Exchange, Finish, Program, Start
from ..core.timeline import OF_NONE, Event, Timeline
from ..testbed import Testbed
from .flows import Flows, sent
from .prices import Prices


@dataclass(slots=True, eq=False)
class _Side:
    """What one rank sends in an exchange, or receives: how many messages are missing, and when the last was over."""

    rank: int
    missing: int
    end_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Busy:
    """The rank does something by itself."""

    kind: str
    segment: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Let:
    """The rank's messages of an exchange start."""

    exchange: Exchange


@dataclass(frozen=True, slots=True)
class _Wait:
    """The rank waits until nothing is missing on some sides."""

    segment: int
    sides: tuple[_Side, ...]


_Action = _Busy | _Let | _Wait


@dataclass(slots=True)
class _Rank:
    """One rank on its way: its actions, how many of them are done, and until when."""

    actions: Sequence[_Action]
    done: int = 0
    clock_s: float = 0.0
    waits_for: tuple[_Side, ...] = ()
    events: list[Event] = field(default_factory=list)


class Walk:
    """One request of a job.

    Parameters
    ----------
    programs : sequence of Program
        Of all ranks.
    testbed : Testbed
    prices : Prices
    """

    def __init__(self, programs: Sequence[Program], testbed: Testbed, prices: Prices) -> None:
        self._testbed = testbed
        self._prices = prices
        self._flows = Flows(testbed)
        own = [(p.rank, s.exchange) for p in programs for s in p.steps if not isinstance(s, Compute)]
        self._sent = {(rank, part.index): _Side(rank, len(part.sends)) for rank, part in own}
        self._received = {(rank, part.index): _Side(rank, len(part.receives)) for rank, part in own}
        self._under_way: list[tuple[_Side, _Side, float]] = []
        self._ranks = [_Rank(tuple(self._actions(program))) for program in programs]
        self._busy = [(0.0, rank) for rank in range(len(programs))]

    def timeline(self) -> Timeline:
        """What every rank does when, rank by rank.

        Raises ProgramError when some rank waits for what never comes.
        """
        while True:
            now_s = min(self._busy[0][0] if self._busy else inf, self._flows.next_s())
            if now_s == inf:
                break
            for number in self._flows.advance(now_s):
                source, target, latency_s = self._under_way[number]
                self._count(source, now_s)
                self._count(target, now_s + latency_s)
            while self._busy and self._busy[0][0] <= now_s:
                self._go_on(heappop(self._busy)[1])
        self._check()
        return Timeline(tuple(event for rank in self._ranks for event in rank.events))

    def _actions(self, program: Program) -> Iterator[_Action]:
        """A program as the executor carries it out, each step in what it does and what it waits for."""
        prices, rank = self._prices, program.rank
        started: list[Exchange] = []
        if rank in prices.arrival_s:
            yield _Busy("receive", 0, prices.arrival_s[rank])
        for step in program.steps:
            if isinstance(step, Compute):
                yield _Busy("compute", step.segment, prices.compute_s[rank, step.segment])
                continue
            exchange = step.exchange
            if isinstance(step, Start):
                mates = [other for other in started if other.staging_slot == exchange.staging_slot >= 0]
                yield _Wait(exchange.index, self._sides(rank, mates))
                yield _Busy("send", exchange.index, prices.pack_s[rank, exchange.index])
                yield _Let(exchange)
                started.append(exchange)
            elif isinstance(step, Finish):
                yield _Wait(exchange.index, self._awaited(rank, exchange))
                yield _Busy("receive", exchange.index, prices.unpack_s[rank, exchange.index])
        yield _Wait(OF_NONE, self._sides(rank, started))

    def _awaited(self, rank: int, exchange: Exchange) -> tuple[_Side, ...]:
        """What the end of an exchange waits for: what is received; of a collective all, if anything is received."""
        if not exchange.receives:
            return ()
        return self._sides(rank, [exchange]) if exchange.is_collective else (self._received[rank, exchange.index],)

    def _sides(self, rank: int, exchanges: Iterable[Exchange]) -> tuple[_Side, ...]:
        """Everything that must be over before the memory of exchanges is free: of messages, those that are sent."""
        sides: list[_Side] = []
        for exchange in exchanges:
            sides.append(self._sent[rank, exchange.index])
            if exchange.is_collective:
                sides.append(self._received[rank, exchange.index])
        return tuple(sides)

    def _go_on(self, number: int) -> None:
        """Let a rank act until it is busy beyond now, waits, or has done everything."""
        rank = self._ranks[number]
        begin_s = rank.clock_s
        while rank.done < len(rank.actions):
            action = rank.actions[rank.done]
            if isinstance(action, _Wait):
                if any(side.missing for side in action.sides):
                    rank.waits_for = action.sides
                    return
                self._spend(number, "wait", action.segment, max((s.end_s for s in action.sides), default=0.0))
            elif isinstance(action, _Busy):
                self._spend(number, action.kind, action.segment, rank.clock_s + action.seconds)
            elif rank.clock_s > begin_s:
                heappush(self._busy, (rank.clock_s, number))
                return
            else:
                self._let(action.exchange)
            rank.done += 1

    def _spend(self, number: int, kind: str, segment: int, end_s: float) -> None:
        """Note what a rank does until `end_s`, if that is not over yet."""
        rank = self._ranks[number]
        if end_s > rank.clock_s:
            rank.events.append(Event(number, kind, segment, rank.clock_s, end_s))
            rank.clock_s = end_s

    def _let(self, exchange: Exchange) -> None:
        for message in exchange.sends:
            route, nbytes = sent(message, self._testbed)
            ends = self._sent[message.source, exchange.index], self._received[message.target, exchange.index]
            self._flows.start(len(self._under_way), (route, nbytes))
            self._under_way.append((*ends, route.latency_s))

    def _count(self, side: _Side, end_s: float) -> None:
        """One message less is missing on a side; whoever waits for that alone goes on."""
        side.missing -= 1
        side.end_s = max(side.end_s, end_s)
        rank = self._ranks[side.rank]
        if side in rank.waits_for and not any(other.missing for other in rank.waits_for):
            ready_s = max(rank.clock_s, *(other.end_s for other in rank.waits_for))
            rank.waits_for = ()
            heappush(self._busy, (ready_s, side.rank))

    def _check(self) -> None:
        for number, rank in enumerate(self._ranks):
            if rank.done < len(rank.actions):
                action = rank.actions[rank.done]
                raise ProgramError(
                    f"rank {number} would wait for ever at step {rank.done} of the simulation ({action}): "
                    "these programs cannot be run"
                )
