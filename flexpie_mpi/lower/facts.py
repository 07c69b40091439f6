"""What follows from a plan, in numbers: work, messages and memory of every segment and every rank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..core.graph import Graph
from ..core.plan import Plan
from ..core.program import Message, Program
from ..core.region import Region
from .shards import blocks_flops, node_flops


@dataclass(frozen=True, slots=True)
class Traffic:
    """An exchange as the whole job sees it: its messages are `links` (source, target, bytes).

    `kind` is empty where nothing travels.
    """

    kind: str = ""
    links: tuple[tuple[int, int, int], ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(nbytes for _, _, nbytes in self.links)

    @property
    def messages(self) -> int:
        return len(self.links)


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """A segment: its nodes, its layout in words, its work on one rank, the exchange before it, and its turns.

    `ranks` are those of all turns, everything else is that of the first.
    """

    index: int
    layout: str
    ranks: tuple[int, ...]
    nodes: tuple[str, ...]
    flops: int
    before: Traffic
    turns: int = 1


@dataclass(frozen=True, slots=True)
class RankNeeds:
    """What a plan asks of one rank: work, memory, and what it sends, per request."""

    rank: int
    flops: int
    weight_bytes: int
    arena_bytes: int
    sent_bytes: int
    messages: int


@dataclass(frozen=True)
class PlanFacts:
    """A plan in numbers."""

    segments: tuple[SegmentFacts, ...]
    after: Traffic  # the exchange that brings the outputs to the root
    ranks: tuple[RankNeeds, ...]
    flops: int  # work of one request on one rank

    @cached_property
    def redundant(self) -> float:
        """Work that is done more than once, as a share of the work of one rank."""
        return redundant_share((rank.flops for rank in self.ranks), self.flops)

    @cached_property
    def sent_bytes(self) -> int:
        return sum(rank.sent_bytes for rank in self.ranks)

    @cached_property
    def messages(self) -> int:
        return sum(rank.messages for rank in self.ranks)


def facts_of(plan: Plan, graph: Graph, programs: Sequence[Program]) -> PlanFacts:
    """The numbers of a plan, from the programs it was lowered to; those of the first turn, where it has several."""
    flops = [node_flops(node) for node in graph.bound]
    traffic = traffic_of(programs)
    segments = []
    for index, (segment, first, end) in enumerate(plan.spans):
        layout = str(segment.layout).rsplit(" on ", 1)[0]
        work = sum(flops[first:end])
        before = traffic.get(index, Traffic())
        turns = len(segment.layouts)
        segments.append(SegmentFacts(index, layout, segment.ranks, segment.nodes, work, before, turns))
    ranks = tuple(_needs(graph, program) for program in programs)
    return PlanFacts(tuple(segments), traffic.get(len(plan.segments), Traffic()), ranks, sum(flops))


def traffic_of(programs: Sequence[Program]) -> dict[int, Traffic]:
    """All ranks' parts of each exchange together, by its number; exchanges in which nothing travels are absent."""
    kinds: dict[int, str] = {}
    links: dict[int, list[tuple[int, int, int]]] = {}
    for exchange in (exchange for program in programs for exchange in program.exchanges):
        kinds[exchange.index] = exchange.kind
        links.setdefault(exchange.index, []).extend((m.source, m.target, m.nbytes) for m in exchange.sends)
    return {index: Traffic(kinds[index], tuple(each)) for index, each in links.items()}


def moved_bytes(messages: Iterable[Message], ranks: int) -> np.ndarray:
    """Bytes that messages take from each rank to each other, float array (ranks, ranks)."""
    nbytes = np.zeros((ranks, ranks))
    for message in messages:
        nbytes[message.source, message.target] += message.nbytes
    return nbytes


def model_flops(graph: Graph) -> int:
    """Floating-point operations of one request on one rank that does everything."""
    return sum(map(node_flops, graph.bound))


def rank_flops(graph: Graph, program: Program) -> int:
    """Floating-point operations of one rank in one request, redundant ones included."""
    return sum(blocks_flops(graph, step.blocks) for step in program.computes)


def redundant_share(done: Iterable[int], once: int) -> float:
    """What ranks have `done` beyond `once`, the work of one rank that does all, as a share of the latter.

    >>> redundant_share([75, 75], 100), redundant_share([], 0)
    (0.5, 0.0)
    """
    return max(0.0, sum(done) / once - 1) if once else 0.0


def weight_bytes(graph: Graph, *programs: Program) -> int:
    """Bytes of constants that one rank's programs, one or those of its turns, read: each slice once."""
    return slice_bytes(graph, dict.fromkeys(piece for program in programs for piece in program.weights))


def slice_bytes(graph: Graph, slices: Iterable[tuple[str, Region | None]]) -> int:
    """Bytes of (value, region) pairs; all of a value counts where the region is None."""
    return sum(
        (graph.value(name).size if region is None else region.size) * graph.value(name).itemsize
        for name, region in slices
    )


def _needs(graph: Graph, program: Program) -> RankNeeds:
    sends = program.sends
    return RankNeeds(
        rank=program.rank,
        flops=rank_flops(graph, program),
        weight_bytes=weight_bytes(graph, program),
        arena_bytes=program.arena.nbytes,
        sent_bytes=sum(message.nbytes for message in sends),
        messages=len(sends),
    )
