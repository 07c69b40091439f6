"""Why a plan is as it is: the price of every segment, of the layouts it does not have, and of more or fewer boards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.layout import Layout
from ..planner import PricedPlan
from ..planner.explain import Alternative, Explanation, explain
from ..planner.problem import Problem
from ..planner.space import Path, Replay, replay
from .predicted import layout_name
from .tables import Column, Item, Table, fold
from .units import count_of, milli, ranges

MOST_ALTERNATIVES = 3
"""Alternatives of a segment that are shown unless everything is asked for."""

_SEGMENTS = (
    Column("#", "number"),
    Column("layout"),
    Column("ranks"),
    Column("exchange", "number"),
    Column("compute", "number"),
    Column("boundary", "number"),
    Column("instead, the whole plan takes", "prose"),
)
_TEAMS = (Column("boards", "number"), Column("predicted", "number"), Column("less than with one", "number"))


@dataclass(frozen=True, slots=True)
class Why:
    """An explanation with what it does not say by itself.

    Attributes
    ----------
    layouts : tuple of Layout
        Of the segments.
    prices : tuple of (exchange, compute) seconds
        Of the segments.
    boundary_s : tuple of float
        How much of the compute is the call of the segment's session and the re-layout of what enters and leaves.
    reasons : Explanation, optional
        None for a plan that nothing was searched for.
    boards : str
        Why one more board pays, or does not.
    """

    layouts: tuple[Layout, ...]
    prices: tuple[tuple[float, float], ...]
    boundary_s: tuple[float, ...]
    reasons: Explanation | None
    boards: str


def why(
    priced: PricedPlan, free: PricedPlan, ranks: int, problem: Problem | None = None, path: Path | None = None
) -> Why:
    """Reasons for a plan.

    Parameters
    ----------
    priced, free : PricedPlan
        The plan as it is, and as it would be if calling sessions took no time.
    ranks : int
    problem, path : Problem and Path
        What was searched, and the plan in it.
    """
    pairs = zip(priced.segments, free.segments, strict=True)
    boundary_s = tuple(max(0.0, price.compute_s - other.compute_s) for price, other in pairs)
    prices = tuple((price.exchange_s, price.compute_s) for price in priced.segments)
    layouts = tuple(segment.layout for segment in priced.plan.segments)
    if problem is None or path is None:
        return Why(layouts, prices, boundary_s, None, "")
    return Why(layouts, prices, boundary_s, explain(problem, path), _about_boards(problem, path, ranks))


def why_items(found: Why, *, everything: bool = False) -> list[Item]:
    """The reasons as tables and a sentence."""
    rows = [_segment_row(found, place, everything) for place in range(len(found.layouts))]
    columns = _SEGMENTS if found.reasons else _SEGMENTS[:-1]
    shown = tuple(row[: len(columns)] for row in fold(rows, len(_SEGMENTS), everything=everything))
    head = "why these layouts (ms; the boundary is the part of compute that a cut costs)"
    items: list[Item] = [head, Table(columns, shown)]
    if found.reasons is None:
        return [*items, "the plan follows a rule: there are no reasons, only prices"]
    head = "the best plan with at most so many boards to a segment (ms)"
    return [*items, "", head, _team_table(found.reasons), found.boards]


def why_record(found: Why) -> dict[str, Any]:
    """The reasons in seconds."""
    reasons = found.reasons.reasons if found.reasons else ()
    others = [[_alternative_record(item) for item in reason.alternatives] for reason in reasons]
    segments = zip(found.layouts, found.prices, found.boundary_s, others or [[]] * len(found.layouts), strict=True)
    return {
        "segments": [
            {
                "layout": str(layout),
                "exchange_s": exchange_s,
                "compute_s": compute_s,
                "boundary_s": boundary_s,
                "alternatives": alternatives,
            }
            for layout, (exchange_s, compute_s), boundary_s, alternatives in segments
        ],
        "by_boards": [{"boards": k, "predicted_s": s} for k, s in found.reasons.by_team] if found.reasons else None,
        "boards": found.boards,
    }


def _segment_row(found: Why, place: int, everything: bool) -> tuple[str, ...]:
    layout, (exchange_s, compute_s) = found.layouts[place], found.prices[place]
    return (
        str(place),
        layout_name(layout),
        ranges(layout.ranks),
        milli(exchange_s),
        milli(compute_s),
        milli(found.boundary_s[place]),
        _instead(found.reasons, place, everything) if found.reasons else "",
    )


def _instead(reasons: Explanation, place: int, everything: bool) -> str:
    """The alternatives of a segment, each with how much longer the whole plan takes."""
    reason = reasons.reasons[place]
    shown = reason.alternatives if everything else reason.alternatives[:MOST_ALTERNATIVES]
    rest = len(reason.alternatives) - len(shown)
    words = [_with_delta(item, reason.layout, item.seconds - reasons.seconds) for item in shown]
    return ", ".join([*words, *([f"{rest} more"] if rest else [])]) or "nothing else is possible"


def _with_delta(item: Alternative, chosen: Layout, delta_s: float) -> str:
    team = f" on {ranges(item.layout.ranks)}" if item.layout.ranks != chosen.ranks else ""
    return f"{layout_name(item.layout)}{team} {'-' if delta_s < 0 else '+'}{milli(abs(delta_s))}"


def _team_table(reasons: Explanation) -> Item:
    alone_s = reasons.by_team[0][1]
    rows = ((str(k), milli(seconds), milli(alone_s - seconds)) for k, seconds in reasons.by_team)
    return Table(_TEAMS, tuple(rows))


def _alternative_record(item: Alternative) -> dict[str, Any]:
    return {"layout": str(item.layout), "plan_s": item.seconds}


def _about_boards(problem: Problem, path: Path, ranks: int) -> str:
    """Why one more board pays or not, from the same segments with one more, or one fewer."""
    sizes = [len(layout.ranks) for layout in problem.shards.layouts]
    used = max(sizes[layout] for _, _, layout in path)
    if ranks == 1:
        return "there is one board"
    head = f"{used} of {count_of(ranks, 'board')} {'is' if used == 1 else 'are'} used"
    known = sorted(size for size in set(sizes) if (size > used if used < ranks else size < used))
    other = (known[0] if used < ranks else known[-1]) if known else used
    changed = _resized(problem, path, used, other) if used > 1 else None
    if changed is None:
        return f"{head}: no plan that shares its segments among another number is predicted to be faster"
    now, then = replay(problem.space, path), replay(problem.space, changed)
    return f"{head}: on {other} the same segments would {_changes(now, then)}"


def _changes(now: Replay, then: Replay) -> str:
    compute_s = sum(then.compute_s) - sum(now.compute_s)
    exchange_s = then.seconds - now.seconds - compute_s
    words = [(compute_s, "compute"), (exchange_s, "exchange")]
    parts = [f"{verb} {milli(abs(delta))} ms {'longer' if delta > 0 else 'less'}" for delta, verb in words]
    return " and ".join(parts)


def _resized(problem: Problem, path: Path, used: int, other: int) -> Path | None:
    """The path with every segment on `used` ranks on `other` ranks instead, in a layout of the same kind if there is.

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
        kinds = {p: layouts[options.layout[p]].kind for p in fitting}
        best = min(fitting, key=lambda p: (kinds[p] != layouts[layout].kind, options.seconds[p]))
        changed.append((begin, end, int(options.layout[best])))
    return tuple(changed)
