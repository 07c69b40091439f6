"""Plans of least predicted latency, and the price of any plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np

from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.layout import Layout
from ..core.plan import Plan, Segment, problems
from ..cost.model import CostModel
from ..lower import turns_of
from ..lower.memory import RankMemory, memory_of, memory_problems
from ..testbed import Testbed
from .boxes import ShardTable
from .problem import (
    MANY_ROWS,
    MANY_UNITS,
    Choice,
    Problem,
    ProblemBuilder,
    alone,
    below,
    longest,
    within,
)
from .repeats import ENOUGH, Ends, Shortened, shortened
from .search import fits, load, narrowed, search
from .space import Path, SearchResult, Space, replay
from .unfold import unfold
from .units import units
from .walk import Step

MOST_ATTEMPTS = 8
"""Searches for a plan that fits the boards, the working memory of the last one's taken into account."""


UNLIMITED = 1e18
"""Bytes of a board without a limit."""

NO_LIMITS = np.zeros(0)
"""Capacities where memory does not count."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be planned, and for what; `top` is how many plans are asked for, `seed` is of planners that draw.

    `parts` is whether ``auto`` may share out sums, so that ranks leave parts of them; `overlap` whether it may give
    ranks unequal shares of the last segment, so that outputs travel behind it.
    """

    graph: Graph
    testbed: Testbed
    cost: CostModel
    root: int = 0
    top: int = 1
    seed: int = 0
    parts: bool = True
    overlap: bool = False


@dataclass(frozen=True, slots=True)
class SegmentPrice:
    """Predicted seconds of one segment: the exchange before it, and the slowest rank's compute, its call included."""

    exchange_s: float
    compute_s: float


@dataclass(frozen=True, slots=True)
class PricedPlan:
    """A plan with what it is predicted to take: by segment, and to bring the outputs to the root."""

    plan: Plan
    segments: tuple[SegmentPrice, ...]
    exit_s: float

    @property
    def seconds(self) -> float:
        """Latency of one request."""
        return sum(price.exchange_s + price.compute_s for price in self.segments) + self.exit_s


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found."""

    plans: tuple[PricedPlan, ...]  # the best first, all different
    lower_bound_s: float  # no plan of the search space is predicted to be faster
    is_optimal: bool  # whether the first plan is proved to be the fastest
    planning_s: float  # what the search took, the cost model loaded
    segments_priced: int  # spans of nodes, each in one layout
    work_priced: int  # distinct pieces of work that the cost model was asked about
    # Problem, optional. What was searched, with the `paths` of the plans; None for a plan made by a rule.
    problem: Problem | None = None
    paths: tuple[Path, ...] = ()
    even: PricedPlan | None = None  # the first plan as it was found, where its last segment was shared out anew then
    ruled: tuple[PricedPlan, ...] = ()  # plans of the rules for sequences that the search was held against

    @classmethod
    def of_rule(cls, priced: PricedPlan, begin_s: float) -> Search:
        """The answer of a planner that searches nothing and began at `begin_s` of :func:`time.perf_counter`."""
        return cls((priced,), 0.0, False, perf_counter() - begin_s, len(priced.segments), 0)


def find(task: Task, choice: Choice, planner: str = "auto") -> Search:
    """The plans of least predicted latency among those of a choice, made in the name of `planner`.

    Raises PlanError when there is none, or none fits the boards' memory.
    """
    begin_s = perf_counter()
    builder = _Builder(task, choice.layouts)
    problem = builder.build(choice)
    provenance = {"model": task.graph.name, "planner": planner, "testbed": task.testbed.name}
    if not builder.is_all:
        provenance["segments"] = f"at most {builder.longest} of {len(problem.units)} units"
    result, plans = _search_fitting(problem, task, provenance, is_quick=not builder.is_all)
    planning_s = perf_counter() - begin_s
    return Search(
        plans,
        result.lower_bound if builder.is_all else min(result.lower_bound, float(problem.least.sum())),
        result.is_optimal and builder.is_all,
        planning_s,
        problem.segments,
        problem.work_priced,
        problem,
        result.paths,
    )


def _search_fitting(
    problem: Problem, task: Task, provenance: Mapping[str, str], is_quick: bool
) -> tuple[SearchResult, tuple[PricedPlan, ...]]:
    """The cheapest paths and their plans, without those that need more memory than a board has.

    The search adds up the constants of segments; what is needed beside them is known of whole plans only. Where none of
    the plans that were found fits, less is left for constants by what the first needs beside them, and so on. Raises
    PlanError when no plan fits.
    """
    graph, testbed = task.graph, task.testbed
    space, reasons = problem.space, list[str]()
    first = result = search(replace(space, capacity=NO_LIMITS) if is_quick else space, top=task.top, is_quick=is_quick)
    if is_quick and not all(fits(space, path) for path in result.paths):
        space, result = _search_narrowed(space, task.top)
    for attempt in range(MOST_ATTEMPTS):
        plans = [_priced(problem, path, task, provenance) for path in result.paths]
        if plans and not space.capacity.size:
            return result, tuple(plans)
        backwards = [
            memory_of(turns_of(priced.plan, graph, task.testbed.blocks), graph, task.root) for priced in reversed(plans)
        ]
        needs = backwards[::-1]  # the first plan is lowered last, so that its programs are kept for whoever runs it
        lacking = [memory_problems(need, testbed) for need in needs]
        kept = [number for number, sentences in enumerate(lacking) if not sentences]
        if kept:
            is_optimal = result.is_optimal and attempt == 0 and kept[0] == 0
            paths, seconds = tuple(result.paths[n] for n in kept), tuple(result.seconds[n] for n in kept)
            result = SearchResult(paths, seconds, first.lower_bound, is_optimal, result.labels)
            return result, tuple(plans[number] for number in kept)
        if not plans:
            break
        reasons = lacking[0]
        tighter = replace(space, capacity=_tightened(problem.space, space, result.paths[0], needs[0]))
        if is_quick and space is problem.space:
            space, result = _search_narrowed(tighter, task.top)
        else:
            space, result = tighter, search(tighter, top=task.top, is_quick=is_quick)
    if not reasons:
        raise PlanError(_hopeless(problem, testbed, result))
    raise PlanError(
        f"no plan of {graph.name} was found that fits the boards of testbed '{testbed.name}': in the "
        f"fastest, {reasons[0]}"
    )


def _search_narrowed(space: Space, top: int) -> tuple[Space, SearchResult]:
    """A long network's space as narrowed as its plans within memory can be, and these."""
    narrow = narrowed(space, top)
    result = search(narrow, top=top, is_quick=True)
    return (narrow, result) if result.paths else (space, search(space, top=top, is_quick=True))


