"""A rank works alone for longer than the deadline, or is stopped: ``work_program.py WAY``.

The root is stopped in its work (``hang``), and rank 1 when all is done, before or after it has closed its transport
(``close``, ``end``), or when all have come to the end and MPI is to be shut down (``shutdown``).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from flexpie_mpi.core.errors import TransportError
from flexpie_mpi.runtime import ending
from flexpie_mpi.runtime.mpi import MPI, MPITransport, start, stop
from flexpie_mpi.runtime.transport import on_root

DEADLINE_S = 0.6


def sleep() -> str:
    time.sleep(1.5 * DEADLINE_S)
    return "slept"


def compute() -> str:
    end_s = time.monotonic() + 1.5 * DEADLINE_S
    while time.monotonic() < end_s:
        sum(range(1000))
    return "computed"


def hang() -> str:
    os.kill(os.getpid(), signal.SIGSTOP)
    return "not ended"


def run(transport: MPITransport, way: str) -> None:
    works = {"work": (sleep, compute, lambda: "done"), "hang": (hang,)}.get(way, ())
    gathered = transport.gather([[on_root(transport, work, root) for work in works] for root in range(transport.size)])
    if transport.rank == 0:
        if way in ("close", "end"):
            sleep()
        print(json.dumps(gathered), flush=True)
    if (way, transport.rank) == ("close", 1):
        hang()
    transport.close()
    if way == "shutdown":
        ending.LAST_S = 1.0
        MPI.Finalize = hang if transport.rank == 1 else MPI.Finalize
    if (way, transport.rank) == ("end", 1):
        hang()


def main(way: str) -> None:
    transport = start(DEADLINE_S)
    try:
        run(transport, way)
    except TransportError as error:
        stop(transport, 2, str(error))


main(sys.argv[1])
