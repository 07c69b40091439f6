"""Profiles: what onnxruntime says its nodes took, run by run.

Writing an event takes longer than many a small node: about half of that time falls into the event, the other half
between it and the next::

    |--node--|str|    |--node--|str|    |--node--|str|
    |---event----|gap |---event----|gap |---event----|
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_SUFFIX = "_kernel_time"
_INSIDE = 0.9
"""What falls into an event as a part of the gap behind it; measured with runs of nodes that do nothing."""

_USUAL_GAP_S = 3e-6


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One node of a session in one run, in seconds since the session began.

    `name` is that of the node after onnxruntime's fusions, `shape` that of its first output, None when not known.
    """

    name: str
    op: str
    shape: tuple[int, ...] | None
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s


Run = tuple[NodeEvent, ...]


def read_runs(path: Path) -> list[Run]:
    """The events of every run of a session, out of the file that its profiler wrote.

    Nodes inside another (the body of a loop) do not count: they are part of it.
    """
    events = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    runs = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event.get("name") == "model_run")
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)]
    found = _outermost(sorted(map(_event, nodes), key=lambda event: (event.begin_s, -event.end_s)))
    return [
        tuple(e for e in found if begin <= e.begin_s * 1e6 + 0.5 and e.end_s * 1e6 - 0.5 <= end) for begin, end in runs
    ]


def _event(record: dict) -> NodeEvent:  # type: ignore[type-arg]
    shapes = record["args"].get("output_type_shape") or [{}]
    extents = next(iter(shapes[0].values()), None)
    begin_s, seconds = record["ts"] * 1e-6, record["dur"] * 1e-6
    shape = None if extents is None else tuple(extents)
    return NodeEvent(record["name"].removesuffix(_SUFFIX), record["args"]["op_name"], shape, begin_s, begin_s + seconds)


def _outermost(events: Iterable[NodeEvent]) -> list[NodeEvent]:
    """Events in order without those that another encloses."""
    found: list[NodeEvent] = []
    for event in events:
        if not found or event.end_s > found[-1].end_s or event.begin_s >= found[-1].end_s:
            found.append(event)
    return found


def gap_s(runs: Iterable[Run]) -> float:
    """Mean seconds between an event and the next, interruptions set aside; a usual value when no run has two."""
    gaps = [after.begin_s - event.end_s for run in runs for event, after in pairwise(run)]
    limit = 2 * statistics.median(gaps) if gaps else 0.0
    return statistics.fmean(gap for gap in gaps if gap <= limit) if gaps else _USUAL_GAP_S


def inside_s(gap: float) -> float:
    """Seconds of an event that writing it took, from the gaps between events."""
    return _INSIDE * gap


def span_s(run: Sequence[NodeEvent]) -> float:
    """Seconds from the first event's begin to the last one's end."""
    return run[-1].end_s - run[0].begin_s if run else 0.0
