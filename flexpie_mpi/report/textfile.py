"""Text files that appear whole or not at all: plans and records."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ..errors import DataError


def check_writable(path: str) -> None:
    """Check that :func:`write_text` could write to `path`. Leaves no file.

    Raises
    ------
    DataError
        When the folder is missing, the path is no file, or a file cannot be made there.
    """
    _replace(path, "", publish=False)


def write_text(path: str, text: str) -> None:
    """Write a file, replacing an older one.

    Raises
    ------
    DataError
        When it cannot be written. An older file then stays as it was.
    """
    _replace(path, text, publish=True)


def _replace(path: str, text: str, publish: bool) -> None:
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise DataError(f"'{path}' cannot be written: it is a {'folder' if target.is_dir() else 'device'}")
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        part.write_text(text, encoding="utf-8")
        if publish:
            part.replace(target)
        else:
            target.exists()  # a name that the file system does not take
    except OSError as error:
        missing = "" if target.parent.is_dir() else f" (there is no folder '{target.parent}')"
        raise DataError(f"'{path}' cannot be written: {error.strerror}{missing}") from error
    finally:
        _remove(part)


def _remove(part: Path) -> None:
    try:
        part.unlink()
    except OSError:
        return
