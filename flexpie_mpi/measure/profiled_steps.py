"""Profiled steps: what each step of a program takes in turns (:mod:`.turns`), and how that divides among kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.program import Program
from ..model import Model
from ..model.shard import WeightFiles
from ..runtime.executor import allocate
from ..runtime.transport import Transport
from .agreement import together
from .profiled_run import SegmentTimes, Sessions, open_profiled, read_runs, scratch
from .turns import COUNTED_RUNS, Steps, in_turns
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

        def opened() -> list[tuple[Sessions, Steps]]:
            pairs = enumerate(zip(programs, files, strict=True))
            return [_opened(model, program, found, folder / f"{n}", threads) for n, (program, found) in pairs]

        runners = together(transport, opened, "for sessions")
        in_turns(transport, [steps for _, steps in runners], ENOUGH_S, _FEWEST, _MOST)
        return together(transport, lambda: tuple(_times(*runner) for runner in runners), "reading profiles")


def _opened(model: Model, program: Program, weights: WeightFiles, folder: Path, threads: int) -> tuple[Sessions, Steps]:
    """Sessions of a program, and its steps on buffers that hold ones."""
    sessions, values = open_profiled(model, program, weights, folder, threads), allocate(program)
    for array in values.values():
        array.fill(1)
    return sessions, Steps.of(program, sessions, values)


def _times(sessions: Sessions, steps: Steps) -> tuple[SegmentTimes, ...]:
    """What was seen of each step."""
    found = []
    for step, _, _ in steps.steps:
        runs = read_runs(sessions[step.segment].end_profiling())[COUNTED_RUNS]
        found.append(SegmentTimes(step, runs, []))
    return tuple(found)
