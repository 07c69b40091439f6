"""A long stream: every request delivered once, in order, equal to onnxruntime's, and no rank's memory grows.

``mpirun -n 4 python bench/endurance.py [--requests 10000] [--model tiny_cnn] [--plan FILE | --layout rows]``

Every request has numbers of its own, so that one in another's place, or twice, differs from what a session of the whole
model gives on rank 0. It is compared as it is delivered: nothing piles up, and the rate is that of both together.
Memory is what is resident once the first requests are done, and at the end. Exit code 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flexpie_mpi as fp
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.plan import Plan, enough_in_flight
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure.compare import Reference
from flexpie_mpi.runtime.transport import on_root

FIRST = 100
"""Requests after which memory is looked at."""

GROWTH = 0.02
"""Most that a rank's memory may grow by after them."""


@dataclass
class Seeded:
    """Requests made from their numbers, and the judge of what becomes of them."""

    graph: Graph
    reference: Reference
    first: int
    count: int
    delivered: int = 0
    under_way: deque[Mapping[str, Any]] = field(default_factory=deque)
    problems: list[str] = field(default_factory=list)

    def requests(self) -> Iterator[Mapping[str, Any]]:
        """Every request in turn; those that are not delivered yet are remembered."""
        for number in range(self.first, self.first + self.count):
            self.under_way.append(random_inputs(self.graph, 0, number))
            yield self.under_way[-1]

    def deliver(self, number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
        """Compare the next outputs with those of the oldest request under way."""
        checks = self.reference.compare(self.under_way.popleft(), outputs)
        found = [f"{check.value}: {check.problem}" for check in checks if check.problem]
        if number != self.delivered:
            found.append(f"delivered as number {self.first + number}")
        self.problems += [f"request {self.first + self.delivered}: {problem}" for problem in found]
        self.delivered += 1


def resident_bytes() -> int:
    """Resident memory of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def streamed(engine: fp.Engine, reference: Reference | None, first: int, count: int) -> tuple[list[str], float]:
    """Carry out so many requests; what is wrong with them, and the seconds they took."""
    judge = Seeded(engine.model.graph, reference, first, count)
    began_s = time.perf_counter()
    engine.stream(fp.Requests(judge.requests()), judge.deliver)
    if reference is not None and judge.delivered != count:
        judge.problems.append(f"{judge.delivered} of {count} requests were delivered")
    return judge.problems, time.perf_counter() - began_s


def show(requests: int, elapsed_s: float, memory: list[tuple[int, int]], problems: list[str]) -> bool:
    """Print what was found; whether all is well."""
    print(f"{requests} requests, {requests / elapsed_s:.0f} per second with their comparison; {len(problems)} problems")
    print("\n".join(problems[:10]) or "each delivered once, in order, equal to onnxruntime's")
    print(f"rank  MB after {FIRST}  at the end  growth")
    for rank, (before, after) in enumerate(memory):
        print(f"{rank:4}{before / 1e6:14.1f}{after / 1e6:12.1f}{after / before - 1:8.2%}")
    return not problems and all(after <= (1 + GROWTH) * before for before, after in memory)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10000, help=f"more than {FIRST}")
    parser.add_argument("--model", default="tiny_cnn")
    plans = parser.add_mutually_exclusive_group()
    plans.add_argument("--plan", type=Path)
    plans.add_argument("--layout", default="rows")
    options = parser.parse_args()
    if options.requests <= FIRST:
        parser.error(f"--requests must be more than {FIRST}, after which memory is looked at first")
    with fp.start() as transport:
        cache = Cache.default()
        model = fp.load_shared(transport, f"builtin:{options.model}", cache=cache)
        plan = Plan.from_json(options.plan.read_text()) if options.plan else None
        plan = plan or fp.layout_plan(model.graph, transport.size, options.layout)
        reference = on_root(transport, lambda: Reference(model, 1), plan.root)
        with closing(fp.Engine(transport, model, plan, cache=cache, in_flight=enough_in_flight(plan))) as engine:
            early, _ = streamed(engine, reference, 0, FIRST)
            before = resident_bytes()
            late, elapsed_s = streamed(engine, reference, FIRST, options.requests - FIRST)
            memory = transport.all_gather((before, resident_bytes()))
        well = True
        if transport.rank == plan.root:
            well = show(options.requests - FIRST, elapsed_s, memory, early + late)
        return 0 if transport.broadcast(well, plan.root) else 1


if __name__ == "__main__":
    sys.exit(main())
