"""Planners by name, and the layouts that they choose from: ours, those of the literature, and plain rules.

All are priced by the same cost model, and all but ``auto`` choose from a part of what ``auto`` chooses from. A planner
is a function in `REGISTRY`, and a name in :mod:`flexpie_mpi.core.choices`.

Sources: FlexPie, sections 2 and 4 (its own planner, and its baselines layer-wise and fused-layer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from time import perf_counter

import numpy as np

from ..core.choices import PRESETS
from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.layout import KINDS, Kind, Layout
from ..core.plan import Plan
from ..lower import turns_of
from ..lower.memory import memory_of
from ..lower.shards import is_in_parts
from ..testbed import Testbed
from .boxes import ShardTable
from .latency import Search, Task, find, lacking, price
from .problem import Choice
from .rules import grid_weights, layout_plan, random_plan, sequence_plans
from .staggered import staggered
from .units import units
from .walk import Step

AS_GOOD = 1.01
"""Two plans are predicted to be as good as equal where one takes no longer than this many times the other."""

PAPER = ("rows", "columns", "grid", "channels")
"""The four layouts of FlexPie: InH, InW, 2D-grid, OutC."""


Planner = Callable[[Task], Search]
"""Makes plans of a task, the best first."""


def make_plans(name: str, task: Task) -> Search:
    """Plans of a task by the planner called `name`, the best first.

    Raises PlanError when there is no such planner, or it finds no plan.
    """
    if name not in REGISTRY:
        raise PlanError(f"unknown planner '{name}'; choose from {', '.join(REGISTRY)}")
    return REGISTRY[name](task)


def _auto(task: Task) -> Search:
    layouts = candidates(task.testbed, task.root, kinds_of(task.graph))
    found = _or_a_rule(find(task, Choice(layouts + (_parting(task.graph, layouts) if task.parts else ()))), task)
    return staggered(found, task) if task.overlap else found


def _or_a_rule(found: Search, task: Task) -> Search:
    """What was found, behind the plan of a rule for sequences that fits the boards and is predicted to be faster.

    Or as good as equal, and needs less memory. Rules share out equally, and by the boards' speeds where these differ.
    They leave sums in parts that no search thinks to be worth it, since it would take longer with each.
    """
    graph, testbed = task.graph, task.testbed
    if task.root or testbed.ranks == 1:
        return found
    shares = dict.fromkeys(((), _speeds(testbed, tuple(range(testbed.ranks)))))
    plans = (plan for weights in shares for plan in sequence_plans(graph, testbed.ranks, weights))
    ruled = tuple(price(plan, graph, testbed, task.cost) for plan in plans)
    found = replace(found, ruled=ruled)
    best = min(ruled, key=lambda each: each.seconds, default=found.plans[0])
    first = found.plans[0]
    is_better = best.seconds < first.seconds or (  # the best is lowered last: what it was lowered to is kept
        best.seconds <= AS_GOOD * first.seconds and _fullest(first.plan, task) > _fullest(best.plan, task)
    )
    if not task.parts or not is_better or lacking(best.plan, graph, testbed):
        return found
    bound = min(found.lower_bound_s, best.seconds)
    return replace(found, plans=(best, *found.plans)[: task.top], lower_bound_s=bound, is_optimal=False, paths=())


def _fullest(plan: Plan, task: Task) -> int:
    """Bytes that the board holds which holds most of a plan."""
    turns = turns_of(plan, task.graph, task.testbed.blocks)
    return max(need.engine_bytes() for need in memory_of(turns, task.graph, task.root))


def _parting(graph: Graph, layouts: Sequence[Layout]) -> tuple[Layout, ...]:
    """Those of the layouts that can leave a sum of the graph in parts, as such that do.

    Of more than `FEW` ranks, only those of all of them: each layout makes the search longer.
    """
    names = set(units(graph, with_parts=True).parts.values())
    most = max(len(layout.ranks) for layout in layouts)
    least = most if most > FEW else 2
    sharing = (each for each in layouts if len(each.ranks) >= least and KINDS[each.kind].cuts)
    parting = [replace(layout, in_parts=True) for layout in sharing]
    of_kind = {layout.kind: layout for layout in parting}
    able = {kind for kind, layout in of_kind.items() if any(is_in_parts(graph, name, layout) for name in names)}
    return tuple(layout for layout in parting if layout.kind in able)


def kinds_of(graph: Graph) -> tuple[str, ...]:
    """All kinds that share the work, but those that are rare only where a value has something to cut."""
    values = (graph.value(name) for name in (*graph.given, *graph.producer))
    shapes = {value.shape for value in values if value.shape is not None}

    def cuts(kind: Kind, shape: tuple[int, ...]) -> bool:
        return any(shape[axis] > 1 for axis in kind.cut_axes(len(shape)) or ())

    kinds = ((name, kind) for name, kind in KINDS.items() if name != "single")
    return tuple(name for name, kind in kinds if not kind.is_rare or any(cuts(kind, shape) for shape in shapes))


def _paper(task: Task, name: str, kinds: tuple[str, ...] = PAPER, free: bool = False) -> Search:
    """A search as in the paper: equal shards, all boards, one layout per segment.

    Where none of the four can cut an operator, which the paper leaves open, all boards run it, or the root alone.
    """
    layouts = candidates(task.testbed, task.root, kinds, plain=True)
    sharing = tuple(layout for layout in layouts if len(layout.ranks) > 1)
    everyone = tuple(range(task.testbed.ranks))
    fallback = (Layout("single", (task.root,)), Layout("replicated", everyone))
    choice = Choice(
        (*fallback, *sharing), _only_where_needed(task.graph, fallback), _without_redundancy if free else None
    )
    return find(task, choice, name)


def _fused(task: Task) -> Search:
    """The best of the searches with one layout each."""
    searches = [_paper(task, "fused", (kind,)) for kind in PAPER if _exists(kind, task.testbed.ranks)]
    best = min(searches, key=lambda search: search.plans[0].seconds)
    return replace(
        best,
        lower_bound_s=min(search.lower_bound_s for search in searches),
        planning_s=sum(search.planning_s for search in searches),
        segments_priced=sum(search.segments_priced for search in searches),
        work_priced=sum(search.work_priced for search in searches),
    )


def _exists(kind: str, ranks: int) -> bool:
    """Whether a grid of more than one row and column can be made."""
    return not KINDS[kind].is_grid or any(ranks % parts == 0 for parts in range(2, ranks // 2 + 1))


def _rule(task: Task, preset: str) -> Search:
    begin_s, graph, ranks = perf_counter(), task.graph, task.testbed.ranks
    is_random = preset == "random"
    plan = random_plan(graph, ranks, Random(task.seed), task.root) if is_random else layout_plan(graph, ranks, preset)
    return Search.of_rule(price(plan, graph, task.testbed, task.cost), begin_s)


def _only_where_needed(graph: Graph, fallback: tuple[Layout, ...]) -> Callable[[ShardTable, int], np.ndarray]:
    """Allow the fallback only behind units that nothing else can cut."""
    cut = units(graph)

    def allowed(shards: ShardTable, end: int) -> np.ndarray:
        is_fallback = np.array([layout in fallback for layout in shards.layouts])
        unit = cut[end - 1]
        names = [name for node in graph.nodes[unit.first : unit.end] for name in node.writes if name in cut.alive[end]]
        cuttable = [shards.shares(name) for name in names if not graph.value(name).is_opaque]
        able = np.logical_or.reduce(cuttable) if cuttable and not unit.fixed else np.zeros(len(shards.layouts), bool)
        able = able & ~is_fallback
        return able if able.any() else is_fallback

    return allowed


def _without_redundancy(shards: ShardTable, step: Step) -> np.ndarray:
    """Segments reach on as long as no rank needs more than its own shards, so that nothing is computed twice."""
    going = np.ones(len(step.end), bool)
    for name, box in step.needs.items():
        own = shards.owned(name).take(step.rows)
        inside = ~box.present | ((box.lo >= own.lo) & (box.hi <= own.hi)).all(axis=1)
        going &= np.logical_and.reduceat(inside, step.offsets[:-1])
    return going


REGISTRY: dict[str, Planner] = {
    "auto": _auto,
    "flexpie": partial(_paper, name="flexpie"),
    "fused": _fused,
    "layerwise": partial(_paper, name="layerwise", free=True),
    **{preset: partial(_rule, preset=preset) for preset in (*PRESETS, "random")},
}
"""The function of every planner; the names are those of :data:`flexpie_mpi.core.choices.PLANNERS`."""


# Candidates: the layouts a search chooses from, on which teams of ranks. A *team* is the ranks that share a segment.
# Ranks are put in an order of preference, the root and the fastest first, and every team is the beginning of that
# order: of equal boards it does not matter which are left out, of unequal ones the slowest are.

FEW, MANY = 8, 32
"""Up to `FEW` ranks every size of team is tried, up to `MANY` halves of halves; beyond, down to an eighth of them."""

Team = tuple[int, ...]


def candidates(testbed: Testbed, root: int, kinds: Sequence[str], *, plain: bool = False) -> tuple[Layout, ...]:
    """All layouts on a testbed that share the work by one of `kinds`, without repetition; the root alone comes first.

    `plain` ones take all ranks, with equal shares, and of grids the most square one; otherwise teams may leave ranks
    out, and faster ranks may get more. Raises PlanError when `root` is no rank of the testbed.
    """
    if not 0 <= root < testbed.ranks:
        raise PlanError(f"root {root} is no rank of testbed '{testbed.name}', which has {testbed.ranks}")
    layouts = [Layout("single", (root,))]
    for team in (tuple(range(testbed.ranks)),) if plain else teams(testbed, root):
        layouts += _shared(testbed, team, kinds, plain) if len(team) > 1 else ()
    if not plain and _speeds(testbed, tuple(range(testbed.ranks))):
        layouts += (Layout("single", (rank,)) for rank in range(testbed.ranks))
    return tuple(dict.fromkeys(layouts))


def teams(testbed: Testbed, root: int) -> tuple[Team, ...]:
    """Teams in order of size: the beginnings of the orders of preference."""
    beginnings = (order[:size] for order in _orders(testbed, root) for size in _sizes(testbed.ranks))
    return tuple(sorted(dict.fromkeys(tuple(sorted(team)) for team in beginnings), key=len))


def _orders(testbed: Testbed, root: int) -> Iterator[list[int]]:
    """Ranks by preference: the fastest first, ranks of one host together, and then hosts in turn."""
    devices = testbed.devices
    seen: dict[str, int] = {}
    turn = []
    for rank, device in enumerate(devices):
        host = device.host or f"\0{rank}"
        turn.append(seen.get(host, 0))
        seen[host] = turn[-1] + 1
    ranks = range(testbed.ranks)
    yield sorted(ranks, key=lambda rank: (rank != root, devices[rank].slowdown, rank))
    yield sorted(ranks, key=lambda rank: (devices[rank].slowdown, rank != root, rank))
    yield sorted(ranks, key=lambda rank: (rank != root, devices[rank].slowdown, turn[rank], rank))


def _sizes(ranks: int) -> list[int]:
    """Sizes of teams that are tried, rising."""
    if ranks <= FEW:
        return list(range(1, ranks + 1))
    halves = [ranks >> times for times in range(4 if ranks > MANY else ranks.bit_length())]
    return sorted({1, *halves})


def _shared(testbed: Testbed, team: Team, kinds: Sequence[str], plain: bool) -> Iterator[Layout]:
    """Layouts by which a team shares the work, with equal shares and, unless they are `plain`, with shares by speed."""
    speeds = () if plain else _speeds(testbed, team)
    for kind in kinds:
        if KINDS[kind].is_grid:
            for grid in _grids(len(team), plain):
                yield Layout(kind, team, grid=grid)
                if speeds:
                    yield Layout(kind, team, grid_weights(speeds, grid), grid)
        else:
            yield Layout(kind, team)
            if speeds and kind != "replicated":
                yield Layout(kind, team, speeds)


def _speeds(testbed: Testbed, team: Team) -> tuple[float, ...]:
    """Speeds of a team's ranks when all of it computes, relative to the fastest; empty when they are equal."""
    loads = [testbed.devices[rank].slowdown * load for rank, load in zip(team, testbed.active(team), strict=True)]
    speeds = tuple(round(min(loads) / load, 3) for load in loads)
    return speeds if len(set(speeds)) > 1 else ()


def _grids(parts: int, square_only: bool) -> list[tuple[int, int]]:
    """(rows, columns) of every grid that is no single row or column; the most square one alone if asked."""
    grids = [(parts // columns, columns) for columns in range(2, parts // 2 + 1) if parts % columns == 0]
    if square_only:
        return sorted(grids, key=lambda grid: (abs(grid[0] - grid[1]), -grid[0]))[:1]
    return grids
