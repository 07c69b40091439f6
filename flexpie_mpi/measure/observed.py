"""What the requests of a plan took, taken apart: its segments, its exchanges, and the rows of traces they make."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..core.plan import Plan
from ..core.program import Program
from ..cost.links import job_transfers
from ..cost.rows import EXCHANGE_TRACE, PLAN_TRACE
from ..runtime.engine import Engine
from ..testbed import Testbed
from .agreement import UntriedError, clock_offset, together
from .critical_path import RankRequest, exchange_costs
from .trial import try_request


@dataclass(frozen=True)
class Observation:
    """Requests of a plan, as the root sees them."""

    plan: Plan
    model: str  # name of the model
    programs: Sequence[Program]  # of all ranks
    compute_s: tuple[float, ...]  # of the slowest rank of every segment
    # For each request, by how much each exchange made it longer, by number of the exchange
    exchanges_s: Sequence[Mapping[int, float]]
    latencies_s: tuple[float, ...]  # of each request
    # The one number that stands for those of all requests
    typical: Callable[[Sequence[float]], float] = statistics.median

    @property
    def latency_s(self) -> float:
        """Median of a whole request."""
        return statistics.median(self.latencies_s)

    @property
    def exchange_s(self) -> tuple[float, ...]:
        """Of the exchange before every segment, and of the one behind the last."""
        return tuple(self.typical(self._samples(index)) for index in range(len(self.compute_s) + 1))

    def rows(self, testbed: Testbed, predicted_s: float = np.nan) -> dict[str, np.ndarray]:
        """Rows of the tables ``exchange`` and ``plan``, whose origin is the root.

        Parameters
        ----------
        testbed : Testbed
            Of the job: what its links should take.
        predicted_s : float
            Of the whole plan; NaN when nothing was predicted.
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
        return [costs.get(index, 0.0) for costs in self.exchanges_s]


def observe(engine: Engine, inputs: Mapping[str, Any], requests: int) -> Observation | None:
    """Run a request over and over and look at every part of it; called by all ranks together.

    Parameters
    ----------
    engine : Engine
        It has run before.
    inputs : mapping of str to array
        On the root; ignored elsewhere.
    requests : int

    Returns
    -------
    Observation
        On the root; None elsewhere.

    Raises
    ------
    UntriedError
        On every rank, when a request fails on any, or what was seen makes no sense.
    """
    transport, root = engine.transport, engine.plan.root
    offset_s = clock_offset(transport, root)
    parts, latencies_s = [], []
    for _ in range(requests):
        seconds, _, error = try_request(engine, inputs)
        if error is not None:
            raise UntriedError(str(error))
        latencies_s.append(seconds)
        parts.append(RankRequest(transport.rank, engine.began_s + offset_s, engine.timeline()))
    everyone = transport.gather((parts, latencies_s), root)
    return together(transport, partial(_seen, engine, everyone), "reading what was measured")


def _seen(engine: Engine, everyone: Sequence[Any] | None) -> Observation | None:
    if everyone is None:
        return None
    requests = list(zip(*(parts for parts, _ in everyone), strict=True))
    return Observation(
        engine.plan,
        engine.model.name,
        engine.programs,
        _slowest(requests, len(engine.plan.segments)),
        [exchange_costs(engine.programs, request) for request in requests],
        tuple(map(max, zip(*(latencies for _, latencies in everyone), strict=True))),
    )


def _slowest(requests: Sequence[Sequence[RankRequest]], segments: int) -> tuple[float, ...]:
    """Median over requests of each rank's compute in each segment; the slowest rank counts."""
    samples: dict[tuple[int, int], list[float]] = {}
    for part in (part for request in requests for part in request):
        for event in part.timeline.events:
            if event.kind == "compute":
                samples.setdefault((event.segment, part.rank), []).append(event.seconds)
    slowest = [0.0] * segments
    for (segment, _), seconds in samples.items():
        slowest[segment] = max(slowest[segment], statistics.median(seconds))
    return tuple(slowest)


def exchange_rows(programs: Sequence[Program], testbed: Testbed) -> tuple[tuple[int, ...], np.ndarray]:
    """Numbers of a job's exchanges, and a row of `EXCHANGE_TRACE` for each with what it moves, but no seconds yet.

    Parameters
    ----------
    programs : sequence of Program
        Of all ranks.
    testbed : Testbed
    """
    numbers, transfers = job_transfers(programs, testbed)
    rows = np.zeros(len(numbers), EXCHANGE_TRACE)
    columns = list(transfers.dtype.names or ())
    rows[columns] = transfers[columns]
    return numbers, rows


def name_of(plan: Plan) -> str:
    """What planned a plan, for rows and people; of at most 32 letters."""
    words = (plan.provenance.get("planner", "plan"), plan.provenance.get("fusion", ""))
    return " ".join(filter(None, words))[:32]


def spread(samples: Sequence[float]) -> float:
    """Distance of the quartiles."""
    lower, upper = np.percentile(samples, (25, 75))
    return float(upper - lower)
