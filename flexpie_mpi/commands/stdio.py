"""The standard streams as a user may leave them: in an encoding without most letters, full, closed, or read no more."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ..core.errors import DataError, FlexPieError

WRONG_INPUT = 2
"""Exit code for everything that a FlexPieError says."""

_STDIN, _STDOUT, _STDERR = range(3)


def mend_streams() -> None:
    r"""Make both streams safe to write to; to be called before anything is opened.

    What an encoding does not have is written as its number (``\xe9``). A stream that was closed gets its descriptor
    back, so that no file that is opened later is written to in its place: writing to stdout then fails, as it should,
    and what is said on stderr is lost.
    """
    for number in (_STDIN, _STDOUT, _STDERR):
        if not _is_open(number):  # those below it are open: it is the next that the system gives
            os.open(os.devnull, os.O_WRONLY if number == _STDERR else os.O_RDONLY)
    sys.stdout = sys.stdout or os.fdopen(_STDOUT, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(_STDERR, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def emit(text: str) -> None:
    """Write to stdout; a reader that has gone away (``| head``) is no error.

    Raises DataError when it cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _write_nowhere()
    except OSError as error:
        _write_nowhere()
        raise DataError(f"standard output cannot be written: {error.strerror}") from error


def tell(text: str) -> None:
    """Write a line to stderr, if that can be."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def sentence(error: FlexPieError) -> str:
    """An error in one line, as the command prints it."""
    lines = Exception.__str__(error).split()  # onnxruntime breaks its own; what else cannot be shown is escaped
    return f"flexpie-mpi: error: {FlexPieError(' '.join(lines))}"


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _write_nowhere() -> None:
    """What is left of the text, and all that follows, is dropped: Python would try again at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
