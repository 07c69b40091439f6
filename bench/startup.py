"""How long a user waits: from typing mpirun to the first result, with an empty cache (cold) and with a full one (warm).

``python bench/startup.py [--model builtin:resnet50] [--ranks 2] [--runs 5]``

Timed from outside, as whole commands that run one request without warm-up, so starting and ending the ranks count.
The built-in model is written to disk before the first run: that stands for having the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from flexpie_mpi.model.zoo import materialise


def run(model: Path, ranks: int, cache: Path) -> tuple[float, float]:
    """(seconds of the whole command, seconds from the start of rank 0's process to its first result)."""
    mpirun = Path(sys.executable).with_name("mpirun")
    command = [mpirun, "-n", str(ranks), sys.executable, "-m", "flexpie_mpi", "infer", "--model", model]
    options = ["--layout", "rows", "--repeat", "1", "--warmup", "0", "--json", "-", "--cache", cache]
    begin = perf_counter()
    result = subprocess.run(
        [*map(str, command), *map(str, options)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return perf_counter() - begin, json.loads(result.stdout)["first_result_s"]


def main() -> None:
    """Print a line for cold and for warm starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{options.model} on {options.ranks} ranks by rows, {options.runs} runs of each; seconds: median (least, most)"
    )
    with TemporaryDirectory() as folder:
        model = materialise(options.model, Path(folder))
        rows = {"cold": [], "warm": []}
        for number in range(options.runs):
            cache = Path(folder) / f"cache{number}"
            for start in rows:
                rows[start].append(run(model, options.ranks, cache))
        for start, times in rows.items():
            whole, first = zip(*times, strict=True)
            texts = [f"{median(part):.2f} ({min(part):.2f}, {max(part):.2f})" for part in (whole, first)]
            print(f"{start}: whole command {texts[0]}, first result after {texts[1]}")


if __name__ == "__main__":
    main()
