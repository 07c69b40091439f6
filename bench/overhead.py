"""What the engine costs on one rank: its time against a plain onnxruntime session's, pair by pair in one process.

``python bench/overhead.py [--models resnet50,mobilenet_v2] [--pairs 100]``

Both run the same original model with one thread. The order within a pair alternates; the ratio of each pair is taken,
and their median and quartiles are printed. A ratio of 1.00 is no cost.

``mpirun -n 2 python bench/overhead.py`` compares the engine with itself: waits that have a deadline and somebody who is
told of them, and ranks that answer what they do, against waits without. Of a look of the root at all ranks, which a
stream takes every two seconds, it prints what all their processors spend.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import onnxruntime

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.model.zoo import materialise
from flexpie_mpi.runtime.engine import load_shared
from flexpie_mpi.runtime.mpi import launched_ranks, start
from flexpie_mpi.runtime.transport import Transport
from flexpie_mpi.runtime.waiting import DEADLINE_S, Onlooker
from flexpie_mpi.session.choosing import LEAST_DEADLINE_S

LOOKS = 100
"""Looks that are timed together."""


def plain(path: Path, inputs: dict[str, np.ndarray]) -> Callable[[], object]:
    """One request through a plain session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)


def seconds(function: Callable[[], object]) -> float:
    """Time of one call."""
    begin = perf_counter()
    function()
    return perf_counter() - begin


def compare(ours: Callable[[], object], theirs: Callable[[], object], pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of both, a column each; which goes first alternates."""
    for _ in range(5):
        ours()
        theirs()
    rows = []
    for pair in range(pairs):
        if pair % 2:
            rows.append((seconds(ours), seconds(theirs)))
        else:
            rows.append((seconds(theirs), seconds(ours))[::-1])
    table = np.array(rows)
    return table[:, 0], table[:, 1]


def measure(name: str, pairs: int) -> str:
    """A row of the table for one built-in model."""
    with TemporaryDirectory() as folder:
        path = materialise(name, Path(folder))
        model = load(str(path))
        inputs = random_inputs(model.graph, seed=0)
        plan = layout_plan(model.graph, 1)

        def rank(transport: Transport) -> tuple[np.ndarray, np.ndarray]:
            engine = Engine(transport, model, plan)
            return compare(lambda: engine.run(inputs), plain(path, inputs), pairs)

        (ours, theirs) = run_ranks(1, rank, deadline_s=3600)[0]
    low, middle, high = np.percentile(ours / theirs, [25, 50, 75])
    return (
        f"{name:14}{np.median(theirs) * 1e3:12.2f}{np.median(ours) * 1e3:12.2f}"
        f"{middle:10.3f}   {low:.3f} .. {high:.3f}{min(ours) / min(theirs):10.3f}"
    )


def watching(transport: Transport, name: str, pairs: int) -> str:
    """A row of the table of several ranks for one built-in model."""
    model = load_shared(transport, f"builtin:{name}")
    inputs = random_inputs(model.graph, seed=0)
    engine = Engine(transport, model, layout_plan(model.graph, transport.size, "rows"), deadline_s=LEAST_DEADLINE_S)
    patience, watched = transport.patience, transport.patience.onlooker

    def run(onlooker: Onlooker | None) -> None:
        transport.barrier()
        patience.onlooker, patience.deadline_s = onlooker, DEADLINE_S if onlooker else inf
        engine.run(inputs)

    ours, theirs = compare(lambda: run(watched), lambda: run(None), pairs)
    patience.onlooker, patience.deadline_s = watched, DEADLINE_S
    before = sum(transport.all_gather(process_time()))
    for _ in range(LOOKS if transport.rank == 0 else 0):
        [transport.asked(rank) for rank in range(transport.size)]
    look_s = (sum(transport.all_gather(process_time())) - before) / LOOKS
    low, middle, high = np.percentile(ours / theirs, [25, 50, 75])
    return (
        f"{name:14}{np.median(theirs) * 1e3:12.2f}{np.median(ours) * 1e3:12.2f}"
        f"{middle:10.4f}   {low:.4f} .. {high:.4f}{look_s * 1e3:14.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50,mobilenet_v2")
    parser.add_argument("--pairs", type=int, default=100)
    options = parser.parse_args()
    if launched_ranks() > 1:
        with start() as transport:
            rows = [watching(transport, name, options.pairs) for name in options.models.split(",")]
            if transport.rank == 0:
                print(f"{transport.library}, {transport.size} ranks, {options.pairs} pairs; medians")
                print(f"{'model':14}{'unwatched':>12}{'watched ms':>12}{'ratio':>10}   quartiles{'look ms':>20}")
                print(*rows, sep="\n")
        return
    print(f"onnxruntime {onnxruntime.__version__}, one rank, one thread, {options.pairs} pairs; medians")
    print(f"{'model':14}{'plain ms':>12}{'engine ms':>12}{'ratio':>10}   quartiles{'of minima':>14}")
    for name in options.models.split(","):
        print(measure(name, options.pairs), flush=True)


if __name__ == "__main__":
    main()