def lacking(plan: Plan, graph: Graph, testbed: Testbed) -> list[str]:
    """What boards have too little memory for a plan, in sentences."""
    if all(device.memory_bytes is None for device in testbed.devices):
        return []
    return memory_problems(memory_of(turns_of(plan, graph, testbed.blocks), graph, plan.root), testbed)


def _tightened(first: Space, space: Space, path: Path, needs: Sequence[RankMemory]) -> np.ndarray:
    """Bytes that ranks may hold of constants, float array (R,), so that a path whose plan needs too much is too large.

    What a rank needs beside its constants stays, or shrinks with them: the larger of what either leaves.
    """
    held, beside = load(space, path), np.array([need.engine_bytes() for need in needs]) - load(space, path)
    room = np.minimum(first.capacity, UNLIMITED)  # for constants and all that is needed beside them
    kept = np.maximum(room - beside, held * room / np.maximum(held + beside, 1))
    return np.where(held + beside > room, np.minimum(space.capacity, kept), space.capacity)


class _Builder:
    """Builds search problems of a task: of its whole network, or of a shorter one where it is long and repeats itself.

    `longest` is up to how many units segments may have.
    """

    def __init__(self, task: Task, layouts: Sequence[Layout]) -> None:
        self._task = task
        self._units = units(task.graph, with_parts=any(layout.in_parts for layout in layouts))
        self._short = shortened(self._units, task.testbed.blocks) if len(self._units) > MANY_UNITS else None
        pieces, hides = (self._short.units, not self._short.makes_outputs) if self._short else (self._units, True)
        self._builder = ProblemBuilder(pieces, task.testbed, task.cost, layouts, task.root, hides)
        self._rows = _rows(self._builder.shards)
        self.longest = longest(len(pieces), self._rows)
        if self._short:
            self.longest = min(self.longest, ENOUGH)

    @property
    def is_all(self) -> bool:
        """Whether segments may have any length."""
        return self.longest >= len(self._units)

    def build(self, choice: Choice) -> Problem:
        """The problem of choosing segments and layouts."""
        if self.is_all:
            return self._builder.build(self._within_reach(choice))
        choice, short = replace(choice, fuse=within(self.longest, choice.fuse)), self._short
        if short is None:
            return self._builder.build(choice)
        if choice.allowed is not None:
            choice = replace(choice, allowed=partial(_allowed, choice.allowed, short))
        return unfold(self._builder.build(choice), short, self._task.cost)

    def _within_reach(self, choice: Choice) -> Choice:
        """The choice as it is for a few ranks; for many, without segments that no plan worth having contains."""
        if choice.fuse is not None or self._rows <= MANY_ROWS:
            return choice
        single = self._builder.build(replace(choice, fuse=alone))
        known = search(single.space, top=self._task.top).seconds
        return replace(choice, fuse=below(known[-1], single.least)) if known else choice


def _allowed(
    allowed: Callable[[ShardTable, int], np.ndarray], short: Shortened, shards: ShardTable, cut: int
) -> np.ndarray:
    """What a rule for the whole network allows at a cut of the shorter one."""
    return allowed(shards, short.place(cut))


def _rows(shards: ShardTable) -> int:
    """Rows of a shard table that are walked over from every cut; few cuts have walks that leave parts."""
    return sum(len(layout.ranks) for layout in shards.layouts if not layout.in_parts)


