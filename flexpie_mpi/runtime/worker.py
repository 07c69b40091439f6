"""Workers: who computes on a rank. In a stream a thread of its own, so that messages move meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar

Owner = TypeVar("Owner")
Action = Callable[[], None]

SHORT_S = 100e-6
"""An action that takes less is done at once: to hand it over, and to be told, takes about as long."""


class Inline(Generic[Owner]):
    """Computes at once, in the thread that asks for it: nothing moves meanwhile, and nothing is handed over.

    Attributes
    ----------
    pending : int
        Actions that have been handed over and not been told of.
    is_full : bool
        Another action would have to wait for more than the one that is carried out.
    busy_s : float
        Seconds spent on actions.
    """

    pending = 0
    is_full = False

    def __init__(self) -> None:
        self.busy_s = 0.0

    def __enter__(self) -> Inline[Owner]:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, owner: Owner, action: Action, expected_s: float) -> float | None:
        """Do an action; the seconds it took, or None when its owner will be told."""
        seconds = _timed(action)
        self.busy_s += seconds
        return seconds

    def take(self, timeout_s: float = 0.0) -> tuple[Owner, float] | None:
        """The owner of an action that has ended since, and its seconds, waited for at most so long."""
        if timeout_s > 0.0:
            time.sleep(timeout_s)
        return None


class ComputeThread(Generic[Owner]):
    """Computes in a thread of its own, one action after the other; attributes as of :class:`Inline`.

    The thread begins with `prepare`, and wakes as promptly as the one that made it. One action waits while another is
    carried out, so that the thread need not wait to be handed the next.

    What is done is a row with a bell, not a queue: a queue's own wait may never end in Python 3.11, when something had
    been taken from it without waiting.
    """

    def __init__(self, prepare: Action) -> None:
        self.pending = 0
        self._prepare = prepare
        self._spent_here_s = self._spent_there_s = 0.0
        self._jobs: SimpleQueue[tuple[Owner, Action] | None] = SimpleQueue()
        self._done: deque[tuple[Owner, float, BaseException | None]] = deque()
        self._bell = Lock()  # held until it rings
        self._bell.acquire()
        self._thread = Thread(target=self._work, name="compute", daemon=True)

    def __enter__(self) -> ComputeThread[Owner]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._jobs.put(None)
        if kind is None:  # who fails has no time to wait for what is of no use any more
            self._thread.join()

    @property
    def is_full(self) -> bool:
        return self.pending > 1

    @property
    def busy_s(self) -> float:
        return self._spent_here_s + self._spent_there_s

    def submit(self, owner: Owner, action: Action, expected_s: float) -> float | None:
        """Let the thread do an action, unless it is short; the seconds it took, or None when its owner will be told."""
        if expected_s < SHORT_S and not self.pending:
            seconds = _timed(action)
            self._spent_here_s += seconds
            return seconds
        self.pending += 1
        self._jobs.put((owner, action))
        return None

    def take(self, timeout_s: float = 0.0) -> tuple[Owner, float] | None:
        """The owner of an action that has ended since, and its seconds, waited for at most so long.

        Raises
        ------
        BaseException
            What the action raised.
        """
        if timeout_s > 0.0 and not self._done:
            self._bell.acquire(timeout=timeout_s)
        if not self._done:
            return None
        owner, seconds, error = self._done.popleft()
        self.pending -= 1
        if error is not None:
            raise error
        return owner, seconds

    def _work(self) -> None:
        self._prepare()
        while (job := self._jobs.get()) is not None:
            owner, action = job
            seconds, error = 0.0, None
            try:
                seconds = _timed(action)
            except BaseException as raised:  # it belongs to whoever asked for the action
                error = raised
            self._spent_there_s += seconds
            self._done.append((owner, seconds, error))
            if self._bell.locked():  # else it has rung, and nobody has heard it yet
                self._bell.release()


def _timed(action: Action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
