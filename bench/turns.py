"""How long a stream on emulated boards stands still when it turns to another plan, because a board or a link is slow.

``python bench/turns.py [--turns 5] [--model builtin:mobilenet_v1] [--harm board|link]``, as root.

In the middle of a stream one of four boards gets a tenth of its time, or its link carries a tenth, until the stream has
gone on by another plan (``--adapt``); so often a job. Printed are the seconds between the two results around each turn,
with the usual distance of results before, and what they were spent on: ending the stream, beginning the other one, its
first request. Every request is compared with one session of onnxruntime, in order. Exit code 1 when any differs, or a
turn does not come.
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from faulty import PROGRAM, REPOSITORY, Job, ending_jobs, slow_board, slow_link

from flexpie_mpi.emulate.launch import find_library
from tests.arrays import written

BOARDS = REPOSITORY / "hostfiles" / "pi4x4.toml"
VICTIM = 2
SETTLED_S = 5.0
LONGEST_S = 240.0
"""A turn that has not come by then does not come."""

TURN = re.compile(r"(\S+) s after the one before: .* ended in (\S+) s .* began in (\S+) s, .* took (\S+) s")


HARMS = {"board": slow_board, "link": slow_link}


def usual_s(job: Job) -> float:
    """The distance of results now."""
    before, began_s = written(job.out), time.monotonic()
    time.sleep(SETTLED_S)
    return (time.monotonic() - began_s) / max(1, written(job.out) - before)


def turn(command: Sequence[str], out: Path, harm: str) -> list[float] | None:
    """Seconds of a turn: usual between two results, then, and each share of that; None where it does not come."""
    with Job([*command, "--output", str(out)], out) as job:
        if not job.begun(20, LONGEST_S):
            print(job.text)
            return None
        usual = usual_s(job)
        with HARMS[harm](job, VICTIM):
            end_s, found = time.monotonic() + LONGEST_S, None
            while found is None and job.process.poll() is None and time.monotonic() < end_s:
                time.sleep(0.1)
                found = next((match for _, line in list(job.said) if (match := TURN.search(line))), None)
        time.sleep(SETTLED_S)
        job.signal(0, signal.SIGTERM)
        if job.ended(60) is None or job.process.returncode or found is None:
            print(job.text)
            return None
    said = " ".join(job.text.split())
    print(re.search(r"verify (.*?):", said)[1], "|", found[0], flush=True)
    return [usual, *map(float, found.groups())]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--model", default="builtin:mobilenet_v1")
    parser.add_argument("--harm", choices=HARMS, default="board")
    options = parser.parse_args()
    ending_jobs()
    words = ["emulate", "--no-check", "--mpi", find_library().name, str(BOARDS), "--", "infer", "--adapt", "--verify"]
    words += ["--model", options.model, "--requests", "1000000", "--testbed", str(BOARDS)]
    words += ["--layout", "rows", "--trace-budget", "0"]  # all boards work, however busy this machine is
    with tempfile.TemporaryDirectory() as folder:
        outs = (Path(folder, f"{number}.h5") for number in range(options.turns))
        found = [turn([*PROGRAM, *words], out, options.harm) for out in outs]
    names, came = ("usual", "gap", "ending", "beginning", "first request"), [each for each in found if each]
    for name, seconds in zip(names, zip(*came, strict=True), strict=False):
        print(f"{name}: median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s of {len(seconds)}")
    return 0 if len(came) == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
