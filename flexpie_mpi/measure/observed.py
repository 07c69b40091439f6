"""What a running engine's requests take, segment by segment, as rows for the next fit."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..runtime.engine import Engine
from ..testbed import Testbed
from .clocks import clock_offset
from .measures import spread
from .moves import exchange_rows
from .plans import plan_row
from .together import UntriedError, together
from .trial import try_request
from .waves import Trip, Waves


@dataclass(frozen=True)
class Observation:
    """Requests of an engine, as the root sees them.

    Attributes
    ----------
    engine : Engine
    compute_s : tuple of float
        Of the slowest rank of every segment, median.
    exchanges_s : list of mapping
        For each request, by how much each exchange made it longer, by number of the exchange.
    latencies_s : tuple of float
        Of each request.
    """

    engine: Engine
    compute_s: tuple[float, ...]
    exchanges_s: Sequence[Mapping[int, float]]
    latencies_s: tuple[float, ...]

    @property
    def latency_s(self) -> float:
        """Median of a whole request."""
        return statistics.median(self.latencies_s)

    @property
    def exchange_s(self) -> tuple[float, ...]:
        """Median of the exchange before every segment, and of the one behind the last."""
        return tuple(self._median_s(index) for index in range(len(self.compute_s) + 1))

    def rows(self, testbed: Testbed, predicted_s: float = np.nan) -> dict[str, np.ndarray]:
        """Rows of the tables ``exchange`` and ``plan``, whose origin is the root.

        Parameters
        ----------
        testbed : Testbed
            Of the job: what its links should take.
        predicted_s : float
            Of the whole plan; NaN when nothing was predicted.
        """
        return {"exchange": self._exchange_rows(testbed), "plan": self._plan_row(predicted_s)}

    def _exchange_rows(self, testbed: Testbed) -> np.ndarray:
        moves, rows = exchange_rows(self.engine.programs, testbed)
        for row, index in zip(rows, moves, strict=True):
            row["seconds"], row["spread_s"] = self._median_s(index), spread(self._samples(index))
        rows["active"] = 1.0
        return self._labelled(rows)

    def _plan_row(self, predicted_s: float) -> np.ndarray:
        compute_s, exchange_s = sum(self.compute_s), sum(self.exchange_s)
        return self._labelled(plan_row(self.engine.plan, compute_s, exchange_s, self.latencies_s, predicted_s))

    def _labelled(self, rows: np.ndarray) -> np.ndarray:
        name = self.engine.model.name.encode()[:32]
        rows["origin"], rows["model"], rows["repeats"] = self.engine.plan.root, name, len(self.latencies_s)
        return rows

    def _samples(self, index: int) -> list[float]:
        return [costs.get(index, 0.0) for costs in self.exchanges_s]

    def _median_s(self, index: int) -> float:
        return statistics.median(self._samples(index))


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
    trips, latencies_s = [], []
    for _ in range(requests):
        seconds, _, error = try_request(engine, inputs)
        if error is not None:
            raise UntriedError(str(error))
        latencies_s.append(seconds)
        trips.append(Trip(transport.rank, engine.began_s + offset_s, engine.timeline()))
    everyone = transport.gather((trips, latencies_s), root)
    return together(transport, partial(_seen, engine, everyone), "reading what was measured")


def _seen(engine: Engine, everyone: Sequence[Any] | None) -> Observation | None:
    if everyone is None:
        return None
    by_request = list(zip(*(trips for trips, _ in everyone), strict=True))
    waves = Waves(engine.programs)
    return Observation(
        engine,
        _slowest(by_request, len(engine.plan.segments)),
        [waves.exchange_costs(request) for request in by_request],
        tuple(map(max, zip(*(latencies for _, latencies in everyone), strict=True))),
    )


def _slowest(requests: Sequence[Sequence[Trip]], segments: int) -> tuple[float, ...]:
    """Median over requests of each rank's compute in each segment; the slowest rank counts."""
    samples: dict[tuple[int, int], list[float]] = {}
    for trip in (trip for request in requests for trip in request):
        for event in trip.timeline.events:
            if event.kind == "compute":
                samples.setdefault((event.segment, trip.rank), []).append(event.seconds)
    slowest = [0.0] * segments
    for (segment, _), found in samples.items():
        slowest[segment] = max(slowest[segment], statistics.median(found))
    return tuple(slowest)
