"""Planners against each other on the ranks of a job: predicted and measured, request by request in turn.

``mpirun -n 2 python bench/planners.py --cost cost.json [--traces traces.h5] [--models ...] [--planners ...]``
``mpirun -n 2 python bench/planners.py --cost cost.json --slowdown 1,2`` (rank 1 paced to half the speed)
``sudo python bench/planners.py --cost cost.json --testbed hostfiles/pi4x8.toml --ranks 2,4,8`` (emulated boards)
``mpirun -n 2 python bench/planners.py --race 20 --models a.onnx,b.onnx --planners auto,single,rows,columns,channels``

What is predicted: the latency of one request, the sum over segments of exchange and slowest rank's compute, by the
planner's cost model, with links and devices as the traces or the testbed say. What is timed: from a barrier to the end
of the slowest rank, input on rank 0 to output on rank 0. Every round runs one request of every plan, so that all share
the machine's good and bad moments; a cell is the median over the rounds, and a ratio is that of each round's two, with
quartiles. *compute* and *exchange* are predicted over measured for these two parts, and *rest* is the part of the
latency that is neither: waiting for ranks that are late, the beginning and the end. *over* is compute as measured over
that which ranks were paced for, where they were: above 1 the machine has too few cores for so many boards, and what is
measured is no prediction's fault.

With ``--race SECONDS``, `auto` is the plan that ``infer --trace-budget SECONDS`` starts: measured beside one board and
the best fixed layout, or the winner of an earlier start with the same cache.

In the end it says how far predictions are off, for networks that the cost model has not seen and for those it has, and
what the best fixed layout of each network takes over `auto`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from flexpie_mpi import Engine, Plan, load_shared, start
from flexpie_mpi.core.choices import PLANNERS, PRESETS
from flexpie_mpi.core.errors import FlexPieError, TransportError
from flexpie_mpi.cost.file import load_cost
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.cost.traces import Traces
from flexpie_mpi.emulate import emulated
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import digest, lower
from flexpie_mpi.measure.cluster import origins_of, testbed_of
from flexpie_mpi.measure.observed import Observation
from flexpie_mpi.measure.race import race_in_turns
from flexpie_mpi.measure.trial import Rounds
from flexpie_mpi.model import Model
from flexpie_mpi.planner import PricedPlan, Task, make_plans
from flexpie_mpi.report.plans import race_lines
from flexpie_mpi.runtime.transport import Transport
from flexpie_mpi.session.choosing import Chooser
from flexpie_mpi.session.opening import CostSources, PlanChoice
from flexpie_mpi.testbed import Testbed, one_host, read

NETWORKS = "mobilenet_v1,mobilenet_v2,resnet18,resnet50,resnet101,vgg16,inception_v1,bert_base"


@dataclass(frozen=True)
class Found:
    """One planner's plan for a network: seconds predicted and measured, the latter medians over rounds."""

    boards: str
    ranks: int
    model: str
    planner: str
    is_held_out: bool  # whether the cost model has seen nothing of the network
    predicted_s: float
    measured_s: float
    to_auto: Sequence[float]  # quartiles of the latency over that of `auto`, round by round
    predicted_compute_s: float
    compute_s: float  # of the slowest rank of every segment
    predicted_exchange_s: float
    exchange_s: float
    paced_s: float  # of the slowest rank of every segment, as ranks were paced; 0 where none was

    @property
    def ratio(self) -> float:
        return self.predicted_s / self.measured_s

    def row(self) -> str:
        """A line of the table."""
        low, middle, high = self.to_auto
        compute, exchange = self.predicted_compute_s / self.compute_s, self.predicted_exchange_s / self.exchange_s
        rest = 1 - (self.compute_s + self.exchange_s) / self.measured_s
        over = self.compute_s / self.paced_s if self.paced_s else 1.0
        return (
            f"{self.model:20}{self.planner:11}{self.predicted_s * 1e3:10.2f}{self.measured_s * 1e3:10.2f}"
            f"{self.ratio:8.3f}{compute:9.3f}{exchange:10.3f}{rest:7.0%}{over:7.2f}"
            f"{middle:9.3f}   {low:.3f} .. {high:.3f}"
        )


# A job


def plans_of(
    transport: Transport, model: Model, request: Mapping[str, Any], options: argparse.Namespace, task: Task
) -> dict[str, PricedPlan] | None:
    """A plan of every planner, on the root; that of `auto` is chosen in a race, where that is asked for."""
    chosen = None
    if options.race is not None:
        traces = [options.traces] if options.traces else None
        sources = CostSources(options.testbed, options.cost, traces, trace_budget_s=options.race)
        make = partial(
            Engine, transport, model, slowdown=task.testbed.devices[transport.rank].slowdown, is_trusted=True
        )
        chooser = Chooser(transport, model, PlanChoice(), sources, Cache.default(), lambda text: None)
        chosen = chooser.choose(None, make, request).prediction
    if transport.rank:
        return None
    if chosen is None:
        return {it: make_plans(it, task).plans[0] for it in options.planners}
    print(*race_lines(chosen.race))
    task = Task(model.graph, chosen.inputs.testbed, chosen.inputs.cost)
    others = [it for it in options.planners if it != "auto"]
    return {"auto": chosen.best, **{it: make_plans(it, task).plans[0] for it in others}}


