"""Profiled runs: a plan run over and over with one request, and the time of everything in it.

Every session is timed twice by the same requests: first while its profiler writes down what each node takes, which
itself takes time, then as it is. All ranks run together. Where they stand for boards, which share no cores as they do
here, their steps are timed in turns (:mod:`.turns`), and requests, paced as on such boards, tell of exchanges alone.

Writing an event takes longer than many a small node: about half of that time falls into the event, the other half
between it and the next::

    |--node--|str|    |--node--|str|    |--node--|str|
    |---event----|gap |---event----|gap |---event----|
"""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from ..core.plan import Plan
from ..core.program import Compute, Program
from ..lower import lower
from ..lower.growth import inputs_of
from ..model import Model
from ..model.shard import WeightFiles
from ..runtime.executor import Executor, allocate, by_index
from ..runtime.kernels import Guard, make_provider, open_segment
from ..runtime.pacing import Pacer, steady_s
from ..runtime.provider import Action, OpenSegment, ProviderOptions
from ..runtime.transport import Transport
from .agreement import UntriedError, clock_offset, repeats_in, settle, together
from .observed import RankRequest, calm_mean
from .turns import COUNTED_RUNS, Steps, in_turns
from .weights import TrialWeights

log = logging.getLogger(__name__)

PROFILED_S, PLAIN_S = 0.15, 0.3
_FEWEST, _MOST = 5, 30
"""How long requests are repeated with the profiler and without, and how often at least and at most."""

_SUFFIX = "_kernel_time"
_INSIDE = 0.9
"""What falls into an event as a part of the gap behind it; measured with runs of nodes that do nothing."""

_USUAL_GAP_S = 3e-6


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One node of a session in one run, in seconds since the session began."""

    name: str  # that of the node after onnxruntime's fusions
    op: str
    shape: tuple[int, ...] | None  # of its first output, where that is known
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s


Run = tuple[NodeEvent, ...]


@dataclass(frozen=True, slots=True)
class SegmentTimes:
    """One segment on this rank, request by request or turn by turn."""

    step: Compute
    runs: list[Run]  # its nodes, with the profiler
    plain_s: list[float]  # its compute step without


@dataclass(frozen=True, slots=True)
class ProfiledRun:
    """What a plan took on this rank."""

    programs: tuple[Program, ...]  # of all ranks
    segments: tuple[SegmentTimes, ...]
    requests: tuple[RankRequest, ...]  # the requests without the profiler
    # Of the same requests, until the slowest rank was done; none where segments were timed in turns
    latencies_s: tuple[float, ...]

    def typical(self, samples: Sequence[float]) -> float:
        """What stands for one number per request, their :func:`.observed.calm_mean`, or per turn, as pacing has it."""
        return calm_mean(samples, self.latencies_s) if self.latencies_s else steady_s(samples)


Sessions = Mapping[int, OpenSegment]
"""A plan's sessions on this rank, by segment."""

Spent = Mapping[int, list[float]]
"""Seconds of a segment's step, request by request or turn by turn."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What this rank's steps took; `latencies_s` as a ProfiledRun has them."""

    profiles: Mapping[int, Path]  # by segment
    kept: slice  # the runs in profiles that count
    plain_s: Spent
    latencies_s: tuple[float, ...]

    def segments(self, program: Program) -> tuple[SegmentTimes, ...]:
        """The same by steps; profiles are read now."""
        numbers = [(step, step.segment) for step in program.computes]
        return tuple(SegmentTimes(step, read_runs(self.profiles[n])[self.kept], self.plain_s[n]) for step, n in numbers)


