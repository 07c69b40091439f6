"""Plans by the name of their planner, with what they are predicted to take and what that stands on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from random import Random
from time import perf_counter

import numpy as np

from ..core.choices import AUTO, PRESETS, SEARCHING
from ..core.errors import LayoutError, PlanError
from ..core.graph import Graph
from ..core.plan import Plan
from ..cost.model import CostModel
from ..cost.prior import AnalyticCost
from ..lower import digest, lower
from ..planner import PricedPlan, Search, Task, layout_plan, make_plans, price
from ..planner.latency import lacking
from ..planner.registry import kinds_of
from ..planner.rules import random_plan
from .inputs import PredictionInputs
from .opening import PlanChoice
from .races import RACES, KeptRaces, Race

_SPARE = (4, 16, 64)
"""So many times more plans are searched for than are wanted, until enough of them differ in more than words."""

DEADLINE_SHARE = 0.25
"""Of the time that ranks wait for each other, what a plan may be predicted to take, so that none of them is late."""

TO_COME = Race("to come: infer measures this plan beside one board and the best fixed layout, and runs the fastest")
"""Of what `auto` finds before anything runs."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Plans with what they are predicted to take, and what the prediction stands on."""

    planner: str
    search: Search
    inputs: PredictionInputs
    is_measured: bool  # whether the cost model comes from measurements
    # `prices` and `extrapolated`: prices that the cost model was asked for, and those of them beyond what was measured
    prices: int
    extrapolated: int
    chosen: int = 0  # the plan that is used, among those of the search
    favoured: tuple[int, ...] = (0,)  # of plans that are to be run: the fastest of these, unless another clearly is
    race: Race | None = None  # what `auto` is measured against before it runs; None of other planners

    @property
    def best(self) -> PricedPlan:
        """The plan that is used."""
        return self.search.plans[self.chosen]

    @property
    def is_searched(self) -> bool:
        """Whether there was anything to choose; rules choose nothing."""
        return self.search.problem is not None

    def only(self, indices: Sequence[int], chosen: int, race: Race) -> Prediction:
        """The prediction of some of its plans, in the order of `indices`, one of which is chosen in a race."""
        race_of_auto = None if self.race is None else race
        return replace(self, search=_some(self.search, indices), chosen=indices.index(chosen), race=race_of_auto)

    def unraced(self, reason: str) -> Prediction:
        """The prediction of the plan that is predicted to be the fastest, where none are run to compare."""
        return self.only((0,), 0, Race(f"none: {reason}"))


def rule_plan(choice: PlanChoice, graph: Graph, ranks: int) -> Plan:
    """The plan of a rule.

    Raises PlanError, LayoutError when the choice does not fit the ranks.
    """
    weights, grid = choice.weights, choice.grid
    if weights is not None and choice.planner != "grid" and len(weights) != ranks:
        raise PlanError(f"--weights gives {len(weights)} shares and there are {ranks} ranks: give one per rank")
    if grid is not None and prod(grid) != ranks:
        raise PlanError(f"--grid {grid[0]}x{grid[1]} has {prod(grid)} places and there are {ranks} ranks")
    return layout_plan(graph, ranks, choice.planner, fusion=choice.fuse or "free", weights=weights or (), grid=grid)


def plans_to_try(
    choice: PlanChoice,
    given: Plan | None,
    graph: Graph,
    ranks: int,
    inputs: PredictionInputs | None,
    without_cost: Callable[[PredictionInputs, Exception], PredictionInputs] | None,
    races: KeptRaces | None = None,
    no_race: str = "",
    deadline_s: float = inf,
) -> tuple[Prediction | None, tuple[Plan, ...]]:
    """Plans of a job to choose from by running them, the one that should be the fastest first; or the only one.

    Parameters
    ----------
    choice : PlanChoice
    given : Plan, optional
        Then there is nothing to choose.
    graph : Graph
    ranks : int
    inputs : PredictionInputs, optional
        Without them nothing is predicted.
    without_cost : callable, optional
        Makes of `inputs` the same by formulas, where the cost model has learned what no prices come of.
    races : KeptRaces, optional
        What earlier races of such a job have shown, where `auto` may race.
    no_race : str
        Why no plans can be run to compare, in words; empty where they can.
    deadline_s : float
        How long ranks wait for each other.
    """
    is_predicted = choice.planner in PRESETS or (choice.planner in SEARCHING and ranks > 1)
    if given is None and (inputs is None or not is_predicted):
        given = _simple_plan(choice, graph, ranks)
    if inputs is None:
        assert given is not None, "without inputs a plan is given, or was made by a rule"
        return None, (given,)

    def predicted(inputs: PredictionInputs) -> Prediction:
        earlier, is_due = _earlier(choice, graph, inputs, races)
        if earlier is not None and choice.autotune == 1 and (no_race or not is_due):
            return earlier
        prediction = predict(choice, graph, inputs, choice.autotune, given)
        if prediction.race is None:
            return prediction
        return with_rivals(prediction, graph, DEADLINE_SHARE * deadline_s, earlier)

    try:
        prediction = predicted(inputs)
    except (PlanError, LayoutError):
        raise
    except Exception as error:  # LightGBM raises its own; what was learned may be of another version
        assert without_cost is not None, "who has found the inputs offers that"
        prediction = predicted(without_cost(inputs, error))
    if len(prediction.search.plans) == 1 and prediction.race == TO_COME:
        no_race = "no other plan fits these boards, or does anything else"
    if no_race and (len(prediction.search.plans) > 1 or prediction.race == TO_COME):
        prediction = prediction.unraced(no_race)
    return prediction, tuple(priced.plan for priced in prediction.search.plans)


