"""Requests as all ranks lived through them: where every rank's time went, on one clock."""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

from ..core.timeline import Timeline, merge
from ..runtime.transport import Transport
from .agreement import Clock, clock_offset


class _Reading(NamedTuple):
    """What is to be added to this rank's clock at a time of it."""

    time_s: float
    offset_s: float


class Recorder:
    """Keeps the timeline of every request on this rank; made, and asked, by all ranks together.

    Clocks of two hosts run apart by some microseconds in every second, so they are compared twice: before the first
    request and behind the last, and every request gets the share of the drift that its time asks for.

    Parameters
    ----------
    transport : Transport
    root : int
        The rank whose clock counts.
    clock : callable
        Of this rank's machine; the one that executors look at.
    """

    def __init__(self, transport: Transport, root: int = 0, clock: Clock = perf_counter) -> None:
        self._transport, self._root, self._clock = transport, root, clock
        self._kept: list[tuple[float, Timeline]] = []
        self._first = self._reading()

    def keep(self, began_s: float, timeline: Timeline) -> None:
        """Remember a request that began at `began_s` by the rank's clock."""
        self._kept.append((began_s, timeline))

    def merged(self, request: int) -> Timeline | None:
        """One timeline of all ranks, on the root; None elsewhere. It is 0 where the first of them began.

        Parameters
        ----------
        request : int
            Place among the requests that were kept, the same on all ranks.
        """
        last = self._reading()
        began_s, timeline = self._kept[request]
        began_s += _between(self._first, last, began_s)
        everyone = self._transport.gather((began_s, timeline), self._root)
        if everyone is None:
            return None
        origin_s = min(began_s for began_s, _ in everyone)
        return merge([timeline.shifted(began_s - origin_s) for began_s, timeline in everyone])

    def _reading(self) -> _Reading:
        offset_s = clock_offset(self._transport, self._root, self._clock)
        return _Reading(self._clock(), offset_s)


def _between(first: _Reading, last: _Reading, time_s: float) -> float:
    """The offset at a time between two readings.

    >>> _between(_Reading(10.0, 0.5), _Reading(20.0, 0.7), 15.0)
    0.6
    """
    passed = (time_s - first.time_s) / (last.time_s - first.time_s)
    return round(first.offset_s + passed * (last.offset_s - first.offset_s), 9)
