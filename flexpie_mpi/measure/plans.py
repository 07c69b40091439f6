"""Whole plans of a model: which to measure, and the rows about kernels, calls, exchanges and plans they are run for."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise, zip_longest
from math import inf
from typing import Any

import numpy as np

from ..core.graph import Graph
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..cost.groups import fused_groups
from ..cost.rows import TABLES
from ..lower.shards import segment_problems
from ..model import Model
from ..planner import layout_plan
from ..planner.rules import ROOT, sequence_plans, square
from ..planner.units import Units, units
from ..runtime.transport import Transport, on_root
from ..testbed import Testbed
from .agreement import UntriedError, together
from .attribution import Work, call_row, compute_rows, pooled_gap_s, split
from .observed import Observation, name_of
from .profiled_run import PlanProfiler, ProfiledRun, scratch

Keep = Callable[[str, np.ndarray], None]
"""Takes rows of a table of :data:`flexpie_mpi.cost.rows.TABLES`; called on the root only."""

RANDOM_PLANS = 24
_KINDS = ("rows", "channels", "columns", "grid")
_RUN_UNITS = 5
"""Units in a run of one layout in a random plan, on average."""


@dataclass(slots=True)
class Outcome:
    """How many plans were measured, and which were not, in words; the same on every rank."""

    measured: int = 0
    left_out: list[str] = field(default_factory=list)
    is_hopeless: bool = False  # what failed was no plan but what all of them need
    is_over: bool = False  # there are no more plans


def collect_plans(
    transport: Transport,
    model: Model,
    inputs: Mapping[str, Any],
    plans: Iterable[Plan],
    *,
    testbed: Testbed,
    keep: Keep,
    clock: Callable[[], float],
    tell: Callable[[str], None] = lambda text: None,
    threads: int = 1,
    slowdown: float | None = None,
) -> Outcome:
    """Measure one plan, and more until there is no time for another like the last; called by all ranks together.

    Parameters
    ----------
    model : Model
        On every rank, with its store on one: weights whose values do not matter are made up.
    inputs : mapping of str to array
        The request that plans are measured with, on the root; ignored elsewhere.
    plans : iterable of Plan
        For this job and model, of which the root's count. One that any rank cannot run is left out.
    testbed : Testbed
        Of this job: its links say what a transfer should take, its hosts which ranks get into each other's way.
    keep : callable
        Takes (table, rows) on the root; `origin` in the rows is a rank.
    clock : callable
        Seconds left, the same on all ranks, asked by all of them together.
    slowdown : float, optional
        As of :class:`.profiled_run.PlanProfiler`.

    Raises
    ------
    FlexPieError
        On every rank, what `keep` raised.
    """
    outcome, last_s = Outcome(), -inf
    order = iter(plans)
    try:
        with scratch(transport) as folder:
            profiler = PlanProfiler(transport, model, inputs, folder, threads, testbed.blocks, slowdown)
            while clock() > last_s:
                plan = _next(transport, order)
                if plan is None:
                    outcome.is_over = True
                    break
                begin = time.monotonic()
                tell(f"{model.name}: plan {outcome.measured + 1}, {name_of(plan)}")
                try:
                    rows = _gathered_rows(transport, model, plan, testbed, profiler.run(plan))
                except UntriedError as error:
                    outcome.left_out.append(f"{name_of(plan)}: {error}")
                else:
                    on_root(transport, partial(_keep, rows, keep))
                    outcome.measured += 1
                gc.collect()
                last_s = transport.broadcast(time.monotonic() - begin)
    except UntriedError as error:
        outcome.left_out.append(str(error))
        outcome.is_hopeless = True
    return outcome


def _keep(rows: Mapping[str, np.ndarray], keep: Keep) -> None:
    for table, some in rows.items():
        keep(table, some)


def _next(transport: Transport, plans: Iterator[Plan]) -> Plan | None:
    """The root's next plan; None when there are no more. To find it may take the root longer than any deadline."""
    found = together(transport, lambda: transport.attend(lambda: next(plans, None)), "finding a plan")
    plan: Plan | None = transport.broadcast(found)
    return plan


