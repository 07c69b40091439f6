"""Jobs that can be disturbed: started, watched, hurt, and held against one that nobody disturbed.

What `faults.py` and `soak.py` share.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import numpy as np

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.emulate.launch import find_library
from flexpie_mpi.files.hdf5 import Stack

REPOSITORY = Path(__file__).parents[1]
MODEL = "builtin:tiny_cnn"
RANKS = 3
DEADLINE_S = 4.0

BOARDS = f"""format = 1
topology = "switch"
[link]
bandwidth = "1Gb/s"
latency = "50us"
[[device]]
name = "board"
count = {RANKS}
slowdown = 50
"""
"""Slow boards: a stream lasts as long as it takes to disturb it, and leaves this machine's cores alone."""

_SWITCHES = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(REPOSITORY),
}


@dataclass(frozen=True)
class Place:
    """Where jobs run: a folder with the boards, a cache and results, and the MPI library of this environment."""

    folder: Path
    requests: int
    deadline_s: float = DEADLINE_S
    library: str = field(default_factory=lambda: find_library().name)

    def __post_init__(self) -> None:
        self.boards.write_text(BOARDS)

    @property
    def boards(self) -> Path:
        """The testbed's file."""
        return self.folder / "boards.toml"

    @property
    def cache(self) -> Path:
        """The folder of the cache of all ranks."""
        return self.folder / "cache"

    def words(self, out: Path, model: str = MODEL) -> list[str]:
        """What every rank runs to write, or to go on with, a file of results."""
        verb = ["infer", "--model", model, "--layout", "rows", "--requests", str(self.requests), "--resume", str(out)]
        return [*verb, "--testbed", str(self.boards), "--deadline", f"{self.deadline_s:g}", "--cache", str(self.cache)]

    def ranks(self, *groups: tuple[int, Sequence[str]], switches: Sequence[str] = ()) -> list[str]:
        """The command that starts so many ranks of each program."""
        words = [word for count, program in groups for word in (":", "-n", str(count), *program)]
        return [find_library().mpirun, *switches, *words[1:]]

    def plain(self, out: Path) -> list[str]:
        """The command of a job of this machine's processes."""
        return self.ranks((RANKS, [*python(), *self.words(out)]))

    def emulated(self, out: Path) -> list[str]:
        """The command of a job on emulated boards; needs root."""
        return [*python(), "emulate", "--no-check", "--mpi", self.library, str(self.boards), "--", *self.words(out)]


def python() -> list[str]:
    """The program."""
    return [sys.executable, "-m", "flexpie_mpi"]


class Job:
    """A job that runs, and what it has said, with the times."""

    def __init__(self, command: Sequence[str], out: Path, environment: Mapping[str, str] | None = None) -> None:
        self.out = out
        self.said: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # MPICH's launcher says there why a job has ended
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **_SWITCHES, **(environment or {})},
            cwd=REPOSITORY,
            start_new_session=True,
        )
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *raised: object) -> None:
        """End what is left of it, ranks that outlived their launcher included."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        for pid in (*self.pids().values(), *([self.process.pid] if self.process.poll() is None else [])):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._listener.join(5)

    def pids(self) -> dict[int, int]:
        """Processes by rank."""
        found = {rank_of(pid, str(self.out)): int(pid) for pid in os.listdir("/proc") if pid.isdecimal()}
        return {rank: pid for rank, pid in found.items() if rank is not None}

    def begun(self, requests: int, timeout_s: float = 120) -> bool:
        """Wait until so many requests are written; whether the job runs still."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s and self.process.poll() is None and written(self.out) < requests:
            time.sleep(0.05)
        return self.process.poll() is None

    def ended(self, timeout_s: float) -> float | None:
        """When the job and all its ranks were gone; None when they are not within this time."""
        end_s = time.monotonic() + timeout_s
        while self.process.poll() is None or self.pids():
            if time.monotonic() > end_s:
                return None
            time.sleep(0.02)
        return time.monotonic()

    def named(self, reason: str, since_s: float) -> float | None:
        """Seconds until it said something like this."""
        times = (when_s for when_s, line in list(self.said) if when_s >= since_s and re.search(reason, line))
        return next((when_s - since_s for when_s in times), None)

    def prefix(self) -> str:
        """Of the names of what it has emulated."""
        names = (name for name in os.listdir("/run/netns") if name.startswith(f"flexpie-{self.process.pid}-"))
        return next(names).rpartition("-")[0]

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append((time.monotonic(), line.rstrip()))


def rank_of(pid: str, marker: str) -> int | None:
    """The rank of a process whose command line has a word; None of any other, and of one that is gone."""
    try:
        words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
        around = Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    if marker.encode() not in words or os.fsencode(sys.executable) != words[0] or b"emulate" in words:
        return None
    names = (b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK=")
    return next((int(each.partition(b"=")[2]) for each in around if each.startswith(names)), None)


def written(path: Path) -> int:
    """Complete requests in a file that is being written."""
    try:
        with Stack(path) as stack:
            return stack.count
    except DataError:
        return 0


def rows(path: Path) -> np.ndarray:
    """The outputs of all requests of a file, ``(requests, values)``; none where there is no file."""
    if not path.exists():
        return np.zeros((0, 0))
    with Stack(path) as stack:
        held = [stack.offers(number)["scores"].load().reshape(-1) for number in range(stack.count)]
    return np.array(held)


def lost_and_doubled(found: np.ndarray, expected: np.ndarray) -> tuple[int, int]:
    """How many requests are not where they should be, and how many rows are those of another request."""
    places = {row.tobytes(): number for number, row in enumerate(expected)}
    held = [places.get(row.tobytes()) for row in found]
    lost = sum(held[number : number + 1] != [number] for number in range(len(expected)))
    return lost, sum(place is not None and place != number for number, place in enumerate(held))


def undisturbed(place: Place) -> np.ndarray:
    """What a job writes that nobody disturbs; its caches are warm afterwards."""
    out = place.folder / "undisturbed.h5"
    with Job(place.plain(out), out) as job:
        if job.ended(600) is None or job.process.returncode:
            raise RuntimeError("\n".join(line for _, line in job.said))
    return rows(out)
