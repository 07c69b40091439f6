"""Which plan a job runs: the one that is given, the one that is made, or the fastest of several that are made.

What `auto` finds is run beside one board and the best fixed layout before it is used, and what that shows is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.choices import AUTO, SEARCHING
from ..core.document import DocumentError
from ..core.errors import FlexPieError, PlanError, count_of
from ..core.plan import Plan
from ..core.quartiles import quartiles
from ..files.cache import Cache
from ..lower import turns_of
from ..lower.memory import memory_of, with_weights
from ..measure.agreement import Budget, UntriedError
from ..measure.limits import memory_here
from ..measure.trial import Rounds, Trial
from ..measure.verdict import FEWEST, Verdict, verdict
from ..model import Model
from ..runtime.engine import Engine
from ..runtime.kernels import own_block
from ..runtime.provider import agreed_blocks
from ..runtime.transport import Control, Transport, on_root
from .opening import ROOT, CostSources, PlanChoice, Tell, from_root, read_boards, requests_in_flight
from .races import KeptRaces, Race, race_key
from .room import most_that_fits, shortages, words_that_fit

if TYPE_CHECKING:
    from ..measure.observed import Observation
    from ..measure.shares import Shares
    from .cluster import InputsFinder
    from .inputs import PredictionInputs
    from .planning import Prediction

log = logging.getLogger(__name__)

RACE_SHARE = 0.25
"""Of the seconds that may be measured, so much at least is left for the race."""

FEW = Rounds(repeat=1, warmup=1, most=60, is_knockout=True)
"""Rounds of a race, as far as the time allows, and as long as it is not clear."""

ASKED = Rounds(repeat=5, warmup=2, most=60, is_knockout=True)
"""Rounds of a race that is asked for: so many at least, however long they take."""

MORE_ROOM = "end what else runs there, take more boards, or say in a testbed's file (--testbed) what boards have"

DEADLINE_TIMES, LEAST_DEADLINE_S = 20, 10.0
"""A wait in a request may last so many times what the whole request is predicted to take, and never less than that."""


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

    def deadline_s(self, in_flight: int) -> float | None:
        """How long a rank should wait for another in a request, of which so many are under way; None where unknown."""
        if self.prediction is None:
            return None
        longest_s = max(self.prediction.best.seconds, *self.measured_s, 0.0)
        return max(LEAST_DEADLINE_S, DEADLINE_TIMES * in_flight * longest_s)

    @property
    def race(self) -> Race | None:
        """What it was measured against; None elsewhere, and of other planners than `auto`."""
        return self.prediction.race if self.prediction else None


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
    known: PredictionInputs | None = None  # what predictions stand on, the root's; found where not given
    _finder: InputsFinder | None = field(default=None, init=False)
    _races: KeptRaces | None = field(default=None, init=False)  # on the root, where plans may race

    def choose(self, given: Plan | None, make: Callable[[Plan], Engine], request: Mapping[str, Any] | None) -> Chosen:
        """The plan to run, which may be `given` by the user.

        Plans are tried with the root's `request`, if there is one, in engines that `make` makes.
        """
        if given is not None and not self.reports:
            return Chosen(given)
        budget = Budget(self.transport, self.sources.trace_budget_s)
        inputs = self._find(given, request)
        self.tell("planning")
        made = on_root(self.transport, partial(self._plans, given, inputs, has_request=request is not None))
        prediction, plans = made or (None, ())
        plans = self.transport.broadcast(plans)
        if len(plans) == 1:
            return Chosen(plans[0], prediction)
        return self._fastest(plans, make, request or {}, prediction, budget)

    def ran(self, chosen: Chosen, trial: Trial) -> None:
        """Hold what a plan took against what it took in its race: after another time the next start races again."""
        if self._races is not None and chosen.race and chosen.race.entrants and len(trial.latencies_s) >= FEWEST:
            self._races.ran(quartiles(trial.latencies_s))

    def _fastest(
        self,
        plans: Sequence[Plan],
        make: Callable[[Plan], Engine],
        request: Mapping[str, Any],
        prediction: Prediction | None,
        budget: Budget,
    ) -> Chosen:
        """The fastest of several plans, which are tried with the root's request, in what is left of a budget."""
        from ..measure.race import race_in_turns, turns_of_plans

        known = (prediction.inputs.testbed, prediction.favoured) if prediction else None
        testbed, favoured = self.transport.broadcast(known)
        turns = turns_of_plans(self.transport, self.model.graph, plans, testbed)
        left = Budget(self.transport, max(RACE_SHARE * budget.seconds, budget.left()))
        rounds = ASKED if self.choice.autotune > 1 else FEW
        seen: dict[int, Observation] = {}
        outcomes = race_in_turns(plans, turns, make, request, rounds, self.tell, budget=left, seen=seen.__setitem__)
        trials = {place: outcome for place, outcome in enumerate(outcomes) if isinstance(outcome, Trial)}
        errors = [outcome for outcome in outcomes if isinstance(outcome, FlexPieError)]
        if errors and self.transport.rank == ROOT:
            log.warning("%d of %d plans could not be run to compare: %s", len(errors), len(plans), errors[0])
        if not trials:
            return Chosen(plans[0], prediction and prediction.unraced("none of the plans could be run to compare"))
        found = verdict({place: trial.latencies_s for place, trial in trials.items()}, favoured)

        def shown() -> Prediction | None:
            return prediction and self._shown(prediction, trials, found, seen)

        medians_s = tuple(trial.median_s for trial in trials.values())
        return Chosen(plans[found.kept], on_root(self.transport, shown), medians_s)

    def _shown(
        self, prediction: Prediction, trials: Mapping[int, Trial], found: Verdict, seen: Mapping[int, Observation]
    ) -> Prediction:
        """The prediction of the plans that were run, when what they have shown is kept for the next start."""
        plans, testbed = prediction.search.plans, prediction.inputs.testbed
        tried = [(plans[place], trial) for place, trial in trials.items()]
        race = Race.of(tried, list(trials).index(found.kept), is_clear=found.is_clear)
        if self._races is not None:
            self._races.keep(plans[found.kept].plan, race)
        if self._finder is not None and prediction.inputs.is_here:
            try:
                self._finder.keep([each.rows(testbed, plans[place].seconds) for place, each in seen.items()])
            except Exception as error:  # whatever is wrong with it: the race is over, and counts
                log.warning("what the plans took is not kept for the next fit: %s", error)
        return prediction.only(tuple(trials), found.kept, race)

    def depth(
        self,
        chosen: Chosen,
        asked: int | None = None,
        *,
        holds_whole: bool = False,
        beside: Sequence[int] = (),
        shared: Sequence[int] = (),
        control: Control | None = None,
    ) -> int:
        """Requests under way at once, on the boards of a file or those that the plan was chosen on.

        As of :func:`requests_in_flight`, on every rank; found out by `control`, where a thread does that beside a
        stream. So much of the plan's weights is `shared` with another engine, whose other memory is `beside`, both in
        bytes by rank. Raises PlanError as well where what is really free on a host does not hold the plan.
        """
        control = control or self.transport
        memory, hosts = control.all_gather(memory_here()), control.host_ranks()
        blocks = agreed_blocks(control, own_block(), self.sources.boundaries)

        def count() -> int:
            plan, graph = chosen.plan, self.model.graph
            testbed = chosen.inputs.testbed if chosen.inputs else None
            if testbed is None and self.sources.testbed is not None:
                testbed = read_boards(self.sources.testbed, self.sources.places or plan.ranks).with_blocks(blocks)
            wanted = requests_in_flight(plan, graph, testbed, asked, holds_whole=holds_whole, beside=beside)
            needs = memory_of(turns_of(plan, graph, blocks), graph, plan.root)
            if shared:
                needs = with_weights(needs, [-nbytes for nbytes in shared])
            depth = most_that_fits(needs, memory, hosts, wanted)
            if depth == 0 or (asked and depth < asked):
                fits = (
                    f"--in-flight {depth} fits" if depth else words_that_fit(graph, plan.ranks, blocks, memory, hosts)
                )
                finding = next(shortages(needs, memory, hosts, asked or 1))[1]
                raise PlanError(f"{finding}: {', or '.join(filter(None, (fits, MORE_ROOM)))}")
            return depth

        return from_root(control, count)

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
        from ..measure.shares import look

        prediction = chosen.prediction
        testbed = self.transport.broadcast(prediction.inputs.testbed if prediction else None)
        known = {"testbed": testbed, "threads": self.sources.threads, "tell": self.tell}
        try:
            found = look(engine, make, request, repeat, **known)
        except UntriedError as error:
            if self.transport.rank == ROOT:
                log.warning("nothing is reported of the segments: %s", error)
            return None

        def compared() -> Comparison | None:
            if found is None or prediction is None:
                return None
            seen, shares, unshared = found
            added = self._added(seen, prediction)
            return Comparison(seen.compute_s, seen.exchange_s, seen.latency_s, added, shares, unshared)

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
        if self.transport.broadcast(self.known is not None, ROOT):
            return self.known
        from .cluster import InputsFinder

        self._finder = InputsFinder(self.transport, self.cache, self.sources, self.tell)
        if given is not None or self.choice.planner != AUTO:
            return self._finder.find(self.model, request)
        self._races = on_root(self.transport, partial(self._kept_races, self._finder.cluster))
        return self._finder.find(self.model, request, 1 - RACE_SHARE)

    def _kept_races(self, cluster: str) -> KeptRaces | None:
        """What the cache keeps of races of such a job; None where a file is of no use, of which others will speak."""
        library, graph = self.transport.library, self.model.graph
        try:
            return KeptRaces(self.cache, race_key(cluster, library, graph, self.choice, self.sources))
        except DocumentError:
            return None

    def _plans(
        self, given: Plan | None, inputs: PredictionInputs | None, *, has_request: bool
    ) -> tuple[Prediction | None, Sequence[Plan]]:
        """The root's plans to choose from, or the only one; no other rank needs a planner."""
        from .planning import plans_to_try

        reason = "" if has_request else "no request is there yet to try plans with"
        if not self.sources.trace_budget_s and self.choice.autotune == 1:
            reason = "nothing may be measured, as --trace-budget is 0"
        without_cost = self._finder.without_cost if self._finder else None
        return plans_to_try(
            self.choice,
            given,
            self.model.graph,
            self.transport.size,
            inputs,
            without_cost,
            self._races,
            reason,
            self.transport.patience.deadline_s,
        )
