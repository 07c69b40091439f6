"""Random legal plans: for tests, and to meet every kind of segment and exchange when traces are taken."""

from __future__ import annotations

from random import Random

from ..core.graph import Graph
from ..core.layout import KINDS, Layout
from ..core.plan import Plan, Segment
from ..lower.shards import segment_problems
from .atoms import atoms
from .fixed import square

LENGTHS = (1, 1, 2, 3, 5, 8)
"""How many atoms a segment takes."""


def random_plan(graph: Graph, ranks: int, source: Random, root: int = 0) -> Plan:
    """A plan of random segments, each in a random layout that its nodes allow, on a random team of ranks.

    Parameters
    ----------
    graph : Graph
    ranks : int
    source : random.Random
        Where chance comes from; the same seed gives the same plan.
    root : int
    """
    segments: list[Segment] = []
    whole = atoms(graph)
    place = 0
    while place < len(whole):
        count = min(source.choice(LENGTHS), len(whole) - place)
        first, end = whole[place].first, whole[place + count - 1].end
        layouts = [_layout(kind, ranks, source) for kind in source.sample(KINDS, len(KINDS))]
        fitting = (item for item in layouts if not segment_problems(graph, first, end, item, root))
        layout = next(fitting, Layout("single", (root,)))
        segments.append(Segment(tuple(node.name for node in graph.nodes[first:end]), layout))
        place += count
    return Plan(tuple(segments), ranks, graph.digest, root, {"model": graph.name, "planner": "random"})


def _layout(kind: str, ranks: int, source: Random) -> Layout:
    if kind == "single":
        return Layout("single", (source.randrange(ranks),))
    size = ranks if source.random() < 0.7 else source.randint(1, ranks)
    team = tuple(sorted(source.sample(range(ranks), size)))
    weights = tuple(float(source.randint(1, 4)) for _ in team) if source.random() < 0.2 else ()
    if kind == "grid":
        return Layout("grid", team, grid=square(size))
    return Layout(kind, team, weights if kind != "replicated" else ())