def _gathered_rows(
    transport: Transport, model: Model, plan: Plan, testbed: Testbed, run: ProfiledRun
) -> dict[str, np.ndarray]:
    """What every rank has found in a profiled run, by table, on the root; nothing elsewhere.

    Raises UntriedError on every rank, when what was measured on any makes no sense.
    """
    graph, rank, name = model.graph, transport.rank, model.name

    def own() -> dict[str, np.ndarray]:
        groups = fused_groups(graph, [first for _, first, _ in plan.spans])
        gap = pooled_gap_s(run.segments)
        tables = {table: [np.zeros(0, TABLES[table])] for table in ("compute", "call")}
        for times in run.segments:
            work = Work(graph, groups, run.programs[rank], times.step)
            shares = split(times, work, gap, run.typical(times.plain_s))
            ranks = plan.segments[times.step.segment].layout.ranks
            for table, rows in (("compute", compute_rows(work, shares)), ("call", call_row(work, shares))):
                rows["active"], rows["origin"] = testbed.active(ranks)[ranks.index(rank)], rank
                rows["model"], rows["repeats"] = name.encode()[:32], len(times.plain_s)
                tables[table].append(rows)
        return {table: np.concatenate(rows) for table, rows in tables.items()}

    everyone = transport.gather((together(transport, own, "reading what was measured"), run.requests))

    def joined() -> dict[str, np.ndarray]:
        if everyone is None:
            return {}
        tables, parts = zip(*everyone, strict=True)
        seen = Observation(plan, name, run.programs, parts).rows(testbed)
        return {table: np.concatenate([rows[table] for rows in tables]) for table in tables[0]} | seen

    return together(transport, joined, "reading what was measured")


def sample_plans(graph: Graph, ranks: int, seed: int = 0) -> Iterator[Plan]:
    """Plans for a job, without repetition, the most telling first; the same ones for the same seed.

    Those of the rules for sequences; one layout wherever it can be, on all ranks, fused and not; the root alone; then
    random layouts side by side, which bring every kind of exchange, in turn with fewer ranks.
    """
    known = set()
    for plan in _all_plans(graph, ranks, seed):
        if plan.segments not in known:
            known.add(plan.segments)
            yield plan


def _all_plans(graph: Graph, ranks: int, seed: int) -> Iterator[Plan]:
    parts, kinds = units(graph), _kinds(ranks)
    chance = random.Random(f"plans {graph.digest} {ranks} {seed}")
    drawn = (_random(parts, ranks, chance) for _ in range(2 + RANDOM_PLANS))
    yield from sequence_plans(graph, ranks)
    for wanted in ((ranks, "rows", 0), (1, "single", 0), (ranks, "rows", 1), (ranks, "channels", 0)):
        yield _uniform(parts, ranks, *wanted)
    yield next(drawn)
    for wanted in (*((ranks, kind, 0) for kind in kinds[2:]), (1, "single", 1)):
        yield _uniform(parts, ranks, *wanted)
    yield next(drawn)
    for pair in zip_longest(_regular(parts, ranks), drawn):
        yield from filter(None, pair)


def _regular(parts: Units, ranks: int) -> Iterator[Plan]:
    """Plans in one layout with other fusions, and on fewer ranks."""
    fewer = _fewer(ranks)
    wanted = [
        *((size, kind, 0) for size in fewer for kind in _kinds(size)[:2]),
        *((ranks, kind, count) for kind in _kinds(ranks) for count in (4, 1)),
        *((size, kind, 0) for size in fewer for kind in _kinds(size)[2:]),
        (1, "single", 4),
    ]
    yield from (_uniform(parts, ranks, *each) for each in wanted)
    yield layout_plan(parts.graph, ranks, "rows", fusion="all-legal")


