"""What follows from a plan, in numbers: work, messages and memory of every segment and every rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..core.plan import Plan
from ..core.program import Program
from ..lower.shards import blocks_flops, node_flops
from ..model import Model
from ..runtime.engine import weight_bytes


@dataclass(frozen=True, slots=True)
class Traffic:
    """An exchange as the whole job sees it; `kind` is empty when nothing travels."""

    kind: str = ""
    nbytes: int = 0
    messages: int = 0


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
    """A plan in numbers.

    Attributes
    ----------
    segments : tuple of SegmentFacts
    after : Traffic
        The exchange that brings the outputs to the root.
    ranks : tuple of RankNeeds
    flops : int
        Work of one request on one rank.
    """

    segments: tuple[SegmentFacts, ...]
    after: Traffic
    ranks: tuple[RankNeeds, ...]
    flops: int

    @cached_property
    def redundant(self) -> float:
        """Work that is done more than once, as a share of the work of one rank."""
        return sum(rank.flops for rank in self.ranks) / self.flops - 1 if self.flops else 0.0

    @cached_property
    def sent_bytes(self) -> int:
        return sum(rank.sent_bytes for rank in self.ranks)

    @cached_property
    def messages(self) -> int:
        return sum(rank.messages for rank in self.ranks)


def facts_of(plan: Plan, model: Model, programs: Sequence[Program]) -> PlanFacts:
    """The numbers of a plan, from the programs it was lowered to; those of the first turn, where it has several."""
    flops = [node_flops(node) for node in model.graph.bound]
    traffic = _traffic(programs)
    segments = []
    for index, (segment, first, end) in enumerate(plan.spans):
        layout = str(segment.layout).rsplit(" on ", 1)[0]
        work = sum(flops[first:end])
        before = traffic.get(index, Traffic())
        turns = len(segment.layouts)
        segments.append(SegmentFacts(index, layout, segment.ranks, segment.nodes, work, before, turns))
    ranks = tuple(_needs(model, program) for program in programs)
    return PlanFacts(tuple(segments), traffic.get(len(plan.segments), Traffic()), ranks, sum(flops))


def _needs(model: Model, program: Program) -> RankNeeds:
    sends = program.sends
    return RankNeeds(
        rank=program.rank,
        flops=sum(blocks_flops(model.graph, step.blocks) for step in program.computes),
        weight_bytes=weight_bytes(model, program),
        arena_bytes=program.arena.nbytes,
        sent_bytes=sum(message.nbytes for message in sends),
        messages=len(sends),
    )


def _traffic(programs: Sequence[Program]) -> dict[int, Traffic]:
    """All ranks' parts of each exchange together, by its number."""
    found: dict[int, Traffic] = {}
    for exchange in (exchange for program in programs for exchange in program.exchanges):
        known = found.get(exchange.index, Traffic())
        sent = sum(message.nbytes for message in exchange.sends)
        found[exchange.index] = Traffic(exchange.kind, known.nbytes + sent, known.messages + len(exchange.sends))
    return found