def compare(transport: Transport, name: str, options: argparse.Namespace, cost, testbed: Testbed) -> list[Found]:
    """What is found of every planner, on the root; nothing elsewhere.

    Raises FlexPieError on every rank, when the network cannot be read, or one of the plans not be run.
    """
    model = load_shared(transport, name if name.endswith(".onnx") else f"builtin:{name}")
    inputs = random_inputs(model.graph, seed=0)
    priced = plans_of(transport, model, inputs, options, Task(model.graph, testbed, cost))
    distinct: dict[str, list[str]] = {}
    for planner, item in transport.broadcast(priced).items():
        distinct.setdefault(digest(lower(item.plan, model.graph)), []).append(planner)
    groups = list(distinct.values())
    plans = transport.broadcast([priced[names[0]].plan for names in groups] if priced else None)
    slowdown = testbed.devices[transport.rank].slowdown
    seen: dict[int, Observation] = {}
    engines: list[Engine] = []

    def make(plan: Plan) -> Engine:
        engines.append(Engine(transport, model, plan, slowdown=slowdown))
        return engines[-1]

    trials = race_in_turns(
        plans,
        [range(len(plans))],
        make,
        inputs,
        Rounds(options.rounds, options.warmup),
        seen=seen.__setitem__,
    )
    for outcome in trials:
        if isinstance(outcome, FlexPieError):
            raise outcome
    base = next((n for n, names in enumerate(groups) if "auto" in names), 0)
    paces = [paced_s(transport, engine) for engine in engines]
    ratios = [np.divide(trial.latencies_s, trials[base].latencies_s) for trial in trials]
    return [
        found(planner, priced[planner], seen[place], ratios[place], paces[place], (testbed, name, name in cost.models))
        for place, names in enumerate(groups)
        for planner in (names if priced else ())
    ]


def paced_s(transport, engine: Engine) -> float:
    """Seconds of the slowest ranks of all segments, as they were paced; 0 where no step was."""
    mine = [(paced.step.segment, paced.slowdown * (paced.seconds or 0.0)) for paced in engine.pacer.steps]
    slowest: dict[int, float] = {}
    for segment, seconds in (item for items in transport.all_gather(mine) for item in items):
        slowest[segment] = max(slowest.get(segment, 0.0), seconds)
    return sum(slowest.values())


def found(
    planner: str,
    item: PricedPlan,
    seen: Observation,
    ratios: np.ndarray,
    pace_s: float,
    where: tuple[Testbed, str, bool],
) -> Found:
    """What was predicted of a plan beside what was seen of it."""
    testbed, name, is_seen = where
    return Found(
        testbed.name,
        testbed.ranks,
        Path(name).stem,
        planner,
        not is_seen,
        item.seconds,
        seen.latency_s,
        np.percentile(ratios, [25, 50, 75]).tolist(),
        sum(segment.compute_s for segment in item.segments),
        sum(seen.compute_s),
        sum(segment.exchange_s for segment in item.segments) + item.exit_s,
        max(sum(seen.exchange_s), 1e-9),
        pace_s,
    )


def job(options: argparse.Namespace) -> list[Found]:
    """What every rank does; all that is found, and printed, is on rank 0."""
    cost, everything = load_cost(options.cost) if options.cost else AnalyticCost(), []
    with start() as transport:
        testbed = boards(options, transport.size)
        testbed = testbed.with_blocks([origin.block for origin in origins_of(transport, 1)])
        if transport.rank == 0:
            print(f"{transport.size} ranks, {options.rounds} rounds; ms; predicted / measured; ratio to auto")
            columns = (
                f"{'predicted':>10}{'measured':>10}{'p / m':>8}{'compute':>9}{'exchange':>10}{'rest':>7}{'over':>7}"
            )
            print(f"{'network':20}{'planner':11}{columns}{'ratio':>9}")
        for name in options.models.split(","):
            try:
                rows = compare(transport, name, options, cost, testbed)
            except TransportError:
                raise
            except FlexPieError as error:  # all ranks have it
                sys.stdout.write(f"{name} is left out: {error}\n" if transport.rank == 0 else "")
                continue
            for each in rows:
                print(each.row(), flush=True)
            everything += rows
    return everything


