"""Text files that appear whole or not at all: plans and records."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
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
    if os.path.exists(target) and not os.path.isfile(target):
        raise DataError(f"'{path}' cannot be written: it is a {'folder' if target.is_dir() else 'device'}")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise DataError(f"'{path}' cannot be written: it exists and may not be changed by this user")
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        part.write_text(text, encoding="utf-8")
        if publish:
            part.replace(target)
        else:
            with suppress(FileNotFoundError):
                target.stat()  # a name that the file system does not take
    except OSError as error:
        missing = "" if os.path.isdir(target.parent) else f" (there is no folder '{target.parent}')"
        raise DataError(f"'{path}' cannot be written: {error.strerror}{missing}") from error
    finally:
        with suppress(OSError):
            part.unlink()
