"""What a picture of a plan shows: every rank's part of every node, and every message between segments.

In goes a plan, with its graph and programs where they are known. A plan alone says which ranks run which nodes in which
layout, and with which weights; what is computed twice and what travels follows from the programs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..core.graph import Graph, Value
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..core.program import NodeBlock, Program
from ..core.region import Region
from ..lower.facts import Traffic, model_flops, rank_flops, redundant_share, traffic_of


@dataclass(frozen=True, slots=True)
class Part:
    """One rank's part of one node, as shares of the node's first output.

    `again` is what of it other ranks compute, too, beyond the rank's own `share`: its halo.
    """

    share: float
    again: float = 0.0

    @property
    def total(self) -> float:
        return self.share + self.again


@dataclass(frozen=True, slots=True)
class SegmentView:
    """A segment; `parts` has a row per node and in it a part per rank of the job, `ranks` are those that run it."""

    index: int
    layout: Layout
    ranks: tuple[int, ...]
    nodes: tuple[str, ...]
    parts: tuple[tuple[Part, ...], ...]

    @property
    def largest(self) -> float:
        """The largest part of any rank in a node that the ranks share, or in any where they share none."""
        shared = [row for row in self.parts if any(0.0 < part.total < 1.0 for part in row)]
        return max(part.total for row in shared or self.parts for part in row) or 1.0

    @property
    def again(self) -> float:
        """The largest part that other ranks compute, too, relative to the largest of all."""
        return min(1.0, max(part.again for row in self.parts for part in row) / self.largest)


@dataclass(frozen=True, slots=True)
class ExchangeView:
    """An exchange by its number; `links` are (source, target, bytes).

    `kind` is empty where nothing travels, and None where that is not known.
    """

    index: int
    kind: str | None = None
    links: tuple[tuple[int, int, int], ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(nbytes for _, _, nbytes in self.links)


@dataclass(frozen=True)
class PlanView:
    """A plan as it is drawn."""

    plan: Plan
    segments: tuple[SegmentView, ...]
    exchanges: tuple[ExchangeView, ...]  # before every segment, and at last the one that brings the outputs to the root
    # Work that is done more than once, as a share of the work of one rank; None without a graph
    redundant: float | None


def plan_view(plan: Plan, graph: Graph | None = None, turns: Sequence[Sequence[Program]] = ()) -> PlanView:
    """What there is to draw of a plan: where replicas take turns, what is done on average over them.

    Parameters
    ----------
    plan : Plan
    graph : Graph, optional
    turns : sequence of sequence of Program
        What the plan was lowered to: for every turn the programs of all ranks. Empty where the graph is not known.
    """
    variants = [plan.variant(request) for request in range(plan.period)]
    if graph is None:
        rows = [list(_nominal_rows(variant)) for variant in variants]
        redundant = None
    else:
        rows = [list(_rows(variant, graph, programs)) for variant, programs in zip(variants, turns, strict=True)]
        once = model_flops(graph)
        shares = [redundant_share((rank_flops(graph, program) for program in programs), once) for programs in turns]
        redundant = sum(shares) / len(shares)
    segments = tuple(
        SegmentView(index, segment.layout, segment.ranks, segment.nodes, tuple(map(_mean, zip(*parts, strict=True))))
        for index, (segment, *parts) in enumerate(zip(plan.segments, *rows, strict=True))
    )
    traffic = list(map(traffic_of, turns))
    exchanges = tuple(_exchange(index, [turn.get(index) for turn in traffic]) for index in range(len(segments) + 1))
    return PlanView(plan, segments, exchanges, redundant)


Row = tuple[Part, ...]
"""Every rank's part of a node."""


def _mean(turns: Sequence[Row]) -> Row:
    """Every rank's part of a node from its parts by turn: one that has every other turn does half of the work."""
    count = len(turns)
    return tuple(
        Part(sum(part.share for part in parts) / count, sum(part.again for part in parts) / count)
        for parts in zip(*turns, strict=True)
    )


