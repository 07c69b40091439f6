"""Attribution: what a profiled run on one rank says of its kernels and calls, as rows of traces.

onnxruntime names a fused node after the last it was made of, or gives it a name of its own; it runs nodes in another
order than the graph's, and adds some of ours (crops) and some of its own (re-layouts, views). For one segment, with e
the seconds of a kernel's events and o what writing them took,

    kernel = e - o
    call   = the segment without profiler - its kernels

so that a call and its kernels add up to what the session takes by itself; re-layouts at its borders are in the call.
Where kernels took longer than all of it, with the profiler, each gets its share.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..cost.groups import StepWork
from ..cost.rows import CALL_TRACE, COMPUTE_TRACE, WORK
from .observed import spread, trace_rows
from .profiled_run import NodeEvent, Run, SegmentTimes, gap_s, inside_s

CALL = -1
"""In place of a kernel's number: a part of the session's call."""

_SUFFIX = re.compile(r"(_nchwc|_token_\d+|/\w+/?|::\d+)$")
_BLOCKED = "_nchwc"
"""Behind this kind of name stands a value, behind all others a node."""
_PREFIX = "fused "
_RELAYOUT = ("ReorderInput", "ReorderOutput")
_VIEWS = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast")
"""What onnxruntime adds around nodes that it rewrites."""

FLOOR_S = 0.2e-6
"""No kernel and no call is recorded as shorter."""


@dataclass(frozen=True)
class Work(StepWork):
    """What one rank runs in one segment, as profiles name it."""

    @cached_property
    def names(self) -> dict[str, int]:
        """Kernel of nodes, and of crops, which belong to who reads them first."""
        names: dict[str, int] = {}
        for node, block in self.blocks.items():
            names[block.node] = self.owner[node]
            for value, region in zip(self.graph.bound[node].inputs, block.inputs, strict=True):
                if value is not None and region is not None and not value.is_constant:
                    names.setdefault(f"{value.name}{region}", self.owner[node])
        return names

    @cached_property
    def makers(self) -> dict[str, int]:
        """Kernel that makes each value."""
        return {name: n for node, n in self.owner.items() for name in self.graph.nodes[node].writes}

    @cached_property
    def borders(self) -> frozenset[tuple[int, ...]]:
        """Shapes of what enters and leaves."""
        buffers = (self.program.buffers[index] for _, index in (*self.step.inputs, *self.step.outputs))
        return frozenset(buffer.region.shape for buffer in buffers if buffer.region is not None)

    def made_here(self, number: int) -> tuple[int, ...] | None:
        """Shape of what a kernel's last node makes here."""
        nodes = [node for node, owner in self.owner.items() if owner == number]
        regions = [region for region in self.blocks[max(nodes)].outputs if region is not None]
        return regions[0].shape if regions else None

    def operators(self, number: int) -> Iterator[str]:
        group = self.groups[number]
        return (node.op for node in self.graph.nodes[group.first : group.end])


def attribute(run: Sequence[NodeEvent], work: Work) -> list[int]:
    """The kernel in `work` that each event of a run counts for; `CALL` for re-layouts at the segment's borders.

    Events under a strange name go to a kernel that has none and makes what they make, else to that of the event before.
    A re-layout inside belongs to the neighbour whose data is not in blocks. Nothing is left over.
    """
    known = {name: _known(name, work) for name in {event.name for event in run}}
    numbers: list[int | None] = [
        CALL if event.op in _RELAYOUT and event.shape in work.borders else known[event.name] for event in run
    ]
    idle = [number for number in work.numbers if number not in numbers]
    before = next((number for number in numbers if number is not None and number != CALL), CALL)
    result: list[int] = []
    for index, event in enumerate(run):
        number = numbers[index]
        if number is None and event.op == "ReorderOutput":
            number = next((n for n in numbers[index + 1 :] if n is not None and n != CALL), before)
        elif number is None and event.op not in _RELAYOUT:
            number = _adopt(event, idle, before, work)
        number = before if number is None else number
        before = before if number == CALL else number
        result.append(number)
    return [work.payer.get(number, number) for number in result]


def _known(name: str, work: Work) -> int | None:
    """The kernel that a name stands for, whatever fusions have appended to it."""
    if name.endswith(_BLOCKED) and (maker := work.makers.get(name.removesuffix(_BLOCKED))) is not None:
        return maker
    name = name.removeprefix(_PREFIX)
    while name not in work.names:
        shorter = _SUFFIX.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return work.names[name]


def _adopt(event: NodeEvent, idle: list[int], before: int, work: Work) -> int | None:
    """The idle kernel that an event under a strange name stands for, which then is idle no more."""

    def is_strange(number: int) -> bool:
        return not any(op in event.op for op in work.operators(number))

    alike = [number for number in idle if work.made_here(number) == event.shape and event.op not in _VIEWS]
    ranked = sorted(alike, key=lambda number: (is_strange(number), number < before, number))
    if not ranked:
        return None
    idle.remove(ranked[0])
    return ranked[0]


@dataclass(frozen=True, slots=True)
class Split:
    """A segment's seconds, each with the distance of its quartiles."""

    call_s: float
    call_spread_s: float
    kernels: dict[int, tuple[float, float]]


def pooled_gap_s(segments: Iterable[SegmentTimes]) -> float:
    """The gap between events on this rank, from all of a plan's segments."""
    return gap_s(run for times in segments for run in times.runs)


def split(times: SegmentTimes, work: Work, gap: float, total: float) -> Split:
    """A segment's time, divided among its kernels and the call.

    `gap` are the mean seconds between two events of the profile, `total` those of the segment without the profiler.
    """
    tables = [_by_kernel(run, work, inside_s(gap)) for run in times.runs]
    raw = {number: [table[number] for table in tables] for number in tables[0] if number != CALL}
    sums = sum(map(statistics.median, raw.values()))
    scale = min(1.0, max(0.0, total - FLOOR_S) / sums) if sums else 1.0
    call = max(FLOOR_S, total - scale * sums)
    call_spread = spread([sum(table.values()) for table in tables]) * scale
    kernels = {number: (max(FLOOR_S, statistics.median(s) * scale), spread(s) * scale) for number, s in raw.items()}
    return Split(call, call_spread, kernels)


def _by_kernel(run: Run, work: Work, inside: float) -> dict[int, float]:
    """Seconds in one run of every kernel that has events, and of `CALL`."""
    seconds: dict[int, float] = {}
    for event, number in zip(run, attribute(run, work), strict=True):
        seconds[number] = seconds.get(number, 0.0) + max(FLOOR_S, event.seconds - inside)
    return seconds


def compute_rows(work: Work, shares: Split) -> np.ndarray:
    """A row of COMPUTE_TRACE for each kernel that was seen at work, without where it comes from."""
    facts = [np.zeros(0, WORK), *map(work.group_row, shares.kernels)]
    rows = trace_rows(COMPUTE_TRACE, np.concatenate(facts))
    for row, (seconds, spread_s) in zip(rows, shares.kernels.values(), strict=True):
        row["seconds"], row["spread_s"] = seconds, spread_s
    return rows


def call_row(work: Work, shares: Split) -> np.ndarray:
    """The row of CALL_TRACE of a segment, without where it comes from."""
    rows = trace_rows(CALL_TRACE, work.call_row())
    rows["seconds"], rows["spread_s"] = shares.call_s, shares.call_spread_s
    return rows
