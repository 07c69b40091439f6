"""Streams over MPI: ``stream_program.py REQUESTS FOLDER``, for each of a few plans what was wrong with its outputs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.admission import Requests
from flexpie_mpi.runtime.engine import Engine, load_shared
from flexpie_mpi.runtime.mpi import start

DIFFERENT = 5
"""Requests that differ; the others repeat them."""


def pipeline(graph: Graph, ranks: int) -> Plan:
    """As many stages as ranks, backwards, of which the middle one takes turns with the root."""
    names = [node.name for node in graph.nodes]
    ends = [round(len(names) * place / ranks) for place in range(ranks + 1)]
    spans = enumerate(pairwise(ends))
    segments = [
        Segment(
            tuple(names[first:end]),
            Layout("single", (ranks - 1 - stage,)),
            (Layout("single", (0,)),) if stage == ranks // 2 else (),
        )
        for stage, (first, end) in spans
    ]
    return Plan(tuple(segments), ranks, graph.digest)


class Damaged(Requests):
    """A list of requests, and then one that cannot be read."""

    def take(self) -> Any:
        request = super().take()
        if request is None:
            raise DataError("the last frame is damaged")
        return request


@dataclass
class Check:
    """Takes the outputs of a stream and notes what is wrong with them."""

    expected: list[dict[str, np.ndarray]]
    numbers: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __call__(self, number: int, outputs: Any, latency_s: float) -> None:
        self.numbers.append(number)
        for name, value in self.expected[number % DIFFERENT].items():
            if not np.allclose(outputs[name], value, rtol=1e-4, atol=1e-5):
                self.wrong.append(f"{name} of request {number}")


def broken_promises(engine: Engine, inputs: list[Any], expected: list[Any], count: int) -> list[str]:
    """What this rank found wrong: with a stream, and with one after it that fails."""
    is_root = engine.transport.rank == engine.plan.root
    check = Check(expected)
    flow = engine.stream(Requests(inputs[i % DIFFERENT] for i in range(count)), check)
    if flow.requests != count or check.numbers != (list(range(count)) if is_root else []):
        check.wrong.append(f"{flow.requests} requests, {len(check.numbers)} outputs")
    check.numbers.clear()
    try:
        engine.stream(Damaged(inputs * 2), check)
        check.wrong.append("no error")
    except DataError:
        if len(check.numbers) != (2 * DIFFERENT if is_root else 0):
            check.wrong.append(f"{len(check.numbers)} outputs before the damaged one")
    return check.wrong


with start(deadline_s=30) as transport:
    count, cache = int(sys.argv[1]), Cache(Path(sys.argv[2]) / str(transport.rank))
    model = load_shared(transport, "builtin:tiny_cnn", cache=cache)
    inputs = [random_inputs(model.graph, seed=seed) for seed in range(DIFFERENT)]
    alone = Engine(transport, model, layout_plan(model.graph, transport.size, "single"), cache=cache)
    expected = [{name: value.copy() for name, value in alone.run(request).items()} for request in inputs]
    alone.close()
    wrong = []
    for plan in (pipeline(model.graph, transport.size), layout_plan(model.graph, transport.size, "rows")):
        for in_flight in (5, 1):
            engine = Engine(transport, model, plan, cache=cache, in_flight=in_flight)
            found = broken_promises(engine, inputs, expected, count)
            wrong += [f"{len(plan.segments)} segments, {in_flight} in flight: {sentence}" for sentence in found]
            engine.close()
    everyone = transport.gather(wrong)
    if everyone is not None:
        print(json.dumps({"wrong": [sentence for rank in everyone for sentence in rank]}))
