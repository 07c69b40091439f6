"""What predictions in a job stand on: files, what the cache keeps of this cluster, or what is measured in a moment."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..core.budget import memory_bytes
from ..core.errors import FlexPieError
from ..cost.file import load_cost, save_cost
from ..cost.learned import LearnedCost
from ..cost.model import CostModel, Origin
from ..cost.prior import AnalyticCost
from ..cost.traces import Recorder, Traces, merged
from ..files.cache import Cache, NextStart
from ..measure.campaign import Measured, Subject, measure_cluster
from ..measure.cluster import cluster_digest, origins_of, testbed_of
from ..model import Model
from ..runtime.transport import Transport, on_root
from ..testbed import Testbed
from .inputs import (
    UNMEASURED,
    PredictionInputs,
    fit_cost,
    given_cost,
    job_of,
    links_of,
    read_traces,
    traced_testbed,
    with_speeds,
)
from .opening import CostSources, Tell, boards_of, read_boards, shared_devices, slowdown_of

log = logging.getLogger(__name__)

TRACES, COST = "traces", "cost"
"""Kinds of cache entries; keys are digests of clusters."""

LINKS_S = 2.0
"""Most that is spent on links where they alone are not known."""

COVERS = "covers"
"""Key in a kept cost model's provenance: digests of the graphs whose plans were measured."""


class ClusterCache(NextStart):
    """What the cache keeps of one cluster: its traces, and the cost model fitted to them. On the root only."""

    def __init__(self, cache: Cache, origins: Sequence[Origin]) -> None:
        key, anew = cluster_digest(origins), "what the cache keeps of these hosts is measured"
        super().__init__(cache, key, "what was measured", anew)

    def traces(self) -> Traces:
        """Everything measured on this cluster so far."""
        return self.read(TRACES, Traces.read) or Traces()

    def cost(self) -> LearnedCost | None:
        """The cost model of this cluster."""
        return self.read(COST, load_cost)


@dataclass(frozen=True)
class _Known:
    """What the root has; None for what is still to be measured.

    `testbed` is that of a file; `links` are the boards and links of this very job, at full speed.
    """

    testbed: Testbed | None
    boards: str
    is_here: bool
    cost: CostModel | None
    source: str
    links: Testbed | None

    @property
    def lacks(self) -> str:
        """What should be measured: ``plans`` (with links, where they are not known), ``links``, or nothing."""
        if self.cost is None:
            return "plans"
        return "links" if self.testbed is None and self.links is None else ""


