"""How a stream is asked to end: by a signal, after which what is under way is finished.

What the launchers do with a signal that they get themselves differs. MPICH's passes SIGTERM and SIGINT on to all ranks
and waits. Open MPI's passes neither on: it ends all ranks, a quarter of a second after telling them. Both pass SIGUSR1
on. A signal to the process of rank 0 needs no launcher.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Each ends a stream; a second SIGINT ends the job at once."""


class Stopped:
    """Which signal has ended the stream; empty while none has."""

    def __init__(self) -> None:
        self.by = ""


@contextmanager
def stopping(stop: Callable[[], object] | None) -> Iterator[Stopped]:
    """Inside the block, signals that would end this process call `stop` instead, or do nothing.

    Parameters
    ----------
    stop : callable or None
        Called in the main thread, between any two of its instructions, at the first signal, and never inside a call of
        itself unless two signals come at once: it must only set flags. None on ranks that are told by others.
    """
    stopped = Stopped()

    def handle(number: int, frame: FrameType | None) -> None:
        is_first = not stopped.by
        stopped.by = stopped.by or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if stop is not None and is_first:
            stop()

    if threading.current_thread() is not threading.main_thread():  # ranks that are threads have no signals
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if stop is None else handle)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
