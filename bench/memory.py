"""What every rank really holds: resident weights and peak memory, against the whole model's weights.

``mpirun -n 4 python bench/memory.py [--model builtin:vgg16] [--layout channels]``

Weights are files that onnxruntime maps into memory, so the kernel tells how much of them is resident: after a request,
the sum over the mapped files of the cache. What onnxruntime re-laid for its convolutions it keeps in other memory; that
is in the peak, with activations, messages and the program itself. The peak before any model is printed beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import flexpie_mpi as fp
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.runtime.engine import peak_rss_bytes


def resident_bytes(folder: Path) -> int:
    """Resident bytes of this process that are mapped from files below a folder."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):  # a mapping begins: addresses, rights, offset, device, inode, path
            inside = str(folder) in line
        elif inside and first == "Rss:":
            total += int(line.split()[1]) * 1024
    return total


def main() -> None:
    """Print a line per rank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:vgg16")
    parser.add_argument("--layout", default="channels")
    options = parser.parse_args()
    with fp.start() as transport, TemporaryDirectory() as folder:
        before = peak_rss_bytes()
        model = fp.load_shared(transport, options.model)
        plan = fp.layout_plan(model.graph, transport.size, options.layout)
        cache = Cache(Path(folder))
        engine = fp.Engine(transport, model, plan, cache=cache)
        engine.run(random_inputs(model.graph, seed=0))
        facts = engine.facts()
        row = (facts.weight_bytes, resident_bytes(Path(folder)), facts.arena_bytes, before, facts.peak_rss_bytes)
        rows = transport.gather(row)
        if rows is not None:
            total = model.graph.weight_bytes
            print(f"{options.model} by {options.layout} on {transport.size} ranks; {total / 1e6:.1f} MB of weights; MB")
            print("rank  weights      mapped, resident  buffers  peak before  peak  growth")
            for rank, (weights, resident, arena, base, peak) in enumerate(rows):
                print(
                    f"{rank:4}{weights / 1e6:9.1f}{weights / total:6.1%}{resident / 1e6:10.1f}{resident / total:6.1%}"
                    f"{arena / 1e6:10.1f}{base / 1e6:13.0f}{peak / 1e6:6.0f}{(peak - base) / 1e6:8.0f}"
                )
        transport.barrier()


if __name__ == "__main__":
    main()
