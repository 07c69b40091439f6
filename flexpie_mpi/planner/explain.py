"""Why a plan is as it is: what other layouts would have cost, and what more or fewer boards would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.layout import Layout
from .latency import PricedPlan, SegmentPrice
from .problem import Problem
from .search import search
from .space import Path, replay


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another layout for one segment, and the seconds that the whole plan would take, the rest being as it is."""

    layout: Layout
    seconds: float


@dataclass(frozen=True, slots=True)
class Reason:
    """The layout of one segment of a plan, and the best alternative of every other kind of layout."""

    layout: Layout
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Reasons by segment, the plan's seconds, and those of the best with at most k ranks to a segment, for every k."""

    reasons: tuple[Reason, ...]
    seconds: float
    by_team: tuple[tuple[int, float], ...]
    without_parts_s: float | None  # of the best plan that leaves no sum in parts; None where this one leaves none


@dataclass(frozen=True, slots=True)
class BoardsUsed:
    """How many of all ranks the largest segments use, and what one more, or one fewer, would change.

    On `other` boards the same segments would compute and exchange so many seconds longer; it is None where no plan
    shares its segments among another number.
    """

    used: int
    ranks: int
    other: int | None = None
    compute_s: float = 0.0
    exchange_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Why:
    """A plan with the prices of its segments, and why they are as they are."""

    priced: PricedPlan
    # How much of the compute is the call of the segment's session and the re-layout of what enters and leaves
    boundary_s: tuple[float, ...]
    # `reasons` and `boards`: None for a plan that nothing was searched for
    reasons: Explanation | None = None
    boards: BoardsUsed | None = None

    @property
    def segments(self) -> Sequence[tuple[Layout, SegmentPrice, float]]:
        """Layout, price, and seconds of the boundary, of every segment."""
        layouts = (segment.layout for segment in self.priced.plan.segments)
        return tuple(zip(layouts, self.priced.segments, self.boundary_s, strict=True))


def why(
    priced: PricedPlan, free: PricedPlan, ranks: int, problem: Problem | None = None, path: Path | None = None
) -> Why:
    """Prices of a plan's segments, and the reasons for them where the plan was searched for, as a path of a problem.

    `free` is the plan priced as if calling sessions took no time; `ranks` are those of the job.
    """
    pairs = zip(priced.segments, free.segments, strict=True)
    boundary_s = tuple(max(0.0, price.compute_s - other.compute_s) for price, other in pairs)
    if problem is None or path is None:
        return Why(priced, boundary_s)
    return Why(priced, boundary_s, explain(problem, path), boards_used(problem, path, ranks))


def explain(problem: Problem, path: Path) -> Explanation:
    """Reasons for a path of a search problem."""
    reasons = tuple(
        Reason(problem.shards.layouts[layout], _alternatives(problem, path, number))
        for number, (_, _, layout) in enumerate(path)
    )
    leaves_parts = any(reason.layout.in_parts for reason in reasons)
    without_s = without_parts(problem) if leaves_parts else None
    return Explanation(reasons, replay(problem.space, path).seconds, by_team(problem), without_s)


def _alternatives(problem: Problem, path: Path, number: int) -> tuple[Alternative, ...]:
    """The best layout of each other kind for one segment of a path, the fastest first."""
    begin, end, chosen = path[number]
    options, layouts = problem.space.options[begin], problem.shards.layouts
    best: dict[tuple[str, bool], Alternative] = {}
    for layout in options.layout[options.end == end].tolist():
        other = path[:number] + ((begin, end, layout),) + path[number + 1 :]
        form = _form(layouts[layout])
        if layout == chosen or (form == _form(layouts[chosen]) and layouts[layout].ranks == layouts[chosen].ranks):
            continue
        seconds = replay(problem.space, other).seconds
        if form not in best or seconds < best[form].seconds:
            best[form] = Alternative(layouts[layout], seconds)
    return tuple(sorted(best.values(), key=lambda item: item.seconds))


def _form(layout: Layout) -> tuple[str, bool]:
    return layout.kind, layout.in_parts


def without_parts(problem: Problem) -> float | None:
    """Seconds of the best plan that leaves no sum in parts; None where there is none."""
    whole = np.array([not layout.in_parts for layout in problem.shards.layouts])
    options = (each.take(np.flatnonzero(whole[each.layout])) for each in problem.space.options)
    return next(iter(search(replace(problem.space, options=tuple(options))).seconds), None)


def by_team(problem: Problem) -> tuple[tuple[int, float], ...]:
    """Seconds of the best plan none of whose segments takes more than k ranks, for every k that candidates have."""
    space, layouts = problem.space, problem.shards.layouts
    sizes = np.array([len(layout.ranks) for layout in layouts])
    best = []
    for size in sorted(set(sizes.tolist())):
        options = (each.take(np.flatnonzero(sizes[each.layout] <= size)) for each in space.options)
        seconds = search(replace(space, options=tuple(options))).seconds
        if seconds:
            best.append((size, seconds[0]))
    return tuple(best)


def boards_used(problem: Problem, path: Path, ranks: int) -> BoardsUsed:
    """How many boards the largest segments of a path use, and what another number of boards would change.

    The other number is the next larger one that candidates have; the next smaller one where all `ranks` are used.
    """
    sizes = [len(layout.ranks) for layout in problem.shards.layouts]
    used = max(sizes[layout] for _, _, layout in path)
    known = sorted(size for size in set(sizes) if (size > used if used < ranks else size < used))
    other = (known[0] if used < ranks else known[-1]) if known else used
    changed = _resized(problem, path, used, other) if used > 1 else None
    if changed is None:
        return BoardsUsed(used, ranks)
    now, then = replay(problem.space, path), replay(problem.space, changed)
    compute_s = sum(then.compute_s) - sum(now.compute_s)
    return BoardsUsed(used, ranks, other, compute_s, then.seconds - now.seconds - compute_s)


def _resized(problem: Problem, path: Path, used: int, other: int) -> Path | None:
    """The path with every segment on `used` ranks on `other` ranks instead, in a layout of the same form if there is.

    None where a segment cannot be.
    """
    layouts = problem.shards.layouts
    changed = []
    for begin, end, layout in path:
        if len(layouts[layout].ranks) != used:
            changed.append((begin, end, layout))
            continue
        options = problem.space.options[begin]
        fitting = [p for p in np.flatnonzero(options.end == end) if len(layouts[options.layout[p]].ranks) == other]
        if not fitting:
            return None
        forms = {p: _form(layouts[options.layout[p]]) for p in fitting}
        best = min(fitting, key=lambda p: (forms[p] != _form(layouts[layout]), options.seconds[p]))
        changed.append((begin, end, int(options.layout[best])))
    return tuple(changed)
