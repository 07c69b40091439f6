"""Rehearsals: a plan run over and over with made-up weights, and the time of everything in it.

Every session is timed twice by the same requests: first while its profiler writes down what each node takes, which
itself takes time, then as it is. All ranks rehearse together.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
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
from ..runtime.pacing import paced
from ..runtime.transport import Transport, agree
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
        Its session's call in the same requests, and in those without the profiler.
    """

    step: Compute
    runs: list[Run]
    profiled_s: list[float]
    plain_s: list[float]


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
        Of the same requests on this rank.
    """

    programs: tuple[Program, ...]
    segments: tuple[SegmentTimes, ...]
    trips: tuple[Trip, ...]
    latencies_s: tuple[float, ...]


@dataclass(slots=True)
class _Stage:
    """A plan's sessions on this rank, and the time of every call of each."""

    sessions: dict[int, Any] = field(default_factory=dict)
    actions: list[Callable[[], None]] = field(default_factory=list)
    spent: dict[int, list[float]] = field(default_factory=dict)

    def add(self, segment: int, session: Any, action: Callable[[], None], slowdown: float) -> Callable[[], None]:
        """The action, timed and paced."""
        spent = self.spent.setdefault(segment, [])
        self.sessions[segment] = session
        self.actions.append(action)

        def run() -> None:
            begin = perf_counter()
            action()
            spent.append(perf_counter() - begin)

        return paced(run, slowdown)

    def marks(self) -> dict[int, int]:
        """Calls of each session so far."""
        return {segment: len(spent) for segment, spent in self.spent.items()}


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
    slowdown : float
        By which this rank's compute is paced; what is recorded is the time without.
    """

    def __init__(self, transport: Transport, model: Model, folder: Path, threads: int, slowdown: float) -> None:
        self._transport = transport
        self._model = model
        self._folder = folder
        self._weights = MadeUpWeights(folder)
        self._threads = threads
        self._slowdown = slowdown
        self._inputs = random_inputs(model.graph)

    def rehearse(self, plan: Plan) -> Rehearsal:
        """Run `plan` and time it.

        Raises
        ------
        FlexPieError
            On every rank, when any cannot run it.
        """
        with _emptied(self._folder / "profiles") as profiles:
            stage = _Stage()
            programs, executor = self._prepare(plan, stage, profiles)
            self._once(executor)
            seconds = max(self._transport.all_gather(max(self._once(executor)[1] for _ in range(2))))
            before = stage.marks()
            for _ in range(repeats_in(PROFILED_S, seconds)):
                self._once(executor)
            between = stage.marks()
            files = {segment: Path(session.end_profiling()) for segment, session in stage.sessions.items()}
            offset = clock_offset(self._transport, plan.root)
            self._once(executor)
            after = stage.marks()
            found = [self._once(executor) for _ in range(repeats_in(PLAIN_S, seconds))]
            rank = self._transport.rank
            segments = tuple(
                SegmentTimes(
                    step,
                    read_runs(files[step.segment])[before[step.segment] - between[step.segment] :],
                    stage.spent[step.segment][before[step.segment] : between[step.segment]],
                    stage.spent[step.segment][after[step.segment] :],
                )
                for step in programs[rank].computes
            )
            trips = tuple(Trip(rank, begin + offset, timeline) for begin, _, timeline in found)
            return Rehearsal(programs, segments, trips, tuple(latency for _, latency, _ in found))

    def _prepare(self, plan: Plan, stage: _Stage, profiles: Path) -> tuple[tuple[Program, ...], Executor]:
        programs: tuple[Program, ...] = ()
        error: FlexPieError | None = None
        try:
            programs = lower(plan, self._model.graph)
            program = programs[self._transport.rank]
            weights = self._weights.files(self._model, program.weights)
            options = KernelOptions(self._threads, profiles)
            for step in program.computes:
                stage.sessions[step.segment] = open_segment(self._model, program, weights, options, step)
        except FlexPieError as raised:
            error = raised
        except (MemoryError, OSError) as raised:
            error = PlanError(f"there is no room for it: {raised}")
        agree(self._transport, error)
        executor = self._executor(programs[self._transport.rank], stage)
        agree(self._transport, self._try(executor, stage))
        return programs, executor

    def _executor(self, program: Program, stage: _Stage) -> Executor:
        def make(step: Compute, values: Any) -> Callable[[], None]:
            session = stage.sessions[step.segment]
            return stage.add(step.segment, session, bind(session, step, values), self._slowdown)

        return Executor(program, self._transport, make)

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

    def _once(self, executor: Executor) -> tuple[float, float, Any]:
        """One request: (beginning by this rank's clock, seconds, timeline)."""
        self._transport.barrier()
        begin = perf_counter()
        executor.run(self._inputs)
        end = perf_counter()
        return begin, end - begin, executor.timeline()


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
