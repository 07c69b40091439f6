"""What killed jobs leave in the memory that the ranks of a host share: an MPI library removes it where it ends well.

It may be no file of a job that runs: all processes of this user are asked what they have mapped, and where some cannot
be asked (those of another container), a file that is no longer young has been opened by all that ever will.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SHARED = Path("/dev/shm")
YOUNG_S = 60.0
"""A file so young may be one that other ranks are yet to open."""

_NAME = re.compile(r"(mpich_shm_|vader_segment\.|sm_segment\.).+")
"""Names that MPICH and Open MPI give their files."""


def remove_leftovers(folder: Path = SHARED) -> int:
    """Remove files of this user's MPI jobs that nobody has mapped; their number."""
    with suppress(OSError):
        left = {path for path in map(Path, os.listdir(folder)) if _is_old(folder / path)}
        gone = sorted(left - set(_mapped(folder))) if left else []
        for path in gone:
            (folder / path).unlink(missing_ok=True)
        return len(gone)
    return 0


def _is_old(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return bool(_NAME.fullmatch(path.name)) and found.st_uid == os.getuid() and time.time() - found.st_mtime > YOUNG_S


def _mapped(folder: Path) -> Iterator[Path]:
    """Names of the files in a folder that processes have mapped, as far as they can be looked at."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            for line in maps.read_text(errors="replace").splitlines():
                place = line.split(maxsplit=5)[5:]
                if place and Path(place[0]).parent == folder:
                    yield Path(Path(place[0]).name)
