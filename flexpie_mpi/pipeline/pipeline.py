"""Plans of most requests per second: solvers of placements by name, and what they find as a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil, inf, isfinite

import numpy as np

from ..core.errors import PlanError
from ..core.plan import Plan
from ..lower.memory import PROCESS_BYTES, SLOTS_PER_TURN, mb
from ..placement import MOST_PERIOD, Instance, Outcome, Placement
from ..placement.outcome import Deadline
from ..placement.solvers import SOLVERS
from .problem import PlacementProblem, capacities
from .streamed import Streamed, streamed
from .teams import segments_of

EXACT = "exact"
"""The solver that is taken when none is asked for."""

ROOMS = (SLOTS_PER_TURN, 2, 1)
"""Requests that each board must have room for: less and less, for plans that are better with fewer under way."""

FEWER = (4, 3, 2, 1)
"""Boards that may take turns in one stage, where what was found with more does not fit."""

FIRST = 0.5
"""Part of the time left that a search may take while there are others with fewer replicas."""

HALVINGS = 30
"""Halvings of the range in which the least memory is that would do."""

SEED = 0
"""Of solvers that draw: one problem has one answer."""

MB = 10**6
"""What advice is rounded up to."""

CLOSE = 1e-6
"""Part of a plan's seconds by which a bound may be above them, by rounding."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A placement as a plan, with what is predicted and proved of it."""

    streamed: Streamed
    placement: Placement
    solver: str
    # No placement of what was searched has a smaller bottleneck, as far as is proved; 0 when nothing is
    lower_bound_s: float
    search_s: float  # what the search took
    explored: int  # steps of its search

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
    problem: PlacementProblem,
    solver: str = EXACT,
    *,
    time_limit_s: float | None = None,
    most_boards: int | None = None,
) -> Pipeline:
    """The plan of a problem by one of :data:`flexpie_mpi.placement.solvers.SOLVERS`.

    Where boards have too little memory for several requests at once, room is made for fewer of them. All of the search
    may take `time_limit_s`, where the solver has a say in it, and at most `most_boards` may compute. Raises PlanError
    when there is no such solver, or nothing fits the boards' memory.
    """
    if solver not in SOLVERS:
        raise PlanError(f"unknown planner '{solver}'; choose from {', '.join(SOLVERS)}")
    search = _Search(problem, solver, Deadline.start(time_limit_s))
    views = list(_views(problem, most_boards))
    for number, view in enumerate(views):
        search.look(view, len(views) - number)
    if search.best is None:
        raise PlanError(infeasible(problem, solver, search.is_infeasible))
    made = Pipeline(*search.best, solver, search.proved_s, search.clock.elapsed_s, search.explored)
    plan = replace(made.streamed.plan, provenance=_provenance(problem, made))
    return replace(made, streamed=replace(made.streamed, plan=plan))


@dataclass(frozen=True, eq=False)
class _View:
    """The problem with some numbers of boards and requests; `is_least` as of :meth:`PlacementProblem.instance`."""

    problem: PlacementProblem
    most_boards: int | None
    slots: int
    is_least: bool = False

    @property
    def proves(self) -> bool:
        """Whether no plan of so many is priced too high."""
        return self.is_least or not self.problem.is_kept

    def instance(self, replicas: int = MOST_PERIOD) -> Instance:
        return self.problem.instance(self.most_boards, self.slots, replicas, is_least=self.is_least)


def _views(problem: PlacementProblem, most_boards: int | None) -> Iterator[_View]:
    """By how many boards compute, with less and less room for requests, as long as that allows for more.

    Where the root may have something that others would have to be sent, once as if it had, for the proof.
    """
    for lighter, most in problem.by_contention(most_boards):
        before: Instance | None = None
        for slots in ROOMS:
            view = _View(lighter, most, slots)
            instance = view.instance()
            if before is None or not _allow_the_same(before, instance):
                yield view
                if problem.is_kept:
                    yield replace(view, is_least=True)
            before = instance


class _Search:
    """The best plan so far, and what is proved of all."""

    def __init__(self, problem: PlacementProblem, solver: str, clock: Deadline) -> None:
        self.problem, self.solver, self.clock = problem, solver, clock
        self.best: tuple[Streamed, Placement] | None = None
        self.lower_s, self.explored, self.is_infeasible = inf, 0, True
        self._seen: dict[Placement, Streamed] = {}

    @property
    def proved_s(self) -> float:
        """The bound of the best plan's seconds; 0 where the plan contradicts it by more than rounding."""
        assert self.best is not None, "a bound is that of a plan"
        seconds = self.best[0].seconds
        return min(self.lower_s, seconds) if self.lower_s <= seconds * (1 + CLOSE) else 0.0

    def look(self, view: _View, views: int) -> None:
        """Solve one of so many views that are left, in its share of the time; again with fewer replicas.

        Replicas make slots of other boards more than the search knows of: as many as there are turns.
        """
        instance = view.instance()
        clock = self.clock.part(1 / views)
        outcome, fits = self._solve(instance, clock.part(1 if view.is_least else FIRST))
        if view.proves:
            self.lower_s = min(self.lower_s, outcome.lower_bound_s)
        self.is_infeasible &= outcome.placement is None and outcome.is_optimal
        for replicas in () if view.is_least else FEWER:
            if fits or replicas >= instance.replicas or (outcome.placement is None and outcome.is_optimal):
                continue
            if self.best is not None and clock.is_over:
                break
            outcome, fits = self._solve(view.instance(replicas), clock.part(FIRST if replicas > 1 else 1))

    def _solve(self, instance: Instance, clock: Deadline) -> tuple[Outcome, bool]:
        """What the solver finds, and whether the boards have room for as many requests as keep them busy."""
        limit_s = max(0.0, clock.limit_s) if isfinite(clock.limit_s) else None
        outcome = SOLVERS[self.solver].solve(instance, SEED, limit_s)
        self.explored += outcome.explored
        if outcome.placement is None:
            return outcome, False
        made = self._streamed(outcome.placement)
        if made.in_flight and (self.best is None or made.seconds < self.best[0].seconds):
            self.best = made, outcome.placement
        return outcome, bool(made.in_flight) and made.seconds <= made.occupancy.seconds

    def _streamed(self, placement: Placement) -> Streamed:
        problem = self.problem
        if placement not in self._seen:
            segments = segments_of(problem.units, placement, problem.team_segments)
            plan = Plan(segments, problem.testbed.ranks, problem.graph.digest, problem.root)
            self._seen[placement] = streamed(plan, problem.graph, problem.testbed, problem.cost)
        return self._seen[placement]


