"""A program: writers of one trace file, each killed with SIGKILL at a random moment, and what the file then holds.

    python killed_writers.py FILE ROUNDS SEED

Prints a JSON list with a record for each round. The writers are forked, so that h5py is imported once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from itertools import count

import numpy as np

from flexpie_mpi.core.errors import CostError
from flexpie_mpi.cost.rows import TABLES
from flexpie_mpi.cost.traces import Origin, Recorder, Traces


def write_for_ever(path: str, job: str, announce: int) -> None:
    """Flush one more row at a time; a byte into `announce` for each that is in the file."""
    with Recorder(path, [Origin(job, 0)]) as recorder:
        for number in count():
            rows = np.zeros(1, TABLES["plan"])
            rows["seconds"] = number
            recorder.add("plan", rows)
            recorder.flush()
            os.write(announce, b".")


def is_refused(path: str) -> bool:
    """Whether a second writer is, while the first one lives."""
    try:
        Recorder(path, []).close()
    except CostError as error:
        return "another process" in str(error)
    return False


def kill_a_writer(path: str, job: str, after: int, then_s: float) -> dict[str, object]:
    """Let a writer announce `after` rows, wait a little, kill it, and look."""
    listen, announce = os.pipe()
    writer = os.fork()
    if not writer:
        os.close(listen)
        try:
            write_for_ever(path, job, announce)
        finally:
            os._exit(1)
    os.close(announce)
    announced = b"".join(os.read(listen, 1) for _ in range(after))
    refused = is_refused(path) if after else None
    time.sleep(then_s)
    os.kill(writer, signal.SIGKILL)
    _, status = os.waitpid(writer, 0)
    while more := os.read(listen, 4096):
        announced += more
    os.close(listen)
    return {"signal": os.WTERMSIG(status), "announced": len(announced), "refused": refused, "found": found(path)}


def found(path: str) -> dict[str, list[float]]:
    """The rows of every job in the file, by their numbers."""
    traces = Traces.read(path) if os.path.exists(path) else Traces()
    rows = traces.tables["plan"]
    return {origin.job: rows["seconds"][rows["origin"] == n].tolist() for n, origin in enumerate(traces.origins)}


def main(path: str, rounds: int, seed: int) -> None:
    generator = random.Random(seed)
    records = []
    for number in range(rounds):
        after, then_s = generator.randrange(0, 5), generator.uniform(0, 0.03)
        records.append(kill_a_writer(path, f"job{number}", after, then_s))
    print(json.dumps(records))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
