"""What requests of a plan took, taken apart: its segments, its exchanges, and the rows of traces they make.

The steps of all ranks have one common order (:data:`flexpie_mpi.core.program.Order`). Step by step, the *front* is the
time at which the last rank has ended the step or one before it. A step costs what it moves the front by. The costs add
up to the request's latency, and waiting for a late rank's compute is no part of an exchange::

    rank 0   |--compute--|......wait......|unpack|
    rank 1   |---------compute---------|--|unpack|
                                       ^ the exchange costs what is behind here
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from time import perf_counter
from typing import Any

import numpy as np

from ..core.plan import Plan
from ..core.program import Compute, Order, Program, Start
from ..core.quartiles import quartiles
from ..core.timeline import Event, Timeline, merge
from ..cost.links import job_transfers
from ..cost.rows import EXCHANGE_TRACE, PLAN_TRACE
from ..runtime.engine import Engine
from ..runtime.transport import Transport
from ..testbed import Testbed
from .agreement import Clock, UntriedError, clock_offset, together
from .trial import Rounds, Runner, run_rounds

WARMUP = 2
"""Requests that are not looked at."""


@dataclass(frozen=True, slots=True)
class RankRequest:
    """One rank's part of one request."""

    rank: int
    origin_s: float  # its beginning by the root's clock
    timeline: Timeline
    seconds: float  # what it took, with what is around the timeline

    def compute_s(self) -> dict[int, float]:
        return {event.segment: event.seconds for event in self.timeline.events if event.kind == "compute"}


@dataclass(frozen=True, slots=True)
class FrontMoves:
    """Seconds by which the steps of all ranks have made one request longer."""

    exchange_s: Mapping[int, float]  # by the number of the exchange
    compute_s: float  # of all segments together


def front_moves(programs: Sequence[Program], parts: Iterable[RankRequest]) -> FrontMoves:
    """What the exchanges and the segments cost one request; programs and parts are those of all ranks."""
    front_s = -inf
    exchange_of: dict[Order, int | None] = {}
    ends_s: dict[Order, float] = {}
    for part in parts:
        front_s = max(front_s, part.origin_s + part.timeline.events[0].end_s)
        for order, exchange, event in _step_events(programs[part.rank], part.timeline.events):
            exchange_of[order] = exchange
            ends_s[order] = max(ends_s.get(order, -inf), part.origin_s + event.end_s)
    moves: dict[int | None, float] = {None: 0.0}
    for order in sorted(ends_s):
        exchange = exchange_of[order]
        moves[exchange] = moves.get(exchange, 0.0) + max(0.0, ends_s[order] - front_s)
        front_s = max(front_s, ends_s[order])
    return FrontMoves({index: seconds for index, seconds in moves.items() if index is not None}, moves[None])


def _step_events(program: Program, events: Sequence[Event]) -> Iterable[tuple[Order, int | None, Event]]:
    """Every event of a rank with the order of its step, and the step's exchange, if it is of one.

    The first event is the beginning of the request and the last one its end; they belong to no step.
    """
    number = 1
    for step in program.steps:
        if isinstance(step, Compute):
            yield step.order, None, events[number]
            number += 1
            continue
        index = step.exchange.index
        end = number + 2 if isinstance(step, Start) else len(events) - 1
        while number < end and events[number].segment == index and events[number].kind != "compute":
            yield step.order, index, events[number]
            number += 1


