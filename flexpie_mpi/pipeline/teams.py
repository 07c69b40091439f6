"""Teams: boards that run a span of units together, by the latency planner's plan of it, and what that asks of them.

What a team is asked for is read off the programs of a plan in which it works between two ranks that do not exist::

    before --- team --- behind

so that it is what a stream will ask for, to the byte. One thing is left open: a value that several members hold whole
is sent to whoever is behind them by the nearest of these members.

A team takes as much computing as replicas of one board, and sends more; what it spares is memory. So all boards
together are always asked for the whole network, and others only where a board cannot hold all of it: around what no
board can hold alone, or else for either half.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice, product

import numpy as np

from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..core.program import Program
from ..cost.model import CostModel
from ..lower import lower
from ..lower.memory import PROCESS_BYTES, SLOTS_PER_TURN, RankMemory, memory_of, most_in_flight
from ..placement import Placement, Span, TeamSpan
from ..planner import Task, make_plans
from ..planner.units import Units
from ..simulate.prices import compute_seconds
from ..testbed import Testbed
from .single_device import kept

MOST_CANDIDATES = 12
"""Teams that are asked for less than everything: each is a search of its own."""

SIZES = (2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512)
"""Sizes of teams, next to all boards but one."""

TeamCandidate = tuple[tuple[int, ...], Span]
"""Boards, and the span of units that they would run together."""

TeamSegments = Mapping[tuple[tuple[int, ...], Span], tuple[Segment, ...]]
"""Segments of every team and span that is offered."""

TRIES = 3
"""Times that a plan is made for a span, each with less memory for weights, until slots fit beside them."""


@dataclass(frozen=True, slots=True)
class TeamOption:
    """A team and the span it is offered for."""

    boards: tuple[int, ...]
    span: Span
    segments: tuple[Segment, ...]  # how the team runs it
    asks: TeamSpan  # what that asks of its boards
    least: TeamSpan  # the same without what the root may have already
    # Tuple of float array (g,). Seconds that the members compute when fewer boards compute beside them, by level of
    # contention.
    lighter_s: tuple[np.ndarray, ...]
    in_flight: int  # requests that its boards have room for at once, up to `SLOTS_PER_TURN`

    def at_level(self, number: int) -> TeamOption:
        """The same at one of the lower levels of contention."""
        seconds = self.lighter_s[number]
        asks, least = (replace(item, compute_s=seconds) for item in (self.asks, self.least))
        return replace(self, asks=asks, least=least, lighter_s=())


@dataclass(frozen=True)
class TeamPlanner:
    """Finds teams for a graph on a testbed; `lighter` says how much each board is slowed down when fewer compute."""

    units: Units
    testbed: Testbed
    cost: CostModel
    root: int
    lighter: tuple[tuple[float, ...], ...] = ()

    def option(self, boards: tuple[int, ...], span: Span) -> TeamOption | None:
        """The latency planner's plan of a span on some boards; None where there is none for several that fits.

        Of plans with more and more memory left free, the first that has room for all slots, or else for the most.
        """
        graph = span_graph(self.units, span)
        spare = np.zeros(len(boards))
        best: TeamOption | None = None
        for _ in range(TRIES):
            try:
                segments = self._planned(graph, boards, span, spare)
                used = tuple(sorted({rank for segment in segments for rank in segment.ranks}))
                programs = self._lowered(used, span, segments)
            except PlanError:
                break
            needs = memory_of([programs], self.units.graph, self.root)[: self.testbed.ranks]
            room = most_in_flight(needs, self.testbed, SLOTS_PER_TURN)
            if len(used) > 1 and room > (best.in_flight if best else 0):
                best = self._option(used, span, segments, programs, room)
            if room >= SLOTS_PER_TURN:
                break
            spare += self._lacking(boards, needs)
        return best

    def _planned(self, graph: Graph, boards: tuple[int, ...], span: Span, spare: np.ndarray) -> tuple[Segment, ...]:
        """Segments of a span on these boards, which keep so many bytes free."""
        own = self.testbed.only(boards)
        devices = [
            device if device.memory_bytes is None else replace(device, memory_bytes=max(1, device.memory_bytes - free))
            for device, free in zip(own.devices, spare.astype(int).tolist(), strict=True)
        ]
        root = boards.index(self.root) if self.root in boards else 0
        task = Task(graph, replace(own, devices=tuple(devices)), self.cost, root)
        plan = make_plans("auto", task).plans[0].plan
        inside = self.units.graph.nodes[self.units.ends[span[0]] : self.units.ends[span[1]]]
        nodes = {node.name for node in inside}
        return tuple(_on(segment, boards, nodes) for segment in plan.segments)

    def _lowered(self, used: tuple[int, ...], span: Span, segments: Sequence[Segment]) -> tuple[Program, ...]:
        """Programs of the team between others: ranks that do not exist, behind those of the testbed."""
        (begin, end), cuts = span, len(self.units)
        before, behind, root = self._others(used)
        stages: list[tuple[Span, Sequence[Segment]]] = [(span, segments)]
        if begin > 0:
            stages.insert(0, ((0, begin), (alone(self.units, (0, begin), (before,)),)))
        if end < cuts:
            stages.append(((end, cuts), (alone(self.units, (end, cuts), (behind,)),)))
        graph = self.units.graph
        ranks = self.testbed.ranks + 3
        return lower(Plan(tuple(with_forwards(self.units, stages)), ranks, graph.digest, root), graph)

    def _others(self, used: tuple[int, ...]) -> tuple[int, int, int]:
        """The rank before a team, the one behind it, and the root, which may be a member."""
        count = self.testbed.ranks
        return count, count + 1, self.root if self.root in used else count + 2

    def _lacking(self, boards: tuple[int, ...], needs: Sequence[RankMemory]) -> np.ndarray:
        """Bytes of memory that each board has too little for all slots."""
        limits = [self.testbed.devices[board].memory_bytes for board in boards]
        lacking = (
            0 if limit is None else max(0, needs[board].total_bytes(SLOTS_PER_TURN) - limit)
            for board, limit in zip(boards, limits, strict=True)
        )
        return np.array(list(lacking))

    def _option(
        self, used: tuple[int, ...], span: Span, segments: tuple[Segment, ...], programs: Sequence[Program], room: int
    ) -> TeamOption:
        everyone = self.testbed.active(range(self.testbed.ranks))
        seconds, *lighter = (self._compute_s(used, programs, active) for active in (everyone, *self.lighter))
        own = frozenset(name for names in kept(self.units) for name in names)
        asks, least = (self._asks(used, span, programs, seconds, without) for without in (frozenset[str](), own))
        return TeamOption(used, span, segments, asks, least, tuple(np.minimum(seconds, each) for each in lighter), room)

    def _asks(
        self,
        used: tuple[int, ...],
        span: Span,
        programs: Sequence[Program],
        compute_s: np.ndarray,
        without: Collection[str],
    ) -> TeamSpan:
        """What members compute and send, but for some values."""
        before, behind, root = self._others(used)
        source = before if span[0] > 0 else root
        target = behind if span[1] < len(self.units) else root
        member_of = {board: number for number, board in enumerate(used)}
        entry, leaving, inner = np.zeros(len(used)), np.zeros(len(used)), dict[tuple[int, int], float]()
        for message in (message for program in programs for message in program.sends):
            giver, taker = member_of.get(message.source), member_of.get(message.target)
            pieces = (piece for piece in message.pieces if piece.value in without)
            nbytes = message.nbytes - sum(p.region.size * self.units.graph.value(p.value).itemsize for p in pieces)
            if giver is not None and taker is not None:
                inner[giver, taker] = inner.get((giver, taker), 0.0) + nbytes
            elif taker is not None and message.source == source:
                entry[taker] += nbytes
            elif giver is not None and message.target == target:
                leaving[giver] += nbytes
        return TeamSpan(compute_s, entry, leaving, inner)

    def _compute_s(self, used: tuple[int, ...], programs: Sequence[Program], active: Sequence[float]) -> np.ndarray:
        """Seconds that each member computes, float array (g,), while boards are slowed down so much."""
        members, crowds = [programs[board] for board in used], dict(enumerate(active))
        seconds = compute_seconds(members, self.units.graph, self.testbed, self.cost, crowds)
        return np.array([sum(s for (rank, _), s in seconds.items() if rank == board) for board in used])


def span_graph(units: Units, span: Span) -> Graph:
    """A span of units as a graph of its own: from what is alive before it to what is alive behind it."""
    graph, (begin, end) = units.graph, span
    if (begin, end) == (0, len(units)):
        return graph
    first, last = units.ends[begin], units.ends[end]
    preparing = tuple(graph.nodes[index] for index in graph.preparing if index < first)
    nodes = (*preparing, *graph.nodes[first:last])
    return Graph(graph.name, nodes, graph.values, units.alive[begin], units.alive[end], graph.opset)


def _on(segment: Segment, boards: Sequence[int], nodes: Collection[str]) -> Segment:
    """A segment of a span's own plan as one of the whole: on the testbed's ranks, without nodes before it."""
    layout = replace(segment.layout, ranks=tuple(boards[rank] for rank in segment.layout.ranks))
    return Segment(tuple(name for name in segment.nodes if name in nodes), layout)


# Stages as segments


def segments_of(units: Units, placement: Placement, team_segments: TeamSegments) -> tuple[Segment, ...]:
    """The segments of a plan that does as a placement says."""
    stages: list[tuple[Span, Sequence[Segment]]] = []
    for stage in placement.stages:
        span = (stage.begin, stage.end)
        own = team_segments[stage.boards, span] if stage.together else (alone(units, span, stage.boards),)
        stages.append((span, own))
    return tuple(with_forwards(units, stages))


def alone(units: Units, span: Span, boards: Sequence[int]) -> Segment:
    """Units that one board runs by itself; several take turns."""
    layouts = [Layout("single", (board,)) for board in boards]
    nodes = units.graph.nodes[units.ends[span[0]] : units.ends[span[1]]]
    return Segment(tuple(node.name for node in nodes), layouts[0], tuple(layouts[1:]))


def with_forwards(units: Units, stages: Sequence[tuple[Span, Sequence[Segment]]]) -> Iterator[Segment]:
    """Segments of stages, the first of each taking along what is alive before the stage and behind it."""
    for (begin, end), (first, *others) in stages:
        behind = set(units.alive[end])
        yield replace(first, forwards=tuple(name for name in units.alive[begin] if name in behind))
        yield from others


# Which teams are asked


def team_candidates(
    testbed: Testbed, root: int, fits: np.ndarray, compute_s: np.ndarray, weight_bytes: np.ndarray
) -> list[TeamCandidate]:
    """Boards and spans to ask about, the whole network on all boards first.

    Of units ``[i, j)``, `fits` (n, m + 1, m + 1) says whether each board can run them by itself, `compute_s`
    (m + 1, m + 1) for how long the root does, and `weight_bytes` (m + 1, m + 1) what they hold.
    """
    if testbed.ranks == 1:
        return []
    units = len(weight_bytes) - 1
    whole = [(tuple(range(testbed.ranks)), (0, units))]
    if fits[:, 0, units].all():
        return whole
    wanted = product(_groups(testbed, root), _spans(fits, compute_s))
    able = ((boards, span) for boards, span in wanted if weight_bytes[span] <= _free(testbed, boards))
    return [*whole, *islice(able, MOST_CANDIDATES)]


def _spans(fits: np.ndarray, compute_s: np.ndarray) -> list[Span]:
    """Spans around what no board can hold, the shortest first; halves where each board can hold every unit."""
    units = fits.shape[1] - 1
    heavy = [unit for unit in range(units) if not fits[:, : unit + 1, unit + 1 :].any()]
    if not heavy:
        half = int(np.searchsorted(compute_s[0, 1:units], compute_s[0, units] / 2)) + 1
        return [(0, half), (half, units)] if half < units else []
    runs = [[unit for _, unit in run] for _, run in groupby(enumerate(heavy), key=lambda item: item[1] - item[0])]
    edges = [(run[0], run[-1] + 1) for run in runs]
    first, last = edges[0][0], edges[-1][1]
    spans = dict.fromkeys([*edges, (first, last), (first, units), (0, last)])
    return [span for span in spans if span != (0, units)]


def _groups(testbed: Testbed, root: int) -> Iterator[tuple[int, ...]]:
    """Boards of some size, those with the most memory and the fastest first, without the root as long as it can be."""
    devices = testbed.devices

    def worth(rank: int) -> tuple[bool, float, float, int]:
        memory = devices[rank].memory_bytes
        return rank == root, -(float("inf") if memory is None else memory), devices[rank].slowdown, rank

    order = sorted(range(testbed.ranks), key=worth)
    sizes = {size for size in (*SIZES, testbed.ranks - 1) if 2 <= size < testbed.ranks}
    yield from (tuple(sorted(order[:size])) for size in sorted(sizes))


def _free(testbed: Testbed, boards: Sequence[int]) -> float:
    """Memory of boards beside their processes."""
    limits = (testbed.devices[board].memory_bytes for board in boards)
    return sum(float("inf") if limit is None else max(0.0, limit - PROCESS_BYTES) for limit in limits)
