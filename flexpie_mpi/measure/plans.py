"""Whole plans: run with a request, and turned into rows about kernels, calls, exchanges and the plan itself."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..core.plan import Plan
from ..core.program import Compute
from ..cost.groups import fused_groups
from ..cost.rows import PLAN_TRACE, TABLES
from ..model import Model
from ..runtime.transport import Transport, on_root
from ..testbed import Testbed
from .attribution import Work
from .measures import Label, call_row, compute_rows, pooled_gap_s, split, spread
from .moves import exchange_rows
from .rehearsal import Rehearsal, Rehearser, scratch
from .together import UntriedError, together
from .waves import Trip, Waves

Keep = Callable[[str, np.ndarray], None]
"""Takes rows of a table of :data:`flexpie_mpi.cost.rows.TABLES`; called on the root only."""


@dataclass(slots=True)
class Outcome:
    """How many plans were measured, and which were not, in words; the same on every rank.

    It is hopeless when what failed was no plan but what all of them need.
    """

    measured: int = 0
    left_out: list[str] = field(default_factory=list)
    is_hopeless: bool = False


def collect_plans(
    transport: Transport,
    model: Model,
    inputs: Mapping[str, Any],
    plans: Iterable[Plan],
    *,
    testbed: Testbed,
    keep: Keep,
    clock: Callable[[], float],
    tell: Callable[[str], None] = lambda text: None,
    threads: int = 1,
) -> Outcome:
    """Measure plans until there are no more, or no time for another like the last; called by all ranks together.

    Parameters
    ----------
    transport : Transport
    model : Model
        On every rank, with its store on one: weights whose values do not matter are made up.
    inputs : mapping of str to array
        The request that plans are measured with, on the root; ignored elsewhere.
    plans : iterable of Plan
        For this job and model, of which the root's count. One that any rank cannot run is left out.
    testbed : Testbed
        Of this job: its links say what a transfer should take, its hosts which ranks get into each other's way.
    keep : callable
        Takes (table, rows) on the root; `origin` in the rows is a rank.
    clock : callable
        Seconds left, the same on all ranks, asked by all of them together.
    tell : callable
        Is told what goes on, between plans.
    threads : int
        onnxruntime threads of this rank.

    Raises
    ------
    FlexPieError
        On every rank, what `keep` raised.
    """
    outcome, last_s = Outcome(), 0.0
    order = iter(plans)
    try:
        with scratch(transport) as folder:
            rehearser = Rehearser(transport, model, inputs, folder, threads)
            while clock() > last_s and (plan := _next(transport, order)) is not None:
                begin = time.monotonic()
                tell(f"{model.name}: plan {outcome.measured + 1}, {name_of(plan)}")
                try:
                    rows = _Rows(transport, model, plan, testbed, rehearser.rehearse(plan)).gathered()
                except UntriedError as error:
                    outcome.left_out.append(f"{name_of(plan)}: {error}")
                else:
                    on_root(transport, partial(_keep, rows, keep))
                    outcome.measured += 1
                gc.collect()
                last_s = transport.broadcast(time.monotonic() - begin)
    except UntriedError as error:
        outcome.left_out.append(str(error))
        outcome.is_hopeless = True
    return outcome


def _keep(rows: Mapping[str, np.ndarray], keep: Keep) -> None:
    for table, found in rows.items():
        keep(table, found)


def name_of(plan: Plan) -> str:
    """What planned a plan, for rows and people; of at most 32 letters."""
    words = (plan.provenance.get("planner", "plan"), plan.provenance.get("fusion", ""))
    return " ".join(filter(None, words))[:32]


def _next(transport: Transport, plans: Iterator[Plan]) -> Plan | None:
    """The root's next plan; None when there are no more. To find it may take the root longer than any deadline."""
    plan = together(transport, lambda: transport.attend(lambda: next(plans, None)), "finding a plan")
    text = transport.broadcast(None if plan is None else plan.to_json())
    return None if text is None else Plan.from_json(text)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one rehearsal."""

    transport: Transport
    model: Model
    plan: Plan
    testbed: Testbed
    rehearsal: Rehearsal

    def gathered(self) -> dict[str, np.ndarray]:
        """What every rank has found, by table, on the root; nothing elsewhere.

        Raises
        ------
        UntriedError
            On every rank, when what was measured on any makes no sense.
        """
        found = self.rehearsal
        seconds = {times.step.segment: found.typical(times.plain_s) for times in found.segments}
        mine = together(self.transport, partial(self._own_rows, seconds), "reading what was measured")
        everyone = self.transport.gather((*mine, seconds, found.trips))
        return together(self.transport, partial(self._joined, everyone), "reading what was measured")

    def _joined(self, everyone: Sequence[Any] | None) -> dict[str, np.ndarray]:
        if everyone is None:
            return {}
        computes, call_rows, by_rank, trips = zip(*everyone, strict=True)
        exchanges = self._exchange_rows(list(zip(*trips, strict=True)))
        slowest = [max(each.get(place, 0.0) for each in by_rank) for place in range(len(self.plan.segments))]
        plan = self._plan_row(sum(slowest), exchanges)
        tables = {"compute": np.concatenate(computes), "call": np.concatenate(call_rows)}
        return tables | {"exchange": exchanges, "plan": plan}

    def _own_rows(self, seconds: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
        """This rank's rows about kernels and calls, from the seconds of its segments."""
        graph, rank = self.model.graph, self.transport.rank
        known = fused_groups(graph, [first for _, first, _ in self.plan.spans])
        gap = pooled_gap_s(self.rehearsal.segments)
        compute, calls = [], []
        for times in self.rehearsal.segments:
            work = Work(graph, known, self.rehearsal.programs[rank], times.step)
            found = split(times, work, gap, seconds[times.step.segment])
            label = Label(self._active(times.step), rank, self.model.name)
            compute.append(compute_rows(work, found, label, len(times.plain_s)))
            calls.append(call_row(work, found, label, len(times.plain_s)))
        return _joined(compute, "compute"), _joined(calls, "call")

    def _active(self, step: Compute) -> float:
        ranks = self.plan.segments[step.segment].layout.ranks
        return float(self.testbed.active(ranks)[ranks.index(self.transport.rank)])

    def _exchange_rows(self, requests: Sequence[Sequence[Trip]]) -> np.ndarray:
        """A row of EXCHANGE_TRACE for each exchange of the plan."""
        waves = Waves(self.rehearsal.programs)
        costs = [waves.exchange_costs(trips) for trips in requests]
        moves, rows = exchange_rows(self.rehearsal.programs, self.testbed)
        for row, index in zip(rows, moves, strict=True):
            samples = [cost.get(index, 0.0) for cost in costs]
            row["seconds"], row["spread_s"] = self.rehearsal.typical(samples), spread(samples)
        self._label(rows, len(costs))
        return rows

    def _plan_row(self, compute_s: float, exchanges: np.ndarray) -> np.ndarray:
        latencies = self.rehearsal.latencies_s
        row = plan_row(self.plan, compute_s, exchanges["seconds"].sum(), latencies)
        self._label(row, len(latencies))
        return row

    def _label(self, rows: np.ndarray, repeats: int) -> None:
        rows["origin"], rows["model"], rows["repeats"] = self.plan.root, self.model.name.encode()[:32], repeats
        if "active" in (rows.dtype.names or ()):
            rows["active"] = 1.0


def plan_row(
    plan: Plan, compute_s: float, exchange_s: float, latencies_s: Sequence[float], predicted_s: float = np.nan
) -> np.ndarray:
    """A row of PLAN_TRACE that does not say yet where it was measured."""
    row = np.zeros(1, PLAN_TRACE)
    row["planner"] = name_of(plan).encode()
    row["ranks"] = len({rank for segment in plan.segments for rank in segment.layout.ranks})
    row["segments"] = len(plan.segments)
    row["compute_s"], row["exchange_s"], row["predicted_s"] = compute_s, exchange_s, predicted_s
    row["seconds"], row["spread_s"] = statistics.median(latencies_s), spread(latencies_s)
    return row


def _joined(rows: Sequence[np.ndarray], table: str) -> np.ndarray:
    return np.concatenate([np.zeros(0, TABLES[table]), *rows])
