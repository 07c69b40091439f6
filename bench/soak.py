"""A long stream on emulated boards that pause, whose links change, and of which some are lost: nothing may go missing.

``python bench/soak.py [--minutes 60] [--losses 2] [--slowdown 50]``, as root; with ``--here`` the ranks are processes
of this machine, and links stay as they are.

Every few seconds a rank is stopped for a while, or a board's link carries a hundredth. Now and then a rank is killed,
the root first, and the job is started again with the same words (``--resume``). In the end the stream is stopped by a
signal, and every request that is written is compared with one session of onnxruntime. Exit code 1 when one is missing,
comes twice or is another, when the job ends by itself, or when a rank's memory grows.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from faulty import MODEL, RANKS, Job, Place, ending_jobs, limit_link

import flexpie_mpi as fp
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.hdf5 import Stack
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure.compare import Reference
from tests.arrays import written

DEADLINE_S = 30.0
LONGEST_PAUSE_S, LONGEST_REST_S = 3.0, 4.0
WARM = 200
"""A rank's memory is looked at first when the job has written so many requests."""

GROWTH = 0.02
"""Most that a rank's memory may grow by after that."""


@dataclass
class Soak:
    """A stream that is disturbed, and what has become of it."""

    place: Place
    out: Path
    chance: random.Random
    is_emulated: bool
    problems: list[str] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)  # of every rank of every job, as a part of what it had
    pauses: int = 0
    changes: int = 0

    def live(self, end_s: float) -> Job:
        """A job that is disturbed until a time; it still runs, or a problem says that it does not."""
        job = Job((self.place.emulated if self.is_emulated else self.place.plain)(self.out), self.out)
        before: dict[int, int] = {}
        begun = written(self.out)
        while job.begun(written(self.out) + 1):
            ranks = job.pids()
            if not before and written(self.out) >= begun + WARM:
                before = {rank: resident_bytes(pid) for rank, pid in ranks.items()}
            if time.monotonic() > end_s:
                break
            time.sleep(self.chance.uniform(0, LONGEST_REST_S))
            self._disturb(job, ranks)
        if job.process.poll() is not None:
            self.problems.append(f"the job ended by itself with exit code {job.process.returncode}: {job.text[-400:]}")
        for rank, pid in job.pids().items():
            grown = resident_bytes(pid) / before.get(rank, resident_bytes(pid)) - 1
            self.growth.append(grown)
            self.problems += [f"rank {rank} has grown by {grown:.1%}"] if grown > GROWTH else []
        return job

    def _disturb(self, job: Job, ranks: dict[int, int]) -> None:
        board = self.chance.randrange(RANKS)
        if self.is_emulated and self.chance.random() < 0.5:
            self.changes += 1
            for rate in ("10mbit", "1gbit"):
                limit_link(job, board, rate)
                time.sleep(self.chance.uniform(0, LONGEST_PAUSE_S))
        else:
            self.pauses += 1
            for number in (signal.SIGSTOP, signal.SIGCONT):
                os.kill(ranks[board], number)
                time.sleep(self.chance.uniform(0, LONGEST_PAUSE_S))


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def compared(out: Path) -> tuple[int, list[str]]:
    """How many requests a file has, and what is wrong with them."""
    model = fp.load(MODEL, cache=Cache(None))
    reference, found = Reference(model, 1), []
    with Stack(out) as stack:
        for number in range(stack.count):
            outputs = {name: offer.load() for name, offer in stack.offers(number).items()}
            checks = reference.compare(random_inputs(model.graph, 0, number), outputs)
            found += [f"request {number}: {check.value}: {check.problem}" for check in checks if check.problem]
        return stack.count, found


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--losses", type=int, default=2)
    parser.add_argument("--slowdown", type=int, default=50, help="of the boards (default %(default)s)")
    parser.add_argument("--here", action="store_true", help="emulate nothing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ending_jobs()
    begin_s, seconds = time.monotonic(), 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), 1 << 30, DEADLINE_S, options.slowdown)
        soak = Soak(place, Path(folder, "out.h5"), random.Random(options.seed), not options.here)
        for life in range(options.losses + 1):
            with soak.live(begin_s + seconds * (life + 1) / (options.losses + 1)) as job:
                is_last = life == options.losses
                if job.process.poll() is None:
                    job.signal(0 if is_last else life % RANKS, signal.SIGTERM if is_last else signal.SIGKILL)
                if job.ended(60) is None:
                    soak.problems.append("the job did not end")
        count, wrong = compared(soak.out)
    disturbed = f"{soak.pauses} pauses, {soak.changes} changes of links, {options.losses} ranks lost"
    print(f"{count} requests in {time.monotonic() - begin_s:.0f} s, with {disturbed}")
    print("growth of ranks:", ", ".join(f"{grown:.1%}" for grown in soak.growth))
    print("\n".join((soak.problems + wrong)[:20]) or "each written once, in order, equal to onnxruntime's")
    return 1 if soak.problems or wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
