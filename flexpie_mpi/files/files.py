"""Files of other people: found, and read with every failure turned into one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.document import one_line
from ..core.errors import DataError


def check_readable(path: Path) -> None:
    """Check that `path` is a file that can be opened.

    Raises
    ------
    DataError
        When it does not exist, is a folder or a device, or may not be read.
    """
    if not os.path.exists(path):
        raise DataError(f"input file '{path}' does not exist")
    if not os.path.isfile(path):
        raise DataError(f"input '{path}' is a {'folder' if path.is_dir() else 'device'}, not a file")
    if not os.access(path, os.R_OK):
        raise DataError(f"input file '{path}' may not be read by this user")


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into a :class:`DataError` that names the file.

    The net is wide on purpose: on damaged bytes, decoders raise what the libraries below them raise.
    """
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(
            f"'{path}' says that it holds more than fits into memory: it is damaged or too large"
        ) from error
    except Exception as error:
        raise DataError(f"'{path}' cannot be read as {kind}: {one_line(error)}") from error
