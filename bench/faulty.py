"""Where jobs are disturbed, and what they leave held against what nobody disturbed.

What `faults.py`, `soak.py` and `survival.py` share.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from flexpie_mpi.emulate.launch import find_library
from flexpie_mpi.files.hdf5 import Stack
from tests.jobs import PROGRAM, Job, on_ranks

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
