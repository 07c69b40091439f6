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
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from faulty import MODEL, PROGRAM, Job, ending_jobs, judged, on_ranks, rows, undisturbed

from tests.arrays import written

FEWEST = 2
"""Ranks that are left to go on; with no more, the whole job is killed."""

AT_ONCE = 0.2
"""So many of all kills are followed by another while those that are left find together."""

SOON_S, MOST_S = 0.3, 5.0
"""The other comes within `SOON_S`; where nobody is missed within `MOST_S` it was a spare, and there is no gap."""

LIMIT_S = 180.0
"""A job that has written nothing for so long hangs."""

THROUGH = r"request \d+ is through, "
"""Said when requests are through again after a loss."""


class Torture:
    """A stream that goes on until all its requests are written, whatever is killed meanwhile."""

    def __init__(self, args: argparse.Namespace, words: list[str], path: Path) -> None:
        self._args, self._path = args, path
        spares = str(min(args.spares, args.ranks - FEWEST))
        self._program = [*words, "--resume", str(path), "--elastic", "--spares", spares]
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
        left = self._args.ranks
        job = Job(on_ranks((left, self._program), switches=["--with-ft", "ulfm"]), self._path)
        while self._to_kill and self._is_through(job):
            if left == FEWEST:
                self.killed["whole jobs"] += 1
                job.kill()
                return False
            count = 2 if self._random.random() < AT_ONCE else 1
            left -= self._kill(job, min(count, left - FEWEST, self._to_kill))
        if job.process.wait():
            self.problems.append(f"a job ended with {job.process.returncode}: {job.text[-4000:]}")
        return True

    @property
    def _to_kill(self) -> int:
        return 0 if self.problems else self._args.kills - self.killed.total()

    def _is_through(self, job: Job) -> bool:
        """Wait for requests to be written, and a moment more; whether the job goes on then."""
        before = written(self._path)
        if job.begun(before + 1, LIMIT_S) and written(self._path) == before:
            self.problems.append(f"nothing was written for {LIMIT_S:g} s: {job.text[-4000:]}")
            job.kill()
        time.sleep(self._random.uniform(0, self._args.pause))
        return job.process.poll() is None

    def _kill(self, job: Job, count: int) -> int:
        """Kill so many ranks, one shortly after the other; returns how many when requests are through again."""
        at_s = time.monotonic()
        for _ in range(count):
            pids = job.pids()
            victim = self._random.choice(list(pids))
            self.killed["roots" if victim == min(pids) else "others"] += 1
            with suppress(ProcessLookupError):
                os.kill(pids[victim], signal.SIGKILL)
            time.sleep(self._random.uniform(0, SOON_S) if count > 1 else 0)
        while (gap_s := job.named(THROUGH, at_s)) is None and job.process.poll() is None:
            if time.monotonic() > at_s + (MOST_S if job.named(" lost: rank", at_s) is None else LIMIT_S):
                break
            time.sleep(0.01)
        self.gaps_s += [] if gap_s is None else [gap_s]
        return count


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--spares", type=int, default=1)
    parser.add_argument("--pause", type=float, default=1.0, help="most seconds between requests and the next kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--infer", default="--layout rows", help="more options of infer")
    args = parser.parse_args()
    ending_jobs()
    words = [*PROGRAM, "infer", "--model", args.model, "--requests", str(args.requests)]
    with tempfile.TemporaryDirectory() as folder:
        reference, path = Path(folder, "reference.h5"), Path(folder, "out.h5")
        expected = undisturbed([*words, "--layout", "single", "--output", reference], reference)
        began_s = time.monotonic()
        torture = Torture(args, [*words, *args.infer.split()], path)
        torture.run()
        found = {} if torture.problems else judged(rows(path), expected)
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
