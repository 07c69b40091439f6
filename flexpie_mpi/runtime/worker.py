"""Who computes on a rank while it carries out a stream."""

from __future__ import annotations

import time
from collections import deque
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar

from .provider import Action

Owner = TypeVar("Owner")

SHORT_S = 100e-6
"""An action that takes less is done at once: to hand it over, and to be told, takes about as long."""


class Worker(Generic[Owner]):
    """Computes for a stream, one action after the other: in a thread of its own, so that messages move meanwhile.

    The thread begins with `prepare`, and wakes as promptly as the one that made it. One action waits while another is
    carried out, so that the thread need not wait to be handed the next. Without `prepare` there is no thread: every
    action is done at once, where it is asked for.

    What is done is a row with a bell, not a queue: a queue's own wait may never end in Python 3.11, when something had
    been taken from it without waiting.

    Attributes
    ----------
    pending : int
        Actions that have been handed over and not been told of.
    """

    def __init__(self, prepare: Action | None = None) -> None:
        self.pending = 0
        self._spent_here_s = self._spent_there_s = 0.0
        self._jobs: SimpleQueue[tuple[Owner, Action] | None] = SimpleQueue()
        self._done: deque[tuple[Owner, float, BaseException | None]] = deque()
        self._bell = Lock()  # held until it rings
        self._bell.acquire()
        self._thread = prepare and Thread(target=self._work, args=(prepare,), name="compute", daemon=True)

    def __enter__(self) -> Worker[Owner]:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._jobs.put(None)
        if self._thread and kind is None:  # who fails has no time to wait for what is of no use any more
            self._thread.join()

    @property
    def is_full(self) -> bool:
        """Whether another action would have to wait for more than the one that is carried out."""
        return self.pending > 1

    @property
    def busy_s(self) -> float:
        """Seconds spent on actions."""
        return self._spent_here_s + self._spent_there_s

    def submit(self, owner: Owner, action: Action, expected_s: float) -> float | None:
        """Do an action at once when it is short, else hand it to the thread.

        Parameters
        ----------
        owner : object
            Given back by :meth:`take` when the thread has done the action.
        action : callable
        expected_s : float
            How long it will probably take.

        Returns
        -------
        float or None
            Seconds that the action took; None when the thread does it.
        """
        if self._thread is None or (expected_s < SHORT_S and not self.pending):
            seconds = _timed(action)
            self._spent_here_s += seconds
            return seconds
        self.pending += 1
        self._jobs.put((owner, action))
        return None

    def take(self, timeout_s: float = 0.0) -> tuple[Owner, float] | None:
        """Owner and seconds of the next action that the thread has ended; None when there is none within `timeout_s`.

        Raises what the action raised.
        """
        if timeout_s > 0.0 and not self._done:
            if self._thread is None:
                time.sleep(timeout_s)
            else:
                self._bell.acquire(timeout=timeout_s)
        if not self._done:
            return None
        owner, seconds, error = self._done.popleft()
        self.pending -= 1
        if error is not None:
            raise error
        return owner, seconds

    def _work(self, prepare: Action) -> None:
        prepare()
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
