"""Pacing: a rank computes as slowly as the board it stands for.

A step that takes c seconds of processor time ends k * c seconds after it began: the rank sleeps in between. Unlike a
quota of the processor this is exact, and calm: while a rank sleeps its core is free for others, so k ranks can share
one core without slowing each other down, and a step that had to wait for its core sleeps so much less.

What c is, is measured beforehand, with all steps of the rank run one right behind the other, as a board without pauses
would. They run twice and the second time counts, since another rank has used the caches before. In a request it would
be too much: a step that begins after a sleep finds the caches cold, which costs a tenth of a millisecond each time, on
this machine and not on the board, and k times that once it is paced. Ranks take turns, over and over, and steps that
compute as much share their times, of which the lower quartile counts: equal boards are equally fast, but ranks share
cores, and a machine has slow moments that would stay with one of them for good. A step that was not run beforehand, or
cannot be (values of unknown shape), is paced by what it takes in each request.

What counts is the calling thread's processor time, with any number of threads: onnxruntime gives that thread its share
of the work and lets it spin until the others have done theirs, so its time is how long the step lasts on cores of its
own. The process's time would also count other ranks of a loopback job, and threads that spin between steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf
from typing import Any

import numpy as np

from ..core.errors import TestbedError
from ..core.program import Compute
from ..core.region import Region
from .executor import KernelFactory
from .machine import can_step_back, give_way, rest, stepping_back
from .provider import Action
from .transport import Control

FEWEST, MOST = 5, 20
"""Times that all steps of all ranks are run beforehand: as many as fit `ENOUGH_S` for each engine."""

ENOUGH_S = 1.0


@dataclass(frozen=True, slots=True)
class Clocks:
    """How a paced rank tells time and lets it pass: seconds that pass, seconds that the thread computes, and a rest."""

    clock: Callable[[], float] = time.perf_counter
    processor: Callable[[], float] = time.thread_time
    rest: Callable[[float], None] = rest


@dataclass
class PacedStep:
    """A step that takes `slowdown` times its processor time: as measured beforehand, or else each time.

    Any thread may run it: the main one, or one that computes while the main one moves messages. `work` is the same for
    steps that compute as much: the same nodes, on regions of the same shapes. `seconds` is what was measured
    beforehand, from `samples`; None when nothing was.
    """

    work: str
    action: Action
    slowdown: float
    clocks: Clocks
    around: Callable[[], AbstractContextManager[None]]
    inputs: tuple[np.ndarray, ...] | None = None
    samples: list[float] = field(default_factory=list)
    seconds: float | None = None
    step: Compute | None = None

    def __call__(self) -> None:
        """Run, and sleep until the board would be done."""
        clocks = self.clocks
        began, before = clocks.clock(), clocks.processor()
        with self.around():
            self.action()
        seconds = self.seconds or clocks.processor() - before
        left = began + self.slowdown * seconds - clocks.clock()
        if left > 0:
            clocks.rest(left)

    def sample(self, *, is_counted: bool = True) -> None:
        """Run once on made-up inputs, where their shapes are known, and note the processor time if it counts."""
        if self.inputs is None:
            return
        for array in self.inputs:
            # What memory holds by chance is no index and no divisor, and as floats it may be so small that sums of them
            # take many times as long; 1 is all right
            array.fill(1)
        before = self.clocks.processor()
        try:
            self.action()
        except Exception:  # onnxruntime raises its own classes; a kernel may refuse made-up inputs
            self.inputs = None
            self.samples.clear()
            return
        if is_counted:
            self.samples.append(self.clocks.processor() - before)


@dataclass
class Pacer:
    """A factory of the actions of `kernel`, paced; the same actions where nothing need be slower.

    Parameters
    ----------
    kernel : KernelFactory
    slowdown : float
        A rank cannot be made faster: up to 1 nothing is paced.
    clocks : Clocks
    has_thread : bool
        Whether the steps may have a thread of their own, which gives way as a whole.

    Raises
    ------
    TestbedError
        When `slowdown` is not a number above 0.
    """

    kernel: KernelFactory
    slowdown: float
    clocks: Clocks = field(default_factory=Clocks)
    has_thread: bool = False
    steps: list[PacedStep] = field(default_factory=list)
    around: Callable[[], AbstractContextManager[None]] = nullcontext

    def __post_init__(self) -> None:
        if not 0 < self.slowdown < inf:
            raise TestbedError(f"slowdown = {self.slowdown} must be a number above 0")
        if self.is_needed and not self.has_thread and can_step_back():
            self.around = stepping_back

    @property
    def is_needed(self) -> bool:
        return self.slowdown > 1

    def prepare_thread(self) -> None:
        """Called by the thread that is to run the steps, before any."""
        if self.is_needed:
            give_way()

    def __call__(self, step: Compute, values: Mapping[int, Any]) -> Action:
        """The action of a step."""
        action = self.kernel(step, values)
        if not self.is_needed:
            return action
        inputs = _arrays(step.inputs, values)
        is_known = _arrays(step.outputs, values) is not None
        is_new = not any(paced.step is step for paced in self.steps)  # else it is there for another request in flight
        tried = inputs if is_known and is_new else None
        paced = PacedStep(_work(step), action, self.slowdown, self.clocks, self.around, tried, step=step)
        self.steps.append(paced)
        return paced

    def sample(self) -> None:
        """Run all steps that can be, one right behind the other; their buffers hold nothing of use afterwards.

        They run twice: before, another rank had the caches.
        """
        for is_counted in (False, True):
            for step in self.steps:
                step.sample(is_counted=is_counted)


def _arrays(pairs: Sequence[tuple[str, int]], values: Mapping[int, Any]) -> tuple[np.ndarray, ...] | None:
    """The buffers of values; None where one is of unknown shape."""
    held = [values.get(index) for _, index in pairs]
    arrays = tuple(array for array in held if isinstance(array, np.ndarray))
    return arrays if len(arrays) == len(held) else None


def settle(transport: Control, pacers: Sequence[Pacer], clock: Callable[[], float] = time.perf_counter) -> None:
    """Measure the steps of all ranks that are paced, while the others rest; called by all ranks together.

    Parameters
    ----------
    transport : Control
    pacers : sequence of Pacer
        This rank's, of engines that are to be compared: they share the machine's good and bad moments.
    clock : callable
    """
    turns = [rank for rank, is_needed in enumerate(transport.all_gather(any(p.is_needed for p in pacers))) if is_needed]
    began, rounds, enough_s = clock(), 0, ENOUGH_S * len(pacers)
    while turns and transport.broadcast(rounds < FEWEST or (rounds < MOST and clock() - began < enough_s)):
        for pacer in pacers:
            for rank in turns:
                if rank == transport.rank:
                    pacer.sample()
                transport.barrier()
        rounds += 1
    _pool(transport, [step for pacer in pacers for step in pacer.steps])


def _pool(transport: Control, steps: Sequence[PacedStep]) -> None:
    """Let steps that compute as much take as long, on whichever rank and in whichever engine they are."""
    pools: dict[str, list[float]] = {}
    for work, samples in (item for rank in transport.all_gather([(s.work, s.samples) for s in steps]) for item in rank):
        pools.setdefault(work, []).extend(samples)
    for step in steps:
        samples = pools[step.work]
        step.seconds = steady_s(samples) if samples else None
        step.samples.clear()


def steady_s(samples: Sequence[float]) -> float:
    """What a step takes by itself: the lower quartile of its times, since a machine has slow moments."""
    return sorted(samples)[len(samples) // 4]


def _work(step: Compute) -> str:
    regions = [(block.node, *block.outputs, None, *block.inputs) for block in step.blocks]
    shapes = [[item.shape if isinstance(item, Region) else item for item in block] for block in regions]
    return blake2b(repr(shapes).encode(), digest_size=16).hexdigest()
