"""Rehearsals: a plan run over and over with one request, and the time of everything in it.

Every session is timed twice by the same requests: first while its profiler writes down what each node takes, which
itself takes time, then as it is. All ranks rehearse together.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..core.plan import Plan
from ..core.program import Compute, Program
from ..core.timeline import Timeline
from ..lower import lower
from ..model import Model
from ..runtime.executor import Executor, by_index
from ..runtime.guard import Guard
from ..runtime.kernels import make_provider, open_segment
from ..runtime.provider import OpenSegment, ProviderOptions
from ..runtime.transport import Transport
from .clocks import clock_offset
from .profile import Run, read_runs
from .together import UntriedError, settle, together
from .waves import Trip
from .weights import TrialWeights

PROFILED_S, PLAIN_S = 0.15, 0.3
"""How long requests are repeated with the profiler and without, within the bounds of `repeats_in`."""
_FEWEST, _MOST = 5, 30


@dataclass(frozen=True, slots=True)
class SegmentTimes:
    """One segment on this rank, request by request.

    Attributes
    ----------
    step : Compute
    runs : list of Run
        Its nodes, in profiled requests.
    profiled_s, plain_s : list of float
        Its compute step in the same requests, and in those without the profiler.
    """

    step: Compute
    runs: list[Run]
    profiled_s: list[float]
    plain_s: list[float]


@dataclass(frozen=True, slots=True)
class Request:
    """One request on this rank: when it began by the rank's clock, and where its time went."""

    begin_s: float
    seconds: float
    timeline: Timeline

    def compute_s(self, segment: int) -> float:
        """Seconds of a segment."""
        events = (event for event in self.timeline.events if event.kind == "compute")
        return next(event.seconds for event in events if event.segment == segment)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a plan took on this rank.

    Attributes
    ----------
    programs : tuple of Program
        Of all ranks.
    segments : tuple of SegmentTimes
    trips : tuple of Trip
        The requests without the profiler.
    latencies_s : tuple of float
        Of the same requests, until the slowest rank was done.
    """

    programs: tuple[Program, ...]
    segments: tuple[SegmentTimes, ...]
    trips: tuple[Trip, ...]
    latencies_s: tuple[float, ...]

    def typical(self, samples: Sequence[float]) -> float:
        """Mean of one number per request over the faster half of all requests.

        Of parts of a request it is better than a median: what it says of all parts adds up to what a request takes, and
        a request that something else on the machine has disturbed does not count.
        """
        order = sorted(range(len(samples)), key=self.latencies_s.__getitem__)
        return statistics.fmean(samples[place] for place in order[: (len(order) + 1) // 2])


@dataclass(slots=True)
class _Stage:
    """A plan's sessions on this rank, by segment, under one guard, and the files of their profiles."""

    sessions: dict[int, OpenSegment]
    guard: Guard = field(default_factory=Guard)
    profiles: dict[int, Path] = field(default_factory=dict)

    def make(self, step: Compute, values: Any) -> Callable[[], None]:
        """The action of a step."""
        return self.sessions[step.segment].bind(dict(step.inputs), dict(step.outputs), values)

    def end_profiles(self) -> None:
        """Complete the file of every session's profile."""
        self.profiles = {segment: session.end_profiling() for segment, session in self.sessions.items()}