class PlanProfiler:
    """Runs plans of one model with profilers, one at a time; called by all ranks together.

    One of the ranks has the model's store, and the root the inputs of the request, as the graph wants them. The folder
    is for files of weights and profiles, of which those of weights stay. Boards compute in `blocks` (as of
    :func:`flexpie_mpi.lower.lower`). Where ranks stand for boards, `slowdown` says how much slower this one is.
    """

    def __init__(
        self,
        transport: Transport,
        model: Model,
        inputs: Mapping[str, Any],
        folder: Path,
        threads: int = 1,
        blocks: Sequence[int] = (),
        slowdown: float | None = None,
    ) -> None:
        self._transport = transport
        self._model = model
        self._inputs = {**inputs, **inputs_of(model.graph, 0)}
        self._profiles = folder / "profiles"
        self._weights = TrialWeights(transport, model, folder)
        self._threads = threads
        self._blocks = blocks
        self._slowdown = slowdown
        self._guard = Guard()

    def run(self, plan: Plan) -> ProfiledRun:
        """Run `plan` and time it.

        Raises UntriedError on every rank, when any cannot run it.
        """
        try:
            return self._timed(plan)
        finally:
            shutil.rmtree(self._profiles, ignore_errors=True)

    def _timed(self, plan: Plan) -> ProfiledRun:
        transport = self._transport
        programs = together(transport, partial(lower, plan, self._model.graph, self._blocks), "lowering")
        program = programs[transport.rank]
        sessions = self._sessions(program)
        seen = self._in_turns(programs, sessions) if self._slowdown else None
        executor = self._executor(program, sessions, seen)
        try:
            if seen is None:
                seen, requests = self._in_requests(sessions, executor, plan.root)
            else:
                requests = self._plain(executor, self._warmed(executor), plan.root)
        except UntriedError:
            executor.close()
            raise
        executor.close()
        segments = together(transport, partial(seen.segments, program), "reading profiles")
        return ProfiledRun(programs, segments, tuple(requests), seen.latencies_s)

    def _in_requests(self, sessions: Sessions, executor: Executor, root: int) -> tuple[_Seen, list[RankRequest]]:
        """What requests say, and those of them without the profiler."""
        seconds = self._warmed(executor)
        profiled = self._requests(executor, repeats_in(PROFILED_S, seconds, _FEWEST, _MOST))
        profiles = self._end_profiles(sessions)
        plain = self._plain(executor, seconds, root)
        everyone = self._transport.all_gather([request.seconds for request in plain])
        latencies_s = tuple(map(max, zip(*everyone, strict=True)))
        return _Seen(profiles, slice(-len(profiled), None), _compute_s(plain), latencies_s), plain

    def _in_turns(self, programs: Sequence[Program], sessions: Sessions) -> _Seen | None:
        """What turns say; None where steps cannot be run by themselves."""
        program = programs[self._transport.rank]
        if any(buffer.region is None for each in programs for buffer in each.buffers):
            return None

        def steps() -> Steps:
            return Steps.of(program, sessions, values)

        try:
            values = together(self._transport, partial(allocate, program), "for buffers")
            profiled, plain = (together(self._transport, steps, "binding") for _ in range(2))
            in_turns(self._transport, [profiled], PROFILED_S, _FEWEST, _MOST)
            profiles = self._end_profiles(sessions)
            in_turns(self._transport, [plain], PLAIN_S, _FEWEST, _MOST)
        except UntriedError as error:
            log.info("steps are timed in requests: %s", error)
            return None
        return _Seen(profiles, COUNTED_RUNS, plain.seconds(), ())

    def _end_profiles(self, sessions: Sessions) -> dict[int, Path]:
        def end() -> dict[int, Path]:
            return {segment: session.end_profiling() for segment, session in sessions.items()}

        return together(self._transport, end, "for profiles")

    def _sessions(self, program: Program) -> Sessions:
        weights = self._weights.files(program)

        def open_all() -> Sessions:
            return open_profiled(self._model, program, weights, self._profiles, self._threads)

        return together(self._transport, open_all, "for sessions")

    def _executor(self, program: Program, sessions: Sessions, seen: _Seen | None) -> Executor:
        """What runs this rank's program, paced by what its steps were seen to take in turns."""

        def bound(step: Compute, values: Any) -> Action:
            return sessions[step.segment].bind(dict(step.inputs), dict(step.outputs), values)

        pacer = Pacer(self._guard.around(bound), self._slowdown if seen and self._slowdown else 1.0)
        channels = self._transport.open(by_index(program))
        make = partial(Executor, program, self._transport, pacer, channels)
        try:
            executor = together(self._transport, make, "for buffers")
        except UntriedError:
            self._transport.release(channels)
            raise
        if seen is not None:
            for step, paced in zip(program.computes, pacer.steps, strict=False):  # none where nothing need be slower
                paced.seconds = steady_s(seen.plain_s[step.segment])
        return executor

    def _warmed(self, executor: Executor) -> float:
        """Seconds of a request on the slowest rank, after some."""
        self._requests(executor, 1)
        warm = max(request.seconds for request in self._requests(executor, 2))
        return float(max(self._transport.all_gather(warm)))

    def _plain(self, executor: Executor, seconds: float, root: int) -> list[RankRequest]:
        """Requests without the profiler, whose beginnings are by the root's clock; one takes so many seconds."""
        offset_s = clock_offset(self._transport, root)
        self._requests(executor, 1)
        return self._requests(executor, repeats_in(PLAIN_S, seconds, _FEWEST, _MOST), offset_s)

    def _requests(self, executor: Executor, count: int, offset_s: float = 0.0) -> list[RankRequest]:
        requests = []
        with self._guard.on():
            for _ in range(count):
                self._transport.barrier()
                begin_s = perf_counter()
                executor.run(self._inputs)
                seconds = perf_counter() - begin_s
                began_s, timeline = executor.began_s + offset_s, executor.timeline()
                requests.append(RankRequest(self._transport.rank, began_s, timeline, seconds))
        settle(self._transport, self._guard.take(), "running")
        return requests


