"""Plans of most requests per second: solvers of placements by name, and what they find as a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter

from ...errors import PlanError
from ...placement import Instance, Outcome, Placement
from ...placement.solvers import SOLVERS
from ...plan import Plan
from .instance import Problem
from .memory import SLOTS
from .refusal import hopeless
from .stages import segments_of
from .streamed import Streamed, streamed

EXACT = "exact"
"""The solver that is taken when none is asked for."""

ROOMS = (SLOTS, 2, 1)
"""Requests that each board must have room for: less and less, for plans that are better with fewer under way."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A placement as a plan, with what is predicted and proved of it.

    Attributes
    ----------
    streamed : Streamed
    placement : Placement
    solver : str
    lower_bound_s : float
        No placement of what was searched has a smaller bottleneck, as far as is proved; 0 when nothing is.
    search_s : float
        What the solver took.
    explored : int
        Steps of its search.
    """

    streamed: Streamed
    placement: Placement
    solver: str
    lower_bound_s: float
    search_s: float
    explored: int

    @property
    def seconds(self) -> float:
        """From one request to the next."""
        return self.streamed.seconds

    @property
    def gap(self) -> float:
        """By how much of its seconds it may be off, at most; 0 when it is proved to be the best."""
        return max(0.0, 1.0 - self.lower_bound_s / self.seconds) if self.seconds else 0.0

    @property
    def is_optimal(self) -> bool:
        return self.gap <= 1e-9


def place(
    problem: Problem,
    solver: str = EXACT,
    *,
    time_limit_s: float | None = None,
    most_boards: int | None = None,
    seed: int = 0,
) -> Pipeline:
    """The plan of a solver for a problem.

    Where boards have too little memory for several requests at once, room is made for fewer of them.

    Parameters
    ----------
    problem : Problem
    solver : str
        One of :data:`flexpie_mpi.placement.solvers.SOLVERS`.
    time_limit_s : float, optional
        What the solver may take, where it has a say in it.
    most_boards : int, optional
        Boards that may compute.
    seed : int
        Of solvers that draw.

    Raises
    ------
    PlanError
        When there is no such solver, or nothing fits the boards' memory.
    """
    if solver not in SOLVERS:
        raise PlanError(f"unknown planner '{solver}'; choose from {', '.join(SOLVERS)}")
    began_s = perf_counter()
    outcomes: list[Outcome] = []
    best: tuple[Streamed, Placement] | None = None
    for instance in _instances(problem, most_boards):
        outcome = SOLVERS[solver].solve(instance, seed, time_limit_s)
        outcomes.append(outcome)
        if outcome.placement is None or (best and outcome.seconds >= best[0].seconds):
            continue
        found = streamed(_plan(problem, outcome.placement), problem.graph, problem.testbed, problem.cost)
        if found.in_flight and (best is None or found.seconds < best[0].seconds):
            best = found, outcome.placement
    if best is None:
        raise PlanError(hopeless(problem, solver, all(outcome.is_optimal for outcome in outcomes)))
    bound_s = min(*(outcome.lower_bound_s for outcome in outcomes), best[0].seconds)
    explored = sum(outcome.explored for outcome in outcomes)
    made = Pipeline(*best, solver, bound_s, perf_counter() - began_s, explored)
    plan = replace(made.streamed.plan, provenance=_provenance(problem, made))
    return replace(made, streamed=replace(made.streamed, plan=plan))


def _instances(problem: Problem, most_boards: int | None) -> Iterator[Instance]:
    """The problem with less and less room for requests, as long as that allows for more, and without replicas.

    Replicas of different turns take more slots than one board knows of.
    """
    before: Instance | None = None
    for slots in ROOMS:
        instance = problem.instance(most_boards, slots)
        if before is None or not _allow_the_same(before, instance):
            yield instance
        before = instance
    if before is not None and not before.fits[:, 0, -1].all():
        yield problem.instance(most_boards, SLOTS, replicas=1)


def _allow_the_same(one: Instance, other: Instance) -> bool:
    teams = [{(team.boards, span) for team in each.teams for span in team.spans} for each in (one, other)]
    return bool((one.fits == other.fits).all()) and teams[0] == teams[1]


def _plan(problem: Problem, placement: Placement) -> Plan:
    segments = segments_of(problem.units, placement, problem.crews)
    return Plan(segments, problem.testbed.ranks, problem.graph.digest, problem.root)


def _provenance(problem: Problem, made: Pipeline) -> dict[str, str]:
    return {
        "model": problem.graph.name,
        "objective": "throughput",
        "planner": made.solver,
        "testbed": problem.testbed.name,
        "predicted_s": f"{made.seconds:.9g}",
        "lower_bound_s": f"{made.lower_bound_s:.9g}",
        "gap": f"{made.gap:.3g}",
        "search_s": f"{made.search_s:.3g}",
        "in_flight": str(made.streamed.in_flight),
    }