def _exchange(index: int, turns: Sequence[Traffic | None]) -> ExchangeView:
    """An exchange from what travels in it by turn."""
    if not turns:
        return ExchangeView(index)
    known = [traffic for traffic in turns if traffic]
    kind = known[0].kind if known else ""
    if len(turns) == 1:
        return ExchangeView(index, kind, known[0].links if known else ())
    nbytes: Counter[tuple[int, int]] = Counter()
    for source, target, each in (link for traffic in known for link in traffic.links):
        nbytes[source, target] += each
    links = ((source, target, round(total / len(turns))) for (source, target), total in sorted(nbytes.items()))
    return ExchangeView(index, kind, tuple(links))


def _nominal_rows(plan: Plan) -> Iterator[list[Row]]:
    """Parts of every node of every segment, as far as layouts tell."""
    for segment in plan.segments:
        row = tuple(Part(_nominal(segment.layout, rank)) for rank in range(plan.ranks))
        yield [row] * len(segment.nodes)


def _nominal(layout: Layout, rank: int) -> float:
    """The share of a rank of a value with very many rows, columns and channels."""
    if rank not in layout.ranks:
        return 0.0
    if layout.kind in ("single", "replicated"):
        return 1.0
    if not layout.weights:
        return 1.0 / len(layout.ranks)
    index = layout.ranks.index(rank)
    if not layout.grid:
        return layout.weights[index] / sum(layout.weights)
    rows, columns = layout.weights[: layout.grid[0]], layout.weights[layout.grid[0] :]
    down, across = divmod(index, layout.grid[1])
    return rows[down] / sum(rows) * columns[across] / sum(columns)


def _rows(plan: Plan, graph: Graph, programs: Sequence[Program]) -> Iterator[list[Row]]:
    """Parts of every node of every segment, as the programs have them."""
    blocks: dict[str, dict[int, NodeBlock]] = {}
    for program in programs:
        for block in (block for step in program.computes for block in step.blocks):
            blocks.setdefault(block.node, {})[program.rank] = block
    for segment in plan.segments:
        yield [_row(graph, segment, name, blocks.get(name, {}), plan.ranks) for name in segment.nodes]


def _row(graph: Graph, segment: Segment, name: str, blocks: dict[int, NodeBlock], ranks: int) -> Row:
    """Every rank's part of one node, from the ranks' blocks of it.

    What all ranks together hold beyond the whole is computed several times; it counts as theirs in proportion to what
    each holds beyond its shard.
    """
    output = graph.value(graph.nodes[graph.position[name]].writes[0])
    held = {rank: _share(output, _written(block)) for rank, block in blocks.items()}
    excess = max(0.0, sum(held.values()) - 1.0)
    if excess == 0.0 or segment.layout.kind == "replicated":
        return tuple(Part(held.get(rank, 0.0)) for rank in range(ranks))
    beyond = {rank: share - _own(output, segment.layout, rank, share) for rank, share in held.items()}
    shares = beyond if sum(beyond.values()) else held
    again = {rank: excess * share / sum(shares.values()) for rank, share in shares.items()}
    return tuple(Part(held[rank] - again[rank], again[rank]) if rank in held else Part(0.0) for rank in range(ranks))


def _written(block: NodeBlock) -> Region | None:
    """The region of the first output that is there."""
    return next((region for region in block.outputs if region is not None), None)


def _share(value: Value, region: Region | None) -> float:
    """How much of a value a region is; all of one whose shape is not known."""
    return 1.0 if region is None or not value.shape or not value.size else min(1.0, region.size / value.size)


def _own(value: Value, layout: Layout, rank: int, most: float) -> float:
    """The share of a value that the layout gives a rank."""
    if not value.shape or not layout.applies_to(value.shape):
        return most
    region = layout.region(value.shape, rank)
    return 0.0 if region is None else min(most, _share(value, region))
