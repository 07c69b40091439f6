"""What a verb says and leaves behind: the standard streams, the line about what goes on, records, and tried paths.

A user may leave the streams in an encoding without most letters, full, closed, or read no more.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..core.errors import DataError, FlexPieError, ReportError
from ..files.atomic import check_replaceable, write_text
from . import UsageError

if TYPE_CHECKING:
    from ..report.tables import Item

STDOUT = "-"

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


class Progress:
    """What goes on, in a line on a terminal that replaces itself; silent on any other stream, and without one.

    It is written when it changes and at no other time, so that it costs nothing while a request is measured.
    """

    def __init__(self, stream: TextIO | None, note: Callable[[str], object] = lambda text: None) -> None:
        self._note = note  # is told as well
        self._stream = stream if stream is not None and stream.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()

    def tell(self, text: str) -> None:
        """Replace the line."""
        self._note(text)
        if self._stream is not None:
            width = shutil.get_terminal_size().columns
            try:
                self._stream.write(f"\r\x1b[K{text[: width - 1]}")
                self._stream.flush()
            except OSError:  # the terminal is gone, and what goes on has to go on without it
                self._stream = None

    def clear(self) -> None:
        """Take the line away."""
        self.tell("")


def check_paths(paths: Mapping[str, str | None]) -> None:
    """Check that every path can be written and that no two are the same; None is that of an option that is not given.

    Raises DataError when one cannot be written. Raises UsageError when two options name the same file.
    """
    seen: dict[str, str] = {}
    for option, path in paths.items():
        if path is None or path == STDOUT:
            continue
        real = os.path.realpath(path)
        if real in seen:
            raise UsageError(f"{seen[real]} and {option} both name '{path}': give two different files")
        seen[real] = option
        check_replaceable(path)


def check_distinct(paths: Iterable[str], what: str) -> dict[str, str]:
    """Paths of files that are to be read, by what they really are.

    Raises UsageError when a file is given twice: it would be counted twice.
    """
    known: dict[str, str] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in known:
            raise UsageError(f"'{known[real]}' and '{path}' are the same {what}: give each file once")
        known[real] = path
    return known


def make_folder(name: str) -> Path:
    """The folder of ``--output``, made where it is missing.

    Raises ReportError when it cannot be made.
    """
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(f"--output {name} is no folder and none can be made there: {error.strerror}") from error
    return Path(name)


def publish(items: Callable[[], Iterable[Item]], record: Mapping[str, Any], json_path: str | None) -> None:
    """Write `record` where ``--json FILE`` asks for it, and print what `items` returns.

    Raises DataError when it cannot be written.
    """
    write_record(record, json_path)
    show(items, record, json_path)


def show(items: Callable[[], Iterable[Item]], record: Mapping[str, Any], json_path: str | None) -> None:
    """Print what `items` returns, or nothing but `record` where ``--json -`` asks for it."""
    if json_path == STDOUT:
        emit(_text(record))
        return
    from ..report.tables import text_of

    emit(text_of(items(), sys.stdout))


def write_record(record: Mapping[str, Any], json_path: str | None) -> None:
    """Write `record` where ``--json FILE`` asks for it.

    Raises DataError when it cannot be written.
    """
    if json_path not in (None, STDOUT):
        write_text(json_path, _text(record))


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2, allow_nan=False) + "\n"
