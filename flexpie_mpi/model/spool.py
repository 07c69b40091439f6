"""A model that comes through a pipe, as a file that can be read again and in any order."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from ..core.errors import ModelError


def spooled(path: Path) -> Path:
    """The path itself, or, of a pipe, a file with all that comes through it.

    The file has no name in any folder: it is found by this process's number and that of its descriptor, by child
    processes too, and is gone with this process however that ends.

    Raises
    ------
    ModelError
        When the path is a device, or the pipe cannot be read, or there is no room for what comes through it.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return path  # whoever opens it says why
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise ModelError(f"Model {path} is a device: give a file or a pipe.")
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return path
    try:
        with path.open("rb") as pipe, tempfile.TemporaryFile() as file:
            shutil.copyfileobj(pipe, file, 1 << 20)
            file.flush()
            return Path(f"/proc/{os.getpid()}/fd/{os.dup(file.fileno())}")
    except OSError as error:
        raise ModelError(f"Model {path} cannot be read through its pipe: {error.strerror}.") from error