@dataclass(frozen=True)
class Observation:
    """Requests of a plan, as the root sees them."""

    plan: Plan
    model: str  # name of the model
    programs: Sequence[Program]  # of all ranks
    everyone: Sequence[Sequence[RankRequest]]  # the requests of every rank, by rank

    @cached_property
    def latencies_s(self) -> tuple[float, ...]:
        """Of each request: the slowest rank's."""
        return tuple(max(part.seconds for part in request) for request in zip(*self.everyone, strict=True))

    @cached_property
    def moves(self) -> tuple[FrontMoves, ...]:
        """What exchanges and segments cost each request."""
        return tuple(front_moves(self.programs, request) for request in zip(*self.everyone, strict=True))

    @cached_property
    def ranks_s(self) -> tuple[dict[int, float], ...]:
        """Compute of every rank by segment, in the typical request."""
        return tuple(self._of_rank([part.compute_s() for part in parts]) for parts in self.everyone)

    @property
    def compute_s(self) -> tuple[float, ...]:
        """Of the slowest rank of every segment."""
        segments = range(len(self.plan.segments))
        return tuple(max(spent_s.get(segment, 0.0) for spent_s in self.ranks_s) for segment in segments)

    def typical(self, samples: Sequence[float]) -> float:
        """The one number that stands for those of all requests: their :func:`calm_mean`."""
        return calm_mean(samples, self.latencies_s)

    @property
    def latency_s(self) -> float:
        """Median of a whole request."""
        return statistics.median(self.latencies_s)

    @property
    def exchange_s(self) -> tuple[float, ...]:
        """Of the exchange before every segment, and of the one behind the last."""
        return tuple(self.typical(self._samples(index)) for index in range(len(self.plan.segments) + 1))

    def rows(self, testbed: Testbed, predicted_s: float = np.nan) -> dict[str, np.ndarray]:
        """Rows of the tables ``exchange`` and ``plan``, whose origin is the root.

        The testbed says what the links of the job should take; `predicted_s` is NaN when nothing was predicted.
        """
        numbers, exchanges = exchange_rows(self.programs, testbed)
        for row, index in zip(exchanges, numbers, strict=True):
            row["seconds"], row["spread_s"] = self.typical(self._samples(index)), spread(self._samples(index))
        exchanges["active"] = 1.0
        plan = np.zeros(1, PLAN_TRACE)
        plan["planner"] = name_of(self.plan).encode()
        plan["ranks"] = len({rank for segment in self.plan.segments for rank in segment.layout.ranks})
        plan["segments"] = len(self.plan.segments)
        plan["compute_s"], plan["exchange_s"] = sum(self.compute_s), sum(self.exchange_s)
        plan["predicted_s"] = predicted_s
        plan["seconds"], plan["spread_s"] = self.latency_s, spread(self.latencies_s)
        for rows in (exchanges, plan):
            rows["origin"], rows["model"] = self.plan.root, self.model.encode()[:32]
            rows["repeats"] = len(self.latencies_s)
        return {"exchange": exchanges, "plan": plan}

    def _samples(self, index: int) -> list[float]:
        return [moves.exchange_s.get(index, 0.0) for moves in self.moves]

    def _of_rank(self, requests: Sequence[Mapping[int, float]]) -> dict[int, float]:
        return {segment: self.typical([spent_s[segment] for spent_s in requests]) for segment in requests[0]}


def observe(engines: Sequence[Engine], inputs: Mapping[str, Any], requests: int) -> tuple[Observation, ...]:
    """Run a request over and over by each of some engines in turn, and look at every part of it.

    Empty but on the root, which has the inputs. Called by all ranks together, with engines of one job; those that are
    paced are paced alike. Raises UntriedError on every rank, when a request fails on any, or what was seen makes no
    sense.
    """
    recorders = [Recorder(engine.transport, engine.plan.root) for engine in engines]
    runners = [Runner(engine, recorder.keep) for engine, recorder in zip(engines, recorders, strict=True)]
    run_rounds(runners, inputs, Rounds(requests, WARMUP), lambda text: None)
    for error in (runner.error for runner in runners if runner.error is not None):
        raise UntriedError(str(error))
    return observed(engines, [it.requests(runner.spent_s) for it, runner in zip(recorders, runners, strict=True)])


def observed(engines: Sequence[Engine], parts: Sequence[Sequence[RankRequest]]) -> tuple[Observation, ...]:
    """What this rank's `parts` of requests of each engine and those of all others say together.

    Empty but on the root. Called by all ranks together. Raises UntriedError on every rank, when what was seen makes no
    sense.
    """
    transport, root = engines[0].transport, engines[0].plan.root
    everyone = transport.gather(parts, root) or ()

    def seen() -> tuple[Observation, ...]:
        found = zip(engines, zip(*everyone, strict=True), strict=False)  # none but on the root
        observed = tuple(Observation(it.plan, it.model.name, it.programs, its) for it, its in found)
        assert all(len(each.moves) == len(each.latencies_s) for each in observed), "every request has its costs"
        return observed

    return together(transport, seen, "reading what was measured")


