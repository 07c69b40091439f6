"""Streams over MPI: ``stream_program.py REQUESTS FOLDER``, for each of a few plans what was wrong with its outputs."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flexpie_mpi.cache import Cache
from flexpie_mpi.data.synthetic import random_inputs
from flexpie_mpi.engine import Engine, load_shared
from flexpie_mpi.errors import DataError
from flexpie_mpi.graph import Graph
from flexpie_mpi.layout import Layout
from flexpie_mpi.plan import Plan, Segment
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.flow import Requests
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
    """Ten good requests, and then one that cannot be read."""

    def take(self) -> Any:
        request = super().take()
        if request is None:
            raise DataError("frame 10 is damaged")
        return request


with start(deadline_s=30) as transport:
    count, cache = int(sys.argv[1]), Cache(Path(sys.argv[2]) / str(transport.rank))
    model = load_shared(transport, "builtin:tiny_cnn", cache=cache)
    inputs = [random_inputs(model.graph, seed=seed) for seed in range(DIFFERENT)]
    wrong: list[str] = []
    for name, plan in (("pipeline", pipeline(model.graph, transport.size)),
                       ("rows", layout_plan(model.graph, transport.size, "rows"))):  # fmt: skip
        alone = Engine(transport, model, layout_plan(model.graph, transport.size, "single"), cache=cache)
        expected = [{key: value.copy() for key, value in alone.run(request).items()} for request in inputs]
        alone.close()
        for in_flight in (5, 1):
            engine = Engine(transport, model, plan, cache=cache, in_flight=in_flight)
            seen: list[int] = []

            def deliver(number: int, outputs: Any, latency_s: float, seen: list[int] = seen) -> None:
                seen.append(number)
                for key, value in expected[number % DIFFERENT].items():
                    if not np.allclose(outputs[key], value, rtol=1e-4, atol=1e-5):
                        wrong.append(f"{name}, {in_flight} in flight: request {number}")

            flow = engine.stream(Requests(inputs[i % DIFFERENT] for i in range(count)), deliver)
            if flow.requests != count or seen != (list(range(count)) if transport.rank == 0 else []):
                wrong.append(f"{name}, {in_flight} in flight: {flow.requests} requests, {len(seen)} outputs")
            seen.clear()
            try:
                engine.stream(Damaged(inputs * 2), deliver)
                wrong.append(f"{name}, {in_flight} in flight: no error")
            except DataError:
                if len(seen) != (10 if transport.rank == 0 else 0):
                    wrong.append(f"{name}, {in_flight} in flight: {len(seen)} outputs before the damaged one")
            engine.close()
    found = transport.gather(wrong)
    if found is not None:
        print(json.dumps({"wrong": [sentence for rank in found for sentence in rank]}))
