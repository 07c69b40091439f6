"""A small MPI program for the check: every rank sends to the next, and the first two find how long a message takes.

``mpirun ... python -m flexpie_mpi.emulate.probe BYTES``; rank 0 prints one line of JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from ..measure.cluster import SIZES, measure_round
from ..runtime.mpi import start, stop
from ..runtime.transport import Transport


def probe(transport: Transport, sent_bytes: int) -> float:
    """Seconds of a small message one way, between rank 0 and rank 1; 0 when there is no rank 1.

    Before that, every rank sends `sent_bytes` to the next one.
    """
    rank, size = transport.rank, transport.size
    if size == 1:
        return 0.0
    transport.send(np.zeros(sent_bytes, np.uint8), (rank + 1) % size)
    transport.receive(np.empty(sent_bytes, np.uint8), (rank - 1) % size)
    transport.barrier()
    [row] = measure_round(transport, [(0, 1)], SIZES[0])
    return float(row["seconds"])


def _main() -> None:
    transport = start()
    latency = probe(transport, int(sys.argv[1]))
    if transport.rank == 0:
        sys.stdout.write(json.dumps({"latency_s": latency}) + "\n")
        sys.stdout.flush()
    transport.close()
    stop(transport, 0)


if __name__ == "__main__":
    _main()
