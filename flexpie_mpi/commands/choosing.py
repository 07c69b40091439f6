"""Which plan a job runs: the one that is given, the one that is made, or the fastest of several that are made."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

from ..core.choices import PRESETS
from ..core.errors import FlexPieError, LayoutError, PlanError
from ..core.plan import Plan
from ..files.cache import Cache
from ..lower import lower
from ..measure.agreement import UntriedError
from ..measure.observed import Observation, observe
from ..measure.trial import Outcome, Rounds, Trial, race_in_turns
from ..model import Model
from ..planner import layout_plan
from ..planner.rules import random_plan
from ..report.units import count_of
from ..runtime.engine import Engine
from ..runtime.transport import Transport, on_root
from ..session.planning import Comparison, Prediction
from ..suite.memory import engine_bytes, room, turns
from .basis import Basis
from .costs import JobBasis
from .planning import SEARCHING, planner_of, predict, predict_given, rule_plan

log = logging.getLogger(__name__)

RACE = Rounds(repeat=5, warmup=2)
"""Rounds in which plans are tried to keep the fastest."""


@dataclass(frozen=True)
class Chosen:
    """The plan of a job, on every rank, and on the root what is known of it.

    Attributes
    ----------
    plan : Plan
    basis, prediction : Basis and Prediction, optional
        None elsewhere, and where nothing had to be predicted.
    measured_s : tuple of float
        Medians of the plans that were run to choose among them; empty where none were.
    """

    plan: Plan
    basis: Basis | None = None
    prediction: Prediction | None = None
    measured_s: tuple[float, ...] = ()


def _only(prediction: Prediction, places: Sequence[int], chosen: int) -> Prediction:
    """The prediction of some of its plans, one of which is chosen."""
    search = prediction.search
    plans = tuple(search.plans[place] for place in places)
    paths = tuple(search.paths[place] for place in places) if search.paths else ()
    return replace(prediction, search=replace(search, plans=plans, paths=paths), chosen=places.index(chosen))


class Chooser:
    """Chooses a job's plan, and afterwards holds it against what was predicted; called by all ranks together.

    Parameters
    ----------
    transport : Transport
    args : Namespace
    cache : Cache
    model : Model
    tell : callable
        Is told what goes on.
    """

    def __init__(
        self, transport: Transport, args: argparse.Namespace, cache: Cache, model: Model, tell: Callable[[str], None]
    ) -> None:
        self._transport = transport
        self._args = args
        self._cache = cache
        self._model = model
        self._tell = tell
        self._job: JobBasis | None = None

    def choose(self, given: Plan | None, make: Callable[[Plan], Engine], inputs: Mapping[str, Any] | None) -> Chosen:
        """The plan to run.

        Parameters
        ----------
        given : Plan or None
            The one that the user has made.
        make : callable
            Makes the engine of a plan, to try it.
        inputs : mapping of str to array, or None
            What plans are tried with, on the root, where there is a request to try them with; ignored elsewhere.
        """
        basis = self._find(given, inputs)
        self._tell("planning")
        made = on_root(self._transport, partial(self._plans, given, basis))
        prediction, plans = made or (None, ())
        texts = self._transport.broadcast([plan.to_json() for plan in plans])
        everyones = [Plan.from_json(text) for text in texts]
        if len(everyones) == 1 or not self._transport.broadcast(inputs is not None):
            return Chosen(everyones[0], basis, prediction)
        outcomes = self._raced(everyones, make, inputs or {}, basis)
        medians = {place: each.median_s for place, each in enumerate(outcomes) if isinstance(each, Trial)}
        self._say_failed(outcomes)
        if not medians:
            return Chosen(everyones[0], basis, prediction)
        best = min(medians, key=medians.__getitem__)
        kept = prediction and _only(prediction, tuple(medians), best)
        return Chosen(everyones[best], basis, kept, tuple(medians.values()))

    def compare(self, engine: Engine, chosen: Chosen, inputs: Mapping[str, Any]) -> Comparison | None:
        """Run the plan again to see what every segment takes, and add that to the traces.

        None but on the root, and where the plan could not be run again, which a warning says.
        """
        self._tell("looking at every segment")
        try:
            found = observe(engine, inputs, self._args.repeat)
        except UntriedError as error:
            if self._transport.rank == 0:
                log.warning("nothing is reported of the segments: %s", error)
            return None
        basis, prediction = chosen.basis, chosen.prediction

        def compared() -> Comparison | None:
            if found is None or basis is None or prediction is None:
                return None
            added = self._added(found, basis, prediction)
            return Comparison(found.compute_s, found.exchange_s, found.latency_s, added)

        return on_root(self._transport, compared)

    def _added(self, found: Observation, basis: Basis, prediction: Prediction) -> str:
        """Where what was seen is added to, or why it is not, in words."""
        if self._job is None or not basis.is_here:
            return "not added to traces: the links that were predicted with are not those of this job"
        try:
            rows = found.rows(basis.testbed, prediction.best.seconds)
            return f"{count_of(sum(map(len, rows.values())), 'row')} added to {self._job.add(rows)}"
        except Exception as error:  # a file that cannot be written, or whatever else: the run is over, and counts
            return f"not added to traces: {error}"

    def _find(self, given: Plan | None, inputs: Mapping[str, Any] | None) -> Basis | None:
        if not self._needs_basis(given):
            return None
        self._job = JobBasis(self._transport, self._cache, self._args, self._tell)
        return self._job.find(self._model, inputs)

    @property
    def _searches(self) -> bool:
        """Whether there is anything to search: a single rank does everything."""
        return planner_of(self._args) in SEARCHING and self._transport.size > 1

    def _needs_basis(self, given: Plan | None) -> bool:
        return self._args.report or (given is None and self._searches)

    def _raced(
        self, plans: Sequence[Plan], make: Callable[[Plan], Engine], inputs: Mapping[str, Any], basis: Basis | None
    ) -> tuple[Outcome, ...]:
        """What became of each plan, the same on every rank."""
        testbed = self._transport.broadcast(basis.testbed if basis else None)
        limits = room(self._transport, testbed)
        programs = [lower(plan, self._model.graph) for plan in plans]
        needed = [[engine_bytes(self._model, program) for program in job] for job in programs]
        return race_in_turns(plans, turns(needed, limits), make, inputs, RACE, self._tell)

    def _say_failed(self, outcomes: Sequence[Outcome]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, FlexPieError)]
        if errors and self._transport.rank == 0:
            log.warning(
                "%d of the %d best plans could not be run to compare: %s", len(errors), len(outcomes), errors[0]
            )

    def _plans(self, given: Plan | None, basis: Basis | None) -> tuple[Prediction | None, tuple[Plan, ...]]:
        """The root's plans to choose from, the one that is predicted to be the fastest first."""
        graph = self._model.graph
        if given is None and basis is not None and (self._searches or self._args.layout in PRESETS):
            search = partial(predict, self._args, graph, top=self._args.autotune or 1)
            prediction = self._predicted(search, basis)
            return prediction, tuple(priced.plan for priced in prediction.search.plans)
        plan = self._simple_plan() if given is None else given
        return (self._predicted(partial(predict_given, plan, graph), basis) if basis else None), (plan,)

    def _predicted(self, predict: Callable[..., Prediction], basis: Basis) -> Prediction:
        """A prediction, by formulas where the cost model has learned what no prices come of."""
        assert self._job is not None, "which has found the basis"
        try:
            return predict(basis=basis)
        except (PlanError, LayoutError):
            raise
        except Exception as error:  # LightGBM raises its own; what was learned may be of another version
            return predict(basis=self._job.without_cost(basis, error))

    def _simple_plan(self) -> Plan:
        """A plan that no cost model is asked for."""
        graph, ranks = self._model.graph, self._transport.size
        if self._args.layout in PRESETS:
            return rule_plan(self._args, graph, ranks)
        return (
            random_plan(graph, ranks, Random(0)) if self._args.layout == "random" else layout_plan(graph, 1, "single")
        )