def trace_rows(dtype: np.dtype, facts: np.ndarray) -> np.ndarray:
    """Rows of a trace that have the columns of `facts`, what was done, and no seconds yet."""
    rows = np.zeros(len(facts), dtype)
    columns = list(facts.dtype.names or ())
    rows[columns] = facts[columns]
    return rows


def exchange_rows(programs: Sequence[Program], testbed: Testbed) -> tuple[tuple[int, ...], np.ndarray]:
    """Numbers of a job's exchanges, and a row of `EXCHANGE_TRACE` for each with what it moves, but no seconds yet."""
    numbers, transfers = job_transfers(programs, testbed)
    return numbers, trace_rows(EXCHANGE_TRACE, transfers)


def name_of(plan: Plan) -> str:
    """What planned a plan, for rows and people; of at most 32 letters."""
    words = (plan.provenance.get("planner", "plan"), plan.provenance.get("fusion", ""))
    return " ".join(filter(None, words))[:32]


def spread(samples: Sequence[float]) -> float:
    """Distance of the quartiles."""
    lower, _, upper = quartiles(samples)
    return upper - lower


def calm_mean(samples: Sequence[float], latencies_s: Sequence[float]) -> float:
    """Mean of one number per request over the faster half of all requests.

    Of parts of a request it is better than a median: what it says of all parts adds up to what a request takes, and a
    request that something else on the machine has disturbed does not count.
    """
    order = sorted(range(len(samples)), key=latencies_s.__getitem__)
    return statistics.fmean(samples[request] for request in order[: (len(order) + 1) // 2])


class Recorder:
    """Keeps the timeline of every request on this rank; made, and asked, by all ranks together.

    Clocks of two hosts run apart by some microseconds in every second, so they are compared twice: before the first
    request and behind the last, and every request gets the share of the drift that its time asks for. The root's clock
    counts; that of a machine is the one that executors look at.
    """

    def __init__(self, transport: Transport, root: int = 0, clock: Clock = perf_counter) -> None:
        self._transport, self._root, self._clock = transport, root, clock
        self._kept: list[tuple[float, Timeline]] = []
        self._first = self._reading()

    def keep(self, began_s: float, timeline: Timeline) -> None:
        """Remember a request that began at `began_s` by the rank's clock."""
        self._kept.append((began_s, timeline))

    def merged(self, request: int) -> Timeline | None:
        """One timeline of all ranks, on the root; None elsewhere. It is 0 where the first of them began.

        `request` is the place among the requests that were kept, the same on all ranks.
        """
        everyone = self._transport.gather(self._by_root()[request], self._root)
        if everyone is None:
            return None
        origin_s = min(began_s for began_s, _ in everyone)
        return merge([timeline.shifted(began_s - origin_s) for began_s, timeline in everyone])

    def requests(self, spent_s: Sequence[float]) -> list[RankRequest]:
        """This rank's part of the requests that were kept, which took so many seconds each."""
        pairs = zip(self._by_root(), spent_s, strict=True)
        return [RankRequest(self._transport.rank, began_s, line, seconds) for (began_s, line), seconds in pairs]

    def _by_root(self) -> list[tuple[float, Timeline]]:
        """What was kept, with its beginning by the root's clock."""
        times_s, offsets_s = zip(self._first, self._reading(), strict=True)
        return [(began_s + float(np.interp(began_s, times_s, offsets_s)), timeline) for began_s, timeline in self._kept]

    def _reading(self) -> tuple[float, float]:
        """A time of this rank's clock, and what is to be added to it then."""
        offset_s = clock_offset(self._transport, self._root, self._clock)
        return self._clock(), offset_s
