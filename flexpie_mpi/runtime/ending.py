"""How a job ends: by a rank that fails, or, where it is a stream, by a signal, after which it finishes what is begun.

A rank that fails prints its traceback, with its number in front, and then all ranks are ended.

What the launchers do with a signal that they get themselves differs. MPICH's passes SIGTERM and SIGINT on to all ranks
and waits. Open MPI's passes neither on: it ends all ranks, a quarter of a second after telling them. Both pass SIGUSR1
on. A signal to the process of rank 0 needs no launcher.
"""

from __future__ import annotations

import array
import fcntl
import signal
import sys
import termios
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Each ends a stream; a second SIGINT ends the job at once."""

LAST_S = 10.0
"""How long MPI's last calls, to which all ranks have come, may take whatever the deadline is."""


def end_job_on_error(rank: int, abort: Callable[[int], object]) -> None:
    """From now on, an uncaught error in any thread of this process prints its traceback and calls `abort`.

    Without this the other ranks would wait for a rank that is gone. ``SystemExit`` is no error to Python: whoever
    leaves the job early by it is found out when the process ends.

    Parameters
    ----------
    rank : int
    abort : callable
        Ends all ranks; takes the exit code.
    """

    def main_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        code = INTERRUPTED if issubclass(kind, KeyboardInterrupt) else 1
        try:
            say(rank, describe(kind, error, trace))
            wait_until_read()
        finally:  # whatever goes wrong with printing, out of memory included
            abort(code)

    def thread_error(failure: threading.ExceptHookArgs) -> None:
        if not issubclass(failure.exc_type, SystemExit):
            main_error(failure.exc_type, failure.exc_value or failure.exc_type(), failure.exc_traceback)

    sys.excepthook = main_error
    threading.excepthook = thread_error


def describe(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    """An error as text: its traceback, or one word where a person ended the job."""
    if issubclass(kind, KeyboardInterrupt):
        return "interrupted"
    return "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")


def say(rank: int | None, text: str) -> None:
    """Write lines to stderr in one piece, each with the rank in front; None leaves the rank out."""
    front = "" if rank is None else f"rank {rank}: "
    with suppress(OSError):  # a stream that cannot be written: the job ends all the same
        sys.stdout.flush()
        sys.stderr.write("".join(f"{front}{line}\n" for line in text.splitlines()))
        sys.stderr.flush()


def wait_until_read(patience_s: float = 0.5) -> None:
    """Wait until the launcher has taken what this process wrote to stderr, but not for ever.

    MPICH's launcher ends all ranks when one aborts or dies, and leaves what it has not read of their output: three jobs
    of forty ended without a word.
    """
    unread = array.array("i", [0])
    end_s = time.monotonic() + patience_s
    with suppress(OSError, ValueError):  # neither a pipe nor a terminal: nothing to wait for
        while not fcntl.ioctl(sys.stderr.fileno(), termios.FIONREAD, unread) and unread[0]:
            if time.monotonic() > end_s:
                break
            time.sleep(0.001)


@contextmanager
def killed_after(deadline_s: float) -> Iterator[None]:
    """Kill this process when what it does inside the block takes longer than the deadline, and than `LAST_S`.

    MPI's own last calls hold the interpreter while they wait, so that no thread can say what is wrong: the kernel ends
    the process by SIGALRM, which the launcher names.
    """
    signal.setitimer(signal.ITIMER_REAL, max(deadline_s, LAST_S))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def leave(code: int) -> NoReturn:
    """End this process in the ordinary way."""
    sys.stdout.flush()
    sys.stderr.flush()
    raise SystemExit(code)


class Stopped:
    """Which signal has ended the stream; empty while none has."""

    def __init__(self) -> None:
        self.by = ""


@contextmanager
def stopping(stop: Callable[[], object] | None, stopped: Stopped | None = None) -> Iterator[Stopped]:
    """Inside the block, signals that would end this process call `stop` instead, or do nothing.

    Parameters
    ----------
    stop : callable or None
        Called in the main thread, between any two of its instructions, at the first signal, and never inside a call of
        itself unless two signals come at once: it must only set flags. None on ranks that are told by others.
    stopped : Stopped, optional
        Of an earlier block, which this one goes on with.
    """
    stopped = stopped or Stopped()

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
