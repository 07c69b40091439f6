"""Sums that all ranks need: messages added up in order, in one step and in two, against MPI's own all-reduce.

``mpirun -n 2 python bench/allreduce.py [--kilobytes 1,32,1000] [--rounds 50]``; as root, on emulated boards,
``python bench/allreduce.py --testbed hostfiles/pi4x4.toml``.

Each rank holds a summand of float32 numbers. *Messages* is the exchange that plans use: every rank sends its summand
to all others and adds up in the order of ranks. *Two steps* is what `auto` makes of it by layouts: a rank adds up its
share of the numbers, and what it makes of that is gathered. Both sums are the same on every rank, bit for bit, which
MPI promises of none. *MPI* waits inside the library; *polite* begins a nonblocking one and waits as this project does
everywhere. All four go in turn, in an order that turns, behind a barrier; a round counts with its slowest rank.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from mpi4py import MPI

from flexpie_mpi.core.graph import Graph, Node, Value
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.program import Finish, Start, Step
from flexpie_mpi.core.region import Region
from flexpie_mpi.emulate import emulated
from flexpie_mpi.lower.boundary import Holdings, build_exchange
from flexpie_mpi.lower.forms import Forms
from flexpie_mpi.measure.exchanges import program_of
from flexpie_mpi.runtime.executor import Executor
from flexpie_mpi.runtime.mpi import start
from flexpie_mpi.runtime.transport import Transport
from flexpie_mpi.runtime.waiting import wait
from flexpie_mpi.testbed import read

WARMUP = 5


def summed(transport: Transport, size: int, needs: Sequence[Mapping[int, Region]]) -> Executor:
    """An executor that brings ranks what they need of a sum of `size` numbers, and then of what is made of it."""
    values = {name: Value(name, (1, size, 1, 1), "float32") for name in ("x", "sum", "made")}
    graph = Graph("sum", (Node("pool", "GlobalAveragePool", ("x",), ("sum",)),), values, ("x",), ("made",))
    holdings = Holdings(transport.size, Forms(graph))
    for rank in range(transport.size):
        holdings.add(rank, values["sum"], Region.full((1, size, 1, 1)), -1, is_part=True)
    steps: list[Step] = []
    for index, (name, need) in enumerate(zip(("sum", "made"), needs, strict=False)):
        part = build_exchange(graph, holdings, {name: need}, index).part(transport.rank, index, graph)
        steps += [Start(part), Finish(part)] if part else []
        for rank, region in need.items():
            holdings.add(rank, values["made"], region, index)
    executor = Executor(program_of(transport.rank, holdings, steps), transport, lambda step, values: lambda: None)
    executor.values[0][...] = summand(transport.rank, size).reshape(1, size, 1, 1)
    return executor


def summand(rank: int, size: int) -> np.ndarray:
    """What a rank adds."""
    return np.random.default_rng(rank).standard_normal(size, np.float32)


def contenders(transport: Transport, size: int) -> dict[str, Callable[[], object]]:
    """Each way to come to a sum on this rank; those of ours have been compared with one made here."""
    everyone, shape = range(transport.size), (1, size, 1, 1)
    whole = dict.fromkeys(everyone, Region.full(shape))
    shares = Layout("channels", tuple(everyone))
    share = {rank: region for rank in everyone if (region := shares.region(shape, rank)) is not None}
    ours = {"messages": summed(transport, size, [whole]), "two steps": summed(transport, size, [share, whole])}
    expected = sum(summand(rank, size) for rank in everyone).reshape(shape)
    for executor, region in zip(ours.values(), (whole, share), strict=True):
        executor.run({})
        assert np.array_equal(executor.values[1], expected[region[transport.rank].slices(whole[0])])
        executor.values[0].fill(0)  # buffers share memory, and what is added up again and again would overflow
    world, own, total = MPI.COMM_WORLD, summand(transport.rank, size), np.empty(size, np.float32)

    def polite() -> None:
        wait(world.Iallreduce(own, total).Test, transport.patience, lambda waited_s: "the sum is late")

    runs = {name: partial(executor.run, {}) for name, executor in ours.items()}
    return runs | {"MPI": partial(world.Allreduce, own, total), "polite": polite}


def measure(transport: Transport, size: int, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each contender, round by round, of the slowest rank."""
    runs = contenders(transport, size)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(WARMUP + rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            transport.barrier()
            begin = perf_counter()
            runs[name]()
            seconds[name].append(perf_counter() - begin)
    return {name: np.max(transport.all_gather(taken[WARMUP:]), axis=0) for name, taken in seconds.items()}


def job(options: argparse.Namespace) -> None:
    """Measure on the ranks of this job, and print the table on the root."""
    with start() as transport:
        if transport.rank == 0:
            print(f"{transport.library}, {transport.size} ranks, {options.rounds} rounds; us, and over MPI's own")
        for kilobytes in map(float, options.kilobytes.split(",")):
            found = measure(transport, max(1, round(kilobytes * 250)), options.rounds)
            if transport.rank == 0:
                print(f"{kilobytes:8g} kB  " + "  ".join(shown(name, found) for name in found), flush=True)


def shown(name: str, found: Mapping[str, np.ndarray]) -> str:
    """Median of one contender, and quartiles of what it takes over MPI's own in the same round."""
    low, middle, high = np.percentile(found[name] / found["MPI"], [25, 50, 75])
    return f"{name} {np.median(found[name]) * 1e6:.0f} ({middle:.2f}, {low:.2f} to {high:.2f})"


def main() -> None:
    """Measure here, or build the boards of a testbed and measure there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kilobytes", default="1,32,1000")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--testbed")
    options = parser.parse_args()
    if options.testbed is None:
        job(options)
        return
    words = ["--kilobytes", options.kilobytes, "--rounds", str(options.rounds)]
    with emulated(read(options.testbed)) as cluster:
        sys.exit(cluster.run([sys.executable, str(Path(__file__).resolve()), *words]))


if __name__ == "__main__":
    main()
