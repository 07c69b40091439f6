"""Timing exchange patterns the way plans carry them out: by the executor, over the job's transport, between computing.

An exchange by itself, its data and code in the caches, takes half the time or less of the same one in a plan. So the
patterns are strung together in one program, and before each all ranks work through more memory than their caches hold.
Then they agree on a moment to begin: where ranks share cores, work ends on some long before it ends on others, they
leave a barrier a millisecond apart, and what some had sent before the last one is there would be no price any more::

    rank 0   | write v0 | work   | agree | exchange v0 | read v0, write v1 | work | agree   | exchange v1 | ...
    rank 1   | write v0 | work | agree   | exchange v0 | read v0, write v1 | work   | agree | exchange v1 | ...
                                         '- its price -'
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

import numpy as np

from ..core.graph import Graph, Value
from ..core.layout import Layout
from ..core.program import Compute, Finish, Program, Start, Step
from ..core.region import Region
from ..core.timeline import Timeline
from ..cost.links import job_parts
from ..lower.arena import arena_of, with_staging_slots
from ..lower.boundary import Holdings, build_exchange
from ..lower.forms import Forms
from ..runtime.executor import Executor
from ..runtime.provider import Action
from ..runtime.transport import Transport
from ..testbed import Testbed
from .agreement import Budget, clock_offset
from .observed import calm_mean, exchange_rows, spread

Span = tuple[float, float]
"""When one rank's part of an exchange began and ended, by the root's clock."""

LABEL = b"patterns"
"""What rows say of the model they were seen in."""

_WARMUP, _REPEATS, _FEWEST = 2, 25, 5
_WORK_BYTES = 8 << 20
_NOTICE_S = 3e-3
"""How long after the last rank is ready an exchange begins: until then all have heard of it."""

LEAST_BYTES, MOST_BYTES = 1 << 10, 8 << 20
"""Sizes of the values."""

_SIDES = (4, 7, 14, 28, 56, 112)
_ITEM_BYTES = 4
_ROWS, _COLUMNS = 2, 3

Regions = tuple[tuple[int, Region], ...]
"""(rank, what it has or needs)."""


@dataclass(frozen=True, slots=True)
class Move:
    """A float32 value of `shape` that some ranks hold in parts and some need in others."""

    shape: tuple[int, ...]
    have: Regions
    need: Regions


PATTERNS = (
    ("rows", "rows", 1),
    ("rows", "rows", 2),
    ("rows", "rows", 3),
    ("grid", "grid", 1),
    ("uneven", "uneven", 1),
    ("rows", "uneven", 1),
    ("rows", "replicated", 0),
    ("channels", "replicated", 0),
    ("rows", "channels", 0),
    ("channels", "rows", 1),
    ("rows", "grid", 1),
    ("single", "rows", 1),
    ("single", "channels", 0),
    ("single", "replicated", 0),
    ("rows", "single", 0),
    ("channels", "single", 0),
    ("uneven", "single", 0),
    ("replicated", "rows", 1),
)
"""(layout a value is held in, layout it is needed in, rows and columns needed around a shard)."""


def _layout(kind: str, ranks: Sequence[int], chance: random.Random) -> Layout:
    if kind == "single":
        return Layout(kind, tuple(ranks[:1]))
    if kind == "uneven":
        return Layout("rows", tuple(ranks), weights=tuple(chance.randint(1, 4) for _ in ranks))
    if kind == "grid":
        down = chance.choice([rows for rows in range(1, len(ranks) + 1) if len(ranks) % rows == 0])
        return Layout(kind, tuple(ranks), grid=(down, len(ranks) // down))
    return Layout(kind, tuple(ranks))


def collect_exchanges(
    transport: Transport,
    testbed: Testbed,
    budget: Budget,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[np.ndarray]:
    """Measure patterns over all and over some ranks until the budget is over; called by all ranks together.

    Yields rows of `EXCHANGE_TRACE` on every rank, the same ones; `origin` is the lowest rank that takes part. The
    testbed says what the links of this job should take, and which ranks share a host.
    """
    measured = 0
    for moves in journeys(transport.size) if transport.size > 1 else ():
        if budget.is_over():
            return
        programs = travel(moves, transport.size)
        tell(f"exchanges: {measured} measured")
        rows = measure_program(transport, programs, testbed, budget)
        yield rows
        measured += len(rows)


def travel(moves: Sequence[Move], ranks: int) -> tuple[Program, ...]:
    """Programs of all ranks that carry out one exchange after the other, each behind a Compute step of every rank.

    Step i reads what the exchange before brought and writes what exchange i starts from.
    """
    values = {f"v{index}": Value(f"v{index}", move.shape, "float32") for index, move in enumerate(moves)}
    graph = Graph("journey", (), values, (), ())
    holdings = Holdings(ranks, Forms(graph))
    steps: list[list[Step]] = [[] for _ in range(ranks)]
    fetched: dict[int, tuple[tuple[str, int], ...]] = {}
    for index, (value, move) in enumerate(zip(values.values(), moves, strict=True)):
        made = {rank: holdings.add(rank, value, region, index - 1) for rank, region in move.have}
        boundary = build_exchange(graph, holdings, {value.name: dict(move.need)}, index)
        for rank in range(ranks):
            outputs = ((value.name, made[rank]),) if rank in made else ()
            steps[rank].append(Compute(index, (), fetched.get(rank, ()), outputs))
            part = boundary.part(rank, index, graph)
            if part is not None:
                steps[rank] += [Finish(part)] if part.kind == "local" else [Start(part), Finish(part)]
        fetched = {rank: ((value.name, buffer),) for (_, rank), buffer in boundary.buffers.items()}
    return tuple(program_of(rank, holdings, steps[rank]) for rank in range(ranks))


def program_of(rank: int, holdings: Holdings, steps: Sequence[Step]) -> Program:
    """The program of a rank that goes through steps on the buffers it has, and is given nothing."""
    buffers = tuple(holdings.buffers[rank])
    program = Program(rank, holdings.ranks, buffers, with_staging_slots(steps), inputs=(), outputs=(), weights=())
    return replace(program, arena=arena_of(program))


def measure_program(transport: Transport, programs: Sequence[Program], testbed: Testbed, budget: Budget) -> np.ndarray:
    """Run programs of :func:`travel` over and over; rows of `EXCHANGE_TRACE`, in order, the same on every rank.

    Every request counts that is begun within the budget, and a few beyond it if there would be too few.
    """
    interludes = _Interludes(transport)
    executor = Executor(programs[transport.rank], transport, interludes.make)
    spans = []
    for request in range(_WARMUP + _REPEATS):
        if request >= _WARMUP + _FEWEST and budget.is_over():
            break
        executor.run({})
        if request >= _WARMUP:
            spans.append(interludes.spans(executor.timeline()))
    executor.close()
    return rows_of(programs, transport.all_gather(spans), testbed)


def rows_of(programs: Sequence[Program], spans: Sequence[Sequence[Mapping[int, Span]]], testbed: Testbed) -> np.ndarray:
    """Rows of `EXCHANGE_TRACE` of all exchanges of a job, in order.

    `spans` are by rank and by request, and hold the span of each exchange by its number.
    """
    _, rows = exchange_rows(programs, testbed)
    for row, (index, parts) in zip(rows, job_parts(programs).items(), strict=True):
        ranks = [program.rank for _, program in parts]
        requests = zip(*(spans[rank] for rank in ranks), strict=True)
        seconds = [price([request[index] for request in each]) for each in requests]
        row["seconds"], row["spread_s"], row["repeats"] = calm_mean(seconds, seconds), spread(seconds), len(seconds)
        row["active"], row["origin"], row["model"] = max(testbed.active(ranks)), ranks[0], LABEL
    return rows


def price(spans: Sequence[Span]) -> float:
    """Seconds from when the last rank was ready for an exchange to when the last one had what it needs.

    What a rank waits because another is late is no price of the exchange.

    >>> price([(0.0, 5.0), (2.0, 4.0)])
    3.0
    """
    return max(end for _, end in spans) - max(begin for begin, _ in spans)


class _Interludes:
    """What a rank does between exchanges, and when by the root's clock it was done with it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._offset_s = clock_offset(transport)
        self._ready_s: dict[int, float] = {}
        self._memory = np.ones((2, _WORK_BYTES // 2 // _ITEM_BYTES), np.float32)

    def make(self, step: Compute, values: Mapping[int, Any]) -> Action:
        read = [values[index] for _, index in step.inputs]
        written = [values[index] for _, index in step.outputs]
        source, target = self._memory
        clock, ready_s = time.perf_counter, self._ready_s

        def act() -> None:
            for array in read:
                array.sum()
            for array in written:
                array.fill(1.0)
            np.multiply(source, 0.5, out=target)
            begin_s = max(self._transport.all_gather(clock() + self._offset_s)) + _NOTICE_S - self._offset_s
            time.sleep(max(0.0, begin_s - clock()))
            ready_s[step.segment] = clock()

        return act

    def spans(self, timeline: Timeline) -> dict[int, Span]:
        """When this rank's part of each exchange began and ended."""
        begins_s = {index: ready_s + self._offset_s for index, ready_s in self._ready_s.items()}
        ready_s = {event.segment: event.end_s for event in timeline.events if event.kind == "compute"}
        ends_s = {event.segment: event.end_s for event in timeline.events if event.kind != "compute"}
        return {
            index: (begins_s[index], begins_s[index] + ends_s[index] - ready_s[index])
            for index in ends_s.keys() & ready_s.keys()
        }


def journeys(ranks: int, seed: int = 0) -> Iterator[tuple[Move, ...]]:
    """Every pattern once, each with a value of its own, again and again without end.

    The first and every second after it are over all ranks, the others over some: the first few, or more on one side
    than on the other.
    """
    chance = random.Random(f"patterns {ranks} {seed}")
    turn = 0
    while True:
        holders, needers = _groups(ranks, turn, chance)
        drawn = chance.sample(PATTERNS, len(PATTERNS))
        moves = (_move(pattern, holders, needers, chance) for pattern in drawn)
        yield tuple(move for move in moves if move.have != move.need)
        turn += 1


def _groups(ranks: int, turn: int, chance: random.Random) -> tuple[range, range]:
    everyone = range(ranks)
    if turn % 2 == 0:
        return everyone, everyone
    if turn % 4 == 1:
        some = range(chance.randint(2, max(2, ranks - 1)))
        return some, some
    some = range(chance.randint(1, ranks))
    return (some, everyone) if chance.random() < 0.5 else (everyone, some)


def _move(pattern: tuple[str, str, int], holders: Sequence[int], needers: Sequence[int], chance: random.Random) -> Move:
    held, needed, width = pattern
    shape = _shape(chance)
    layout = _layout(held, holders, chance)
    wanted = layout if held == needed and holders == needers else _layout(needed, needers, chance)
    return Move(shape, _regions(layout, shape, 0), _regions(wanted, shape, width))


def _shape(chance: random.Random) -> tuple[int, int, int, int]:
    """A feature map of between `LEAST_BYTES` and `MOST_BYTES`, sizes spread evenly over orders of magnitude."""
    elements = exp(chance.uniform(log(LEAST_BYTES), log(MOST_BYTES))) / _ITEM_BYTES
    side = chance.choice([side for side in _SIDES if side * side * 2 <= elements])
    return 1, round(elements / side**2), side, side


def _regions(layout: Layout, shape: tuple[int, ...], width: int) -> Regions:
    """What each rank of a layout has of a value, grown by `width` rows, and columns where these are cut too."""
    regions = []
    for rank in layout.ranks:
        region = layout.region(shape, rank)
        if region is None:
            continue
        for axis in (_ROWS, _COLUMNS) if layout.kind == "grid" else (_ROWS,):
            lo, hi = region.bounds[axis]
            region = region.with_axis(axis, (lo - width, hi + width)).clip(shape)
        regions.append((rank, region))
    return tuple(regions)
