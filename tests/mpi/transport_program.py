"""The transport contract on every rank of an MPI job, for several seeds in one launch."""

from __future__ import annotations

import json
import sys

from flexpie_mpi.runtime.mpi import library, start
from tests.runtime.contract import broken_promises

with start(deadline_s=30, most_bytes=int(sys.argv[2])) as transport:
    found = [sentence for seed in range(int(sys.argv[1])) for sentence in broken_promises(transport, seed)]
    gathered = transport.gather(found)
    if transport.rank == 0:
        facts = {
            "broken": [sentence for sentences in gathered for sentence in sentences],
            "library": library(),
            "ranks": sorted(rank for ranks in transport.host_ranks().values() for rank in ranks),
        }
        print(json.dumps(facts))