class Rehearser:
    """Rehearses plans of one model, one at a time; called by all ranks together.

    Parameters
    ----------
    transport : Transport
    model : Model
        With its store on one rank.
    inputs : mapping of str to array
        The request, as the graph wants it, on the root; ignored elsewhere.
    folder : Path
        For files of weights and profiles, of which those of weights stay.
    threads : int
        onnxruntime threads of this rank.
    """

    def __init__(
        self, transport: Transport, model: Model, inputs: Mapping[str, Any], folder: Path, threads: int = 1
    ) -> None:
        self._transport = transport
        self._model = model
        self._inputs = inputs
        self._profiles = folder / "profiles"
        self._weights = TrialWeights(transport, model, folder)
        self._threads = threads

    def rehearse(self, plan: Plan) -> Rehearsal:
        """Run `plan` and time it.

        Raises
        ------
        UntriedError
            On every rank, when any cannot run it.
        """
        try:
            return self._rehearsed(plan)
        finally:
            shutil.rmtree(self._profiles, ignore_errors=True)

    def _rehearsed(self, plan: Plan) -> Rehearsal:
        transport = self._transport
        programs = together(transport, partial(lower, plan, self._model.graph), "lowering")
        program = programs[transport.rank]
        stage = self._set(program)
        executor = self._ready(stage, program)
        try:
            profiled, offset, plain = self._run(stage, executor, plan.root)
        except UntriedError:
            executor.close()
            raise
        executor.close()
        read = partial(_segments, stage, program, profiled, plain)
        segments = together(transport, read, "reading profiles")
        trips = tuple(Trip(transport.rank, request.begin_s + offset, request.timeline) for request in plain)
        everyone = transport.all_gather([request.seconds for request in plain])
        return Rehearsal(programs, segments, trips, tuple(map(max, zip(*everyone, strict=True))))

    def _run(self, stage: _Stage, executor: Executor, root: int) -> tuple[list[Request], float, list[Request]]:
        """Requests with the profiler, how far this rank's clock is off, and requests without."""
        self._requests(stage, executor, 1)
        warm = max(request.seconds for request in self._requests(stage, executor, 2))
        seconds = max(self._transport.all_gather(warm))
        profiled = self._requests(stage, executor, repeats_in(PROFILED_S, seconds))
        together(self._transport, stage.end_profiles, "for profiles")
        offset = clock_offset(self._transport, root)
        self._requests(stage, executor, 1)
        return profiled, offset, self._requests(stage, executor, repeats_in(PLAIN_S, seconds))

    def _set(self, program: Program) -> _Stage:
        """This rank's sessions."""
        weights = self._weights.files(program)

        def set_up() -> _Stage:
            self._profiles.mkdir()
            provider = make_provider("cpu", ProviderOptions(self._threads, self._profiles))
            return _Stage(
                {s.segment: open_segment(self._model, program, weights, provider, s) for s in program.computes}
            )

        return together(self._transport, set_up, "for sessions")

    def _ready(self, stage: _Stage, program: Program) -> Executor:
        channels = self._transport.open(by_index(program))
        kernel = stage.guard.around(stage.make)
        try:
            make = partial(Executor, program, self._transport, kernel, channels)
            return together(self._transport, make, "for buffers")
        except UntriedError:
            self._transport.release(channels)
            raise

    def _requests(self, stage: _Stage, executor: Executor, count: int) -> list[Request]:
        """Run the same request `count` times."""
        found = []
        with stage.guard.on():
            for _ in range(count):
                self._transport.barrier()
                begin = perf_counter()
                executor.run(self._inputs)
                seconds = perf_counter() - begin
                found.append(Request(begin, seconds, executor.timeline()))
        settle(self._transport, stage.guard.take(), "running")
        return found


def _segments(
    stage: _Stage, program: Program, profiled: Sequence[Request], plain: Sequence[Request]
) -> tuple[SegmentTimes, ...]:
    return tuple(_times(step, stage.profiles[step.segment], profiled, plain) for step in program.computes)


def _times(step: Compute, file: Path, profiled: Sequence[Request], plain: Sequence[Request]) -> SegmentTimes:
    """What the last runs of a session were, and how long."""
    runs = read_runs(file)[-len(profiled) :]
    seconds = ([request.compute_s(step.segment) for request in requests] for requests in (profiled, plain))
    return SegmentTimes(step, runs, *seconds)


def repeats_in(budget_s: float, seconds: float) -> int:
    """How often a request of so many seconds is repeated.

    >>> repeats_in(0.15, 0.2), repeats_in(0.15, 0.015), repeats_in(0.15, 0.001)
    (5, 10, 30)
    """
    return int(np.clip(budget_s / max(seconds, 1e-9), _FEWEST, _MOST))


@contextmanager
def scratch(transport: Transport) -> Iterator[Path]:
    """A temporary folder of this rank's own, removed at the end and after errors; entered by all ranks together.

    Raises
    ------
    UntriedError
        On every rank, when any has no place for one.
    """
    folder = together(transport, partial(tempfile.mkdtemp, prefix="flexpie-mpi-"), "for temporary files")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