def _kinds(ranks: int) -> tuple[str, ...]:
    """Kinds of layout that differ on so many ranks."""
    return _KINDS if square(ranks)[1] > 1 else _KINDS[:3]


def _fewer(ranks: int) -> list[int]:
    """Smaller numbers of ranks worth a look: all of a few, else halves and what lies between.

    >>> _fewer(2), _fewer(4), _fewer(16)
    ([], [3, 2], [15, 12, 8, 6, 4, 3, 2])
    """
    sizes = {ranks - 1}
    while ranks > 1:
        sizes |= {ranks // 2, ranks // 2 * 3 // 2 if ranks // 2 * 3 // 2 < ranks else 0}
        ranks //= 2
    return sorted((size for size in sizes if size > 1), reverse=True)


def _uniform(parts: Units, ranks: int, size: int, preset: str, count: int) -> Plan:
    """One layout wherever it can be, on the first `size` ranks; with at most `count` units in a segment, if not 0."""
    plan = layout_plan(parts.graph, size, preset, fusion="all-legal" if count else "free")
    if count:
        segments: list[Segment] = []
        for segment, first, end in plan.spans:
            inside = [first, *(cut for cut in parts.ends if first < cut < end), end]
            segments += _segments(parts.graph, [*inside[:-1:count], end], segment.layout)
        plan = replace(plan, segments=tuple(segments), provenance=_label(parts.graph, preset, str(count)))
    return replace(plan, ranks=ranks)


def _segments(graph: Graph, borders: Sequence[int], layout: Layout) -> list[Segment]:
    return [Segment(tuple(n.name for n in graph.nodes[first:end]), layout) for first, end in pairwise(borders)]


def _label(graph: Graph, planner: str, fusion: str) -> dict[str, str]:
    return {"model": graph.name, "planner": planner, "fusion": fusion}


def _random(parts: Units, ranks: int, chance: random.Random) -> Plan:
    """Runs of units in a random layout each, cut into segments at random."""
    graph, segments = parts.graph, []
    unit, last = 0, len(parts)
    while unit < last:
        end = min(last, unit + 1 + int(chance.expovariate(1 / _RUN_UNITS)))
        layout = random_layout(ranks, chance)
        cuts = [unit, *(cut for cut in range(unit + 1, end) if chance.random() < 0.25), end]
        for first, behind in pairwise(cuts):
            segments += _placed(parts, first, behind, layout)
        unit = end
    return Plan(tuple(segments), ranks, graph.digest, provenance=_label(graph, "random", ""))


def _placed(parts: Units, first: int, end: int, layout: Layout) -> list[Segment]:
    """Units [first, end) as one segment in a layout, or unit by unit, on the root, where that is not allowed."""
    graph, ends = parts.graph, parts.ends
    if not segment_problems(graph, ends[first], ends[end], layout):
        return _segments(graph, (ends[first], ends[end]), layout)
    if end - first > 1:
        return [segment for unit in range(first, end) for segment in _placed(parts, unit, unit + 1, layout)]
    return _segments(graph, (ends[first], ends[end]), ROOT)


def random_layout(ranks: int, chance: random.Random) -> Layout:
    """Any layout on some of the ranks of a job, more often on all, now and then with unequal shares."""
    size = ranks if chance.random() < 0.7 else chance.randint(1, ranks)
    team = tuple(sorted(chance.sample(range(ranks), size)))
    kind = chance.choice((*_kinds(size), "rows", "channels", "replicated", "single"))
    if size == 1 or kind == "single":
        return Layout("single", (chance.choice(team),))
    if kind == "grid":
        return Layout(kind, team, grid=square(size))
    shares = tuple(chance.randint(1, 4) for _ in team) if chance.random() < 0.2 and kind != "replicated" else ()
    return Layout(kind, team, shares)
