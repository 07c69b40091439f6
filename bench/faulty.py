"""Where jobs are disturbed, and what they leave held against what nobody disturbed.

What `faults.py`, `soak.py` and `survival.py` share.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from flexpie_mpi.emulate.launch import find_library
from flexpie_mpi.files.hdf5 import Stack
from tests.arrays import written
from tests.launch import REPOSITORY, environment, launcher, pids_of

PROGRAM = [sys.executable, "-m", "flexpie_mpi"]

MODEL = "builtin:tiny_cnn"
RANKS = 3
DEADLINE_S = 4.0

BOARDS = """format = 1
topology = "switch"
[link]
bandwidth = "1Gb/s"
latency = "50us"
[[device]]
name = "board"
count = {ranks}
slowdown = {slowdown}
"""
"""Slow boards: a stream lasts as long as it takes to disturb it, and leaves this machine's cores alone."""

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def on_ranks(*groups: tuple[int, Sequence[object]], switches: Sequence[str] = ()) -> list[object]:
    """The command that starts so many ranks of each program."""
    words = [word for count, program in groups for word in (":", "-n", count, *program)]
    return [*(launcher() or ["mpirun"]), *switches, *words[1:]]


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

    @property
    def heard_s(self) -> float:
        """When it said something last."""
        return self.said[-1][0] if self.said else 0.0

    def kill(self) -> None:
        """End the launcher and all ranks at once."""
        for pid in (*self.pids().values(), *([self.process.pid] if self.process.poll() is None else [])):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._listener.join(5)

    def pids(self) -> dict[int, int]:
        """Processes of the ranks that are alive, by rank, in order."""
        return pids_of(str(self.out))

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


@dataclass(frozen=True)
class Place:
    """Where jobs run: a folder with the boards, a cache and results, and the MPI library of this environment."""

    folder: Path
    requests: int
    deadline_s: float = DEADLINE_S
    slowdown: int = 50
    library: str = field(default_factory=lambda: find_library().name)

    def __post_init__(self) -> None:
        self.boards.write_text(BOARDS.format(ranks=RANKS, slowdown=self.slowdown))

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
        where = ["--testbed", str(self.boards), "--cache", str(self.cache)]
        return [*verb, *where, "--deadline", f"{self.deadline_s:g}", "--verbose"]

    def program(self, out: Path, model: str = MODEL) -> list[str]:
        """The same with the program in front."""
        return [*PROGRAM, *self.words(out, model)]

    def alone(self, out: Path) -> Sequence[object]:
        """The command of a job of one process, which does not wait to be as slow as a board."""
        return [*PROGRAM, "infer", "--model", MODEL, "--requests", str(self.requests), "--resume", out]

    def plain(self, out: Path) -> Sequence[object]:
        """The command of a job of this machine's processes."""
        return on_ranks((RANKS, self.program(out)))

    def emulated(self, out: Path) -> Sequence[object]:
        """The command of a job on emulated boards; needs root."""
        return [*PROGRAM, "emulate", "--no-check", "--mpi", self.library, self.boards, "--", *self.words(out)]


def ending_jobs() -> None:
    """From now on SIGTERM ends this program as an error would: jobs that it has started end with it."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def board_space(job: Job, board: int) -> str:
    """The network namespace of a board that a job has emulated."""
    names = (name for name in os.listdir("/run/netns") if name.startswith(f"flexpie-{job.process.pid}-"))
    return f"{next(names).rpartition('-')[0]}-{board}"


def limit_link(job: Job, board: int, rate: str) -> None:
    """Let the cable of a board carry so much from now on, in the direction away from it."""
    words = ["dev", "eth0", "parent", "1:", "classid", "1:1", "htb", "rate", rate, "burst", "32kb", "cburst", "32kb"]
    words += ["quantum", "12014"]
    subprocess.run(["tc", "-n", board_space(job, board), "class", "change", *words], check=True)


@contextlib.contextmanager
def slow_link(job: Job, board: int) -> Iterator[None]:
    """A board's link carries a tenth, away from it."""
    limit_link(job, board, "100mbit")
    yield
    limit_link(job, board, "1gbit")


@contextlib.contextmanager
def slow_board(job: Job, rank: int) -> Iterator[None]:
    """A rank has a tenth of its time."""
    over, pid = Event(), job.pids()[rank]

    def throttle() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not over.is_set():
                for number, seconds in ((signal.SIGSTOP, 0.045), (signal.SIGCONT, 0.005)):
                    os.kill(pid, number)
                    time.sleep(seconds)

    thread = Thread(target=throttle, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join()


def rows(path: Path) -> np.ndarray:
    """The outputs of all requests of a file, ``(requests, values)``; none where there is no file."""
    if not path.exists():
        return np.zeros((0, 0))
    with Stack(path) as stack:
        requests = (stack.offers(number).values() for number in range(stack.count))
        return np.array([np.concatenate([offer.load().reshape(-1) for offer in offers]) for offers in requests])


def judged(found: np.ndarray, expected: np.ndarray) -> dict[str, int]:
    """How many requests are lost, doubled and unequal, of rows ``(requests, values)``.

    One is doubled where it is in another's place, or behind the last.
    """
    equal = [np.allclose(a, b, **TOLERANCE) for a, b in zip(found, expected, strict=False)]
    wrong = [row for row, same in zip(found, equal, strict=False) if not same]
    others = sum(np.isclose(row, expected, **TOLERANCE).all(axis=1).any() for row in wrong)
    spare = max(len(found) - len(expected), 0)
    return {"lost": max(len(expected) - len(found), 0), "doubled": others + spare, "unequal": len(wrong) - others}


def undisturbed(command: Sequence[object], out: Path) -> np.ndarray:
    """What a job writes that nobody disturbs."""
    with Job(command, out) as job:
        if job.ended(3600) is None or job.process.returncode:
            raise RuntimeError(job.text)
    return rows(out)
