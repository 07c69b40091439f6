"""Workers: who computes on a rank. In a stream a thread of its own, so that messages move meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

Action = Callable[[], None]


class Inline:
    """Computes at once, in the thread that asks for it: nothing moves meanwhile, and nothing is handed over.

    Attributes
    ----------
    pending : int
        Actions whose end nobody has been told yet.
    busy_s : float
        Seconds spent on actions.
    """

    def __init__(self) -> None:
        self.pending = 0
        self.busy_s = 0.0
        self._done: Any = None

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def is_full(self) -> bool:
        return self.pending > 0

    def submit(self, owner: Any, action: Action) -> None:
        """Do an action for its owner."""
        began = time.perf_counter()
        action()
        self.busy_s += time.perf_counter() - began
        self._done, self.pending = owner, 1

    def take(self, timeout_s: float = 0.0) -> Any:
        """The owner of an action that has ended since, waited for at most so long; None when there is none."""
        if self.pending:
            self.pending = 0
            return self._done
        if timeout_s > 0.0:
            time.sleep(timeout_s)
        return None


class ComputeThread:
    """Computes in a thread of its own, one action after the other; attributes as of :class:`Inline`.

    One action waits while another is carried out, so that the thread need not wait to be handed the next. The thread
    wakes as promptly as the one that made it, and is lowered and raised by pacing by itself.

    What is done is a row with a bell, not a queue: a queue's own wait may never end in Python 3.11, when something had
    been taken from it without waiting.
    """

    def __init__(self) -> None:
        self.pending = 0
        self.busy_s = 0.0
        self._jobs: SimpleQueue[tuple[Any, Action] | None] = SimpleQueue()
        self._done: deque[tuple[Any, BaseException | None]] = deque()
        self._bell = Lock()  # held until it rings
        self._bell.acquire()
        self._thread = Thread(target=self._work, name="compute", daemon=True)

    def __enter__(self) -> ComputeThread:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._jobs.put(None)
        if kind is None:  # who fails has no time to wait for what is of no use any more
            self._thread.join()

    @property
    def is_full(self) -> bool:
        """Whether another action would have to wait for more than the one that is carried out."""
        return self.pending > 1

    def submit(self, owner: Any, action: Action) -> None:
        """Let the thread do an action for its owner."""
        self.pending += 1
        self._jobs.put((owner, action))

    def take(self, timeout_s: float = 0.0) -> Any:
        """The owner of an action that has ended since, waited for at most so long; None when there is none.

        Raises
        ------
        BaseException
            What the action raised.
        """
        if timeout_s > 0.0:
            self._bell.acquire(timeout=timeout_s)
        if not self._done:
            return None
        owner, error = self._done.popleft()
        self.pending -= 1
        if error is not None:
            raise error
        return owner

    def _work(self) -> None:
        clock = time.perf_counter
        while (job := self._jobs.get()) is not None:
            owner, action = job
            began = clock()
            error: BaseException | None = None
            try:
                action()
            except BaseException as raised:  # it belongs to whoever asked for the action
                error = raised
            self.busy_s += clock() - began
            self._done.append((owner, error))
            if self._bell.locked():  # else it has rung, and nobody has heard it yet
                self._bell.release()
