"""Turns: the steps of a program run by themselves, one rank after the other.

No request is run, so that nobody waits for anybody: ranks take turns, and those that share a machine leave it to one.
A rank runs all its steps one right behind the other, as it does in requests, twice: what the first time brought into
its caches is there the second time, which counts. What a step reads is written right before, as an exchange does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, thread_time
from typing import Any

import numpy as np

from ..core.program import Compute, Program
from ..runtime.provider import Action, OpenSegment
from ..runtime.transport import Transport
from .agreement import repeats_in, settle

COUNTED_RUNS = slice(3, None, 2)
"""Of the runs of each step in turns, those that count: the second of every turn, the first turn left out."""


@dataclass
class Steps:
    """The steps of one program on this rank, ready to run, and the processor time they took, as pacing counts it."""

    steps: list[tuple[Compute, Action, list[np.ndarray]]]  # with its inputs
    spent_s: list[list[float]] = field(default_factory=list)  # of each turn, by step

    @classmethod
    def of(cls, program: Program, sessions: Mapping[int, OpenSegment], values: dict[int, Any]) -> Steps:
        """The steps of a program without opaque values, bound to its buffers, which hold what they may."""
        steps = []
        for step in program.computes:
            action = sessions[step.segment].bind(dict(step.inputs), dict(step.outputs), values)
            steps.append((step, action, [values[index] for _, index in step.inputs]))
        return cls(steps)

    def run(self) -> None:
        """All steps twice; the second time counts."""
        self._once()
        self.spent_s.append(self._once())

    def seconds(self) -> dict[int, list[float]]:
        """What every step took, by segment, the first turn left out."""
        places = enumerate(step.segment for step, _, _ in self.steps)
        return {segment: [spent_s[place] for spent_s in self.spent_s[1:]] for place, segment in places}

    def _once(self) -> list[float]:
        spent_s = []
        for _, action, inputs in self.steps:
            for array in inputs:  # what another step left in the same memory is no index
                array.fill(1)
            begin_s = thread_time()
            action()
            spent_s.append(thread_time() - begin_s)
        return spent_s


def in_turns(transport: Transport, everything: Sequence[Steps], enough_s: float, fewest: int, most: int) -> None:
    """Run steps one rank after the other, over and over; called by all ranks together, each with its own steps.

    After a first turn there are as many as fit `enough_s`, within both limits. Raises
    UntriedError on every rank, when a step raised on any, which then runs no more.
    """
    error: Exception | None = None
    seconds, turns = 0.0, 1
    while turns > 0:
        began_s = perf_counter()
        for rank in range(transport.size):
            if rank == transport.rank and error is None:
                try:
                    for steps in everything:
                        steps.run()
                except Exception as raised:  # onnxruntime's own classes, or values that cannot be made up
                    error = raised
            transport.barrier()
        if not seconds:
            seconds = transport.broadcast(perf_counter() - began_s)
            turns = 1 + repeats_in(enough_s, seconds, fewest, most)
        turns -= 1
    settle(transport, error, "running steps by themselves")
