"""What all ranks agree on while they measure: how much time is left, what time it is, and what has failed.

Processes of one machine share its clock. A rank elsewhere asks the root what time it is, and takes the answer that came
back soonest to have been given halfway::

    rank   t0 --ask-->            --> t1        offset = root's time - (t0 + t1) / 2
    root            <time-answer--

A plan that is measured is a favour to the planner. So whatever a rank meets while it makes, runs or reads something
becomes an :class:`UntriedError`, on every rank at once, and no defect of measuring ends a job. Only a rank that is late
ends it: the others cannot know.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ..core.errors import FlexPieError, PlanError
from ..runtime.machine import Place, place
from ..runtime.transport import Transport, agree

log = logging.getLogger(__name__)

T = TypeVar("T")

Clock = Callable[[], float]

_TAG = 2
_QUESTIONS = 20


class Budget:
    """An end so many seconds from now that is the same for all ranks: the root's clock counts.

    Made and asked by all ranks together, so that none stops measuring while another waits for it.

    >>> from flexpie_mpi.runtime.loopback import alone
    >>> now = iter((100.0, 101.0, 102.5, 102.5, 103.0, 104.0))
    >>> budget = Budget(alone(), 3.0, lambda: next(now))
    >>> budget.left(), budget.is_over()
    (2.0, False)
    >>> part = budget.part(0.5)  # 1.5 s of the 3, but only half a second is left
    >>> part.left(), budget.is_over()
    (0.0, True)
    """

    def __init__(self, transport: Transport, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._transport = transport
        self._clock = clock
        self._end_s = clock() + seconds

    def left(self) -> float:
        """Seconds until the end; not below zero."""
        left_s: float = self._transport.broadcast(max(0.0, self._end_s - self._clock()))
        return left_s

    def is_over(self) -> bool:
        return self.left() <= 0.0

    def part(self, share: float) -> Budget:
        """A budget of a share of all the seconds, that begins now and ends no later than this one."""
        part = Budget(self._transport, share * self.seconds, self._clock)
        part._end_s = min(part._end_s, self._end_s)
        return part


def repeats_in(budget_s: float, seconds: float, fewest: int, most: int) -> int:
    """How often what takes so many seconds is repeated.

    >>> repeats_in(0.15, 0.2, 5, 30), repeats_in(0.15, 0.015, 5, 30), repeats_in(0.15, 0.001, 5, 30)
    (5, 10, 30)
    """
    return int(np.clip(budget_s / max(seconds, 1e-9), fewest, most))


def with_time_left(tell: Callable[[str], None], budget_s: float) -> Callable[[str], None]:
    """What tells the same behind the seconds that are left of a budget that begins now."""
    end_s = time.monotonic() + budget_s
    return lambda text: tell(f"{max(0.0, end_s - time.monotonic()):.0f} s left: {text}")


def places_of(transport: Transport) -> list[Place]:
    """Where every rank runs, by rank; called by all ranks together."""
    return transport.all_gather(place(platform.node()))


def clock_offset(transport: Transport, root: int = 0, clock: Clock = time.perf_counter) -> float:
    """Seconds to add to this rank's clock to have the root's; called by all ranks together, now and then.

    All processes of a machine have the same clock.
    """
    machines = [machine for _, machine, _ in places_of(transport)]
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


class UntriedError(PlanError):
    """A plan cannot be measured, as every rank knows."""


def together(transport: Transport, function: Callable[[], T], what: str) -> T:
    """Each rank's own result of `function`, which must not talk to other ranks.

    Raises UntriedError on every rank, when `function` raised anything on any; the sentence says `what` it does.
    """
    result: list[T] = []
    error: Exception | None = None
    try:
        result.append(function())
    except Exception as raised:  # whatever it is: onnxruntime's own classes, no room, or a defect
        error = raised
    settle(transport, error, what)
    return result[0]


def settle(transport: Transport, error: Exception | None, what: str) -> None:
    """Raise :class:`UntriedError` on every rank when any has an error; `error` is this rank's."""
    agree(transport, None if error is None else _untried(error, what))


def _untried(error: Exception, what: str) -> UntriedError:
    log.info("%s failed", what, exc_info=error)
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FlexPieError):
        return UntriedError(words)
    if isinstance(error, MemoryError | OSError):
        return UntriedError(f"there is no room {what}: {words}")
    return UntriedError(f"{what} failed with {type(error).__name__}: {words}")
