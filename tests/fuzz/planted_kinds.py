"""Kinds of file whose readers do, case by case, what no reader may; prints what the fuzzer says of them.

Started by test_fuzzer.py with the folder of the fuzzer in front of the path, in a process of its own: it forks.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from random import Random

import h5py
import numpy as np
from cases import Kind, Place
from driver import Driver
from worker import Limits

from flexpie_mpi.core.errors import DataError, FlexPieError

LIMITS = Limits(seconds=0.5, mib=64)


class Loud(FlexPieError):
    def __str__(self) -> str:
        return "a\nb"


def spin(path: Path, place: Place) -> object:
    while True:
        pass


def be_stuck(path: Path, place: Place) -> object:
    """As in a library that is never back in Python."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGPROF, signal.SIGALRM))
    time.sleep(60)
    return None


def ask(path: Path, place: Place) -> object:
    try:
        return np.ones(1 << 40)
    except MemoryError as error:
        raise DataError("too much") from error


def leave(path: Path, place: Place) -> object:
    Path(tempfile.mkdtemp(), "part").write_bytes(b"half")
    raise DataError("no")


def link(path: Path, place: Place) -> object:
    """A file that a library opens, behind a link."""
    os.symlink(place.canary(".h5"), place.files / "link")
    h5py.File(place.files / "link").close()
    return None


def refuse(path: Path, place: Place, error: Exception) -> object:
    raise error


READERS: dict[str, Callable[[Path, Place], object]] = {
    "returned": lambda path, place: path.read_bytes(),
    "refused": lambda path, place: refuse(path, place, DataError("no")),
    "traceback": lambda path, place: {}["gone"],
    "signal": lambda path, place: ctypes.string_at(0),
    "hang": spin,
    "hang in a library": be_stuck,
    "memory": lambda path, place: len(bytearray(os.urandom(1 << 20) * 160)),
    "memory that is asked for": ask,
    "outside": lambda path, place: place.canary().stat() and place.canary().open().close(),
    "outside by a library": link,
    "outside, far": lambda path, place: open("/etc/hostname").close(),
    "leak": lambda path, place: place.canary().read_bytes(),
    "leak in a sentence": lambda path, place: refuse(path, place, DataError(place.canary().read_text())),
    "left behind": leave,
    "sentence": lambda path, place: refuse(path, place, Loud()),
}


def make(rng: Random, place: Place) -> Path:
    path = place.files / "file"
    path.write_bytes(rng.randbytes(8))
    return path


def main() -> None:
    kinds = [Kind(name, make, reader) for name, reader in READERS.items()]
    with tempfile.TemporaryDirectory() as folder:
        keep = Path(folder, "keep")
        driver = Driver(Path(folder), 0, LIMITS, keep, 2, inf)
        tallies = driver.run([(kind, 0, 2) for kind in kinds])
        kept = sorted(path.parent.parent.name for path in keep.glob("*/*/file"))
    told = {name: dict(tally.outcomes) for name, tally in tallies.items()}
    json.dump({"outcomes": told, "kept": kept}, sys.stdout)


main()
