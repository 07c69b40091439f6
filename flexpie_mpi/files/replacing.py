"""Files that appear whole or not at all: written beside their place under another name, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.document import one_line
from ..core.errors import DataError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to inside the block, which becomes `path` when the block ends well, links followed.

    Raises
    ------
    DataError
        When a file cannot be written there, whatever the block raised for it. Nothing new is then left, and an older
        file stays as it was.
    """
    target = _target(path)
    with _beside(path, target) as part:
        yield part
        os.replace(part, target)


def write_text(path: str | Path, text: str) -> None:
    """Write a file as :func:`replacing` does."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def check_replaceable(path: str | Path) -> None:
    """Check that :func:`replacing` could write to `path`, so that a wrong path does not cost a run. Leaves no file.

    Raises
    ------
    DataError
        When the folder is missing, the path is no file, or a file cannot be made there.
    """
    target = _target(path)
    with _beside(path, target) as part:
        part.open("xb").close()
        with suppress(FileNotFoundError):
            target.stat()  # a name that the file system does not take


def _target(path: str | Path) -> Path:
    """The file that `path` means."""
    target = Path(os.path.realpath(path))
    if not os.path.isdir(target.parent):
        raise DataError(f"output '{path}' cannot be written: there is no folder '{target.parent}'")
    if os.path.exists(target) and not os.path.isfile(target):
        kind = "folder" if os.path.isdir(target) else "device"
        raise DataError(f"output '{path}' cannot be written: it is a {kind}, not a file")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise DataError(f"output '{path}' cannot be written: it exists and may not be changed by this user")
    return target


@contextmanager
def _beside(path: str | Path, target: Path) -> Iterator[Path]:
    """A file name beside the target that nobody else uses (renaming is atomic inside one folder); gone afterwards."""
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise DataError(f"output '{path}' cannot be written: {reason}") from error
    finally:
        with suppress(OSError):
            part.unlink()
