"""How long a user waits: from typing mpirun to the first result, with an empty cache (cold) and with a full one (warm).

``python bench/startup.py [--model builtin:resnet50] [--ranks 2] [--runs 5] [--against CHECKOUT]``

Timed from outside, as whole commands that run one request without warm-up, so starting and ending the ranks count.
The built-in model is written to disk before the first run: that stands for having the file.

With ``--against``, only the start of a rank that is given its plan is measured, here and in another checkout of this
package, in turn: seconds from the start of its process until MPI is up, and the modules that it has imported then.
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

from flexpie_mpi import layout_plan, load
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


_UNTIL_MPI = """
import os, sys, time
from flexpie_mpi import __main__
from flexpie_mpi.commands import job
def start(deadline_s, start=job.start):
    start(deadline_s)
    began_s = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    print(time.clock_gettime(time.CLOCK_BOOTTIME) - began_s, len(sys.modules), flush=True)
    os._exit(0)
job.start = start
__main__.main(sys.argv[1:])
"""
"""Ends as soon as MPI is up, and says when that was (to a hundredth) and how many modules there were."""


def until_mpi(checkout: Path, plan: Path) -> tuple[float, float, int]:
    """(seconds until MPI is up, processor seconds of the process, modules) of one rank that is given its plan."""
    words = ["infer", "--model", "builtin:tiny_cnn", "--plan", str(plan)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    before = os.times()
    result = subprocess.run(
        [sys.executable, "-c", _UNTIL_MPI, *words],
        stdout=subprocess.PIPE,
        check=True,
        env=environment,
        cwd=checkout,
        text=True,
    )
    after = os.times()
    seconds, modules = result.stdout.split()
    spent_s = after.children_user + after.children_system - before.children_user - before.children_system
    return float(seconds), spent_s, int(modules)


def compare(checkout: Path, runs: int) -> None:
    """Print what the start of a rank takes here and in another checkout, measured in turn; the least counts."""
    here = Path(__file__).parents[1]
    with TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.json"
        plan.write_text(layout_plan(load("builtin:tiny_cnn").graph, 1, "single").to_json())
        rows: dict[Path, list[tuple[float, float, int]]] = {checkout: [], here: []}
        for _ in range(runs):
            for place, found in rows.items():
                found.append(until_mpi(place, plan))
    for place, found in rows.items():
        seconds, spent, modules = zip(*found, strict=True)
        print(f"{place}: MPI up after {min(seconds):.2f} s, {min(spent):.2f} s of processor, {modules[0]} modules")


def main() -> None:
    """Print a line for cold and for warm starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    options = parser.parse_args()
    if options.against is not None:
        compare(options.against, options.runs)
        return
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
