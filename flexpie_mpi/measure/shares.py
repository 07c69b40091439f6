"""Shares: what all ranks spend on the segments of a plan, held against what one rank spends on the same nodes.

A share that costs its share costs nothing beyond it. What it costs beyond has three parts::

    all ranks' compute = one rank's compute + redundant work + calls + kernels

*Redundant work* is known from the programs: what the ranks do of a fused group together, over what there is to do.
*Calls* are what sessions take around their kernels, re-layouts at their ends among it. The rest are *kernels* that take
longer than their work should: weights that every rank reads, small shapes, odd sizes.

Requests of the plan and requests that the root carries out alone are run in turn and say how long everything takes;
profiles (:mod:`.profiled_run`) say only how it divides. Seconds are those of the root's speed: what a board of half
that speed takes counts half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..core.errors import FlexPieError, TransportError
from ..core.graph import Graph
from ..core.plan import Plan
from ..core.program import Program
from ..cost.groups import FusedGroup, fused_groups
from ..lower.shards import blocks_flops, node_flops
from ..model import Model
from ..planner import layout_plan
from ..runtime.engine import Engine
from ..runtime.transport import Transport
from ..testbed import Testbed
from .agreement import UntriedError, together
from .attribution import Split, Work, pooled_gap_s, split
from .observed import Observation, observe
from .profiled_run import SegmentTimes, profiled_steps
from .race import turns_of_plans


@dataclass(frozen=True, slots=True)
class SegmentShare:
    """What all ranks spend on one segment, in parts."""

    one_s: float  # what one rank spends on its nodes
    redundant_s: float
    calls_s: float
    kernels_s: float

    @property
    def all_s(self) -> float:
        return self.one_s + self.redundant_s + self.calls_s + self.kernels_s

    def of_one(self, seconds: float) -> float | None:
        """Seconds over what one rank spends; None for a segment that is no work for one rank."""
        return seconds / self.one_s if self.one_s > 0 else None

    @property
    def beyond(self) -> float | None:
        """What all ranks spend beyond one rank's compute, over that: 0 where a share costs its share."""
        return self.of_one(self.all_s - self.one_s)


@dataclass(frozen=True)
class Shares:
    """What becomes of the time of all ranks in a request."""

    segments: tuple[SegmentShare, ...]
    alone_s: float  # what the request takes the root alone
    boards: float  # ranks, a slower one counted as the part of the root's speed that it has
    latency_s: float
    exchange_s: float  # by which the request is longer because of its exchanges
    compute_s: float  # and because of its segments, each as long as its slowest rank takes

    @property
    def efficiency(self) -> float:
        """How much of all ranks is used: 1 where R ranks are R times faster than one."""
        return self.alone_s / self.boards / self.latency_s

    @cached_property
    def total(self) -> SegmentShare:
        """All segments together."""
        parts = ((it.one_s, it.redundant_s, it.calls_s, it.kernels_s) for it in self.segments)
        return SegmentShare(*map(sum, zip(*parts, strict=True)))

    @property
    def inflation(self) -> float:
        """All ranks' compute over one rank's."""
        return 1.0 + (self.total.beyond or 0.0)

    @cached_property
    def spent_s(self) -> dict[str, float]:
        """Where the time of a request goes, in seconds that add up to its latency."""
        total = self.total
        spent = {
            "ideal": self.alone_s / self.boards,
            "redundant work": total.redundant_s / self.boards,
            "calls": total.calls_s / self.boards,
            "kernels": total.kernels_s / self.boards,
            "exchange": self.exchange_s,
            "waiting": self.compute_s - total.all_s / self.boards,
        }
        return spent | {"rest": self.latency_s - sum(spent.values())}


@dataclass(frozen=True, slots=True)
class RankPace:
    """How a rank's time compares with the root's and with what its processor takes."""

    speed: float  # over the root's
    slowdown: float  # by which its steps were paced when requests were seen


@dataclass(frozen=True, slots=True)
class StepSplit:
    """One step of one rank: seconds of its call and of its kernels, by the number of their fused group."""

    segment: int
    call_s: float
    kernels_s: Mapping[int, float]

    @classmethod
    def of(cls, segment: int, found: Split, factor: float) -> StepSplit:
        """A split, every part times `factor`."""
        kernels_s = {number: seconds * factor for number, (seconds, _) in found.kernels.items()}
        return cls(segment, found.call_s * factor, kernels_s)


def look(
    engine: Engine,
    make: Callable[[Plan], Engine],
    request: Mapping[str, Any],
    repeat: int,
    *,
    testbed: Testbed,
    threads: int,
    tell: Callable[[str], None],
) -> tuple[Observation, Shares | None, str] | None:
    """Run the root's request `repeat` times by an engine, and as often on the root alone; called by all ranks together.

    What was seen, the shares, and why there are none, empty where there is nothing to say; None but on the root. `make`
    makes the engine of another plan. Raises UntriedError on every rank, when the plan cannot be run again.
    """
    tell("looking at every segment")
    alone, why = _alone(engine, make, testbed)
    try:
        seen = observe([engine] if alone is None else [engine, alone], request, repeat)
    finally:
        if alone is not None:
            alone.close()
    shares = None
    if alone is not None:
        tell("looking at every kernel")
        try:
            shares = _shares_of(engine, alone, seen, testbed, threads)
        except UntriedError as error:
            why = str(error)
    return (seen[0], shares, why) if seen else None


