"""Plans of all kinds that stream, and what is delivered."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import run_ranks

COUNT = 9
"""Requests of a stream, each with inputs of its own."""


def copied(outputs):
    return {name: np.array(value) for name, value in outputs.items()}


def chain(graph, layouts, ranks, root=0):
    """A plan of as many segments as there are layouts, of about as many nodes each; a tuple of layouts takes turns."""
    names = [node.name for node in graph.nodes]
    ends = [round(len(names) * place / len(layouts)) for place in range(len(layouts) + 1)]
    segments = []
    for (first, end), choice in zip(pairwise(ends), layouts, strict=True):
        layout, *turns = choice if isinstance(choice, tuple) else (choice,)
        segments.append(Segment(tuple(names[first:end]), layout, tuple(turns)))
    return Plan(tuple(segments), ranks, graph.digest, root=root)


def on(*ranks):
    """One rank, or several that share the rows."""
    return Layout("single" if len(ranks) == 1 else "rows", ranks)


PLANS = {
    "rows": lambda graph: layout_plan(graph, 3, "rows"),
    "channels": lambda graph: layout_plan(graph, 3, "channels"),
    "pipeline": lambda graph: chain(graph, [on(0), on(1), on(2), on(3)], 4),
    "root in the middle": lambda graph: chain(graph, [on(2), on(1), on(0)], 3, root=1),
    "root apart": lambda graph: chain(graph, [on(0), on(1)], 3, root=2),
    "there and back": lambda graph: chain(graph, [on(0), on(1), on(0), on(1), on(2)], 3),
    "groups": lambda graph: chain(graph, [on(0, 1), on(2, 3)], 4),
    "replicas": lambda graph: chain(graph, [on(0), (on(1), on(2)), on(3)], 4),
    "replicas by 2 and 3": lambda graph: chain(graph, [(on(0), on(1)), (on(2), on(3), on(4))], 5, root=3),
}


@dataclass
class Delivered:
    """What a stream delivers, with what it is to say of it."""

    outputs: list = field(default_factory=list)
    fails_at: int = -1

    def __call__(self, number, outputs, latency_s):
        if number == self.fails_at:
            raise DataError("the disk is full")
        assert number == len(self.outputs) and latency_s > 0
        self.outputs.append(copied(outputs))


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for outputs, wanted in zip(found, expected, strict=True):
        assert outputs.keys() == wanted.keys()
        for name, value in wanted.items():
            assert np.abs(outputs[name] - value).max() <= 1e-4 * np.abs(value).max()


def streamed(model, plan, in_flight, supplies, cache, deadline_s=60.0):
    """Outputs of streams of one engine, one after the other, and the statistics of all ranks."""

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache, in_flight=in_flight)
        found = []
        for supply in supplies:
            delivered = Delivered()
            found.append((engine.stream(supply(), delivered), delivered.outputs))
        engine.close()
        return found

    results = run_ranks(plan.ranks, rank, deadline_s)
    outputs = [outputs for _, outputs in results[plan.root]]
    assert not any(outputs for r, result in enumerate(results) if r != plan.root for _, outputs in result)
    return outputs, [[stats for stats, _ in result] for result in results]