def _earlier(
    choice: PlanChoice, graph: Graph, inputs: PredictionInputs, races: KeptRaces | None
) -> tuple[Prediction | None, bool]:
    """The prediction of the plan that earlier races have shown to be the fastest, where there is one of use.

    And whether a race is to be held again.
    """
    won = races.winner() if races else None
    if races is None or won is None:
        return None, True
    try:
        plan = Plan.from_json(won.plan)
        prediction = predict(choice, graph, inputs, given=plan)
        for problem in lacking(plan, graph, inputs.testbed):
            raise PlanError(problem)
    except (PlanError, LayoutError) as error:
        races.forget(RACES, error)
        return None, True
    return replace(prediction, planner=choice.planner, race=won.races[0]), won.is_due


def _simple_plan(choice: PlanChoice, graph: Graph, ranks: int) -> Plan:
    if choice.planner in PRESETS:
        return rule_plan(choice, graph, ranks)
    return random_plan(graph, ranks, Random(0)) if choice.planner == "random" else layout_plan(graph, 1, "single")


def predict(
    choice: PlanChoice, graph: Graph, inputs: PredictionInputs, top: int = 1, given: Plan | None = None
) -> Prediction:
    """The `top` best plans of the planner that is chosen, or the plan that is `given`, with what they should take.

    Raises PlanError, LayoutError when there is no plan, or the choice does not fit the ranks.
    """
    planner, cost, begin_s = choice.planner, CountingCostModel(inputs.cost), perf_counter()
    if given is None and planner not in PRESETS:
        task = Task(graph, inputs.testbed, cost, parts=choice.partial, overlap=choice.overlap)
        search = _searched(planner, task, top)
    else:
        plan = rule_plan(choice, graph, inputs.testbed.ranks) if given is None else given
        search = Search.of_rule(price(plan, graph, inputs.testbed, cost), begin_s)
    if given is not None:
        planner = str(given.provenance.get("planner", "")) or "from a file"
    race = TO_COME if given is None and planner == AUTO and inputs.testbed.ranks > 1 else None
    is_measured = not isinstance(inputs.cost, AnalyticCost)
    return Prediction(planner, search, inputs, is_measured, *cost.counts(), race=race)


def with_rivals(
    prediction: Prediction, graph: Graph, most_s: float = inf, earlier: Prediction | None = None
) -> Prediction:
    """The same with the plans that it must not be slower than behind its own: one board, and the best fixed layout.

    And its own as it was found, where it was staggered. Those that do what a plan before them does are left out, and so
    are those that do not fit the boards, or are predicted to take longer than `most_s`. The plan of an `earlier` race
    runs as well, and is favoured if that was clear.
    """
    search, inputs = prediction.search, prediction.inputs
    plans = {digest(lower(priced.plan, graph)): priced for priced in search.plans}
    favoured = tuple(range(len(plans)))
    if search.even is not None:
        plans.setdefault(digest(lower(search.even.plan, graph)), search.even)
    if earlier is not None:
        programs = digest(lower(earlier.best.plan, graph))
        plans.setdefault(programs, earlier.best)
        if len(favoured) == 1 and earlier.race is not None and earlier.race.is_clear:
            favoured = (list(plans).index(programs),)
    testbed, kinds = inputs.testbed, ("single", *(kind for kind in kinds_of(graph) if kind in PRESETS))
    single, *fixed = (price(layout_plan(graph, testbed.ranks, kind), graph, testbed, inputs.cost) for kind in kinds)
    for rivals in ([single], [*fixed, *search.ruled]):
        ordered = sorted(rivals, key=lambda each: each.seconds)
        rival = next((each for each in ordered if not lacking(each.plan, graph, testbed)), None)
        if rival is not None and rival.seconds <= most_s:
            plans.setdefault(digest(lower(rival.plan, graph)), rival)
    return replace(prediction, search=replace(search, plans=tuple(plans.values()), paths=()), favoured=favoured)


def _searched(planner: str, task: Task, top: int) -> Search:
    """The `top` best plans that make ranks do different things, or as many as there are."""
    if top == 1:
        return make_plans(planner, task)
    begin_s = perf_counter()
    for spare in _SPARE:
        search = make_plans(planner, replace(task, top=spare * top))
        different = _different(search, task.graph, top)
        if len(different.plans) == top or len(search.plans) < spare * top:
            break
    return replace(different, planning_s=perf_counter() - begin_s)


def _different(search: Search, graph: Graph, top: int) -> Search:
    """The first `top` plans of a search of which no two have the same programs."""
    first: dict[str, int] = {}
    for index, priced in enumerate(search.plans):
        first.setdefault(digest(lower(priced.plan, graph)), index)
    return _some(search, list(first.values())[:top])


def _some(search: Search, indices: Sequence[int]) -> Search:
    """A search with some of its plans only, in the order of `indices`."""
    return replace(
        search,
        plans=tuple(search.plans[index] for index in indices),
        paths=tuple(search.paths[index] for index in indices) if search.paths else (),
    )


class CountingCostModel(CostModel):
    """A cost model that remembers what it was asked."""

    def __init__(self, cost: CostModel) -> None:
        self.cost = cost
        self._rows: list[np.ndarray] = []

    def seconds(self, table: str, rows: np.ndarray, active: np.ndarray) -> np.ndarray:
        """As of the other cost model."""
        self._rows.append(rows)
        return self.cost.seconds(table, rows, active)

    def counts(self) -> tuple[int, int]:
        """Number of prices, and how many of them are extrapolated."""
        return sum(map(len, self._rows)), sum(int(self.cost.outside(rows).sum()) for rows in self._rows)
