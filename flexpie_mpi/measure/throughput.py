"""Throughput: the rate, latencies and load of a stream, as a whole and stage by stage.

A pipeline that has just begun is empty, and one at its end runs dry. What it sustains is what passes between two
deliveries, after those with which it filled::

    deliveries   |  |  |   |    |    |    |    |    |    |
                 '-- warm-up --' <---- steady ---------->
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.plan import Plan, Stage
from ..runtime.admission import KEPT, StreamStats


class Meter:
    """Notes when requests are delivered, and when there was none to admit."""

    def __init__(self, warmup: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.warmup = warmup  # requests with which the pipeline fills
        self.delivered = 0
        self.starved_s = 0.0  # in which there was room for a request and the source had none
        self._clock = clock
        self.earlier_s = 0.0  # from its making to when ranks that were left after a loss went on
        self.last_s = self._made_s = self._filled_s = clock()  # `last_s`: of the last delivery
        self._starved_since: float | None = None

    def deliver(self) -> None:
        self.delivered += 1
        self.last_s = self._clock()
        if self.delivered <= self.warmup:
            self._filled_s = self.last_s

    def look(self, *, is_ready: bool) -> None:
        """There was room for a request; whether the source had one."""
        now = self._clock()
        if self._starved_since is not None:
            self.starved_s += now - self._starved_since
        self._starved_since = None if is_ready else now

    def go_on(self) -> None:
        """Other ranks than before carry out what is left."""
        self.earlier_s = self._clock() - self._made_s

    @property
    def rate(self) -> float | None:
        """Requests per second of the pipeline when it is full; None where it never was."""
        counted = self.delivered - self.warmup
        passed_s = self.last_s - self._filled_s
        return counted / passed_s if self.warmup and counted > 0 and passed_s > 0 else None


@dataclass(frozen=True, slots=True)
class StageLoad:
    """What a stage of the plan was busy with."""

    stage: Stage
    nodes: tuple[str, str]  # the first and the last node of it
    rank: int  # the busiest of its ranks
    busy_share: float  # of that rank, from the first admission to the last delivery
    seconds: float  # of that rank's computing, per request of the stream


@dataclass(frozen=True)
class Throughput:
    """A stream that is over, on the root."""

    requests: int
    warmup: int  # so many of them are in no statistics; 0 where there were no more than those
    in_flight: int
    rate: float | None  # requests per second, those to warm up left out; None without any
    whole_s: float  # from the first admission to the last delivery
    starved_s: float  # seconds of it in which there was room for a request and the source had none
    latencies_s: tuple[float, ...]  # from admission to delivery, of the last so many requests
    # Of the ranks that were left, where some were lost, and of what these did:
    engine_s: float  # from their first admission to the last delivery
    stages: tuple[StageLoad, ...]
    stats: tuple[StreamStats, ...]  # by rank

    @property
    def whole_rate(self) -> float | None:
        """Requests per second of the whole stream."""
        return self.requests / self.whole_s if self.requests and self.whole_s > 0 else None

    @property
    def busiest(self) -> StageLoad:
        """The stage that computes the longest per request."""
        return max(self.stages, key=lambda stage: stage.seconds)

    def latency_s(self, percent: float) -> float:
        """The latency that so many of a hundred requests do not exceed."""
        return float(np.percentile(self.latencies_s, percent))


def throughput(plan: Plan, stats: Sequence[StreamStats], meter: Meter, in_flight: int) -> Throughput:
    """Rate, latencies and load of a stream that is over, from the statistics of all ranks and of its deliveries."""
    kept, engine_s = stats[plan.root].latencies_s, stats[plan.root].elapsed_s
    whole_s = meter.earlier_s + engine_s
    warmup = meter.warmup if meter.delivered > meter.warmup else 0
    whole = meter.delivered / whole_s if meter.delivered and whole_s > 0 else None
    return Throughput(
        requests=meter.delivered,
        warmup=warmup,
        in_flight=in_flight,
        rate=meter.rate or whole,
        whole_s=whole_s,
        starved_s=min(meter.starved_s, whole_s),
        latencies_s=tuple(kept[warmup:] if meter.delivered <= KEPT else kept),
        engine_s=engine_s,
        stages=tuple(_load(plan, stage, stats) for stage in plan.stages),
        stats=tuple(stats),
    )


def _load(plan: Plan, stage: Stage, stats: Sequence[StreamStats]) -> StageLoad:
    requests, whole_s = stats[plan.root].requests, stats[plan.root].elapsed_s
    rank = max(stage.ranks, key=lambda number: stats[number].busy_s)
    busy_s = stats[rank].busy_s
    first, last = (plan.segments[index] for index in (stage.segments[0], stage.segments[-1]))
    return StageLoad(
        stage,
        (first.nodes[0], last.nodes[-1]),
        rank,
        busy_s / whole_s if whole_s > 0 else 0.0,
        busy_s / requests if requests else 0.0,
    )
