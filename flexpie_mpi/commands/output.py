"""What a verb leaves behind: text on stdout, records, and paths that were tried before any work."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ReportError
from ..files.atomic import check_replaceable, write_text
from .parser import UsageError
from .stdio import emit

if TYPE_CHECKING:
    from ..report.tables import Item

STDOUT = "-"


def check_paths(paths: Mapping[str, str | None]) -> None:
    """Check that every path that is asked for can be written and that no two are the same.

    Parameters
    ----------
    paths : mapping of option to path
        None for an option that is not given.

    Raises
    ------
    DataError
        When one cannot be written.
    UsageError
        When two options name the same file.
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
