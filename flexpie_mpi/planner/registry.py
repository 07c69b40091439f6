"""Planners by name: ours, those of the literature from the same engine, and plain rules.

All are priced by the same cost model, and all but ``auto`` choose from a part of what ``auto`` chooses from. A planner
is a function in `REGISTRY`, and a name in :mod:`flexpie_mpi.core.choices`.

Sources: FlexPie, sections 2 and 4 (its own planner, and its baselines layer-wise and fused-layer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from time import perf_counter

import numpy as np

from ..core.choices import PRESETS
from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.layout import KINDS, Kind, Layout
from .boxes import ShardTable
from .candidates import candidates
from .latency import Search, Task, find, price
from .problem import Choice
from .rules import layout_plan, random_plan
from .units import units
from .walk import Step

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
    return find(task, Choice(candidates(task.testbed, task.root, kinds_of(task.graph))))


def kinds_of(graph: Graph) -> tuple[str, ...]:
    """All kinds that share the work, but those that are rare only where a value has something to cut."""
    values = (graph.value(name) for name in (*graph.inputs, *graph.producer))
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
    begin_s = perf_counter()
    plan = layout_plan(task.graph, task.testbed.ranks, preset)
    return Search.of_rule(price(plan, task.graph, task.testbed, task.cost), begin_s)


def _random(task: Task) -> Search:
    begin_s = perf_counter()
    plan = random_plan(task.graph, task.testbed.ranks, Random(task.seed), task.root)
    return Search.of_rule(price(plan, task.graph, task.testbed, task.cost), begin_s)


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
    **{preset: partial(_rule, preset=preset) for preset in PRESETS},
    "random": _random,
}
"""The function of every planner; the names are those of :data:`flexpie_mpi.core.choices.PLANNERS`."""
