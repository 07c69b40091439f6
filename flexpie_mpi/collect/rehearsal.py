"""Rehearsals: a plan run over and over with made-up weights, and the time of everything in it.

Every session is timed twice by the same requests: first while its profiler writes down what each node takes, which
itself takes time, then as it is. All ranks rehearse together.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..data.synthetic import random_inputs
from ..errors import FlexPieError, PlanError
from ..lower import lower
from ..model import Model
from ..plan import Plan
from ..program import Compute, Program
from ..runtime.executor import Executor
from ..runtime.kernels import KernelOptions, bind, open_segment
from ..runtime.madeup import MadeUpWeights
from ..runtime.transport import Transport, agree
from ..timeline import Timeline
from .clocks import clock_offset
from .profile import Run, read_runs
from .waves import Trip

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
    """A plan ready to run on this rank."""

    programs: tuple[Program, ...] = ()
    sessions: dict[int, Any] = field(default_factory=dict)
    actions: list[Callable[[], None]] = field(default_factory=list)

    def make(self, step: Compute, values: Any) -> Callable[[], None]:
        """The action of a step."""
        self.actions.append(bind(self.sessions[step.segment], step, values))
        return self.actions[-1]

    def end_profiles(self) -> dict[int, Path]:
        """The file of every session's profile, complete from now on."""
        return {segment: Path(session.end_profiling()) for segment, session in self.sessions.items()}


class Rehearser:
    """Rehearses plans of one model, one at a time; called by all ranks together.

    Parameters
    ----------
    transport : Transport
    model : Model
        The skeleton is enough.
    folder : Path
        Takes weights and profiles; the caller removes it.
    threads : int
        onnxruntime threads of this rank.
    """

    def __init__(self, transport: Transport, model: Model, folder: Path, threads: int = 1) -> None:
        self._transport = transport
        self._model = model
        self._folder = folder
        self._weights = MadeUpWeights(folder)
        self._threads = threads
        self._inputs = random_inputs(model.graph)

    def rehearse(self, plan: Plan) -> Rehearsal:
        """Run `plan` and time it.

        Raises
        ------
        FlexPieError
            On every rank, when any cannot run it.
        """
        rank = self._transport.rank
        with _emptied(self._folder / "profiles") as profiles:
            stage = self._set(plan, profiles)
            executor = self._ready(stage, rank)
            self._requests(executor, 1)
            warm = max(request.seconds for request in self._requests(executor, 2))
            seconds = max(self._transport.all_gather(warm))
            profiled = self._requests(executor, repeats_in(PROFILED_S, seconds))
            files = stage.end_profiles()
            offset = clock_offset(self._transport, plan.root)
            self._requests(executor, 1)
            plain = self._requests(executor, repeats_in(PLAIN_S, seconds))
            executor.close()
            segments = tuple(_times(s, files[s.segment], profiled, plain) for s in stage.programs[rank].computes)
        trips = tuple(Trip(rank, request.begin_s + offset, request.timeline) for request in plain)
        everyone = self._transport.all_gather([request.seconds for request in plain])
        return Rehearsal(stage.programs, segments, trips, tuple(map(max, zip(*everyone, strict=True))))

    def _set(self, plan: Plan, profiles: Path) -> _Stage:
        """The plan's programs and this rank's sessions."""
        stage = _Stage()
        error: FlexPieError | None = None
        try:
            stage.programs = lower(plan, self._model.graph)
            program = stage.programs[self._transport.rank]
            weights = self._weights.files(self._model, program.weights)
            options = KernelOptions(self._threads, profiles)
            for step in program.computes:
                stage.sessions[step.segment] = open_segment(self._model, program, weights, options, step)
        except FlexPieError as raised:
            error = raised
        except (MemoryError, OSError) as raised:
            error = PlanError(f"there is no room for it: {raised}")
        agree(self._transport, error)
        return stage

    def _ready(self, stage: _Stage, rank: int) -> Executor:
        executor = Executor(stage.programs[rank], self._transport, stage.make)
        try:
            agree(self._transport, self._try(executor, stage))
        except FlexPieError:
            executor.close()
            raise
        return executor

    def _try(self, executor: Executor, stage: _Stage) -> FlexPieError | None:
        """Run every session by itself: one that fails while others wait for it would end the job.

        On zeros, which integers might be divided by: where those are computed, nothing is tried.
        """
        computed = [b for b in executor.program.buffers if b.value not in self._model.graph.inputs]
        if any(buffer.region is None or not buffer.dtype.startswith("float") for buffer in computed):
            return None
        try:
            for action in stage.actions:
                action()
        except Exception as error:  # onnxruntime raises its own classes, straight from Exception
            return PlanError(f"onnxruntime cannot run it: {error}")
        return None

    def _requests(self, executor: Executor, count: int) -> list[Request]:
        """Run the same request `count` times."""
        found = []
        for _ in range(count):
            self._transport.barrier()
            begin = perf_counter()
            executor.run(self._inputs)
            seconds = perf_counter() - begin
            found.append(Request(begin, seconds, executor.timeline()))
        return found


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
def _emptied(folder: Path) -> Iterator[Path]:
    """A new folder, removed with all that is in it."""
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, removed at the end and after errors."""
    with tempfile.TemporaryDirectory(prefix="flexpie-mpi-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
