"""Jobs that can be disturbed: started, listened to, and hurt, by tests and by what stands in ``bench``."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.files.hdf5 import Stack

from .launch import REPOSITORY, environment, launcher

PROGRAM = [sys.executable, "-m", "flexpie_mpi"]


class Job:
    """A job that runs, and what it has said, with the times.

    Parameters
    ----------
    command : sequence
        Of its launcher.
    out : Path
        File that its ranks write results into: they are known by this word.
    """

    def __init__(self, command: Sequence[object], out: Path) -> None:
        self.out = out
        self.said: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # MPICH's launcher says there why a job has ended
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment(),
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
        self.kill()

    @property
    def text(self) -> str:
        """All that it has said."""
        return "\n".join(line for _, line in self.said)

    def kill(self) -> None:
        """End the launcher and all ranks at once."""
        for pid in (*self.pids().values(), *([self.process.pid] if self.process.poll() is None else [])):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._listener.join(5)

    def pids(self) -> dict[int, int]:
        """Processes of the ranks that are alive, by rank, in order."""
        found: dict[int, int] = {}
        for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
            rank = _rank_of(pid, str(self.out))
            if rank is not None:
                found.setdefault(rank, pid)  # what a rank has started has a higher number
        return dict(sorted(found.items()))

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to a rank."""
        os.kill(self.pids()[rank], number)

    def begun(self, requests: int = 1, timeout_s: float = 120) -> bool:
        """Wait until so many requests are written; whether the job runs still."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s and self.process.poll() is None and written(self.out) < requests:
            time.sleep(0.03)
        return self.process.poll() is None

    def ended(self, timeout_s: float) -> float | None:
        """When the launcher and all ranks were gone; None when they are not within this time."""
        end_s = time.monotonic() + timeout_s
        while self.process.poll() is None or self.pids():
            if time.monotonic() > end_s:
                return None
            time.sleep(0.05)
        self._listener.join(5)
        return time.monotonic()

    def named(self, reason: str, since_s: float = 0.0) -> float | None:
        """Seconds from a moment until it said something like this; None where it did not."""
        times = (when_s for when_s, line in list(self.said) if when_s >= since_s and re.search(reason, line))
        return next((when_s - since_s for when_s in times), None)

    def _listen(self) -> None:
        assert self.process.stdout is not None, "it is a pipe"
        for line in self.process.stdout:
            self.said.append((time.monotonic(), line.rstrip()))


def on_ranks(*groups: tuple[int, Sequence[object]], switches: Sequence[str] = ()) -> list[object]:
    """The command that starts so many ranks of each program."""
    words = [word for count, program in groups for word in (":", "-n", count, *program)]
    return [*(launcher() or ["mpirun"]), *switches, *words[1:]]


def written(path: Path) -> int:
    """Complete requests in a file that is being written; 0 while there is none to read."""
    try:
        with Stack(path) as stack:
            return stack.count
    except DataError:
        return 0


def _rank_of(pid: int, marker: str) -> int | None:
    """The rank of a process whose command line has a word; None of any other, and of one that is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        around = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    if os.fsencode(marker) not in words or os.fsencode(sys.executable) != words[0] or b"emulate" in words:
        return None
    names = (b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK=")
    return next((int(each.partition(b"=")[2]) for each in around if each.startswith(names)), None)