def _allow_the_same(one: Instance, other: Instance) -> bool:
    teams = [{(team.boards, span) for team in each.teams for span in team.spans} for each in (one, other)]
    return bool((one.fits == other.fits).all()) and teams[0] == teams[1]


def _provenance(problem: PlacementProblem, made: Pipeline) -> dict[str, str]:
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


# Why nothing fits, with the numbers, and what would


def infeasible(problem: PlacementProblem, solver: str, is_proved: bool) -> str:
    """Why there is no placement, in a sentence: what needs most, what there is, and what would do."""
    testbed, graph = problem.testbed, problem.graph
    free = np.maximum(capacities(testbed) - PROCESS_BYTES, 0).sum()
    verdict = "does not fit" if is_proved else f"was not made to fit, by '{solver}', which is no proof,"
    return (
        f"{graph.name} {verdict} the boards of testbed '{testbed.name}' ({_sizes(problem)}): {_reason(problem)}; its "
        f"weights are {mb(graph.weight_bytes)}, and the boards have {mb(free)} beside a process of {mb(PROCESS_BYTES)} "
        f"on each: take boards of {mb(enough(problem))} each, or more of them"
    )


def enough(problem: PlacementProblem) -> float:
    """Bytes of memory with which as many equal boards would do, one request at a time, each by itself: in stages."""
    root, others = problem.single_device.root_bytes(1), problem.single_device.need_bytes(1)
    allowed = np.isfinite(np.delete(problem.single_device.compute_s, problem.root, axis=0)).all(axis=0)
    others = np.where(allowed, others, np.inf)
    low, high = problem.single_device.idle_root_bytes(1), float(root[0, -1])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        able = _others(root, others, middle) <= problem.testbed.ranks - 1
        low, high = (low, middle) if able else (middle, high)
    return ceil(high / MB) * MB


def _others(root: np.ndarray, others: np.ndarray, limit: float) -> float:
    """Boards of so much memory that it takes beside the root; infinite when no number would do.

    Up to each cut, once with a stage on the root and once without one yet.
    """
    with_root, without = np.full((2, len(root)), np.inf)
    without[0] = 0
    for end in range(1, len(root)):
        able, own = others[:end, end] <= limit, root[:end, end] <= limit
        without[end] = (without[:end][able] + 1).min(initial=np.inf)
        with_root[end] = min((with_root[:end][able] + 1).min(initial=np.inf), without[:end][own].min(initial=np.inf))
    return float(min(with_root[-1], without[-1]))


def _reason(problem: PlacementProblem) -> str:
    """What alone is too much, where something is; else that the whole is."""
    capacity = capacities(problem.testbed)
    root = problem.testbed.devices[problem.root]
    idle = problem.single_device.idle_root_bytes(1)
    if idle > capacity[problem.root]:
        return f"a process with the inputs and outputs of one request alone takes {mb(idle)} on the root '{root.name}'"
    need = problem.single_device.need_bytes(1)
    heaviest = int(np.argmax(problem.single_device.weight_bytes.diagonal(1)))
    most, weights = need[heaviest, heaviest + 1], problem.single_device.weight_bytes[heaviest, heaviest + 1]
    if most > capacity.max():
        return f"'{_name(problem, heaviest)}' alone needs {mb(most)} on one board, {mb(weights)} of them weights"
    return f"every part fits a board, the heaviest with {mb(most)}, but all of them together do not"


def _name(problem: PlacementProblem, unit: int) -> str:
    """The node of a unit that has the most weights."""
    graph, ends = problem.graph, problem.units.ends
    weights = {
        node.name: sum(graph.value(name).nbytes for name in node.reads if graph.value(name).is_constant)
        for node in graph.nodes[ends[unit] : ends[unit + 1]]
    }
    return max(weights, key=lambda name: weights[name])


def _sizes(problem: PlacementProblem) -> str:
    """Memory of the boards, in order: "3 x 268 MB, 1 x 1074 MB"."""
    runs = [(size, len(list(run))) for size, run in groupby(capacities(problem.testbed).tolist())]
    return ", ".join(f"{count} x {mb(size)}" for size, count in runs)