class InputsFinder:
    """Finds what a job's predictions stand on; all ranks together call every method but `add` and `without_cost`.

    Of the caches of all ranks the root's counts.
    """

    def __init__(self, transport: Transport, cache: Cache, sources: CostSources, tell: Tell) -> None:
        devices = shared_devices(transport, sources.testbed, sources.places)
        self.origins = origins_of(transport, sources.threads, slowdown_of(transport, devices), sources.boundaries)
        self._transport = transport
        self._sources = sources
        self._tell = tell
        self._memory = transport.all_gather(memory_bytes())
        self._kept = ClusterCache(cache, self.origins)

    @property
    def cluster(self) -> str:
        """Digest of the job's hosts, threads and versions."""
        return cluster_digest(self.origins)

    def find(self, model: Model, inputs: Mapping[str, Any] | None, share: float = 1.0) -> PredictionInputs | None:
        """What predictions for a model stand on, on the root; None elsewhere. What is not known is measured, and kept.

        The root's `inputs` are the request to measure with, if there is one; `share` is what that may take of the
        trace budget. Raises CostError, TestbedError on every rank, when a file cannot be used.
        """
        known = on_root(self._transport, partial(self._look, model))
        measured = self._measured(Subject(model, inputs), known, share * self._sources.trace_budget_s)

        def finish() -> PredictionInputs | None:
            return None if known is None else self._completed(self._learned(model, known, measured))

        return on_root(self._transport, finish)

    def without_cost(self, inputs: PredictionInputs, error: Exception) -> PredictionInputs:
        """The same with formulas in place of a cost model that has failed, which the cache keeps no longer.

        Called on the root.
        """
        if self._sources.cost is None and self._sources.traces is None:
            self._kept.forget(COST, error)
        else:
            log.warning("formulas are taken in place of the cost model, which fails: %s", error)
        return replace(inputs, cost=AnalyticCost(), cost_source=UNMEASURED)

    def add(self, rows: Mapping[str, np.ndarray]) -> str:
        """Add rows, whose origins are ranks, to the traces that the next fit reads; where they are, in words.

        Called on the root. Raises CostError when the file of traces cannot be written.
        """
        if not self._sources.traces:
            self.keep([rows])
            return "the traces that the cache keeps of these hosts"
        path = self._sources.traces[0]
        with Recorder(path, self.origins) as recorder:
            for table, some in rows.items():
                recorder.add(table, some)
        return str(path)

    def keep(self, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Add rows, whose origins are ranks, to the traces that the cache keeps. Called on the root."""
        self._kept.put(TRACES, merged(self._kept.traces(), *(Traces(each, self.origins) for each in rows)).write)

    def _look(self, model: Model) -> _Known:
        sources = self._sources
        ranks = sources.places or self._transport.size
        traces, kept = read_traces(sources), self._kept.traces()
        cost, source = given_cost(sources, traces) or (self._kept_cost(model), "measured on these hosts before")
        links = self._links(kept)
        if sources.testbed is not None:
            return _Known(read_boards(sources.testbed, ranks), sources.testbed, False, cost, source, links)
        if traces is not None:
            testbed = boards_of(traced_testbed(traces, cost or AnalyticCost()), ranks)
            is_here = cluster_digest(job_of(traces)) == cluster_digest(self.origins)
            return _Known(testbed, f"as measured in {sources.traced}", is_here, cost, source, links)
        return _Known(None, "these hosts, links measured before", True, cost, source, links)

    def _kept_cost(self, model: Model) -> CostModel | None:
        cost = self._kept.cost()
        return cost if model.graph.digest in _covered(cost) else None

    def _links(self, traces: Traces) -> Testbed | None:
        """This job's boards and links as an earlier one measured them; one rank has no links."""
        if self._transport.size == 1:
            return testbed_of(self.origins, traces.tables["link"][:0], self._memory)
        try:
            links = links_of(traces, job_of(traces) if len(traces.tables["link"]) else ())
            return testbed_of(self.origins, links, self._memory) if len(links) else None
        except FlexPieError as error:  # numbers that no link has
            self._kept.forget(TRACES, error)
            return None

    def _measured(self, subject: Subject, known: _Known | None, budget_s: float) -> Measured | None:
        """What is measured now; None where nothing need be, or may be. Testbeds are sent where plans are measured."""
        lacks = self._transport.broadcast(known.lacks if known else None)
        if not lacks or not budget_s:
            return None
        if lacks == "links":
            return measure_cluster(self._transport, self.origins, min(budget_s, LINKS_S), tell=self._tell)
        links, boards = self._transport.broadcast((known.links, known.testbed) if known else None)
        return measure_cluster(self._transport, self.origins, budget_s, subject, links, self._tell, boards)

    def _learned(self, model: Model, known: _Known, measured: Measured | None) -> _Known:
        """What is known when the measurements are in; it is kept for the next start."""
        if measured is None:
            return known
        traces = merged(self._kept.traces(), measured.traces)
        fitted, source, spent_s = None, known.source, self._sources.trace_budget_s
        if known.cost is None and len(traces.tables["compute"]):
            self._tell("fitting a cost model")
            new = {model.graph.digest} if len(measured.traces.tables["compute"]) else set()
            fitted = _fitted(traces, new | _covered(self._kept.cost()))
            if fitted is not None:
                source = f"measured on these hosts in {spent_s:g} s at most, and kept for the next start"
        self._kept.put(TRACES, traces.write)
        if fitted is not None:
            self._kept.put(COST, partial(save_cost, fitted))
        boards = known.boards if known.links else known.boards.replace("before", "now")
        return replace(known, cost=fitted or known.cost, source=source, links=measured.testbed, boards=boards)

    def _completed(self, known: _Known) -> PredictionInputs:
        """What is known, with whatever is best for what could not be measured."""
        cost, source = known.cost, known.source
        if cost is None:
            cost, source = self._kept.cost(), f"{source}, with other models than this"
        if cost is None:
            cost, source = AnalyticCost(), UNMEASURED
        if known.testbed is not None:
            testbed = known.testbed.with_blocks(tuple(origin.block for origin in self.origins))
            return PredictionInputs(testbed, cost, known.boards, source, known.is_here)
        none = Traces().tables["link"]
        links = known.links or testbed_of(self.origins, none, self._memory)
        boards = known.boards if known.links else "these hosts, links not measured but assumed"
        return PredictionInputs(with_speeds(links, self.origins, cost), cost, boards, source, known.links is not None)


def _covered(cost: LearnedCost | None) -> set[str]:
    """Digests of the graphs that a kept cost model was measured with."""
    return set() if cost is None else set(cost.provenance.get(COVERS, ()))


def _fitted(traces: Traces, covers: set[str]) -> LearnedCost | None:
    """A cost model of traces; None where none can be learned from them."""
    try:
        cost = fit_cost(traces)
    except Exception as error:  # LightGBM raises its own
        log.warning("no cost model can be fitted to what was measured: %s", error)
        return None
    return replace(cost, provenance={**cost.provenance, COVERS: sorted(covers)})
