"""The front: plans of which none is better in latency, in requests per second, and in boards, all at once.

Candidates are the plans of least latency on few boards and on many, streamed as well, and pipelines on as many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..core.errors import PlanError
from ..planner.latency import Task, find
from ..planner.problem import Choice
from ..planner.registry import candidates, kinds_of, teams
from .pipeline import EXACT, Pipeline, place
from .problem import PlacementProblem
from .streamed import Streamed, streamed

CLOSE = 1e-6
"""Relative difference that makes no plan better than another."""

LATENCY, THROUGHPUT = "latency", "throughput"
"""What a candidate was planned for."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plan, what it was planned for, and the pipeline it is, if it is one."""

    streamed: Streamed
    objective: str
    pipeline: Pipeline | None = None

    @property
    def numbers(self) -> tuple[float, float, float]:
        """Latency, seconds from one request to the next, and boards that compute: all better when smaller."""
        return self.streamed.latency_s, self.streamed.seconds, float(len(self.streamed.boards))


@dataclass(frozen=True, slots=True)
class Crossover:
    """Up to `rate` requests per second, `candidate` (its place in the front) is the plan of least latency."""

    rate: float
    candidate: int


def pareto_front(
    problem: PlacementProblem,
    solver: str = EXACT,
    *,
    time_limit_s: float | None = None,
    most_boards: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Candidate, ...]:
    """Candidates that no other beats, by latency, with at most `most_boards` boards that compute.

    `solver` makes the pipelines, all of them in `time_limit_s`; `tell` is told what goes on. Raises PlanError when
    nothing fits the boards' memory.
    """
    limit = problem.testbed.ranks if most_boards is None else min(most_boards, problem.testbed.ranks)
    counts = sorted({*(len(team) for team in teams(problem.testbed, problem.root) if len(team) <= limit), limit})
    plans: list[Candidate] = []
    refused = ""
    for count in counts:
        tell(f"planning for latency on {count} boards")
        plans += _latency_plans(problem, count)
    for count in counts:
        tell(f"planning for throughput on {count} boards")
        share_s = None if time_limit_s is None else time_limit_s / len(counts)
        try:
            made = place(problem, solver, time_limit_s=share_s, most_boards=count)
        except PlanError as error:
            refused = str(error)
            continue
        plans.append(Candidate(made.streamed, THROUGHPUT, made))
    if not plans:
        raise PlanError(refused)
    return undominated(plans)


def undominated(plans: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Candidates of which none is beaten by another, by latency; of equals the first."""
    kept = [
        one
        for number, one in enumerate(plans)
        if not any(_no_worse(other, one) for other in plans[:number])
        and not any(_no_worse(other, one) and not _no_worse(one, other) for other in plans[number + 1 :])
    ]
    return tuple(sorted(kept, key=lambda one: one.numbers))


def crossovers(chosen: Sequence[Candidate]) -> tuple[Crossover, ...]:
    """Which candidate to take at which rate of requests: the one of least latency that keeps up, by rate."""
    steps: list[Crossover] = []
    for number, one in sorted(enumerate(chosen), key=lambda item: item[1].numbers):
        rate = 1 / one.streamed.seconds if one.streamed.seconds else float("inf")
        if not steps or rate > steps[-1].rate * (1 + CLOSE):
            steps.append(Crossover(rate, number))
    return tuple(steps)


def _no_worse(one: Candidate, other: Candidate) -> bool:
    return all(a <= b * (1 + CLOSE) for a, b in zip(one.numbers, other.numbers, strict=True))


def _latency_plans(problem: PlacementProblem, count: int) -> Iterator[Candidate]:
    """The fastest plan for one request on the `count` boards that are taken first, if it fits their memory."""
    testbed, root = problem.testbed, problem.root
    order = sorted(range(testbed.ranks), key=lambda rank: (rank != root, testbed.devices[rank].slowdown, rank))
    layouts = candidates(testbed, root, kinds_of(problem.graph))
    choice = Choice(tuple(layout for layout in layouts if set(layout.ranks) <= set(order[:count])))
    try:
        search = find(Task(problem.graph, testbed, problem.cost, root), choice)
    except PlanError:
        return
    plan = search.plans[0].plan
    plan = replace(plan, provenance={**plan.provenance, "objective": LATENCY})
    made = streamed(plan, problem.graph, testbed, problem.cost)
    if made.in_flight:
        yield Candidate(made, LATENCY)
