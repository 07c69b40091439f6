"""Timelines: what every rank did when; made by the executor and the simulator, read by reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

KINDS = ("compute", "send", "receive", "wait")

OF_NONE = -1
"""Stands for the segment of an event that belongs to none: the wait, at the end, until all that was sent has left."""


@dataclass(frozen=True, slots=True)
class Event:
    """A span of one rank's time, in seconds since the request began.

    `kind` is ``compute`` (onnxruntime), ``send`` (packing, and the calls that start messages), ``receive`` (unpacking,
    and copies of what the rank has itself) or ``wait`` (for other ranks). `segment` is the segment computed or entered,
    their number for the exchange that brings the outputs to the root, or `OF_NONE`.
    """

    rank: int
    kind: str
    segment: int
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events of one request on any number of ranks."""

    events: tuple[Event, ...]

    @property
    def latency_s(self) -> float:
        """Time from the beginning of the request to the end of the last event: the slowest rank counts."""
        return max((event.end_s for event in self.events), default=0.0)

    def total(self, kind: str, rank: int) -> float:
        """Seconds one rank spent on one kind of event."""
        return sum(event.seconds for event in self.events if event.kind == kind and event.rank == rank)

    def shifted(self, seconds: float) -> Timeline:
        """The same events, all later by `seconds`."""
        moved = (replace(e, begin_s=e.begin_s + seconds, end_s=e.end_s + seconds) for e in self.events)
        return Timeline(tuple(moved))


def merge(timelines: Sequence[Timeline]) -> Timeline:
    """One timeline of all ranks from one per rank."""
    return Timeline(tuple(event for timeline in timelines for event in timeline.events))
