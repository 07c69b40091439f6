"""Planners against each other on the ranks of a job: predicted and measured, request by request in turn.

``mpirun -n 2 python bench/planners.py --cost cost.json [--traces traces.h5] [--models ...] [--planners ...]``
``mpirun -n 2 python bench/planners.py --cost cost.json --slowdown 1,2`` (rank 1 paced to half the speed)

What is predicted: the latency of one request, the sum over segments of exchange and slowest rank's compute, by the
planner's cost model, with links and devices as the traces say. What is timed: from a barrier to the end of the slowest
rank, input on rank 0 to output on rank 0. Every round runs one request of every plan, so that all share the machine's
good and bad moments; a cell is the median over the rounds, and a ratio is that of each round's two, with quartiles.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

import numpy as np

from flexpie_mpi import Engine, load_shared, start
from flexpie_mpi.core.choices import PLANNERS
from flexpie_mpi.cost.file import load_cost
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.cost.traces import Traces
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure.cluster import testbed_of
from flexpie_mpi.measure.race import race
from flexpie_mpi.measure.trial import Rounds
from flexpie_mpi.planner import Task, make_plans
from flexpie_mpi.testbed import Testbed, one_host

NETWORKS = "mobilenet_v1,mobilenet_v2,resnet18,resnet50,resnet101,vgg16,inception_v1,bert_base"


def searches(task: Task, planners: list[str]) -> dict[str, object]:
    """What every planner finds."""
    return {name: make_plans(name, task).plans[0] for name in planners}


def compare(transport, name: str, options, cost, testbed) -> list[tuple[str, float, np.ndarray]]:
    """(planners, predicted, measured rounds) of every distinct plan of a network; the same on every rank."""
    model = load_shared(transport, f"builtin:{name}")
    inputs = random_inputs(model.graph, seed=0)
    priced = searches(Task(model.graph, testbed, cost), options.planners) if transport.rank == 0 else None
    priced = transport.broadcast(priced)
    distinct: dict[str, list[str]] = {}
    for planner, item in priced.items():
        distinct.setdefault(repr(item.plan.segments), []).append(planner)
    groups = [(planners, priced[planners[0]]) for planners in distinct.values()]
    slowdown = testbed.devices[transport.rank].slowdown
    engines = [Engine(transport, model, item.plan, slowdown=slowdown) for _, item in groups]
    trials = race(engines, inputs, Rounds(options.rounds, options.warmup))
    for engine in engines:
        engine.close()
    table = np.array([trial.latencies_s for trial in trials]).T
    return [(planner, item.seconds, table[:, place]) for place, (names, item) in enumerate(groups) for planner in names]


def show(name: str, found: list[tuple[str, float, np.ndarray]]) -> list[float]:
    """Print a network's rows; predicted over measured of each."""
    base = next((times for planner, _, times in found if planner == "auto"), found[0][2])
    for planner, predicted, times in found:
        low, middle, high = np.percentile(times / base, [25, 50, 75])
        print(
            f"{name:14}{planner:11}{predicted * 1e3:10.2f}{np.median(times) * 1e3:10.2f}"
            f"{predicted / np.median(times):8.3f}{middle:9.3f}   {low:.3f} .. {high:.3f}",
            flush=True,
        )
    return [predicted / float(np.median(times)) for _, predicted, times in found]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost")
    parser.add_argument("--traces", help="links and devices as measured; ranks of one host without")
    parser.add_argument("--models", default=NETWORKS)
    parser.add_argument("--planners", default=",".join(name for name in PLANNERS if name not in ("random", "batch")))
    parser.add_argument("--slowdown", help="one number per rank: how much slower each is paced")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=3)
    options = parser.parse_args()
    options.planners = options.planners.split(",")
    return options


def main() -> None:
    """Print the tables, on rank 0."""
    options = arguments()
    cost = load_cost(options.cost) if options.cost else AnalyticCost()
    ratios: list[float] = []
    with start() as transport:
        testbed = one_host(transport.size, len(os.sched_getaffinity(0)))
        if options.traces:
            traces = Traces.read(options.traces)
            testbed = testbed_of(traces.origins[: transport.size], traces.tables["link"])
        if options.slowdown:
            testbed = paced(testbed, [float(item) for item in options.slowdown.split(",")])
        if transport.rank == 0:
            print(f"{transport.size} ranks, {options.rounds} rounds; ms; predicted / measured; ratio to auto")
            print(f"{'network':14}{'planner':11}{'predicted':>10}{'measured':>10}{'p / m':>8}{'ratio':>9}")
        for name in options.models.split(","):
            found = compare(transport, name, options, cost, testbed)
            if transport.rank == 0:
                ratios += show(name, found)
        if transport.rank == 0:
            errors = np.abs(np.array(ratios) - 1)
            print(
                f"{len(errors)} plans: predicted within 10 % of measured in {np.mean(errors <= 0.1):.0%}; "
                f"median error {np.median(errors):.1%}, worst {errors.max():.1%}"
            )


def paced(testbed: Testbed, slowdowns: list[float]) -> Testbed:
    """The testbed with devices so much slower."""
    pairs = zip(testbed.devices, slowdowns, strict=True)
    return replace(testbed, devices=tuple(replace(device, slowdown=factor) for device, factor in pairs))


if __name__ == "__main__":
    main()
