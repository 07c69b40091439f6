"""Fusion by a rule: where runs of nodes in one layout are cut into segments."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PlanError
from ..graph import Graph
from ..layout import Layout
from ..shards import segment_shard, shard_flops
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
    spans: list[Span] = []
    work = 0
    for atom in run:
        alone = segment_flops(graph, atom.first, atom.end, layout)
        joined = segment_flops(graph, spans[-1][0], atom.end, layout) if spans else 0
        if spans and joined <= work + alone:
            spans[-1], work = (spans[-1][0], atom.end), joined
        else:
            spans.append((atom.first, atom.end))
            work = alone
    return spans


def segment_flops(graph: Graph, first: int, end: int, layout: Layout) -> int:
    """Work of nodes ``[first, end)`` as one segment, over the layout's first, second, middle and last rank.

    The widest halo is on a rank inside; sampling keeps the price of a rule independent of the number of ranks.
    """
    ranks = layout.ranks
    witnesses = dict.fromkeys((ranks[0], ranks[min(1, len(ranks) - 1)], ranks[len(ranks) // 2], ranks[-1]))
    shards = (segment_shard(graph, first, end, layout, rank) for rank in witnesses)
    return sum(shard_flops(graph, shard) for shard in shards if shard is not None)
