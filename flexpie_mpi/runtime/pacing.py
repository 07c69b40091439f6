"""Pacing: a rank computes as slowly as the board it stands for.

After a step that took c seconds of processor time the rank sleeps until k * c seconds have passed since the step began.
Unlike a quota of the processor this is exact, and calm: while a rank sleeps its core is free for others, so k ranks can
share one core without slowing each other down, and a step that had to wait for its core sleeps so much less.

What counts is the calling thread's processor time, with any number of threads: onnxruntime gives that thread its share
of the work and lets it spin until the others have done theirs, so its time is how long the step lasts on cores of its
own. The process's time would also count other ranks of a loopback job, and threads that spin between steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

from ..errors import TestbedError
from .executor import Action, KernelFactory

Clock = Callable[[], float]


def paced(
    action: Action,
    slowdown: float,
    *,
    clock: Clock = time.perf_counter,
    processor: Clock = time.thread_time,
    sleep: Callable[[float], None] = time.sleep,
) -> Action:
    """An action that takes `slowdown` times as long as it computes; the action itself where that is no longer.

    Parameters
    ----------
    action : callable
    slowdown : float
        A rank cannot be made faster: up to 1 nothing is paced.
    clock, processor : callable
        Seconds that pass, and seconds that the calling thread computes.
    sleep : callable
        Lets so many seconds pass.

    Raises
    ------
    TestbedError
        When `slowdown` is not a number above 0.
    """
    if not 0 < slowdown < inf:
        raise TestbedError(f"slowdown = {slowdown} must be a number above 0")
    if slowdown <= 1:
        return action

    def run() -> None:
        began, before = clock(), processor()
        action()
        rest = began + slowdown * (processor() - before) - clock()
        if rest > 0:
            sleep(rest)

    return run


def paced_kernels(kernel: KernelFactory, slowdown: float) -> KernelFactory:
    """A factory of the same actions, paced."""
    return lambda step, values: paced(kernel(step, values), slowdown)
