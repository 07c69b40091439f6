"""One clock for all ranks of a job, so that what one began and another ended can be subtracted.

Processes of one machine share its clock. A rank elsewhere asks the root what time it is, and takes the answer that came
back soonest to have been given halfway::

    rank   t0 --ask-->            --> t1        offset = root's time - (t0 + t1) / 2
    root            <time-answer--
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import numpy as np

from ..runtime.machine import place
from ..runtime.transport import Transport

_TAG = 2
_QUESTIONS = 20

Clock = Callable[[], float]


def clock_offset(transport: Transport, root: int = 0, clock: Clock = time.perf_counter) -> float:
    """Seconds to add to this rank's clock to have the root's; called by all ranks together, now and then.

    Parameters
    ----------
    transport : Transport
    root : int
    clock : callable
        Of this rank's machine, the same for all its processes.
    """
    machines = [machine for _, machine, _ in transport.all_gather(place(platform.node()))]
    offset_s = 0.0
    for rank, machine in enumerate(machines):
        if machine == machines[root]:
            continue
        if transport.rank == root:
            _answer(transport, rank, clock)
        elif transport.rank == rank:
            offset_s = _ask(transport, root, clock)
    transport.barrier()
    return offset_s


def _ask(transport: Transport, root: int, clock: Clock) -> float:
    time_s, best_s, offset_s = np.zeros(1), float("inf"), 0.0
    for _ in range(_QUESTIONS):
        begin_s = clock()
        transport.send(time_s, root, _TAG)
        transport.receive(time_s, root, _TAG)
        end_s = clock()
        if end_s - begin_s < best_s:
            best_s, offset_s = end_s - begin_s, time_s[0] - (begin_s + end_s) / 2
    return float(offset_s)


def _answer(transport: Transport, rank: int, clock: Clock) -> None:
    time_s = np.zeros(1)
    for _ in range(_QUESTIONS):
        transport.receive(time_s, rank, _TAG)
        time_s[0] = clock()
        transport.send(time_s, rank, _TAG)
