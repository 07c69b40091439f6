"""Profiled steps: what each step of a program takes by itself, and how that divides among its kernels.

No request is run, so that nobody waits for anybody: ranks take turns, and those that share a machine leave it to one.
A rank runs all its steps one right behind the other, as it does in requests, twice: what the first time brought into
its caches is there the second time, which counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from ..core.program import Compute, Program
from ..model import Model
from ..model.shard import WeightFiles
from ..runtime.executor import allocate
from ..runtime.provider import Action
from ..runtime.transport import Transport
from .agreement import repeats_in, settle, together
from .profiled_run import SegmentTimes, open_profiled, read_runs, scratch
from .weights import TrialWeights

ENOUGH_S = 1.0
_FEWEST, _MOST = 5, 20
"""How long the turns of all ranks are repeated, and how often at least and at most."""


def profiled_steps(
    transport: Transport, model: Model, programs: Sequence[Program], threads: int = 1
) -> tuple[tuple[SegmentTimes, ...], ...]:
    """What the steps of each of this rank's `programs` take; called by all ranks together.

    Inputs and weights are made up, as far as they steer nothing. Raises UntriedError on every rank, when a step cannot
    be run so on any.
    """
    with scratch(transport) as folder:
        weights = TrialWeights(transport, model, folder)
        files = [weights.files(program) for program in programs]

        def opened() -> list[_Steps]:
            pairs = enumerate(zip(programs, files, strict=True))
            return [_Steps.of(model, program, found, folder / f"{n}", threads) for n, (program, found) in pairs]

        runners = together(transport, opened, "for sessions")
        _in_turns(transport, partial(_run_all, runners))
        return together(transport, lambda: tuple(runner.times() for runner in runners), "reading profiles")


@dataclass
class _Steps:
    """The steps of one program on this rank, open and ready."""

    sessions: dict
    steps: list[tuple[Compute, Action, list[np.ndarray]]]  # with those of its inputs that must be filled again
    spent_s: list[list[float]] = field(default_factory=list)  # of each run that counts, by step

    @classmethod
    def of(cls, model: Model, program: Program, weights: WeightFiles, folder: Path, threads: int) -> _Steps:
        """Sessions and buffers, which hold ones."""
        sessions, values = open_profiled(model, program, weights, folder, threads), allocate(program)
        for array in values.values():
            array.fill(1)
        steps = []
        for step in program.computes:
            action = sessions[step.segment].bind(dict(step.inputs), dict(step.outputs), values)
            arrays = [values[index] for _, index in step.inputs]
            steps.append((step, action, [array for array in arrays if array.dtype.kind not in "fc"]))
        return cls(sessions, steps)

    def run(self) -> None:
        """All steps twice; the second time counts."""
        self._once()
        self.spent_s.append(self._once())

    def _once(self) -> list[float]:
        spent_s = []
        for _, action, whole_numbers in self.steps:
            for array in whole_numbers:  # what another step left in the same memory is no index
                array.fill(1)
            begin_s = perf_counter()
            action()
            spent_s.append(perf_counter() - begin_s)
        return spent_s

    def times(self) -> tuple[SegmentTimes, ...]:
        """What was seen of each step, the first turn left out."""
        found = []
        for place, (step, _, _) in enumerate(self.steps):
            runs = read_runs(self.sessions[step.segment].end_profiling())[3::2]
            found.append(SegmentTimes(step, runs, [spent_s[place] for spent_s in self.spent_s[1:]], []))
        return tuple(found)


def _run_all(runners: Sequence[_Steps]) -> None:
    for runner in runners:
        runner.run()


def _in_turns(transport: Transport, run: Callable[[], None]) -> None:
    """One rank after the other, over and over; called by all ranks together.

    Raises UntriedError on every rank, when `run` raised on any, which then runs no more.
    """
    error: Exception | None = None
    seconds, turns = 0.0, 1
    while turns > 0:
        began_s = perf_counter()
        for rank in range(transport.size):
            if rank == transport.rank and error is None:
                try:
                    run()
                except Exception as raised:  # onnxruntime's own classes, or values that cannot be made up
                    error = raised
            transport.barrier()
        if not seconds:
            seconds = transport.broadcast(perf_counter() - began_s)
            turns = 1 + repeats_in(ENOUGH_S, seconds, _FEWEST, _MOST)
        turns -= 1
    settle(transport, error, "running steps by themselves")