def _compute_s(requests: Sequence[RankRequest]) -> Spent:
    spent = [request.compute_s() for request in requests]
    return {segment: [each[segment] for each in spent] for segment in spent[0]}


def open_profiled(model: Model, program: Program, weights: WeightFiles, folder: Path, threads: int) -> Sessions:
    """The sessions of a rank's program, each with a profiler that writes into `folder`, which is made."""
    folder.mkdir()
    provider = make_provider("cpu", ProviderOptions(threads, profiles=folder))
    return {step.segment: open_segment(model, program, weights, provider, step) for step in program.computes}


STEPS_S = 1.0
_LEAST_TURNS, _MOST_TURNS = 5, 20
"""How long the turns of all ranks are repeated, and how often at least and at most."""


def profiled_steps(
    transport: Transport, model: Model, programs: Sequence[Program], threads: int = 1
) -> tuple[tuple[SegmentTimes, ...], ...]:
    """What the steps of each of this rank's `programs` take by themselves; called by all ranks together.

    Inputs and weights are made up, as far as they steer nothing. Raises UntriedError on every rank, when a step cannot
    be run so on any.
    """
    with scratch(transport) as folder:
        weights = TrialWeights(transport, model, folder)
        pairs = [(program, weights.files(program)) for program in programs]

        def opened() -> list[Sessions]:
            jobs = enumerate(pairs)
            return [open_profiled(model, job, files, folder / f"{n}", threads) for n, (job, files) in jobs]

        def bound() -> list[Steps]:
            return [Steps.of(job, found, allocate(job)) for job, found in zip(programs, sessions, strict=True)]

        def times(found: Sessions, job: Program) -> tuple[SegmentTimes, ...]:
            runs = ((step, read_runs(found[step.segment].end_profiling())) for step in job.computes)
            return tuple(SegmentTimes(step, each[COUNTED_RUNS], []) for step, each in runs)

        sessions = together(transport, opened, "for sessions")
        in_turns(transport, together(transport, bound, "for buffers"), STEPS_S, _LEAST_TURNS, _MOST_TURNS)
        return together(transport, lambda: tuple(map(times, sessions, programs)), "reading profiles")


@contextmanager
def scratch(transport: Transport) -> Iterator[Path]:
    """A temporary folder of this rank's own, removed at the end and after errors; entered by all ranks together.

    Raises UntriedError on every rank, when any has no place for one.
    """
    folder = together(transport, partial(tempfile.mkdtemp, prefix="flexpie-mpi-"), "for temporary files")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_runs(path: Path) -> list[Run]:
    """The events of every run of a session, out of the file that its profiler wrote.

    Nodes inside another (the body of a loop) do not count: they are part of it.
    """
    events = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    runs = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event.get("name") == "model_run")
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)]
    outermost = _outermost(sorted(map(_event, nodes), key=lambda event: (event.begin_s, -event.end_s)))
    return [
        tuple(e for e in outermost if begin <= e.begin_s * 1e6 + 0.5 and e.end_s * 1e6 - 0.5 <= end)
        for begin, end in runs
    ]


def _event(record: dict) -> NodeEvent:  # type: ignore[type-arg]
    shapes = record["args"].get("output_type_shape") or [{}]
    extents = next(iter(shapes[0].values()), None)
    begin_s, seconds = record["ts"] * 1e-6, record["dur"] * 1e-6
    shape = None if extents is None else tuple(extents)
    return NodeEvent(record["name"].removesuffix(_SUFFIX), record["args"]["op_name"], shape, begin_s, begin_s + seconds)


def _outermost(events: Iterable[NodeEvent]) -> list[NodeEvent]:
    """Events in order without those that another encloses."""
    outermost: list[NodeEvent] = []
    for event in events:
        if not outermost or event.end_s > outermost[-1].end_s or event.begin_s >= outermost[-1].end_s:
            outermost.append(event)
    return outermost


def gap_s(runs: Iterable[Run]) -> float:
    """Mean seconds between an event and the next, interruptions set aside; a usual value when no run has two."""
    gaps = [after.begin_s - event.end_s for run in runs for event, after in pairwise(run)]
    limit = 2 * statistics.median(gaps) if gaps else 0.0
    return statistics.fmean(gap for gap in gaps if gap <= limit) if gaps else _USUAL_GAP_S


def inside_s(gap: float) -> float:
    """Seconds of an event that writing it took, from the gaps between events."""
    return _INSIDE * gap
