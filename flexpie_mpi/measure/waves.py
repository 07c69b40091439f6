"""Waves: how much every step of a job adds to a request, when all ranks are looked at together.

The steps of a job have one order. Step by step, the wave is the time at which the last rank has ended the step or one
before it; what a step costs is by how much it moves the wave. The costs add up to the request's latency, and waiting
for a late rank's compute is no part of an exchange::

    rank 0   |--compute--|......wait......|unpack|
    rank 1   |---------compute---------|--|unpack|
                                       ^ the exchange costs what is behind here
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from ..core.program import Compute, Program, Start
from ..core.timeline import Event, Timeline

Key = tuple[int, int, int]
"""(segment, order there, exchange): the common order of all ranks' steps."""

_FINISH, _COMPUTE, _START = 0, 1, 2
_BEGIN: Key = (-1, 0, -1)


@dataclass(frozen=True, slots=True)
class Trip:
    """One rank's part of one request; `origin_s` is its beginning by the root's clock."""

    rank: int
    origin_s: float
    timeline: Timeline


class Waves:
    """The order of a job's steps.

    Parameters
    ----------
    programs : sequence of Program
        Of all ranks.
    """

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = programs
        self._since = _starts(programs)

    def exchange_costs(self, trips: Iterable[Trip]) -> dict[int, float]:
        """Seconds by which each exchange made one request longer.

        Parameters
        ----------
        trips : iterable of Trip
            Of all ranks, for the same request.
        """
        ends: dict[Key, float] = {}
        for trip in trips:
            for key, event in self._keyed(trip):
                ends[key] = max(ends.get(key, -inf), trip.origin_s + event.end_s)
        costs: dict[int, float] = {}
        wave = ends.pop(_BEGIN)
        for key in sorted(ends):
            if key[1] != _COMPUTE:
                costs[key[2]] = costs.get(key[2], 0.0) + max(0.0, ends[key] - wave)
            wave = max(wave, ends[key])
        return costs

    def _keyed(self, trip: Trip) -> Iterable[tuple[Key, Event]]:
        """Every event of a rank with the key of its step; the first is the beginning, the last belongs to no step."""
        events = trip.timeline.events
        yield _BEGIN, events[0]
        place = 1
        for step in self._programs[trip.rank].steps:
            if isinstance(step, Compute):
                yield (step.segment, _COMPUTE, 0), events[place]
                place += 1
                continue
            index = step.exchange.index
            key = (self._since[index], _START, index) if isinstance(step, Start) else (index, _FINISH, index)
            end = place + 2 if isinstance(step, Start) else len(events) - 1
            while place < end and events[place].segment == index and events[place].kind != "compute":
                yield key, events[place]
                place += 1


def _starts(programs: Sequence[Program]) -> Mapping[int, int]:
    """The segment behind which each exchange begins; -1 for the beginning."""
    since: dict[int, int] = {}
    for program in programs:
        segment = -1
        for step in program.steps:
            if isinstance(step, Compute):
                segment = step.segment
            elif isinstance(step, Start):
                index = step.exchange.index
                since[index] = max(since.get(index, -1), segment)
    return since
