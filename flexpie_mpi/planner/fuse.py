"""Fusion by a rule: where runs of nodes in one layout are cut into segments."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PlanError
from ..graph import BoundNode, Graph
from ..layout import Layout
from ..ops import rule_for, widen
from ..shards import shard_region
from .atoms import Atom

FUSIONS = ("free", "none", "all-legal")
"""``free``: as long as no rank computes or reads more than its shard inside the segment; ``none``: every node alone;
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
    spans: list[Span] = []
    for atom in run:
        if spans and _joins_free(graph, spans[-1][0], atom, layout):
            spans[-1] = (spans[-1][0], atom.end)
        else:
            spans.append((atom.first, atom.end))
    return spans


def _joins_free(graph: Graph, first: int, atom: Atom, layout: Layout) -> bool:
    """Whether every rank finds all that an atom reads of the segment from `first` on within its shards."""
    return all(
        _reads_own_shards(graph, first, node, layout, rank)
        for node in graph.bound[atom.first : atom.end]
        for rank in layout.ranks
    )


def _reads_own_shards(graph: Graph, first: int, node: BoundNode, layout: Layout, rank: int) -> bool:
    if len(layout.ranks) == 1:
        return True
    out = tuple(shard_region(graph, name, layout, rank) if name else None for name in node.node.outputs)
    if not any(out):
        return True
    reads = rule_for(node).in_regions(node, widen(node, out))
    for name, region in zip(node.node.inputs, reads, strict=True):
        if region is None or graph.producer.get(name, -1) < first:
            continue
        shard = shard_region(graph, name, layout, rank)
        if shard is None or not shard.contains(region):
            return False
    return not any(graph.producer.get(name, -1) >= first for name in node.node.captures)
