"""A world that changes while a stream runs: boards and links that take far longer than predicted, or no longer do.

The root asks all ranks now and then how long they have computed, beside the stream. What leaves the prediction for long
is said, and where that is wanted answered by a plan that is searched with what was seen, in a process of its own, and
taken up between two requests::

    stream   |-- requests ---------------------------------|gap|-- requests by another plan --
    asked       x     x     x (slow)  x (slow)  x (slow)
    planned                                     |-- plan --|
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from statistics import fmean
from threading import Event, Thread
from typing import TYPE_CHECKING

from ..core.choices import AUTO, SEARCHING
from ..core.graph import Graph
from ..core.plan import Plan
from ..runtime.engine import Engine
from ..runtime.life import Answer
from ..testbed import Testbed
from .opening import ROOT, PlanChoice

if TYPE_CHECKING:
    from .inputs import PredictionInputs

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Between two looks."""

FEWEST = 3
"""Requests between two looks that count; one where even that takes as long as several looks."""

LOOKS = 3
"""So many looks one after the other make "for long"."""

FAR = 1.5
"""So many times as long as expected, or so much shorter, is far."""

SLOW_LINK = 3.0
"""The same of links, which the stream itself keeps busy."""

PAYS = 0.9
"""A plan is taken up that takes at most so much of the time of the one that runs."""

REST_S = 20.0
"""After a plan was taken up, which may take a second, so long none is looked for."""


@dataclass(frozen=True, slots=True)
class Factors:
    """How many times as long as predicted boards take to compute, and links to carry, by rank."""

    boards: tuple[float, ...]
    links: tuple[float, ...]  # between a rank and the root

    @classmethod
    def of_prediction(cls, ranks: int) -> Factors:
        """Everything takes as long as predicted."""
        return cls((1.0,) * ranks, (1.0,) * ranks)

    def applied(self, testbed: Testbed) -> Testbed:
        """The testbed as it is now."""
        devices = (replace(d, slowdown=d.slowdown * f) for d, f in zip(testbed.devices, self.boards, strict=True))
        shares = [1.0] * len(testbed.resources)
        ways = {rank: _ways(testbed, rank) for rank in range(testbed.ranks)}
        well = {number for rank, way in ways.items() for number in way if self.links[rank] == 1.0}
        for rank, way in ways.items():
            for number in way - well:
                shares[number] = max(shares[number], self.links[rank])
        resources = (replace(r, bandwidth=r.bandwidth / s) for r, s in zip(testbed.resources, shares, strict=True))
        return replace(testbed, devices=tuple(devices), resources=tuple(resources))


def _ways(testbed: Testbed, rank: int) -> set[int]:
    """Resources between a rank and the root."""
    routes = (testbed.routes[rank][ROOT], testbed.routes[ROOT][rank])
    return {number for route in routes if route for number in route.resources}


@dataclass
class Changes:
    """Which changes last: factors that are far from those known, look after look.

    >>> changes = Changes(Factors((1.0, 1.0), (1.0, 1.0)))
    >>> slow = Factors((1.0, 8.0), (1.0, 1.0))
    >>> [bool(changes.seen(slow)) for _ in range(4)], changes.known == slow
    ([False, False, True, False], True)
    """

    known: Factors
    _far: dict[tuple[str, int], int] = field(default_factory=dict)

    def seen(self, now: Factors) -> list[tuple[str, int, float]]:
        """What has just been far for long, and is known from now on: ``boards`` or ``links``, the rank, its factor."""
        found = []
        for kind, limit in (("boards", FAR), ("links", SLOW_LINK)):
            for rank, (before, factor) in enumerate(zip(getattr(self.known, kind), getattr(now, kind), strict=True)):
                is_far = max(factor / before, before / factor) >= limit
                count = self._far[kind, rank] = (self._far.get((kind, rank), 0) + 1) * is_far
                if count >= LOOKS:
                    found.append((kind, rank, factor))
        for kind, rank, factor in found:
            self._far[kind, rank] = 0
            factors = list(getattr(self.known, kind))
            factors[rank] = factor
            self.known = replace(self.known, **{kind: tuple(factors)})
        return found


