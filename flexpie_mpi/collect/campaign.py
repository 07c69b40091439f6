"""A campaign: links, then exchange patterns, then whole plans of models by turns, within a budget of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..cost.origins import Origin
from ..cost.rows import LINK_TRACE
from ..model import Model
from ..plan import Plan
from ..runtime.transport import Transport
from ..testbed import Testbed
from .budget import Budget
from .cluster import memory_bytes, testbed_of
from .exchanges import collect_exchanges
from .links import collect_links
from .plans import Keep, collect_plans
from .samples import sample_plans

LINKS_SHARE, EXCHANGES_SHARE = 0.1, 0.25
"""Most that links and exchange patterns take of the time; plans get the rest. Without models, patterns do."""

TURN_SHARE = 0.5
"""Of what a model would get if the rest were dealt out now: so that all have had a turn when time is half over."""


@dataclass(frozen=True)
class Campaign:
    """What measures; every method is called by all ranks together.

    Attributes
    ----------
    transport : Transport
    origins : tuple of Origin
        Of all ranks.
    budget : Budget
    keep : callable
        Takes (table, rows) on the root; rows name origins by their rank.
    tell : callable
        Is told what goes on, between measurements.
    """

    transport: Transport
    origins: tuple[Origin, ...]
    budget: Budget
    keep: Keep
    tell: Callable[[str], None] = lambda text: None

    def run(self, models: Sequence[Callable[[], Model]], seed: int = 0) -> Testbed:
        """Measure until everything is measured or the budget is over.

        Parameters
        ----------
        models : sequence of callable
            Each loads a model, on all ranks together, when its first turn comes.
        seed : int
            Of what is drawn: pairs, patterns, plans.

        Returns
        -------
        Testbed
            The job's devices, at their own speed, and links, as measured.
        """
        unpaced = [replace(origin, slowdown=1.0) for origin in self.origins]
        testbed = testbed_of(unpaced, self.links(seed), self.transport.all_gather(memory_bytes()))
        self.exchanges(testbed, seed, EXCHANGES_SHARE if models else 1.0)
        self.plans(testbed, models, seed)
        return testbed

    def links(self, seed: int = 0) -> np.ndarray:
        """Measure the links; all their rows, on every rank."""
        found = [np.zeros(0, LINK_TRACE)]

        def keep(rows: np.ndarray) -> None:
            found.append(rows)
            self._keep("link", rows)

        collect_links(self.transport, self.budget.part(LINKS_SHARE), keep, self.tell, seed)
        return np.concatenate(found)

    def exchanges(self, testbed: Testbed, seed: int = 0, share: float = EXCHANGES_SHARE) -> None:
        """Measure exchange patterns."""
        budget = self.budget.part(share)
        collect_exchanges(self.transport, testbed, budget, lambda rows: self._keep("exchange", rows), self.tell, seed)

    def plans(self, testbed: Testbed, models: Sequence[Callable[[], Model]], seed: int = 0) -> None:
        """Measure plans of the models, by turns."""
        loaders, waiting = deque(models), deque[_Series]()
        while (loaders or waiting) and not self.budget.is_over():
            series = self._series(loaders.popleft(), seed) if loaders else waiting.popleft()
            self._measure(series, testbed, self.budget.left() * TURN_SHARE / (1 + len(loaders) + len(waiting)))
            if self.transport.broadcast(series.may_go_on):
                waiting.append(series)

    def _series(self, load: Callable[[], Model], seed: int) -> _Series:
        self.tell("loading a model")
        model = load()
        return _Series(model, sample_plans(model.graph, self.transport.size, seed))

    def _measure(self, series: _Series, testbed: Testbed, seconds: float) -> None:
        """Measure plans for so many seconds, and one at least."""
        collect_plans(
            self.transport,
            series.model,
            series,
            testbed=testbed,
            keep=self.keep,
            clock=Budget(self.transport, seconds).left,
            tell=self.tell,
            threads=self.origins[self.transport.rank].threads,
        )

    def _keep(self, table: str, rows: np.ndarray) -> None:
        if self.transport.rank == 0:
            self.keep(table, rows)


@dataclass
class _Series:
    """A model's plans, and whether there may be another. Only the root's is read."""

    model: Model
    plans: Iterator[Plan]
    may_go_on: bool = True

    def __iter__(self) -> Iterator[Plan]:
        return self

    def __next__(self) -> Plan:
        plan = next(self.plans, None)
        if plan is None:
            self.may_go_on = False
            raise StopIteration
        return plan
