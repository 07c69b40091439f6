"""Which plan a job runs: the one that is given, the one that is made, or the fastest of several that are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.choices import SEARCHING
from ..core.errors import FlexPieError, count_of
from ..core.plan import Plan
from ..files.cache import Cache
from ..measure.agreement import UntriedError
from ..measure.trial import Outcome, Rounds, Trial, race_in_turns
from ..model import Model
from ..runtime.engine import Engine
from ..runtime.transport import Transport, on_root
from .memory import turns_of_plans
from .opening import ROOT, CostSources, PlanChoice, Tell, from_root, read_boards, requests_in_flight

if TYPE_CHECKING:
    from ..measure.observed import Observation
    from ..measure.shares import Shares
    from .cluster import InputsFinder
    from .inputs import PredictionInputs
    from .planning import Prediction

log = logging.getLogger(__name__)
RACE = Rounds(repeat=5, warmup=2)
"""Rounds in which plans are tried to keep the fastest."""


@dataclass(frozen=True)
class Chosen:
    """The plan of a job, on every rank, and on the root what is known of it."""

    plan: Plan
    prediction: Prediction | None = None  # None elsewhere, and where nothing had to be predicted
    measured_s: tuple[float, ...] = ()  # medians of the plans that were run to choose among them; empty where none were

    @property
    def inputs(self) -> PredictionInputs | None:
        """What it was chosen on; None where nothing had to be predicted."""
        return self.prediction.inputs if self.prediction else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan's run, segment by segment."""

    compute_s: Sequence[float]  # of the slowest rank of every segment
    # Of the exchange before every segment, and of the one that brings the outputs to the root
    exchange_s: Sequence[float]
    latency_s: float
    added: str  # where the measurements were added to, or why they were not
    shares: Shares | None = None
    unshared: str = ""  # why shares are not known; empty where there is nothing to say


@dataclass
class Chooser:
    """Chooses a job's plan, and afterwards holds it against what was predicted; called by all ranks together."""

    transport: Transport
    model: Model
    choice: PlanChoice  # who plans where no plan is given
    sources: CostSources
    cache: Cache
    tell: Tell
    reports: bool = False  # whether even a plan that nobody searched for is held against a prediction
    _finder: InputsFinder | None = field(default=None, init=False)

    def choose(self, given: Plan | None, make: Callable[[Plan], Engine], request: Mapping[str, Any] | None) -> Chosen:
        """The plan to run, which may be `given` by the user.

        Plans are tried with the root's `request`, if there is one, in engines that `make` makes.
        """
        if given is not None and not self.reports:
            return Chosen(given)
        inputs = self._find(given, request)
        self.tell("planning")
        made = on_root(self.transport, partial(self._plans, given, inputs))
        prediction, plans = made or (None, ())
        plans = [Plan.from_json(text) for text in self.transport.broadcast([plan.to_json() for plan in plans])]
        if len(plans) == 1 or not self.transport.broadcast(request is not None):
            return Chosen(plans[0], prediction)
        outcomes = self._raced(plans, make, request or {}, prediction)
        medians = {index: each.median_s for index, each in enumerate(outcomes) if isinstance(each, Trial)}
        errors = [outcome for outcome in outcomes if isinstance(outcome, FlexPieError)]
        if errors and self.transport.rank == ROOT:
            log.warning("%d of the %d best plans could not be run to compare: %s", len(errors), len(plans), errors[0])
        if not medians:
            return Chosen(plans[0], prediction)
        best = min(medians, key=medians.__getitem__)
        return Chosen(plans[best], prediction and prediction.only(tuple(medians), best), tuple(medians.values()))

    def depth(self, chosen: Chosen, asked: int | None = None, *, holds_whole: bool = False) -> int:
        """Requests under way at once, on the boards of a file or those that the plan was chosen on.

        As of :func:`requests_in_flight`, on every rank.
        """

        def count() -> int:
            testbed = chosen.inputs.testbed if chosen.inputs else None
            if self.sources.testbed is not None:
                testbed = read_boards(self.sources.testbed, chosen.plan.ranks)
            return requests_in_flight(chosen.plan, self.model.graph, testbed, asked, holds_whole=holds_whole)

        return from_root(self.transport, count)

    def compare(
        self,
        engine: Engine,
        make: Callable[[Plan], Engine],
        chosen: Chosen,
        request: Mapping[str, Any],
        repeat: int,
    ) -> Comparison | None:
        """Run the plan `repeat` times more to see what every segment takes, and add that to the traces.

        The root alone takes turns with it, in an engine that `make` makes, to see what a share costs beyond its share.
        None but on the root, and where the plan could not be run again, which a warning says.
        """
        from .looking import Looker

        prediction = chosen.prediction
        testbed = self.transport.broadcast(prediction.inputs.testbed if prediction else None)
        looker = Looker(engine, make, testbed, self.sources.threads, self.tell)
        try:
            look = looker.look(request, repeat)
        except UntriedError as error:
            if self.transport.rank == ROOT:
                log.warning("nothing is reported of the segments: %s", error)
            return None

        def compared() -> Comparison | None:
            if look is None or prediction is None:
                return None
            seen, added = look.seen, self._added(look.seen, prediction)
            return Comparison(seen.compute_s, seen.exchange_s, seen.latency_s, added, look.shares, look.unshared)

        return on_root(self.transport, compared)

    def _added(self, observation: Observation, prediction: Prediction) -> str:
        """Where what was seen is added to, or why it is not, in words."""
        if self._finder is None or not prediction.inputs.is_here:
            return "not added to traces: the links that were predicted with are not those of this job"
        try:
            rows = observation.rows(prediction.inputs.testbed, prediction.best.seconds)
            return f"{count_of(sum(map(len, rows.values())), 'row')} added to {self._finder.add(rows)}"
        except Exception as error:  # a file that cannot be written, or whatever else: the run is over, and counts
            return f"not added to traces: {error}"

    def _find(self, given: Plan | None, request: Mapping[str, Any] | None) -> PredictionInputs | None:
        """What predictions stand on, where any are wanted."""
        searches = self.choice.planner in SEARCHING and self.transport.size > 1  # a single rank does everything
        if not (self.reports or (given is None and searches)):
            return None
        from .cluster import InputsFinder

        self._finder = InputsFinder(self.transport, self.cache, self.sources, self.tell)
        return self._finder.find(self.model, request)

    def _raced(
        self,
        plans: Sequence[Plan],
        make: Callable[[Plan], Engine],
        request: Mapping[str, Any],
        prediction: Prediction | None,
    ) -> tuple[Outcome, ...]:
        """What became of each plan, the same on every rank."""
        testbed = self.transport.broadcast(prediction.inputs.testbed if prediction else None)
        turns = turns_of_plans(self.transport, self.model.graph, plans, testbed)
        return race_in_turns(plans, turns, make, request, RACE, self.tell)

    def _plans(self, given: Plan | None, inputs: PredictionInputs | None) -> tuple[Prediction | None, Sequence[Plan]]:
        """The root's plans to choose from; no other rank needs a planner."""
        from .planning import plans_to_try

        without_cost = self._finder.without_cost if self._finder else None
        return plans_to_try(self.choice, given, self.model.graph, self.transport.size, inputs, without_cost)
