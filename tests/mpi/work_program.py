"""The root works alone for longer than the deadline, or hangs while it should: ``work_program.py WAY``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from flexpie_mpi.core.errors import TransportError
from flexpie_mpi.runtime.mpi import start, stop
from flexpie_mpi.runtime.transport import on_root

DEADLINE_S = 0.6


def sleep() -> str:
    time.sleep(3 * DEADLINE_S)
    return "slept"


def compute() -> str:
    end_s = time.monotonic() + 2 * DEADLINE_S
    while time.monotonic() < end_s:
        sum(range(1000))
    return "computed"


def hang() -> str:
    os.kill(os.getpid(), signal.SIGSTOP)
    return "not ended"


def main(way: str) -> None:
    with start(DEADLINE_S) as transport:
        try:
            works = (hang,) if way == "hang" else (sleep, compute, lambda: "done")
            results = [[on_root(transport, work, root) for work in works] for root in range(transport.size)]
        except TransportError as error:
            stop(transport, 2, str(error))
        gathered = transport.gather(results)
        if transport.rank == 0:
            print(json.dumps(gathered))


main(sys.argv[1])
