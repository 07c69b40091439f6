"""A stream on emulated boards that turns to other plans as a board, or its link, becomes slow and fast again.

``python bench/turns.py [--turns 5] [--model builtin:mobilenet_v1] [--harm board|link]``, as root.

One of four boards gets a tenth of its time, or its link carries a tenth, until the stream goes on by another plan; then
all is as before, until it turns back; and so on. Printed are the seconds between the two results around each turn, and
what they were spent on: ending the stream, beginning the other one, its first request. Every request is compared with
one session of onnxruntime, in order. Exit code 1 when any differs, or a turn does not come.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

from faulty import REPOSITORY, Job, python
from soak import limit_link

BOARDS = REPOSITORY / "hostfiles" / "pi4x4.toml"
VICTIM = 2
LONGEST_S = 180.0
"""A turn that has not come by then does not come."""

TURN = re.compile(r"(\S+) s after the one before: .* ended in (\S+) s .* began in (\S+) s, .* took (\S+) s")


@contextlib.contextmanager
def slow_board(job: Job) -> Iterator[None]:
    """The victim has a tenth of its time."""
    over, pid = Event(), job.pids()[VICTIM]

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


@contextlib.contextmanager
def slow_link(job: Job) -> Iterator[None]:
    """The victim's link carries a tenth, away from it."""
    limit_link(job, VICTIM, "100mbit")
    yield
    limit_link(job, VICTIM, "1gbit")


HARMS = {"board": slow_board, "link": slow_link}


def turns(job: Job) -> list[list[float]]:
    """Seconds of every turn so far: between two results, and each share of them."""
    found = (TURN.search(line) for _, line in list(job.said))
    return [[float(each) for each in match.groups()] for match in found if match]


def turned(job: Job, count: int) -> bool:
    """Wait for so many turns; whether they came."""
    end_s = time.monotonic() + LONGEST_S
    while len(turns(job)) < count and job.process.poll() is None and time.monotonic() < end_s:
        time.sleep(0.1)
    return len(turns(job)) >= count


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--model", default="builtin:mobilenet_v1")
    parser.add_argument("--harm", choices=HARMS, default="board")
    parser.add_argument("--mpi", default="mpich", help="mpich or openmpi, as in this environment")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.h5")
        words = ["infer", "--model", options.model, "--requests", "1000000", "--output", str(out)]
        emulated = [*python(), "emulate", "--no-check", "--mpi", options.mpi, str(BOARDS), "--"]
        with Job([*emulated, *words, "--adapt", "--verify", "--testbed", str(BOARDS)], out) as job:
            came = job.begun(20, 300)
            while came and len(turns(job)) < options.turns:
                before = len(turns(job))
                with HARMS[options.harm](job):
                    came = turned(job, before + 1)
                came = came and turned(job, before + 2)
            os.kill(job.pids()[0], signal.SIGTERM)
            came = job.ended(60) is not None and job.process.returncode == 0 and came
            said, found = [line for _, line in job.said], turns(job)
    print("\n".join(said[-40:]))
    for name, seconds in zip(("gap", "ending", "beginning", "first request"), zip(*found, strict=True), strict=False):
        print(f"{name}: median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s of {len(seconds)}")
    return 0 if came else 1


if __name__ == "__main__":
    sys.exit(main())