def price(plan: Plan, graph: Graph, testbed: Testbed, cost: CostModel) -> PricedPlan:
    """What a plan is predicted to take; one with replicas, for the first of its turns.

    Values are priced as if they came from whoever made them, though others may carry them. Raises PlanError when the
    plan does not fit the graph or the testbed.
    """
    (priced,) = price_ends(plan, (plan.variant(0).segments[-1].layout,), graph, testbed, cost)
    return replace(priced, plan=plan)


def price_ends(
    plan: Plan, lasts: Sequence[Layout], graph: Graph, testbed: Testbed, cost: CostModel
) -> list[PricedPlan]:
    """The same of a plan with each of several layouts for its last segment, all of which can run it."""
    plan = plan.variant(0)
    if plan.ranks != testbed.ranks:
        raise PlanError(f"the plan is for {plan.ranks} ranks and testbed '{testbed.name}' has {testbed.ranks}")
    for reason in problems(plan, graph):
        raise PlanError(reason)
    starts = [first for _, first, _ in plan.spans]
    pieces = units(graph, starts)
    cut_at = {node: cut for cut, node in enumerate(pieces.ends)}
    *before, last = ((cut_at[first], cut_at[end], segment.layout) for segment, first, end in plan.spans)
    ends: Ends = {end: (begin, (layout,)) for begin, end, layout in before} | {last[1]: (last[0], tuple(lasts))}
    layouts = tuple(dict.fromkeys(layout for _, some in ends.values() for layout in some))
    reach = max(end - begin for end, (begin, _) in ends.items())
    short = shortened(pieces, testbed.blocks, starts, reach) if len(pieces) > MANY_UNITS else None
    if short and (alike := short.counterparts(ends)):
        builder = ProblemBuilder(short.units, testbed, cost, layouts, plan.root, not short.makes_outputs)
        problem = unfold(builder.build(_only(layouts, alike)), short, cost)
    else:
        problem = ProblemBuilder(pieces, testbed, cost, layouts, plan.root).build(_only(layouts, ends))
    number = problem.shards.layouts.index
    path = tuple((begin, end, number(layout)) for begin, end, layout in before)
    *segments, ending = plan.segments
    return [
        PricedPlan(
            replace(plan, segments=(*segments, replace(ending, layout=layout))),
            *_prices(problem, (*path, (last[0], last[1], number(layout)))),
        )
        for layout in lasts
    ]


def _only(layouts: tuple[Layout, ...], ends: Ends) -> Choice:
    """The choice of segments that there are, by their ends."""

    def allowed(shards: ShardTable, end: int) -> np.ndarray:
        return np.array([end in ends and layout in ends[end][1] for layout in shards.layouts])

    def fuse(shards: ShardTable, step: Step) -> np.ndarray:
        return np.array([ends[end][0] < step.begin for end in step.end])

    return Choice(layouts, allowed, fuse, {begin for begin, _ in ends.values()}, lonely=True)


def _prices(problem: Problem, path: Path) -> tuple[tuple[SegmentPrice, ...], float]:
    """The price of every segment of a path, and of the exit, as far as no computing hides it."""
    replayed = replay(problem.space, path)
    begin, _, layout = path[-1]
    hidden_s = problem.hidden_s[begin, layout]
    compute_s = (*replayed.compute_s[:-1], replayed.compute_s[-1] + hidden_s)
    return tuple(map(SegmentPrice, replayed.exchange_s, compute_s)), replayed.exit_s - hidden_s


def _priced(problem: Problem, path: Path, task: Task, provenance: Mapping[str, str]) -> PricedPlan:
    """The plan of a path, with the price of every step."""
    graph, ends, layouts = task.graph, problem.units.ends, problem.shards.layouts
    segments = tuple(
        Segment(tuple(node.name for node in graph.nodes[ends[begin] : ends[end]]), layouts[layout])
        for begin, end, layout in path
    )
    return PricedPlan(Plan(segments, task.testbed.ranks, graph.digest, task.root, provenance), *_prices(problem, path))


def _hopeless(problem: Problem, testbed: Testbed, result: SearchResult) -> str:
    """Why there is no plan."""
    graph, short = problem.units.graph, result.shortage
    if short is None:
        return f"no plan of {graph.name} exists with these layouts"
    device = testbed.devices[short.rank]
    capacity = f"{short.capacity / 1e6:.0f} MB of its {(device.memory_bytes or 0) / 1e6:.0f} MB are left for weights"
    if short.needed > short.capacity:
        reason = f"every plan puts at least {short.needed / 1e6:.0f} MB of weights on '{device.name}', where {capacity}"
    else:
        reason = f"on '{device.name}', for one, {capacity}, and {graph.name} has {graph.weight_bytes / 1e6:.0f} MB"
    verdict = "fits" if result.is_optimal else "was found that fits"
    return (
        f"no plan of {graph.name} {verdict} the boards of testbed '{testbed.name}': {reason}; take more or larger ones"
    )
