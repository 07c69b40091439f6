"""Weights over MPI, twice: ``weights_program.py FOLDER``, each rank with a disk of its own in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flexpie_mpi.files.cache import Cache
from flexpie_mpi.runtime.mpi import start
from flexpie_mpi.runtime.transport import on_root
from flexpie_mpi.runtime.weights import distribute
from tests.runtime.weight_model import expected_bytes, needed, on_rank, write

with start(deadline_s=30) as transport:
    rank, size, folder = transport.rank, transport.size, Path(sys.argv[1])
    path = folder / "weights.onnx"
    on_root(transport, lambda: write(path))
    model = on_rank(rank, path, root=0)
    slices, cache = needed(rank, size), Cache(folder / f"disk{rank}")
    files, cold = distribute(transport, model, slices, cache)
    _, warm = distribute(transport, model, slices, cache)
    names = files.names.items()
    wrong = [str(piece) for piece, name in names if (files.folder / name).read_bytes() != expected_bytes(path, *piece)]
    found = transport.gather((wrong, cold.sent_bytes, warm.sent_bytes + warm.received_bytes))
    if found is not None:
        distinct = {piece for other in range(1, size) for piece in needed(other, size) if piece[0] != "small"}
        facts = {
            "wrong": [sentence for item in found for sentence in item[0]],
            "cold_root_bytes": found[0][1],
            "distinct_bytes": sum(len(expected_bytes(path, *piece)) for piece in distinct),
            "warm_bytes": [item[2] for item in found],
        }
        print(json.dumps(facts))
