"""What every rank is predicted to need in memory (:mod:`flexpie_mpi.lower.memory`), beside what it really takes.

``python bench/memory.py [CASE ...] [--again] [--json FILE]``, a case being ``MODEL/LAYOUT/RANKS``, such as
``resnet50/rows/2``; a model is the name of a built-in one, or a file that ends in ``.onnx``

Every case is a job of its own, started after one that has filled the caches; but segments are laid out in blocks anew,
as at the first start of a plan, unless ``--again`` leaves them in the cache. The peak of a rank is that of its
*proportional set size* (Pss): pages that several processes share count for each in part. It is looked at every few
milliseconds, and counts from the first moment to the end of the last of some requests. Ranks on one machine share the
code of libraries, which they would not on boards, so that many ranks take less here than predicted. Beside it stands
the peak of the rank's own control group, where this machine lets one be made: it has no shared code, and no constants
that another group has brought into the page cache before.

The last lines say how far predictions are off: below the peak (at most 3 % are meant), and above it in the median (at
most 15 %).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import flexpie_mpi as fp
from flexpie_mpi.emulate.system import memory_here
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower.memory import memory_of
from flexpie_mpi.runtime.cpu import KIND

CASES = (
    "resnet50/single/1", "resnet50/rows/2", "resnet50/channels/3", "resnet50/grid/4",
    "vgg16/single/1", "vgg16/rows/2", "vgg16/channels/4", "bert_base/single/1",
    "bert_base/rows/2", "bert_base/channels/3", "mobilenet_v2/rows/2", "inception_v1/grid/4",
)  # fmt: skip
REQUESTS = 4
LOOK_S = 0.003
GROUP = "flexpie-memory"


def pss_bytes() -> int:
    """The proportional set size of this process."""
    return int(re.findall(r"^Pss:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)[0]) * 1024


class Peak:
    """The largest proportional set size of this process since it was made."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Look for the last time."""
        self._is_over.set()
        self._thread.join()
        return self.nbytes

    def _look(self) -> None:
        while True:
            self.nbytes = max(self.nbytes, pss_bytes())
            if self._is_over.wait(LOOK_S):
                break


def rank_part(case: str) -> None:
    """One rank of a case: run it, and let rank 0 print what all ranks need and took as JSON."""
    name, layout, _ = case.rsplit("/", 2)
    with fp.start() as transport:
        peak = Peak()
        model = fp.load_shared(transport, name if name.endswith(".onnx") else f"builtin:{name}")
        loaded = pss_bytes()
        plan = fp.layout_plan(model.graph, transport.size, layout)
        engine = fp.Engine(transport, model, plan)
        made = peak.nbytes
        inputs = random_inputs(model.graph, seed=0)
        for _ in range(REQUESTS):
            engine.run(inputs)
        took = peak.end()
        need = memory_of(engine.programs_by_turn, model.graph, plan.root)[transport.rank]
        row = {
            "case": case, "rank": transport.rank, "needed": need.total_bytes(), "pss": took, "group": group_peak(),
            "loaded": loaded, "made": made, "terms": asdict(need),
        }  # fmt: skip
        rows = transport.gather(row)
        if rows is not None:
            print(json.dumps(rows))
        engine.close()


def group_peak() -> int | None:
    """The peak of this process's control group, where it has one of its own."""
    memory, name = memory_here(), os.environ.get("MEMORY_GROUP")
    if memory is None or not name:
        return None
    rank = os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    file = "memory.max_usage_in_bytes" if memory.version == 1 else "memory.peak"
    try:
        return int((memory.group(f"{name}-{rank}") / file).read_text())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def groups(ranks: int) -> Iterator[str]:
    """A control group for each rank; the name they begin with, empty where none can be made."""
    memory, name = memory_here(), f"{GROUP}-{os.getpid()}"
    folders = [memory.group(f"{name}-{rank}") for rank in range(ranks)] if memory else []
    try:
        for folder in folders:
            folder.mkdir()
        yield name if folders else ""
    except OSError:
        yield ""
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def measured(case: str, *, again: bool) -> list[dict[str, Any]]:
    """What the ranks of a case need and took."""
    ranks = int(case.rsplit("/", 1)[1])
    memory = memory_here()
    part = [sys.executable, "-m", "mpi4py", __file__, "--part", case]
    into = 'echo $$ > "$0-${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}/cgroup.procs"; exec "$@"'
    with groups(ranks) as name:
        words = ["sh", "-c", into, str(memory.group(name)), *part] if memory and name else part
        environment = {**os.environ, "MEMORY_GROUP": name, "OMP_NUM_THREADS": "1"}
        command = ["mpirun", "-n", str(ranks), *words]
        subprocess.run(
            ["mpirun", "-n", str(ranks), *part], env=environment | {"MEMORY_GROUP": ""}, check=True, stdout=-3
        )
        if not again and (folder := Cache.default().folder):
            shutil.rmtree(folder / KIND, ignore_errors=True)
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        time.sleep(0.1)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """A line per rank, in MB."""
    for row in rows:
        group = f"{row['group'] / 1e6:8.0f}" if row["group"] else "       -"
        off = row["needed"] / row["pss"] - 1
        print(f"{row['case']:24}{row['rank']:5}{row['needed'] / 1e6:9.0f}{row['pss'] / 1e6:8.0f}{off:+8.1%}{group}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--again", action="store_true", help="leave segments in the cache that were laid out before")
    parser.add_argument("--json", metavar="FILE", help="write every rank's figures, too")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        rank_part(options.part)
        return
    print(f"{'case':24}{'rank':>5}{'needed':>9}{'Pss':>8}{'off':>8}{'cgroup':>8}   (MB)")
    rows: list[dict[str, Any]] = []
    for case in options.cases:
        rows += measured(case, again=options.again)
        show(rows[-int(case.rsplit("/", 1)[1]) :])
    off = [row["needed"] / row["pss"] - 1 for row in rows]
    print(f"lowest {min(off):+.1%}, median {median(off):+.1%}, highest {max(off):+.1%} of {len(off)} ranks")
    if options.json:
        Path(options.json).write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
