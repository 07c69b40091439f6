"""What the engine costs on one rank: its time against a plain onnxruntime session's, pair by pair in one process.

``python bench/overhead.py [--models resnet50,mobilenet_v2] [--pairs 100]``

Both run the same original model with one thread. The order within a pair alternates; the ratio of each pair is taken,
and their median and quartiles are printed. A ratio of 1.00 is no cost.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnxruntime

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.model.zoo import materialise


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

        def rank(transport) -> tuple[np.ndarray, np.ndarray]:
            engine = Engine(transport, model, plan)
            return compare(lambda: engine.run(inputs), plain(path, inputs), pairs)

        (ours, theirs) = run_ranks(1, rank, deadline_s=3600)[0]
    low, middle, high = np.percentile(ours / theirs, [25, 50, 75])
    return (
        f"{name:14}{np.median(theirs) * 1e3:12.2f}{np.median(ours) * 1e3:12.2f}"
        f"{middle:10.3f}   {low:.3f} .. {high:.3f}{min(ours) / min(theirs):10.3f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50,mobilenet_v2")
    parser.add_argument("--pairs", type=int, default=100)
    options = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, one rank, one thread, {options.pairs} pairs; medians")
    print(f"{'model':14}{'plain ms':>12}{'engine ms':>12}{'ratio':>10}   quartiles{'of minima':>14}")
    for name in options.models.split(","):
        print(measure(name, options.pairs), flush=True)


if __name__ == "__main__":
    main()