def _alone(engine: Engine, make: Callable[[Plan], Engine], testbed: Testbed) -> tuple[Engine | None, str]:
    """An engine in which the root does everything, to hold the plan against; None where there is none, and why."""
    plan, transport = engine.plan, engine.transport
    if transport.size == 1 or plan.period > 1:
        return None, ""
    graph = engine.model.graph
    alone = layout_plan(graph, transport.size, "single")
    both = (plan, alone)
    if len(turns_of_plans(transport, graph, [*both, *both], testbed)) > 1:  # profiles need both once more
        return None, "memory has no room for the whole model beside the plan"
    try:
        return make(alone), ""
    except TransportError:  # a rank is late, which the others do not know
        raise
    except FlexPieError as error:
        return None, str(error)


def _shares_of(
    engine: Engine, alone: Engine, seen: Sequence[Observation], testbed: Testbed, threads: int
) -> Shares | None:
    slowdowns = engine.transport.all_gather(max(1.0, engine.pacer.slowdown))
    paces = [
        RankPace(testbed.devices[engine.plan.root].slowdown / device.slowdown, slowdown)
        for device, slowdown in zip(testbed.devices, slowdowns, strict=True)
    ]
    programs = engine.programs, alone.programs
    return measure_shares(engine.transport, engine.model, seen, programs, paces, threads)


def measure_shares(
    transport: Transport,
    model: Model,
    seen: Sequence[Observation],
    programs: Sequence[Sequence[Program]],
    paces: Sequence[RankPace],
    threads: int,
) -> Shares | None:
    """Shares of a plan, on the root; None elsewhere. Called by all ranks together.

    What was `seen`, which only the root need know, and the `programs` of all ranks are of the plan, and of the plan in
    which the root does everything. Raises UntriedError on every rank, when a step cannot be run by itself on any.
    """
    graph, rank = model.graph, transport.rank
    starts, ranks_s = transport.broadcast(
        ([first for _, first, _ in seen[0].plan.spans], [each.ranks_s for each in seen]) if seen else None
    )
    groups = fused_groups(graph, starts)
    mine = [job[rank] for job in programs]
    times = profiled_steps(transport, model, mine, threads)

    def splits() -> list[list[StepSplit]]:
        jobs = zip(mine, times, ranks_s, strict=True)
        return [list(_splits(graph, groups, job, its, of[rank], paces[rank])) for job, its, of in jobs]

    everyone = transport.gather(together(transport, splits, "reading profiles"))

    def joined() -> Shares | None:
        if everyone is None:
            return None
        all_ranks, alone = zip(*everyone, strict=True)
        segments = segment_shares(graph, groups, starts, programs[0], all_ranks, alone[seen[1].plan.root])
        return _shares(segments, seen, sum(pace.speed for pace in paces))

    return together(transport, joined, "reading profiles")


def _shares(segments: tuple[SegmentShare, ...], seen: Sequence[Observation], boards: float) -> Shares:
    plan = seen[0]
    latency_s, alone_s = (each.typical(each.latencies_s) for each in seen)
    compute_s = plan.typical([moves.compute_s for moves in plan.moves])
    return Shares(segments, alone_s, boards, latency_s, sum(plan.exchange_s), compute_s)


def _splits(
    graph: Graph,
    groups: tuple[FusedGroup, ...],
    program: Program,
    segments: Sequence[SegmentTimes],
    spent_s: Mapping[int, float],
    pace: RankPace,
) -> Iterator[StepSplit]:
    """The steps of one rank, each as long as it was seen to take in requests."""
    gap = pooled_gap_s(segments)
    for times in segments:
        segment = times.step.segment
        found = split(times, Work(graph, groups, program, times.step), gap, spent_s[segment] / pace.slowdown)
        yield StepSplit.of(segment, found, pace.slowdown * pace.speed)


def segment_shares(
    graph: Graph,
    groups: tuple[FusedGroup, ...],
    starts: Sequence[int],
    programs: Sequence[Program],
    all_ranks: Sequence[Sequence[StepSplit]],
    alone: Sequence[StepSplit],
) -> tuple[SegmentShare, ...]:
    """Every segment of a plan, from the steps of all ranks, by rank, and those of the root alone.

    What the root's own calls take belongs to all its nodes, as a share of what they take.
    """
    one_s = {number: seconds for step in alone for number, seconds in step.kernels_s.items()}
    kernels_s, calls_s = sum(one_s.values()), sum(step.call_s for step in alone)
    call_share = calls_s / kernels_s if kernels_s else 0.0
    repeats = _repeats(graph, groups, programs)
    shares = []
    for segment, (first, end) in enumerate(zip(starts, [*starts[1:], len(graph.nodes)], strict=True)):
        inside = [number for number, group in enumerate(groups) if first <= group.main < end]
        steps = [step for rank in all_ranks for step in rank if step.segment == segment]
        bare_s = sum(one_s.get(number, 0.0) for number in inside)
        redundant_s = sum(one_s.get(number, 0.0) * (repeats.get(number, 1.0) - 1) for number in inside)
        spent_s = sum(sum(step.kernels_s.values()) for step in steps)
        around_s = sum(step.call_s for step in steps) - bare_s * call_share
        shares.append(SegmentShare(bare_s * (1 + call_share), redundant_s, around_s, spent_s - bare_s - redundant_s))
    return tuple(shares)


def _repeats(graph: Graph, groups: tuple[FusedGroup, ...], programs: Sequence[Program]) -> dict[int, float]:
    """How often the work of each fused group is done by all ranks together; groups without any are left out."""
    done = dict.fromkeys(range(len(groups)), 0)
    owner = {index: number for number, group in enumerate(groups) for index in range(group.first, group.end)}
    for block in (block for program in programs for step in program.computes for block in step.blocks):
        done[owner[graph.position[block.node]]] += blocks_flops(graph, [block])
    once = {n: sum(node_flops(graph.bound[index]) for index in range(g.first, g.end)) for n, g in enumerate(groups)}
    return {number: done[number] / once[number] for number in done if once[number]}