def _apart() -> Executor:
    """A process of its own that gives way to the stream; it starts afresh, as a copy would hold this one's MPI."""
    return ProcessPoolExecutor(1, get_context("spawn"), partial(os.nice, 10))


@dataclass
class World:
    """The root's view of boards and links while a stream runs.

    Parameters
    ----------
    inputs : PredictionInputs or None
        What predictions stand on. Where nothing was measured for them the stream's own beginning is what is expected;
        without them links are held against the fastest of them.
    hosts : mapping
        Ranks by the name of their host.
    choice : PlanChoice or None
        Who plans anew; None where nobody should.
    turn_to : callable
        Takes the plan to go on with.
    clock : callable
    apart : callable
        Makes what a plan is searched in.
    """

    inputs: PredictionInputs | None
    hosts: Mapping[str, Sequence[int]]
    choice: PlanChoice | None
    turn_to: Callable[[Plan], None]
    clock: Callable[[], float] = time.monotonic
    apart: Callable[[], Executor] = _apart
    _engine: Engine | None = None
    _changes: Changes | None = None
    # Seconds of computing per request by rank: as predicted, and how many times that is to be expected
    _predicted_s: Sequence[float] = ()
    _scale: Sequence[float] | None = None
    _last: list[Answer] | None = None
    _best_s: float = float("inf")  # between two requests
    _turned_s: float = float("-inf")
    _is_due: bool = False
    _over: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def follow(self, engine: Engine) -> None:
        """From now on the stream is that of this engine; what is known of boards and links stays known."""
        self._engine, self._last, self._best_s, self._predicted_s = engine, None, float("inf"), ()
        if self.is_measured:
            self._scale = [1.0] * engine.plan.ranks
        self._changes = self._changes or Changes(Factors.of_prediction(engine.plan.ranks))
        if self._thread is None:
            self._thread = Thread(target=self._watch, name="world", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """The stream is over."""
        self._over.set()

    def _watch(self) -> None:
        try:
            while not self._over.wait(LOOK_S):
                self.look()
        except Exception as error:  # the stream goes on, whatever is wrong with watching it
            log.warning("boards and links are not watched any more: %s", error)

    def look(self) -> None:
        """Ask all ranks, say what has changed, and plan anew where that is wanted."""
        engine, changes = self._engine, self._changes
        assert engine is not None and changes is not None, "an engine is followed"
        factors = self._factors(engine, changes.known)
        if factors is None or engine is not self._engine:
            return
        for kind, rank, factor in changes.seen(factors):
            log.warning("%s", self._sentence(kind, rank, factor))
            self._is_due = True
        if self._is_due and self.choice and self.inputs and self.clock() - self._turned_s >= REST_S:
            self._is_due = False
            self._plan_anew(engine, changes.known)

    def _factors(self, engine: Engine, known: Factors) -> Factors | None:
        """How long everything has taken since the last look that counts; None where that was too short."""
        answers = [engine.transport.asked(rank) for rank in range(engine.plan.ranks)]
        if None in answers:
            return None
        now, before = [answer for answer in answers if answer is not None], self._last
        if before is None or any(a.doing.requests < b.doing.requests for a, b in zip(now, before, strict=True)):
            self._last = now
            return None
        done = [a.doing.requests - b.doing.requests for a, b in zip(now, before, strict=True)]
        passed_s = now[ROOT].clock_s - before[ROOT].clock_s
        if min(done) < (FEWEST if passed_s < LOOKS * LOOK_S else 1):
            return None
        self._last = now
        busy = [(a.doing.busy_s - b.doing.busy_s) / n for a, b, n in zip(now, before, done, strict=True)]
        self._predicted_s = self._predicted_s or self._predicted(engine)
        ratios = [took / s if took > 0 and s > 0 else None for took, s in zip(busy, self._predicted_s, strict=True)]
        if self._scale is None:
            mean = fmean(ratio for ratio in ratios if ratio is not None)
            self._scale = [ratio or mean for ratio in ratios]
        rows = zip(ratios, self._scale, known.boards, strict=True)
        boards = tuple(before if ratio is None else ratio / scale for ratio, scale, before in rows)
        between_s = passed_s / done[ROOT]
        self._best_s = min(self._best_s, between_s)
        is_slow = between_s > FAR * self._best_s and all(b < FAR * k for b, k in zip(boards, known.boards, strict=True))
        is_known_slow = any(link != 1.0 for link in known.links)
        links = self._links(engine) if is_slow or is_known_slow else known.links
        return Factors(boards, links)

    def _links(self, engine: Engine) -> tuple[float, ...]:
        """How many times as long as expected the way from each rank to the root takes, 1 where that is not far."""
        ranks = [rank for rank in range(engine.plan.ranks) if rank != ROOT]
        answers = {rank: engine.transport.asked(rank, loaded=True) for rank in ranks}
        rates = {rank: answer.rate for rank, answer in answers.items() if answer and answer.rate}
        factors = [1.0] * engine.plan.ranks
        for rank, rate in rates.items():
            expected = self.inputs.testbed.bandwidth(rank, ROOT) if self.inputs else max(rates.values())
            factors[rank] = expected / rate if expected / rate >= SLOW_LINK else 1.0
        return tuple(factors)

    @property
    def is_measured(self) -> bool:
        """Whether measurements stand behind predictions."""
        if self.inputs is None:
            return False
        from ..cost.prior import AnalyticCost

        return not isinstance(self.inputs.cost, AnalyticCost)

    def _predicted(self, engine: Engine) -> list[float]:
        """Seconds of computing per request of every rank; 1 where nothing is predicted."""
        if self.inputs is None:
            return [1.0] * engine.plan.ranks
        from ..simulate.occupancy import occupancy

        testbed, cost = self.inputs.testbed, self.inputs.cost
        return [float(s) for s in occupancy(engine.programs_by_turn, engine.model.graph, testbed, cost).compute_s]

    def _sentence(self, kind: str, rank: int, factor: float) -> str:
        host = next((name for name, ranks in self.hosts.items() if rank in ranks), "")
        expected = "predicted" if self.is_measured else "at the beginning of the stream"
        does = "computes" if kind == "boards" else "sends to the root"
        if kind == "links":
            expected = "predicted" if self.inputs else "the fastest rank does"
        if 1 / FAR < factor < FAR:
            return f"rank {rank} on '{host}' {does} as fast as {expected} again"
        return (
            f"rank {rank} on '{host}' {does} {factor:.2g} times as long as {expected}, for {LOOKS * LOOK_S:.0f} s now"
        )

    def _plan_anew(self, engine: Engine, known: Factors) -> None:
        """Search for a plan for the world as it is, and have it taken up where that pays."""
        assert self.inputs is not None and self.choice is not None
        inputs = replace(self.inputs, testbed=known.applied(self.inputs.testbed))
        with self.apart() as pool:
            found = pool.submit(searched, self.choice, engine.model.graph, inputs, engine.plan)
            plan, planned_s, kept_s = found.result()
        self._turned_s = self.clock()
        if planned_s <= PAYS * kept_s and not self._over.is_set():
            times = planned_s * 1e3, kept_s * 1e3
            log.warning("another plan is made ready beside the stream: predicted %.3g ms and no longer %.3g", *times)
            self.turn_to(plan)


def searched(choice: PlanChoice, graph: Graph, inputs: PredictionInputs, running: Plan) -> tuple[Plan, float, float]:
    """The best plan, what it should take, and what the one that runs should, in seconds."""
    from .planning import predict

    choice = choice if choice.planner in SEARCHING else replace(choice, planner=AUTO)
    best = predict(choice, graph, inputs).best
    return best.plan, best.seconds, predict(choice, graph, inputs, given=running).best.seconds
