"""How a rank that fails ends the whole job: its traceback, with its number in front, then abort."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


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


def leave(code: int) -> NoReturn:
    """End this process in the ordinary way."""
    sys.stdout.flush()
    sys.stderr.flush()
    raise SystemExit(code)
