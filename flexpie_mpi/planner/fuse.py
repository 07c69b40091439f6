"""Fusion by a rule: where runs of nodes in one layout are cut into segments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.layout import Layout
from ..lower.shards import Growing
from .atoms import Atom

FUSIONS = ("free", "none", "all-legal")
"""``free``: as long as nothing is computed twice; ``none``: every node alone;
``all-legal``: as long as the layout stays the same, whatever is computed twice. A number K: up to K nodes."""

Span = tuple[int, int]


def fuse(graph: Graph, run: Sequence[Atom], layout: Layout, fusion: str) -> list[Span]:
    """Spans of nodes, one per segment, of consecutive atoms that have one layout.

    Raises
    ------
    PlanError
        When `fusion` is neither a known rule nor a positive number.
    """
    if fusion == "all-legal":
        return [(run[0].first, run[-1].end)]
    if fusion == "free":
        return _free(graph, run, layout)
    count = 1 if fusion == "none" else int(fusion) if fusion.isdecimal() else 0
    if count < 1:
        raise PlanError(f"unknown fusion '{fusion}'; choose from {', '.join(FUSIONS)}, or a number of nodes from 1 on")
    groups = [run[start : start + count] for start in range(0, len(run), count)]
    return [(group[0].first, group[-1].end) for group in groups]


def _free(graph: Graph, run: Sequence[Atom], layout: Layout) -> list[Span]:
    if len(layout.ranks) == 1:
        return [(run[0].first, run[-1].end)]
    firsts: list[int] = []
    segment: list[Growing] = []
    for atom in run:
        alone = _grown(graph, atom.first, atom.end, layout)
        apart = _flops(segment) + _flops(alone)
        for part in segment:
            part.grow(atom.end)
        if not segment or _flops(segment) > apart:
            segment = alone
            firsts.append(atom.first)
    return list(pairwise([*firsts, run[-1].end]))


def segment_flops(graph: Graph, first: int, end: int, layout: Layout) -> int:
    """Work of nodes ``[first, end)`` as one segment, over the layout's first, second, middle and last rank.

    The widest halo is on a rank inside; sampling keeps the price of a rule independent of the number of ranks.
    """
    return _flops(_grown(graph, first, end, layout))


def _grown(graph: Graph, first: int, end: int, layout: Layout) -> list[Growing]:
    """The parts of the ranks that stand for all."""
    ranks = layout.ranks
    witnesses = dict.fromkeys((ranks[0], ranks[min(1, len(ranks) - 1)], ranks[len(ranks) // 2], ranks[-1]))
    parts = [Growing(graph, first, layout, rank) for rank in witnesses]
    for part in parts:
        part.grow(end)
    return parts


def _flops(parts: Sequence[Growing]) -> int:
    return sum(part.flops for part in parts)
