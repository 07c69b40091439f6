"""What a picture of a plan shows: every rank's part of every node, and every message between segments.

In goes a plan, with its graph where there is one. A plan alone says which ranks run which nodes in which layout, and
with which weights; what is computed twice and what travels follows from shapes, which only the graph has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..core.graph import Graph, Value
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..core.program import NodeBlock, Program
from ..core.region import Region
from ..lower import lower
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


NOTHING = Part(0.0)


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
    """A plan as it is drawn.

    Attributes
    ----------
    plan : Plan
    segments : tuple of SegmentView
    exchanges : tuple of ExchangeView
        Before every segment, and at last the one that brings the outputs to the root.
    redundant : float or None
        Work that is done more than once, as a share of the work of one rank; None without a graph.
    """

    plan: Plan
    segments: tuple[SegmentView, ...]
    exchanges: tuple[ExchangeView, ...]
    redundant: float | None


def plan_view(plan: Plan, graph: Graph | None = None) -> PlanView:
    """What there is to draw of a plan: where ranks take turns, what is done on average over them.

    Raises
    ------
    PlanError
        When the plan does not fit the graph.
    """
    found = [_view_of_turn(plan.variant(request), graph) for request in range(plan.period)]
    return found[0] if len(found) == 1 else _on_average(plan, found)


def _view_of_turn(plan: Plan, graph: Graph | None) -> PlanView:
    """What there is to draw of a plan in which nobody takes turns."""
    if graph is None:
        views = [_unknown(index, segment, plan.ranks) for index, segment in enumerate(plan.segments)]
        return PlanView(plan, tuple(views), tuple(map(ExchangeView, range(len(views) + 1))), None)
    programs = lower(plan, graph)
    blocks = _blocks(programs)
    views = []
    for index, segment in enumerate(plan.segments):
        parts = tuple(_parts(graph, segment, name, blocks, plan.ranks) for name in segment.nodes)
        views.append(SegmentView(index, segment.layout, segment.ranks, segment.nodes, parts))
    redundant = redundant_share((rank_flops(graph, program) for program in programs), model_flops(graph))
    return PlanView(plan, tuple(views), _exchanges(programs, len(views) + 1), redundant)


def _on_average(plan: Plan, turns: Sequence[PlanView]) -> PlanView:
    """One view of all turns; a rank that has every other turn does half of the work."""
    segments = tuple(
        replace(each[0], ranks=segment.ranks, parts=tuple(map(_mean_row, zip(*(v.parts for v in each), strict=True))))
        for segment, *each in zip(plan.segments, *(view.segments for view in turns), strict=True)
    )
    exchanges = tuple(map(_mean_exchange, zip(*(view.exchanges for view in turns), strict=True)))
    redundant = [view.redundant for view in turns if view.redundant is not None]
    return PlanView(plan, segments, exchanges, sum(redundant) / len(redundant) if redundant else None)


def _mean_row(rows: Sequence[tuple[Part, ...]]) -> tuple[Part, ...]:
    """Every rank's part of a node, from its parts by turn."""
    count = len(rows)
    return tuple(
        Part(sum(part.share for part in parts) / count, sum(part.again for part in parts) / count)
        for parts in zip(*rows, strict=True)
    )


def _mean_exchange(turns: Sequence[ExchangeView]) -> ExchangeView:
    nbytes: dict[tuple[int, int], int] = {}
    for source, target, each in (link for turn in turns for link in turn.links):
        nbytes[source, target] = nbytes.get((source, target), 0) + each
    kind = next((turn.kind for turn in turns if turn.kind), turns[0].kind)
    links = tuple((source, target, round(total / len(turns))) for (source, target), total in sorted(nbytes.items()))
    return ExchangeView(turns[0].index, kind, links)


def _unknown(index: int, segment: Segment, ranks: int) -> SegmentView:
    """A segment of which only the layout is known."""
    row = tuple(Part(_nominal(segment.layout, rank)) for rank in range(ranks))
    return SegmentView(index, segment.layout, segment.ranks, segment.nodes, (row,) * len(segment.nodes))


def _nominal(layout: Layout, rank: int) -> float:
    """The share of a rank of a value with very many rows, columns and channels."""
    if rank not in layout.ranks:
        return 0.0
    if layout.kind in ("single", "replicated"):
        return 1.0
    if not layout.weights:
        return 1.0 / len(layout.ranks)
    place = layout.ranks.index(rank)
    if not layout.grid:
        return layout.weights[place] / sum(layout.weights)
    rows, columns = layout.weights[: layout.grid[0]], layout.weights[layout.grid[0] :]
    down, across = divmod(place, layout.grid[1])
    return rows[down] / sum(rows) * columns[across] / sum(columns)


Blocks = Mapping[tuple[str, int], NodeBlock]
"""A rank's block of a node, by both."""


def _blocks(programs: Sequence[Program]) -> Blocks:
    return {
        (block.node, program.rank): block for program in programs for step in program.computes for block in step.blocks
    }


def _parts(graph: Graph, segment: Segment, name: str, blocks: Blocks, ranks: int) -> tuple[Part, ...]:
    """Every rank's part of one node."""
    output = graph.value(graph.nodes[graph.position[name]].writes[0])
    found = {rank: blocks[name, rank] for rank in range(ranks) if (name, rank) in blocks}
    held = {rank: _share(output, _written(block)) for rank, block in found.items()}
    excess = max(0.0, sum(held.values()) - 1.0)
    if excess == 0.0 or segment.layout.kind == "replicated":
        return tuple(Part(held.get(rank, 0.0)) for rank in range(ranks))
    beyond = {rank: share - _own(output, segment.layout, rank, share) for rank, share in held.items()}
    shares = beyond if sum(beyond.values()) else held
    again = {rank: excess * share / sum(shares.values()) for rank, share in shares.items()}
    return tuple(Part(held[rank] - again[rank], again[rank]) if rank in held else NOTHING for rank in range(ranks))


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


def _exchanges(programs: Sequence[Program], count: int) -> tuple[ExchangeView, ...]:
    """All ranks' parts of each exchange together."""
    found = traffic_of(programs)
    everyones = (found.get(index, Traffic()) for index in range(count))
    return tuple(ExchangeView(index, traffic.kind, traffic.links) for index, traffic in enumerate(everyones))
