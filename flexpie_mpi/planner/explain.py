"""Why a plan is as it is: what other layouts would have cost, and what fewer boards would."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.layout import Layout
from .problem import Problem
from .search import search
from .space import Options, Path, Space, replay


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another layout for one segment, and the seconds that the whole plan would take, the rest being as it is."""

    layout: Layout
    seconds: float


@dataclass(frozen=True, slots=True)
class Reason:
    """One segment of a plan: its exchange and compute, and the best alternative of every other kind of layout."""

    nodes: tuple[int, int]
    layout: Layout
    exchange_s: float
    compute_s: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Reasons by segment, the exit's seconds, and the best plan with at most k ranks to a segment, for every k."""

    reasons: tuple[Reason, ...]
    exit_s: float
    seconds: float
    by_team: tuple[tuple[int, float], ...]


def explain(problem: Problem, path: Path) -> Explanation:
    """Reasons for a path of a search problem."""
    found = replay(problem.space, path)
    reasons = tuple(
        Reason(
            (problem.units.ends[begin], problem.units.ends[end]),
            problem.shards.layouts[layout],
            found.exchange_s[place],
            found.compute_s[place],
            _alternatives(problem, path, place),
        )
        for place, (begin, end, layout) in enumerate(path)
    )
    return Explanation(reasons, found.exit_s, found.seconds, by_team(problem))


def _alternatives(problem: Problem, path: Path, place: int) -> tuple[Alternative, ...]:
    """The best layout of each other kind for one segment of a path, the fastest first."""
    begin, end, chosen = path[place]
    options, layouts = problem.space.options[begin], problem.shards.layouts
    best: dict[str, Alternative] = {}
    for layout in options.layout[options.end == end].tolist():
        other = path[:place] + ((begin, end, layout),) + path[place + 1 :]
        kind = layouts[layout].kind
        if layout == chosen or (kind == layouts[chosen].kind and layouts[layout].ranks == layouts[chosen].ranks):
            continue
        seconds = replay(problem.space, other).seconds
        if kind not in best or seconds < best[kind].seconds:
            best[kind] = Alternative(layouts[layout], seconds)
    return tuple(sorted(best.values(), key=lambda item: item.seconds))


def by_team(problem: Problem) -> tuple[tuple[int, float], ...]:
    """Seconds of the best plan none of whose segments takes more than k ranks, for every k that candidates have."""
    sizes = np.array([len(layout.ranks) for layout in problem.shards.layouts])
    found = []
    for size in sorted(set(sizes.tolist())):
        paths = search(restricted(problem.space, sizes <= size)).seconds
        if paths:
            found.append((size, paths[0]))
    return tuple(found)


def restricted(space: Space, layouts: np.ndarray) -> Space:
    """The space without the options in layouts that are not named, bool array (L,)."""
    return replace(space, options=tuple(_only(options, layouts[options.layout]) for options in space.options))


def _only(options: Options, kept: np.ndarray) -> Options:
    return Options(
        options.end[kept],
        options.layout[kept],
        options.seconds[kept],
        options.needs[:, kept],
        options.fetches[:, kept],
        options.weights[kept],
    )
