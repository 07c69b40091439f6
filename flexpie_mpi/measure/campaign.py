"""A campaign: links, then exchange patterns, then whole plans of models by turns, within a budget of time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..core.budget import memory_bytes
from ..core.plan import Plan
from ..cost.model import Origin
from ..cost.rows import LINK_TRACE, TABLES
from ..cost.traces import Traces
from ..model import Model
from ..runtime.machine import stand_for_boards
from ..runtime.transport import Transport, on_root
from ..testbed import Testbed
from .agreement import Budget, places_of, with_time_left
from .cluster import collect_links, testbed_of
from .exchanges import collect_exchanges
from .plans import Keep, Outcome, collect_plans, sample_plans

log = logging.getLogger(__name__)

LINKS_SHARE, EXCHANGES_SHARE = 0.1, 0.25
"""Most that links and exchange patterns take of the time; plans get the rest. Without models, patterns do."""

TURN_SHARE = 0.5
"""Of what a model would get if the rest were dealt out now: so that all have had a turn when time is half over."""


@dataclass(frozen=True)
class Subject:
    """A model whose plans are measured, and the request that they are measured with."""

    model: Model
    inputs: Mapping[str, Any] | None  # on the root, where None says that there is no request; ignored elsewhere


@dataclass(frozen=True)
class Campaign:
    """What measures; every method is called by all ranks together."""

    transport: Transport
    origins: tuple[Origin, ...]  # of all ranks
    budget: Budget
    keep: Keep  # takes (table, rows) on the root; rows name origins by their rank
    tell: Callable[[str], None] = lambda text: None  # is told what goes on, between measurements
    known: Testbed | None = None  # what a file says of as many boards and their links

    def run(self, subjects: Sequence[Callable[[], Subject]]) -> Testbed:
        """Measure until everything is measured or the budget is over; the job's devices, at their own speed, and links.

        Each of the subjects loads a model, on all ranks together, when its first turn comes.
        """
        unpaced = [replace(origin, slowdown=1.0) for origin in self.origins]
        testbed = self.linked(testbed_of(unpaced, self.links(), self.transport.all_gather(memory_bytes())))
        budget = self.budget.part(EXCHANGES_SHARE if subjects else 1.0)
        for rows in collect_exchanges(self.transport, testbed, budget, self.tell):
            self._keep("exchange", rows)
        self.plans(testbed, subjects)
        return testbed

    def links(self) -> np.ndarray:
        """Measure the links; all their rows, on every rank."""
        links = [np.zeros(0, LINK_TRACE)]
        for rows in collect_links(self.transport, self.budget.part(LINKS_SHARE), self.tell):
            self._keep("link", rows)
            links.append(rows)
        return np.concatenate(links)

    def plans(self, testbed: Testbed, subjects: Sequence[Callable[[], Subject]]) -> None:
        """Measure plans of the models, by turns, and one however little time is left; say which could not be."""
        loaders, waiting, known = deque(subjects), deque[_Series](), list[_Series]()
        while (loaders or waiting) and not (known and self.budget.is_over()):
            if loaders:
                known.append(self._series(loaders.popleft()))
                waiting.appendleft(known[-1])
            series = waiting.popleft()
            share = TURN_SHARE / (1 + len(loaders) + len(waiting))
            self._measure(series, testbed, self.budget.left() * share)
            if not (series.outcome.is_hopeless or series.outcome.is_over):
                waiting.append(series)
        for series in known if self.transport.rank == 0 else ():
            series.report()

    def _series(self, load: Callable[[], Subject]) -> _Series:
        self.tell("loading a model")
        subject = load()
        has_request = self.transport.broadcast(subject.inputs is not None)
        plans = sample_plans(subject.model.graph, self.transport.size) if has_request else iter(())
        return _Series(subject.model, subject.inputs, plans)

    def _measure(self, series: _Series, testbed: Testbed, seconds: float) -> None:
        """Measure plans for so many seconds, and one at least."""
        before = series.outcome
        outcome = collect_plans(
            self.transport,
            series.model,
            series.inputs or {},
            series.plans,
            testbed=testbed,
            keep=self.keep,
            clock=Budget(self.transport, seconds).left,
            tell=self.tell,
            threads=self.origins[self.transport.rank].threads,
            slowdown=self._slowdown,
        )
        left_out = before.left_out + outcome.left_out
        series.outcome = replace(outcome, measured=before.measured + outcome.measured, left_out=left_out)

    def linked(self, testbed: Testbed) -> Testbed:
        """The devices of a testbed with the links that are known of the boards that ranks stand for.

        Pair by pair it cannot be seen which pairs share a way, as in a ring, and what is planned for knows it.
        """
        return testbed.with_links(self.known) if self.known and self._stand_for_boards else testbed

    @property
    def _stand_for_boards(self) -> bool:
        """Asked by all ranks together."""
        return stand_for_boards(places_of(self.transport))

    @property
    def _slowdown(self) -> float | None:
        """How much slower the board is that this rank stands for; None where ranks are what they are."""
        slowdowns = [origin.slowdown for origin in self.origins]
        return slowdowns[self.transport.rank] if max(slowdowns) > 1 and self._stand_for_boards else None

    def _keep(self, table: str, rows: np.ndarray) -> None:
        on_root(self.transport, partial(self.keep, table, rows))


@dataclass
class _Series:
    """A model's plans, of which the root's are read alone, and what has become of them so far."""

    model: Model
    inputs: Mapping[str, Any] | None
    plans: Iterator[Plan]
    outcome: Outcome = field(default_factory=Outcome)

    def report(self) -> None:
        """Say which plans were left out, where any were."""
        name, left_out = self.model.name, self.outcome.left_out
        if self.inputs is None:
            log.warning("%s: no request is there yet to try plans with, so none was measured", name)
        elif left_out:
            tried = self.outcome.measured + len(left_out)
            log.warning("%s: %d of %d plans could not be measured; %s", name, len(left_out), tried, left_out[0])


@dataclass(frozen=True, slots=True)
class Measured:
    """The job's boards and links, the same on every rank; and on the root all rows, elsewhere none."""

    testbed: Testbed
    traces: Traces


def measure_cluster(
    transport: Transport,
    origins: Sequence[Origin],
    budget_s: float,
    subject: Subject | None = None,
    testbed: Testbed | None = None,
    tell: Callable[[str], None] = lambda text: None,
    known: Testbed | None = None,
) -> Measured:
    """Measure what is not known yet; called by all ranks together.

    Parameters
    ----------
    origins : sequence of Origin
        Of all ranks, by rank.
    subject : Subject, optional
        The model whose plans are to be measured; without one, links alone are.
    testbed : Testbed, optional
        The job's boards and links where they are known: then plans alone are measured.
    tell : callable
        Is told what goes on, with the time that is left.
    known : Testbed, optional
        What a file says of as many boards and their links.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in TABLES}
    campaign = Campaign(
        transport,
        tuple(origins),
        Budget(transport, budget_s),
        lambda table, more: rows[table].append(more),
        with_time_left(tell, budget_s),
        known,
    )
    if subject is None:
        links = campaign.links()
        testbed = testbed_of(origins, links, transport.all_gather(memory_bytes()))
    elif testbed is None:
        testbed = campaign.run([lambda: subject])
    else:
        campaign.plans(campaign.linked(testbed), [lambda: subject])
    tables = {name: np.concatenate(parts) for name, parts in rows.items() if parts}
    return Measured(testbed, Traces(tables, tuple(origins)))
