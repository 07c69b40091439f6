"""Measures: what a rehearsal on one rank says of its kernels and calls, as rows of traces.

For one segment, with e the seconds of a kernel's events and o what writing them took,

    call    = call with profiler - first event's begin to last event's end - writing of the run + re-layouts
    kernels = (call without profiler - call) shared in proportion to e - o

so that a call and its kernels add up to what the session takes by itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..cost.rows import CALL_TRACE, COMPUTE_TRACE
from .attribution import CALL as OF_CALL
from .attribution import Work, attribute
from .profile import Run, gap_s, inside_s, span_s
from .rehearsal import SegmentTimes

FLOOR_S = 0.2e-6
"""No kernel and no call is recorded as shorter."""
_RUN_GAPS = 1.4
"""What writing the events of a run as a whole takes, in gaps between events."""

_MOST_CALL = 0.95
"""The largest part of a segment's time that a call can be, where a kernel was seen."""


@dataclass(frozen=True, slots=True)
class Label:
    """What every row of a segment says of where it comes from; `active` as in :data:`flexpie_mpi.cost.rows.TIMING`."""

    active: float
    origin: int
    model: str


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
    """A segment's time without the profiler, `total`, by kernels, and what is left for the call."""
    tables = [_by_kernel(run, work, inside_s(gap)) for run in times.runs]
    calls = [
        max(FLOOR_S, seconds - span_s(run) - _RUN_GAPS * gap + table.get(OF_CALL, 0.0))
        for seconds, run, table in zip(times.profiled_s, times.runs, tables, strict=True)
    ]
    raw = {number: [table[number] for table in tables] for number in tables[0] if number != OF_CALL}
    sums = sum(map(statistics.median, raw.values()))
    call = min(statistics.median(calls), _MOST_CALL * total) if raw else total
    scale = (total - call) / sums if sums else 1.0
    kernels = {number: (max(FLOOR_S, statistics.median(s) * scale), spread(s) * scale) for number, s in raw.items()}
    return Split(call, spread(calls), kernels)


def _by_kernel(run: Run, work: Work, inside: float) -> dict[int, float]:
    """Seconds of every kernel that has events, and of `OF_CALL`, in one run."""
    found: dict[int, float] = {}
    for event, number in zip(run, attribute(run, work), strict=True):
        found[number] = found.get(number, 0.0) + max(FLOOR_S, event.seconds - inside)
    return found


def spread(samples: Sequence[float]) -> float:
    """Distance of the quartiles."""
    lower, upper = np.percentile(samples, (25, 75))
    return float(upper - lower)


def compute_rows(work: Work, found: Split, label: Label, repeats: int) -> np.ndarray:
    """A row of COMPUTE_TRACE for each kernel that was seen at work."""
    rows = np.zeros(len(found.kernels), COMPUTE_TRACE)
    for place, (number, (seconds, spread_s)) in enumerate(found.kernels.items()):
        _fill(rows[place : place + 1], work.group_row(number), label)
        rows[place]["seconds"], rows[place]["spread_s"], rows[place]["repeats"] = seconds, spread_s, repeats
    return rows


def call_row(work: Work, found: Split, label: Label, repeats: int) -> np.ndarray:
    """The row of CALL_TRACE of a segment."""
    traced = np.zeros(1, CALL_TRACE)
    _fill(traced, work.call_row(), label)
    traced["seconds"], traced["spread_s"], traced["repeats"] = found.call_s, found.call_spread_s, repeats
    return traced


def _fill(traced: np.ndarray, row: np.ndarray, label: Label) -> None:
    for name in row.dtype.names or ():
        traced[name] = row[name]
    traced["active"], traced["origin"], traced["model"] = label.active, label.origin, label.model.encode()[:32]
