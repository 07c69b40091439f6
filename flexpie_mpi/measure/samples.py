"""Sample plans: which plans of a model to measure, so that they show every kind of work and of exchange early on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, zip_longest

from ..core.graph import Graph
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..lower.shards import segment_problems
from ..planner import layout_plan
from ..planner.rules import ROOT, square
from ..planner.units import Units, units

RANDOM_PLANS = 24
_KINDS = ("rows", "channels", "columns", "grid")
_RUN_UNITS = 5
"""Units in a run of one layout in a random plan, on average."""


def sample_plans(graph: Graph, ranks: int, seed: int = 0) -> Iterator[Plan]:
    """Plans for a job of `ranks` ranks, without repetition, the most telling first.

    One layout wherever it can be, on all ranks, fused and not; the root alone; then random layouts side by side, which
    bring every kind of exchange, in turn with fewer ranks.
    """
    known = set()
    for plan in _all_plans(graph, ranks, seed):
        if plan.segments not in known:
            known.add(plan.segments)
            yield plan


def _all_plans(graph: Graph, ranks: int, seed: int) -> Iterator[Plan]:
    parts = units(graph)
    chance = random.Random(f"plans {graph.digest} {ranks} {seed}")
    yield _preset(graph, ranks, ranks, "rows")
    yield _preset(graph, ranks, 1, "single")
    yield _cut(parts, ranks, ranks, "rows", 1)
    yield _preset(graph, ranks, ranks, "channels")
    yield _random(parts, ranks, chance)
    for kind in _kinds(ranks)[2:]:
        yield _preset(graph, ranks, ranks, kind)
    yield _cut(parts, ranks, 1, "single", 1)
    yield _random(parts, ranks, chance)
    drawn = (_random(parts, ranks, chance) for _ in range(RANDOM_PLANS))
    for pair in zip_longest(_regular(parts, ranks), drawn):
        yield from filter(None, pair)


def _regular(parts: Units, ranks: int) -> Iterator[Plan]:
    """Plans in one layout with other fusions, and on fewer ranks."""
    for size in _fewer(ranks):
        for kind in _kinds(size)[:2]:
            yield _preset(parts.graph, ranks, size, kind)
    for kind in _kinds(ranks):
        yield _cut(parts, ranks, ranks, kind, 4)
        yield _cut(parts, ranks, ranks, kind, 1)
    for size in _fewer(ranks):
        for kind in _kinds(size)[2:]:
            yield _preset(parts.graph, ranks, size, kind)
    yield _cut(parts, ranks, 1, "single", 4)
    yield layout_plan(parts.graph, ranks, "rows", fusion="all-legal")


def _kinds(ranks: int) -> tuple[str, ...]:
    """Kinds of layout that differ on so many ranks."""
    return _KINDS if square(ranks)[1] > 1 else _KINDS[:3]


def _fewer(ranks: int) -> list[int]:
    """Smaller numbers of ranks worth a look: all of a few, else halves and what lies between.

    >>> _fewer(2), _fewer(4), _fewer(16)
    ([], [3, 2], [15, 12, 8, 6, 4, 3, 2])
    """
    sizes = {ranks - 1}
    while ranks > 1:
        sizes |= {ranks // 2, ranks // 2 * 3 // 2 if ranks // 2 * 3 // 2 < ranks else 0}
        ranks //= 2
    return sorted((size for size in sizes if size > 1), reverse=True)


def _preset(graph: Graph, ranks: int, size: int, preset: str) -> Plan:
    """One layout wherever it can be, on the first `size` ranks of the job."""
    return _widened(layout_plan(graph, size, preset), ranks)


def _widened(plan: Plan, ranks: int) -> Plan:
    return replace(plan, ranks=ranks)


def _cut(parts: Units, ranks: int, size: int, preset: str, count: int) -> Plan:
    """The same with at most `count` units in a segment."""
    plan = layout_plan(parts.graph, size, preset, fusion="all-legal")
    segments: list[Segment] = []
    for segment, first, end in plan.spans:
        inside = [first, *(place for place in parts.ends if first < place < end), end]
        segments += _segments(parts.graph, [*inside[:-1:count], end], segment.layout)
    return _widened(replace(plan, segments=tuple(segments), provenance=_label(parts.graph, preset, str(count))), ranks)


def _segments(graph: Graph, borders: Sequence[int], layout: Layout) -> list[Segment]:
    return [Segment(tuple(n.name for n in graph.nodes[first:end]), layout) for first, end in pairwise(borders)]


def _label(graph: Graph, planner: str, fusion: str) -> dict[str, str]:
    return {"model": graph.name, "planner": planner, "fusion": fusion}


def _random(parts: Units, ranks: int, chance: random.Random) -> Plan:
    """Runs of units in a random layout each, cut into segments at random."""
    graph, segments = parts.graph, []
    place, last = 0, len(parts)
    while place < last:
        end = min(last, place + 1 + int(chance.expovariate(1 / _RUN_UNITS)))
        layout = random_layout(ranks, chance)
        cuts = [place, *(cut for cut in range(place + 1, end) if chance.random() < 0.25), end]
        for first, behind in pairwise(cuts):
            segments += _placed(parts, first, behind, layout)
        place = end
    return Plan(tuple(segments), ranks, graph.digest, provenance=_label(graph, "random", ""))


def _placed(parts: Units, first: int, end: int, layout: Layout) -> list[Segment]:
    """Units [first, end) as one segment in a layout, or unit by unit, on the root, where that is not allowed."""
    graph, ends = parts.graph, parts.ends
    if not segment_problems(graph, ends[first], ends[end], layout):
        return _segments(graph, (ends[first], ends[end]), layout)
    if end - first > 1:
        return [segment for place in range(first, end) for segment in _placed(parts, place, place + 1, layout)]
    return _segments(graph, (ends[first], ends[end]), ROOT)


def random_layout(ranks: int, chance: random.Random) -> Layout:
    """Any layout on some of the ranks of a job, more often on all, now and then with unequal shares."""
    size = ranks if chance.random() < 0.7 else chance.randint(1, ranks)
    team = tuple(sorted(chance.sample(range(ranks), size)))
    kind = chance.choice((*_kinds(size), "rows", "channels", "replicated", "single"))
    if size == 1 or kind == "single":
        return Layout("single", (chance.choice(team),))
    if kind == "grid":
        return Layout(kind, team, grid=square(size))
    shares = tuple(chance.randint(1, 4) for _ in team) if chance.random() < 0.2 and kind != "replicated" else ()
    return Layout(kind, team, shares)
