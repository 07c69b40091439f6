"""Which plan a job runs: the one that is given, the one that is made, or the fastest of several that are made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.choices import SEARCHING
from ..core.errors import FlexPieError, count_of
from ..core.plan import Plan
from ..files.cache import Cache
from ..lower import lower
from ..lower.memory import memory_of
from ..measure.agreement import UntriedError
from ..measure.trial import Outcome, Rounds, Trial, race_in_turns
from ..model import Model
from ..runtime.engine import Engine
from ..runtime.transport import Transport, on_root
from ..testbed import Testbed
from .opening import CostSources, PlanChoice, Tell

if TYPE_CHECKING:
    from ..measure.observed import Observation
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
    # `inputs` and `prediction`: predictionInputs and Prediction, optional. None elsewhere, and where nothing had to be
    # predicted.
    inputs: PredictionInputs | None = None
    prediction: Prediction | None = None
    measured_s: tuple[float, ...] = ()  # medians of the plans that were run to choose among them; empty where none were

    @property
    def testbed(self) -> Testbed | None:
        """The boards that were looked at to choose it; None where nothing had to be predicted."""
        return self.inputs.testbed if self.inputs else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan's run, segment by segment."""

    compute_s: Sequence[float]  # of the slowest rank of every segment
    # Of the exchange before every segment, and of the one that brings the outputs to the root
    exchange_s: Sequence[float]
    latency_s: float
    added: str  # where the measurements were added to, or why they were not


class Chooser:
    """Chooses a job's plan, and afterwards holds it against what was predicted; called by all ranks together.

    Parameters
    ----------
    transport : Transport
    model : Model
    choice : PlanChoice
        Who plans where no plan is given.
    sources : CostSources
    cache : Cache
    tell : callable
    reports : bool
        Whether even a plan that nobody searched for is held against a prediction.
    """

    def __init__(
        self,
        transport: Transport,
        model: Model,
        choice: PlanChoice,
        sources: CostSources,
        cache: Cache,
        tell: Tell,
        *,
        reports: bool = False,
    ) -> None:
        self._transport = transport
        self._model = model
        self._choice = choice
        self._sources = sources
        self._cache = cache
        self._tell = tell
        self._reports = reports
        self._finder: InputsFinder | None = None

    def choose(self, given: Plan | None, make: Callable[[Plan], Engine], request: Mapping[str, Any] | None) -> Chosen:
        """The plan to run.

        Parameters
        ----------
        given : Plan or None
            The one that the user has made.
        make : callable
            Makes the engine of a plan, to try it.
        request : mapping of str to array, or None
            What plans are tried with, on the root, where there is a request to try them with; ignored elsewhere.
        """
        if given is not None and not self._reports:
            return Chosen(given)
        inputs = self._find(given, request)
        self._tell("planning")
        made = on_root(self._transport, partial(self._plans, given, inputs))
        prediction, plans = made or (None, ())
        texts = self._transport.broadcast([plan.to_json() for plan in plans])
        everyones = [Plan.from_json(text) for text in texts]
        if len(everyones) == 1 or not self._transport.broadcast(request is not None):
            return Chosen(everyones[0], inputs, prediction)
        outcomes = self._raced(everyones, make, request or {}, inputs)
        medians = {index: each.median_s for index, each in enumerate(outcomes) if isinstance(each, Trial)}
        self._say_failed(outcomes)
        if not medians:
            return Chosen(everyones[0], inputs, prediction)
        best = min(medians, key=medians.__getitem__)
        kept = prediction and prediction.only(tuple(medians), best)
        return Chosen(everyones[best], inputs, kept, tuple(medians.values()))

    def compare(self, engine: Engine, chosen: Chosen, request: Mapping[str, Any], repeat: int) -> Comparison | None:
        """Run the plan `repeat` times more to see what every segment takes, and add that to the traces.

        None but on the root, and where the plan could not be run again, which a warning says.
        """
        from ..measure.observed import observe

        self._tell("looking at every segment")
        try:
            observation = observe(engine, request, repeat)
        except UntriedError as error:
            if self._transport.rank == 0:
                log.warning("nothing is reported of the segments: %s", error)
            return None
        inputs, prediction = chosen.inputs, chosen.prediction

        def compared() -> Comparison | None:
            if observation is None or inputs is None or prediction is None:
                return None
            added = self._added(observation, inputs, prediction)
            return Comparison(observation.compute_s, observation.exchange_s, observation.latency_s, added)

        return on_root(self._transport, compared)

    def _added(self, observation: Observation, inputs: PredictionInputs, prediction: Prediction) -> str:
        """Where what was seen is added to, or why it is not, in words."""
        if self._finder is None or not inputs.is_here:
            return "not added to traces: the links that were predicted with are not those of this job"
        try:
            rows = observation.rows(inputs.testbed, prediction.best.seconds)
            return f"{count_of(sum(map(len, rows.values())), 'row')} added to {self._finder.add(rows)}"
        except Exception as error:  # a file that cannot be written, or whatever else: the run is over, and counts
            return f"not added to traces: {error}"

    def _find(self, given: Plan | None, request: Mapping[str, Any] | None) -> PredictionInputs | None:
        """What predictions stand on, where any are wanted."""
        if not (self._reports or (given is None and self._searches)):
            return None
        from .cluster import InputsFinder

        self._finder = InputsFinder(self._transport, self._cache, self._sources, self._tell)
        return self._finder.find(self._model, request)

    @property
    def _searches(self) -> bool:
        """Whether there is anything to search: a single rank does everything."""
        return self._choice.planner in SEARCHING and self._transport.size > 1

    def _raced(
        self,
        plans: Sequence[Plan],
        make: Callable[[Plan], Engine],
        request: Mapping[str, Any],
        inputs: PredictionInputs | None,
    ) -> tuple[Outcome, ...]:
        """What became of each plan, the same on every rank."""
        from ..measure.memory import fitting_turns, room

        testbed = self._transport.broadcast(inputs.testbed if inputs else None)
        limits = room(self._transport, testbed)
        jobs = [[lower(plan, self._model.graph)] for plan in plans]
        needed = [[need.engine_bytes() for need in memory_of(job, self._model.graph)] for job in jobs]
        return race_in_turns(plans, fitting_turns(needed, limits), make, request, RACE, self._tell)

    def _say_failed(self, outcomes: Sequence[Outcome]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, FlexPieError)]
        if errors and self._transport.rank == 0:
            log.warning(
                "%d of the %d best plans could not be run to compare: %s", len(errors), len(outcomes), errors[0]
            )

    def _plans(self, given: Plan | None, inputs: PredictionInputs | None) -> tuple[Prediction | None, tuple[Plan, ...]]:
        """The root's plans to choose from; no other rank needs a planner."""
        from .planning import plans_to_try

        def without_cost(inputs: PredictionInputs, error: Exception) -> PredictionInputs:
            assert self._finder is not None, "which has found the inputs"
            return self._finder.without_cost(inputs, error)

        return plans_to_try(self._choice, given, self._model.graph, self._transport.size, inputs, without_cost)
