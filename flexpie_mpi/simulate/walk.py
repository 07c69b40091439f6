"""The walk: each rank goes through its program on its own clock, and ranks meet only where one waits for another.

The walk goes from one event to the next, the earliest first. An event is that a message has left, or that the clock of
a rank has been reached. A rank looks at nobody while it computes, packs and unpacks. It stops in two cases: where it
must wait for messages, and before it sends some, so that messages of all ranks start in the order of time. The last of
the messages that a rank waits for sends it on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

from ..core.errors import ProgramError
from ..core.program import Compute, Exchange, Program, Start
from ..core.timeline import OF_NONE, Event, Timeline
from ..testbed import Testbed
from .flows import Flows, sent
from .prices import Prices


@dataclass(slots=True, eq=False)
class _Side:
    """The messages of one exchange that a rank sends, or those that it receives."""

    rank: int
    missing: int  # messages that are still on their way
    end_s: float = 0.0  # when the last of the others left, or came


_Awaited = tuple[_Side, ...]
"""What a rank stops for: until nothing is missing on these sides; without any, until its clock has been reached."""


@dataclass(slots=True)
class _Rank:
    """One rank on its way: its clock, what it waits for, and what it did until now."""

    number: int
    clock_s: float = 0.0
    waits_for: _Awaited = ()
    exchange: int = OF_NONE  # the one that it waits in, or waited in last
    events: list[Event] = field(default_factory=list)

    def spend(self, kind: str, segment: int, end_s: float) -> None:
        """Note what the rank does until `end_s`, if that is not over yet."""
        if end_s > self.clock_s:
            self.events.append(Event(self.number, kind, segment, self.clock_s, end_s))
            self.clock_s = end_s

    def wait(self, exchange: int, sides: _Awaited) -> Iterator[_Awaited]:
        """Stop until nothing is missing on some sides."""
        self.exchange = exchange
        if any(side.missing for side in sides):
            yield sides
        self.spend("wait", exchange, max((side.end_s for side in sides), default=0.0))


class Walk:
    """One request of a job, given the programs of all its ranks."""

    def __init__(self, programs: Sequence[Program], testbed: Testbed, prices: Prices) -> None:
        self._testbed = testbed
        self._prices = prices
        self._flows = Flows(testbed)
        own = [(p.rank, s.exchange) for p in programs for s in p.steps if not isinstance(s, Compute)]
        self._sent = {(rank, part.index): _Side(rank, len(part.sends)) for rank, part in own}
        self._received = {(rank, part.index): _Side(rank, len(part.receives)) for rank, part in own}
        self._under_way: list[tuple[_Side, _Side, float]] = []
        self._ranks = [_Rank(number) for number in range(len(programs))]
        self._going = [self._run(program, rank) for program, rank in zip(programs, self._ranks, strict=True)]
        self._clocks = [(0.0, number) for number in range(len(programs))]
        self._now_s = 0.0

    def timeline(self) -> Timeline:
        """What every rank does when, rank by rank.

        Raises ProgramError when some rank waits for what never comes.
        """
        while (now_s := min(self._clocks[0][0] if self._clocks else inf, self._flows.next_s())) < inf:
            self._now_s = now_s
            for number in self._flows.advance(now_s):
                source, target, latency_s = self._under_way[number]
                self._count(source, now_s)
                self._count(target, now_s + latency_s)
            while self._clocks and self._clocks[0][0] <= now_s:
                self._go_on(heappop(self._clocks)[1])
        for rank in self._ranks:
            if rank.waits_for:
                raise ProgramError(
                    f"rank {rank.number} would wait for ever in exchange {rank.exchange} of the simulation: "
                    "these programs cannot be run"
                )
        return Timeline(tuple(event for rank in self._ranks for event in rank.events))

    def _go_on(self, number: int) -> None:
        """Let a rank act until it stops, or has done everything."""
        rank = self._ranks[number]
        stop = next(self._going[number], None)
        if stop:
            rank.waits_for = stop
        elif stop is not None:
            heappush(self._clocks, (rank.clock_s, number))

    def _run(self, program: Program, rank: _Rank) -> Iterator[_Awaited]:
        """Carry a program out as the executor does, and tell what the rank stops for."""
        prices, number = self._prices, program.rank
        started: list[Exchange] = []
        rank.spend("receive", 0, prices.arrival_s.get(number, 0.0))
        for step in program.steps:
            if isinstance(step, Compute):
                rank.spend("compute", step.segment, rank.clock_s + prices.compute_s[number, step.segment])
                continue
            exchange, index = step.exchange, step.exchange.index
            if isinstance(step, Start):
                mates = [other for other in started if other.staging_slot == exchange.staging_slot >= 0]
                yield from rank.wait(index, self._sides(number, mates))
                rank.spend("send", index, rank.clock_s + prices.pack_s[number, index])
                if rank.clock_s > self._now_s:
                    yield ()
                self._send(exchange)
                started.append(exchange)
            else:
                yield from rank.wait(index, self._awaited(number, exchange))
                rank.spend("receive", index, rank.clock_s + prices.unpack_s[number, index])
        yield from rank.wait(OF_NONE, self._sides(number, started))

    def _awaited(self, rank: int, exchange: Exchange) -> _Awaited:
        """What the end of an exchange waits for: what is received; of a collective all, if anything is received."""
        if not exchange.receives:
            return ()
        return self._sides(rank, [exchange]) if exchange.is_collective else (self._received[rank, exchange.index],)

    def _sides(self, rank: int, exchanges: Iterable[Exchange]) -> _Awaited:
        """Everything that must be over before the memory of exchanges is free: of messages, those that are sent."""
        sides: list[_Side] = []
        for exchange in exchanges:
            sides.append(self._sent[rank, exchange.index])
            if exchange.is_collective:
                sides.append(self._received[rank, exchange.index])
        return tuple(sides)

    def _send(self, exchange: Exchange) -> None:
        """Start the messages of a rank's part of an exchange."""
        for message in exchange.sends:
            route, nbytes = sent(message, self._testbed)
            ends = self._sent[message.source, exchange.index], self._received[message.target, exchange.index]
            self._flows.start(len(self._under_way), (route, nbytes))
            self._under_way.append((*ends, route.latency_s))

    def _count(self, side: _Side, end_s: float) -> None:
        """One message less is missing on a side; a rank that waited for that alone goes on."""
        side.missing -= 1
        side.end_s = max(side.end_s, end_s)
        rank = self._ranks[side.rank]
        if side in rank.waits_for and not any(other.missing for other in rank.waits_for):
            ready_s = max(rank.clock_s, *(other.end_s for other in rank.waits_for))
            rank.waits_for = ()
            heappush(self._clocks, (ready_s, side.rank))
