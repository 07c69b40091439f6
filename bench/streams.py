"""Requests per second on emulated boards: one board, a throughput plan, a latency plan at a time and streamed.

``sudo python bench/streams.py --cost cost.json [--testbeds hostfiles/pi4x4.toml,...] [--models resnet50,...]``

Plans are those of ``flexpie-mpi plan``. On each testbed's boards all four run in turn, round after round, so that they
share the machine's good and bad moments. A rate is requests over seconds between two deliveries on rank 0, the first
`--warmup` requests left out, in which a pipeline fills. Cells are medians over rounds with quartiles; ratios are those
of each round. What is predicted: the bottleneck of :func:`flexpie_mpi.simulate.occupancy`, that is the busiest board or
port, by the cost model; for one request at a time the planner's latency.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run as call
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from flexpie_mpi import Engine, Requests, load_shared, start
from flexpie_mpi.core.plan import Plan, enough_in_flight
from flexpie_mpi.core.versions import versions
from flexpie_mpi.cost.file import load_cost
from flexpie_mpi.emulate import emulated
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.planner import price
from flexpie_mpi.runtime.engine import settle_pace
from flexpie_mpi.simulate.occupancy import occupancy
from flexpie_mpi.testbed import read

PLANS = {
    "one board": ("--layout", "single"),
    "throughput": ("--objective", "throughput"),
    "latency": ("--layout", "auto"),
}
"""Words of the plan verb."""

STREAMS = {
    "one board": ("one board", 3),
    "throughput": ("throughput", 0),
    "at a time": ("latency", 1),
    "latency": ("latency", 3),
}
"""(plan, requests in flight; 0 for enough to keep all stages busy) of each entrant."""


@dataclass
class Entrant:
    """A plan to be streamed, so many requests in flight."""

    name: str
    engine: Engine
    predicted_s: float
    bottleneck: str
    rates: list[float] = field(default_factory=list)
    exchange: list[float] = field(default_factory=list)

    def stream(self, request: Mapping[str, Any], requests: int, warmup: int) -> None:
        """One round: requests per second once `warmup` of them are delivered."""
        moments: list[float] = []
        flow = self.engine.stream(
            Requests([request] * (warmup + requests)), lambda *delivered: moments.append(time.perf_counter())
        )
        busy = self.engine.transport.all_gather(flow.busy_s / flow.elapsed_s if flow.elapsed_s else 0.0)
        if moments:
            self.rates.append(requests / (moments[-1] - moments[warmup - 1]))
            self.exchange.append(1 - max(busy))


def job(options: argparse.Namespace) -> None:
    """What every rank does on the boards; rank 0 prints."""
    testbed, cost = read(options.job), load_cost(options.cost)
    with start() as transport:
        for name in options.models:
            model = load_shared(transport, f"builtin:{name}")
            inputs = random_inputs(model.graph, seed=0)
            entrants = [entrant(transport, model, label, options, testbed, cost) for label in options.entrants]
            settle_pace([item.engine for item in entrants])
            for _ in range(options.rounds):
                for item in entrants:
                    turns = item.engine.plan.period  # replicas deliver in bursts: whole cycles only
                    cycles = max(2, round(max(8, options.seconds / item.predicted_s) / turns))
                    warmup = turns * -(-max(4, item.engine.in_flight) // turns)
                    item.stream(inputs, cycles * turns, warmup)
            if transport.rank == 0:
                show(testbed.name, name, entrants)
            for item in entrants:
                item.engine.close()


def entrant(transport, model, label: str, options, testbed, cost) -> Entrant:
    """An engine with what is predicted of it."""
    source, depth = STREAMS[label]
    plan = Plan.from_json(
        (Path(options.plans) / f"{testbed.name}-{model.name}-{source.replace(' ', '-')}.json").read_text()
    )
    depth = depth or enough_in_flight(plan)
    slowdown = testbed.devices[transport.rank].slowdown
    engine = Engine(transport, model, plan, slowdown=slowdown, in_flight=depth)
    found = occupancy(engine.programs_by_turn, model.graph, testbed, cost)
    if depth == 1:
        return Entrant(label, engine, price(plan, model.graph, testbed, cost).seconds, "latency")
    return Entrant(label, engine, found.seconds, found.bottleneck)


def show(testbed: str, model: str, entrants: list[Entrant]) -> None:
    """One row per entrant, as a table and as a line of JSON."""
    alone = next((item for item in entrants if item.name == "one board"), entrants[0])
    slow = next((item for item in entrants if item.name == "at a time"), None)
    for item in entrants:
        rates, low, high = np.median(item.rates), *np.percentile(item.rates, [25, 75])
        row = {
            "testbed": testbed,
            "model": model,
            "entrant": item.name,
            "predicted_rps": 1 / item.predicted_s,
            "measured_rps": float(rates),
            "quartiles_rps": [float(low), float(high)],
            "of_predicted": float(rates * item.predicted_s),
            "to_one_board": float(np.median(np.divide(item.rates, alone.rates))),
            "to_one_at_a_time": float(np.median(np.divide(item.rates, slow.rates))) if slow else None,
            "not_computing": float(np.median(item.exchange)),
            "bottleneck": item.bottleneck,
        }
        print(json.dumps(row), file=sys.stderr, flush=True)
        print(
            f"{testbed:10} {model:14}{item.name:12}{row['predicted_rps']:9.2f}{rates:9.2f}   {low:.2f} .. {high:.2f}"
            f"{row['of_predicted']:9.3f}{row['to_one_board']:9.2f}"
            f"{row['to_one_at_a_time'] or np.nan:9.2f}{row['not_computing']:8.0%}  {item.bottleneck}",
            flush=True,
        )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", required=True)
    parser.add_argument("--testbeds", default="hostfiles/pi4x4.toml,hostfiles/pi-mixed.toml")
    parser.add_argument("--models", default="resnet50,vgg16,mobilenet_v2")
    parser.add_argument("--entrants", default=",".join(STREAMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round of an entrant, about")
    parser.add_argument("--plans", help="a folder to keep plans in")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.models, options.entrants = options.models.split(","), options.entrants.split(",")
    return options


def make_plans(options: argparse.Namespace, testbed: str, folder: str) -> None:
    """Every plan by the verb, as a user would."""
    for model in options.models:
        for name, words in PLANS.items():
            path = Path(folder) / f"{read(testbed).name}-{model}-{name.replace(' ', '-')}.json"
            command = [sys.executable, "-m", "flexpie_mpi", "plan", "--model", f"builtin:{model}", "--testbed", testbed]
            call([*command, "--cost", options.cost, "--output", str(path), *words], check=True, stdout=sys.stderr)


def main() -> None:
    """Build the boards of one testbed after the other and run the job on them."""
    options = arguments()
    if options.job:
        job(options)
        return
    print(", ".join(f"{name} {version}" for name, version in versions().items()), end="; ")
    print(f"one thread per rank, {options.rounds} rounds")
    print(
        f"{'testbed':10} {'model':14}{'':12}{'predicted':>9}{'measured':>9}   quartiles"
        f"{'/ predicted':>14}{'/ one':>7}{'/ at a time':>12}  idle  bottleneck",
        flush=True,
    )
    with TemporaryDirectory() as scratch:
        folder = options.plans or scratch
        for testbed in options.testbeds.split(","):
            make_plans(options, testbed, folder)
            words = ["--cost", options.cost, "--models", ",".join(options.models), "--rounds", str(options.rounds)]
            words += ["--seconds", str(options.seconds), "--entrants", ",".join(options.entrants), "--plans", folder]
            with emulated(read(testbed)) as cluster:
                code = cluster.run([sys.executable, str(Path(__file__).resolve()), "--job", testbed, *words])
            if code:
                sys.exit(code)


if __name__ == "__main__":
    main()