def boards(options: argparse.Namespace, ranks: int) -> Testbed:
    """What a job of so many ranks runs on."""
    traces = Traces.read(options.traces) if options.traces else None
    if options.testbed:
        testbed = read(options.testbed).subset(ranks)
        return testbed if traces is None else with_latency(testbed, traces)
    testbed = one_host(ranks, len(os.sched_getaffinity(0)))
    if traces is not None:
        testbed = testbed_of(traces.origins[:ranks], traces.tables["link"])
    return paced(testbed, [float(item) for item in options.slowdown.split(",")]) if options.slowdown else testbed


def with_latency(testbed: Testbed, traces: Traces) -> Testbed:
    """The testbed with the latency that traces show: emulation sets bandwidths, and has a latency of its own."""
    links = traces.tables["link"]
    shortest = links[(links["pairs"] == 1) & (links["nbytes"] == links["nbytes"].min())]
    latency_s = float(np.median(shortest["seconds"]))
    routes = tuple(tuple(route and replace(route, latency_s=latency_s) for route in row) for row in testbed.routes)
    return replace(testbed, routes=routes)


def paced(testbed: Testbed, slowdowns: list[float]) -> Testbed:
    """The testbed with devices so much slower."""
    pairs = zip(testbed.devices, slowdowns, strict=True)
    return replace(testbed, devices=tuple(replace(device, slowdown=factor) for device, factor in pairs))


# Emulated boards, and what all jobs say together


def emulate(options: argparse.Namespace) -> list[Found]:
    """A job on the first boards of the testbed, for each number of ranks."""
    everything = []
    with TemporaryDirectory() as folder, emulated(read(options.testbed)) as cluster:
        for ranks in options.ranks.split(","):
            path = Path(folder) / ranks
            words = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--output", str(path), "--job"]
            code = cluster.run(words, ranks=int(ranks))
            if code:
                sys.exit(code)
            everything += [Found(**json.loads(line)) for line in path.read_text().splitlines()]
    return everything


def summary(everything: Sequence[Found]) -> Iterator[str]:
    """A line for each number of ranks, and for all, of networks held out and of those seen."""
    groups: dict[str, list[Found]] = {}
    for each in everything:
        words = "networks not seen" if each.is_held_out else "networks seen"
        for boards in (f"{each.ranks} ranks of {each.boards}", "all"):
            groups.setdefault(f"{boards}, {words}", []).append(each)
    for name, group in groups.items():
        ratios = np.array([each.ratio for each in group])
        errors = np.abs(ratios - 1)
        yield (
            f"{name}: {len(group)} plans; predicted over measured {np.median(ratios):.3f}; "
            f"error median {np.median(errors):.1%}, p90 {np.percentile(errors, 90):.1%}, worst {errors.max():.1%}"
        )


def promise(everything: Sequence[Found]) -> Iterator[str]:
    """What the best fixed layout takes over `auto`: a line for each network, and one for each number of ranks."""
    cells: dict[str, dict[str, list[Found]]] = {}
    for each in everything:
        if each.planner in PRESETS:
            boards = cells.setdefault(f"{each.ranks} ranks of {each.boards}", {})
            boards.setdefault(each.model, []).append(each)
    for boards, networks in cells.items():
        best = [min(fixed, key=lambda each: each.to_auto[1]) for fixed in networks.values()]
        for each in best:
            low, middle, high = each.to_auto
            yield f"{each.model:20}{boards}: {each.planner:9} over auto {middle:.3f}   {low:.3f} .. {high:.3f}"
        middles = [each.to_auto[1] for each in best]
        yield f"{boards}: best fixed layout over auto, lowest {min(middles):.3f}, median {np.median(middles):.3f}"


def keep(everything: Sequence[Found], path: str) -> None:
    """Add a line of JSON for each to a file."""
    with open(path, "a") as file:
        file.writelines(json.dumps(asdict(each)) + "\n" for each in everything)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost")
    parser.add_argument("--traces", help="links and devices as measured; of a --testbed, latencies")
    parser.add_argument("--testbed", metavar="T.toml", help="emulate its boards, and start the jobs on them")
    parser.add_argument("--ranks", default="4", help="how many of its boards each job has")
    parser.add_argument("--models", default=NETWORKS)
    parser.add_argument("--planners", default=",".join(name for name in PLANNERS if name not in ("random", "batch")))
    parser.add_argument("--race", type=float, metavar="SECONDS", help="choose `auto` as infer does, in so many at most")
    parser.add_argument("--slowdown", help="one number per rank: how much slower each is paced")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--output", metavar="FOUND", help="file that a line of JSON is added to for each plan")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.planners = options.planners.split(",")
    return options


def main() -> None:
    """Print the tables, and how far predictions are off, on rank 0."""
    options = arguments()
    is_emulator = options.testbed and not options.job
    everything = emulate(options) if is_emulator else job(options)
    if everything and options.output:
        keep(everything, options.output)
    for line in (*summary(everything), *promise(everything)) if not options.job else ():
        print(line)


if __name__ == "__main__":
    main()
