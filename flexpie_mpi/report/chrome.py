"""Timelines in the Trace Event Format, which Perfetto (ui.perfetto.dev) and ``chrome://tracing`` open.

In goes what every rank did when, measured or simulated; out comes one track per rank with a slice for every segment
computed, every send, receive and wait, and an arrow for every message. Slices of one track never overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise
from typing import Any

from ..core.graph import Graph
from ..core.plan import Plan
from ..core.program import Exchange, Finish, Program, Start
from ..core.timeline import OF_NONE, Event, Timeline
from ..lower import digest
from ..lower.shards import blocks_flops
from .units import ranges

_JOB = 1
"""The process that all tracks belong to. Viewers keep the numbers 0 for idle processors: tracks count from 1, too."""

_COLOURS = {
    "compute": "thread_state_running",
    "send": "thread_state_iowait",
    "receive": "thread_state_runnable",
    "wait": "thread_state_sleeping",
}
"""Names that the format reserves; Perfetto goes by the names of slices instead."""

Slice = tuple[Event, str, dict[str, Any]]
"""An event with its name and arguments."""


@dataclass(frozen=True)
class Job:
    """What a timeline is about."""

    plan: Plan
    graph: Graph
    programs: Sequence[Program]  # what the plan was lowered to, by rank
    boards: Sequence[str]  # where each rank runs, in words; empty for a rank of which nothing is known


def chrome_trace(timeline: Timeline, job: Job, about: Mapping[str, Any]) -> dict[str, Any]:
    """The events of all ranks, on one clock, as an object of the Trace Event Format, in microseconds.

    Whatever else there is to say `about` them goes to ``otherData``, with what is known of the job.
    """
    tracks = [_Track(program, timeline, job) for program in job.programs]
    slices = sorted((event for track in tracks for event in track.events()), key=lambda event: event["ts"])
    return {
        "displayTimeUnit": "ms",
        "otherData": {**_provenance(job), "timeline_s": timeline.latency_s, **about},
        "traceEvents": [*_names(job), *slices, *_arrows(tracks)],
    }


def chrome_text(trace: Mapping[str, Any]) -> str:
    """A trace as JSON text, one line per event.

    >>> print(chrome_text({"otherData": {}, "traceEvents": [{"ph": "M"}, {"ph": "X"}]}), end="")
    {"otherData": {},
    "traceEvents": [
    {"ph": "M"},
    {"ph": "X"}
    ]}
    """
    head = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in trace.items() if key != "traceEvents"]
    events = ",\n".join(json.dumps(event, allow_nan=False) for event in trace["traceEvents"])
    return "{" + ",\n".join([*head, f'"traceEvents": [\n{events}\n]']) + "}\n"


def _provenance(job: Job) -> dict[str, Any]:
    boards = {f"rank {program.rank}": board for program, board in zip(job.programs, job.boards, strict=True)}
    digests = {"model_digest": job.graph.digest, "plan_digest": digest(tuple(job.programs))}
    return {"model": job.graph.name, **digests, "ranks": boards}


def _names(job: Job) -> Iterator[dict[str, Any]]:
    """What the viewer calls the job and its tracks."""

    def metadata(kind: str, track: int, **args: Any) -> dict[str, Any]:
        return {"ph": "M", "name": kind, "pid": _JOB, "tid": track, "ts": 0, "args": args}

    yield metadata("process_name", 0, name=f"{job.graph.name} on {len(job.programs)} ranks")
    for program, board in zip(job.programs, job.boards, strict=True):
        yield metadata("thread_name", program.rank + 1, name=f"rank {program.rank}" + (f": {board}" if board else ""))
        yield metadata("thread_sort_index", program.rank + 1, sort_index=program.rank)


@dataclass(frozen=True)
class _Track:
    """One rank's row of slices."""

    program: Program
    timeline: Timeline
    job: Job

    @cached_property
    def spans(self) -> tuple[Event, ...]:
        """The rank's events that last, in order."""
        mine = (e for e in self.timeline.events if e.rank == self.program.rank and e.seconds > 0)
        return tuple(sorted(mine, key=lambda event: event.begin_s))

    @cached_property
    def exchanges(self) -> dict[int, Exchange]:
        """The rank's part of every exchange, by number."""
        steps = (step for step in self.program.steps if isinstance(step, (Start, Finish)))
        return {step.exchange.index: step.exchange for step in steps}

    def events(self) -> Iterator[dict[str, Any]]:
        """One complete event per slice."""
        for event, name, args in self._slices():
            begin, end = _microseconds(event.begin_s), _microseconds(event.end_s)
            what = {"ph": "X", "name": name, "cat": event.kind, "cname": _COLOURS[event.kind]}
            when = {"ts": begin, "dur": round(end - begin, 3)}
            yield {**what, "pid": _JOB, "tid": self.program.rank + 1, **when, "args": args}

    def _slices(self) -> Iterator[Slice]:
        flops = {step.segment: blocks_flops(self.job.graph, step.blocks) for step in self.program.computes}
        for event, after in pairwise([*self.spans, None]):
            if event is None:
                continue
            if event.kind == "compute":
                yield self._compute(event, flops.get(event.segment, 0))
            elif event.segment == OF_NONE:
                yield event, "wait until all has left", {}
            elif event is self.spans[0] and (event.kind, event.segment) == ("receive", 0):
                yield event, "begin", {"what": "inputs are taken over and receives posted"}
            else:
                leads = after is not None and (after.kind, after.segment) == ("send", event.segment)
                yield self._exchange(event, is_before_send=leads)

    def _compute(self, event: Event, flops: int) -> Slice:
        segment = self.job.plan.segments[event.segment]
        first, last = segment.nodes[0], segment.nodes[-1]
        kind = segment.layout.kind + (" in parts" if segment.layout.in_parts else "")
        name = f"{kind} {first}" + (f"..{last}" if last != first else "")
        args = {"segment": event.segment, "layout": str(segment.layout), "nodes": len(segment.nodes), "flops": flops}
        return event, name, args

    def _exchange(self, event: Event, *, is_before_send: bool) -> Slice:
        index = event.segment
        exchange = self.exchanges.get(index)
        if exchange is None:
            return event, f"{event.kind} {index}", {"exchange": index}
        if is_before_send:
            return event, f"wait {exchange.kind} {index}", {"exchange": index, "for": "an earlier message to leave"}
        messages = exchange.sends if event.kind == "send" else exchange.receives
        peers = ranges(sorted(m.target if event.kind == "send" else m.source for m in messages))
        args = {"exchange": index, "kind": exchange.kind, "bytes": sum(m.nbytes for m in messages)}
        args |= {"peers": peers} if peers else {}
        sums = dict.fromkeys(piece.value for m in messages for piece in m.pieces if piece.combine)
        args |= {"puts together": ", ".join(sums)} if sums else {}
        verb = "copy" if event.kind == "receive" and not messages else event.kind
        return event, f"{verb} {exchange.kind} {index}", args

    def last(self, kind: str, index: int) -> Event | None:
        """The last event of a kind in an exchange."""
        events = (event for event in reversed(self.spans) if (event.kind, event.segment) == (kind, index))
        return next(events, None)


def _arrows(tracks: Sequence[_Track]) -> Iterator[dict[str, Any]]:
    """A flow from the slice that sends each message to the one that receives it."""
    messages = ((exchange, m) for track in tracks for exchange in track.exchanges.values() for m in exchange.sends)
    numbers = count(1)
    for exchange, message in messages:
        receiver = tracks[message.target]
        sent = tracks[message.source].last("send", exchange.index)
        taken = receiver.last("receive", exchange.index) or receiver.last("wait", exchange.index)
        if sent is not None and taken is not None:
            # Both ends lie inside their slices, and where clocks allow it the arrow points forward
            arrives_s = (taken.begin_s + taken.end_s) / 2
            leaves_s = max(sent.begin_s, min((sent.begin_s + sent.end_s) / 2, taken.begin_s))
            shared = {"cat": "message", "name": exchange.kind, "id": next(numbers), "pid": _JOB}
            yield {"ph": "s", **shared, "tid": sent.rank + 1, "ts": _microseconds(leaves_s)}
            yield {"ph": "f", "bp": "e", **shared, "tid": taken.rank + 1, "ts": _microseconds(arrives_s)}


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
