"""A job in which one rank fails while the others wait for it: ``failing_program.py WAY RANK``."""

from __future__ import annotations

import random
import sys
import threading
import time

from flexpie_mpi.core.errors import ModelError, TransportError
from flexpie_mpi.runtime.mpi import MPITransport, start, stop
from flexpie_mpi.runtime.transport import agree
from tests.runtime.contract import exchange_of_all, random_pieces


def fail(transport: MPITransport, way: str) -> None:
    """What the failing rank does."""
    if way == "raise":
        raise ValueError("this rank is broken")
    if way == "memory":
        raise MemoryError
    if way == "interrupt":
        raise KeyboardInterrupt
    if way == "thread":
        threading.Thread(target=fail, args=(transport, "raise")).start()
        time.sleep(600)
    if way == "exit":
        sys.exit(3)
    if way == "close-and-exit":
        try:
            sys.exit(3)
        finally:
            transport.close()
    if way == "return":
        sys.exit(0)
    if way == "sentence":
        stop(transport, 2, "the disk is full")
    if way == "silent":
        time.sleep(600)


def main(way: str, rank: int) -> None:
    transport = start(deadline_s=1.0 if way == "silent" else 60.0)
    if way == "agreed":
        try:
            agree(transport, ModelError("the model is empty") if transport.rank == rank else None)
        except ModelError as error:
            stop(transport, 2, str(error))
    pairs = {(rank, other): random_pieces(random.Random(0)) for other in range(transport.size) if other != rank}
    channel = transport.open([exchange_of_all("halo", 5, pairs, transport.size)[transport.rank]])[0]
    channel.post()
    if transport.rank == rank:
        fail(transport, way)
    try:
        channel.finish()
    except TransportError as error:
        stop(transport, 2, str(error))


main(sys.argv[1], int(sys.argv[2]))
