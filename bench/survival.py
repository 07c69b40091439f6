"""Kills at random in a long stream: no request lost, none twice, all equal, and how long the others are held up.

``python bench/survival.py [--requests 10000] [--kills 20] [--ranks 8] [--spares 1] [--model builtin:tiny_cnn]``

Runs ``infer --elastic`` with the ``mpirun`` beside this python, which must be Open MPI's, and kills one rank after the
other at random moments (the root, spares, and those that are still finding together too). When too few are left, the
launcher is killed, and the stream goes on by ``--resume`` on as many ranks as at first. Every request has numbers of
its own: one in another's place, or twice, differs from what one rank alone writes, which is run first. A gap is from a
kill to the next line that says that requests are through again. Exit code 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Thread

import h5py
import numpy as np

FEWEST = 2
"""Ranks that are left to go on; with no more, the whole job is killed."""

AT_ONCE = 0.2
"""So many of all kills are followed by another while those that are left find together."""

SOON_S, MOST_S = 0.3, 5.0
"""The other comes within `SOON_S`; where nobody is missed within `MOST_S` it was a spare, and there is no gap."""

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
LIMIT_S = 180.0
"""A job that has written nothing for so long hangs."""

_ROOM = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_ALLOW_RUN_AS_ROOT": "1"}
_ENVIRONMENT = {**os.environ, **_ROOM, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
_MARK = "FLEXPIE_SURVIVAL"


class Job:
    """One job, from its launch to its end, and what it says meanwhile."""

    def __init__(self, words: list[str], ranks: int, spares: int) -> None:
        self._mark = f"{_MARK}={os.getpid()}.{time.monotonic_ns()}"
        launcher = [str(Path(sys.executable).with_name("mpirun")), "--with-ft", "ulfm", "-n", str(ranks)]
        self.process = subprocess.Popen(
            [*launcher, *words, "--elastic", "--spares", str(spares)],
            env={**_ENVIRONMENT, _MARK: self._mark.partition("=")[2]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said: list[str] = []
        self.through_s: list[float] = []  # when requests were through again after a loss
        Thread(target=self._listen, daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def pids(self) -> list[int]:
        """Processes of the ranks that are alive, by rank."""
        found: dict[int, int] = {}
        for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
            rank = self._rank(pid)
            if rank is not None:
                found.setdefault(rank, pid)  # what a rank has started has a higher number, or soon ends
        return [found[rank] for rank in sorted(found)]

    def kill(self) -> None:
        """End the launcher and all ranks."""
        for pid in (self.process.pid, *self.pids()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None, "it is a pipe"
        for line in self.process.stdout:
            self.said.append(line)
            if re.search(r"request \d+ is through, ", line):
                self.through_s.append(time.monotonic())

    def _rank(self, pid: int) -> int | None:
        with suppress(OSError):
            around = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            numbers = [each for each in around if each.startswith(b"OMPI_COMM_WORLD_RANK=")]
            is_rank = b"flexpie_mpi" in Path(f"/proc/{pid}/cmdline").read_bytes()
            if numbers and is_rank and self._mark.encode() in around:
                return int(numbers[0].partition(b"=")[2])
        return None


class Torture:
    """A stream that goes on until all its requests are written, whatever is killed meanwhile."""

    def __init__(self, args: argparse.Namespace, words: list[str], path: Path) -> None:
        self._args, self._words, self._path = args, words, path
        self._random = Random(args.seed)
        self.killed: Counter[str] = Counter()
        self.gaps_s: list[float] = []
        self.problems: list[str] = []

    def run(self) -> None:
        """Start jobs until one ends by itself."""
        while not self.problems and not self._ends_by_itself():
            pass

    def _ends_by_itself(self) -> bool:
        """Whether a job ends without being killed as a whole."""
        spares = min(self._args.spares, self._args.ranks - FEWEST)
        job = Job([*self._words, "--resume", str(self._path)], self._args.ranks, spares)
        left = self._args.ranks
        while self._to_kill and self._is_through(job):
            if left == FEWEST:
                self.killed["whole jobs"] += 1
                job.kill()
                return False
            count = 2 if self._random.random() < AT_ONCE else 1
            left -= self._kill(job, min(count, left - FEWEST, self._to_kill))
        if job.process.wait():
            self.problems.append(f"a job ended with {job.process.returncode}: {''.join(job.said[-20:])}")
        return True

    @property
    def _to_kill(self) -> int:
        return 0 if self.problems else self._args.kills - self.killed.total()

    def _is_through(self, job: Job) -> bool:
        """Wait for requests to be written, and a moment more; whether the job goes on then."""
        before, limit_s = written(self._path), time.monotonic() + LIMIT_S
        while not job.is_over and written(self._path) == before:
            time.sleep(0.02)
            if time.monotonic() > limit_s:
                self.problems.append(f"nothing was written for {LIMIT_S:g} s: {''.join(job.said[-20:])}")
                job.kill()
        time.sleep(self._random.uniform(0, self._args.pause))
        return not job.is_over

    def _kill(self, job: Job, count: int) -> int:
        """Kill so many ranks, one shortly after the other; returns how many when requests are through again."""
        through, said, at_s = len(job.through_s), len(job.said), 0.0
        for _ in range(count):
            pids = job.pids()
            victim = self._random.choice(pids)
            self.killed["roots" if victim == pids[0] else "others"] += 1
            at_s = at_s or time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            time.sleep(self._random.uniform(0, SOON_S) if count > 1 else 0)
        while len(job.through_s) == through and not job.is_over:
            is_missed = any(" lost: rank" in line for line in job.said[said:])
            if time.monotonic() > at_s + (LIMIT_S if is_missed else MOST_S):
                break
            time.sleep(0.005)
        if len(job.through_s) > through:
            self.gaps_s.append(job.through_s[-1] - at_s)
        return count


def written(path: Path) -> int:
    """Complete requests in a file that is being written."""
    with suppress(OSError, KeyError), h5py.File(path, "r", locking=False) as file:
        return int(file.attrs["requests"])
    return 0


def judged(path: Path, reference: Path) -> dict[str, int]:
    """How many requests are lost, doubled or unequal in a file, against one that is as it should be."""
    with h5py.File(path, "r") as file, h5py.File(reference, "r") as expected:
        names = [name for name in expected if isinstance(expected[name], h5py.Dataset)]
        count, wanted = int(file.attrs["requests"]), int(expected.attrs["requests"])
        got, right = (
            np.concatenate([each[name][:].reshape(len(each[name]), -1) for name in names], axis=1)
            for each in (file, expected)
        )
    equal = [np.allclose(a, b, **TOLERANCE) for a, b in zip(got, right, strict=False)]
    others = [np.isclose(got[row], right, **TOLERANCE).all(axis=1).any() for row, same in enumerate(equal) if not same]
    return {"lost": wanted - count, "doubled": sum(others), "unequal": equal.count(False) - sum(others)}


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--spares", type=int, default=1)
    parser.add_argument("--pause", type=float, default=1.0, help="most seconds between requests and the next kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="builtin:tiny_cnn")
    parser.add_argument("--infer", default="--layout rows", help="more options of infer")
    args = parser.parse_args()
    words = ["-m", "flexpie_mpi", "infer", "--model", args.model, "--requests", str(args.requests)]
    with tempfile.TemporaryDirectory() as folder:
        reference, path = Path(folder, "reference.h5"), Path(folder, "out.h5")
        alone = [sys.executable, *words, "--layout", "single", "--output", str(reference)]
        subprocess.run(alone, check=True, capture_output=True, env=_ENVIRONMENT)
        began_s = time.monotonic()
        torture = Torture(args, [sys.executable, *words, *args.infer.split()], path)
        torture.run()
        found = {} if torture.problems else judged(path, reference)
    killed = ", ".join(f"{count} {what}" for what, count in torture.killed.items())
    print(f"{args.requests} requests, killed: {killed or 'nothing'}, in {time.monotonic() - began_s:.0f} s")
    print(", ".join(f"{what} {count}" for what, count in found.items()) or "\n".join(torture.problems))
    if torture.gaps_s:
        gaps_s = sorted(torture.gaps_s)
        median_s, worst_s = statistics.median(gaps_s), gaps_s[-1]
        print(f"gap from a kill to the next request: median {median_s:.2f} s, worst {worst_s:.2f} s of {len(gaps_s)}")
    return int(bool(torture.problems) or any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
