"""Reasons for a plan, for people and for scripts: what each segment costs, and what other choices would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..core.layout import Layout
from .plans import layout_name, part_lines
from .tables import Column, Item, Table
from .units import count_of, milli, ranges

if TYPE_CHECKING:  # who shows reasons need not have what finds them
    from ..planner.explain import Alternative, BoardsUsed, Explanation, Why

_REASONS = (
    Column("#", "number"),
    Column("layout"),
    Column("ranks", "text", ranges),
    Column("exchange", "number", milli),
    Column("compute", "number", milli),
    Column("boundary", "number", milli),
    Column("instead, the whole plan takes", "prose"),
)

_TEAMS = (
    Column("boards", "number", key="boards"),
    Column("predicted", "number", milli, "predicted_s"),
    Column("less than with one", "number", milli),
)

MOST_ALTERNATIVES = 3
"""Alternatives of a segment that are shown unless everything is asked for."""


def why_items(why: Why, *, everything: bool = False) -> list[Item]:
    """The reasons for a plan as tables and a sentence."""
    rows = [
        (index, layout_name(layout), layout.ranks, price.exchange_s, price.compute_s, boundary_s)
        for index, (layout, price, boundary_s) in enumerate(why.segments)
    ]
    head = "why these layouts (ms; the boundary is the part of compute that a cut costs)"
    names = [row[1] for row in rows]
    if why.reasons is None:
        table = Table(_REASONS[:-1], rows).folded(everything=everything)
        return [head, table, *part_lines(names), "the plan follows a rule: there are no reasons, only prices"]
    instead = [_instead(why.reasons, index, everything) for index in range(len(rows))]
    others = (layout_name(other.layout) for reason in why.reasons.reasons for other in reason.alternatives)
    legend = part_lines([*names, *others])
    table = Table(_REASONS, [(*row, text) for row, text in zip(rows, instead, strict=True)])
    teams = "the best plan with at most so many boards to a segment (ms)"
    shown = table.folded(everything=everything)
    lines = (*_parts_gain(why), boards_line(why.boards))
    return [head, shown, *legend, "", teams, _team_table(why.reasons), *lines]


def _parts_gain(why: Why) -> Iterator[str]:
    """What it is worth that sums are left in parts, where they are."""
    count = sum(layout.in_parts for layout, _, _ in why.segments)
    if why.reasons is not None and why.reasons.without_parts_s is not None:
        longer = milli(why.reasons.without_parts_s - why.reasons.seconds)
        leaving = f"{count_of(count, 'segment')} {'leaves' if count == 1 else 'leave'} parts of a sum"
        yield f"{leaving}: without, the best plan takes {longer} ms longer"


def why_record(why: Why) -> dict[str, Any]:
    """The reasons for a plan in seconds."""
    reasons = why.reasons.reasons if why.reasons else ()
    others = [[{"layout": str(it.layout), "plan_s": it.seconds} for it in each.alternatives] for each in reasons]
    segments = zip(why.segments, others or [[]] * len(why.boundary_s), strict=True)
    return {
        "segments": [
            {
                "layout": str(layout),
                "exchange_s": price.exchange_s,
                "compute_s": price.compute_s,
                "boundary_s": boundary_s,
                "alternatives": alternatives,
            }
            for (layout, price, boundary_s), alternatives in segments
        ],
        "by_boards": _team_table(why.reasons).records if why.reasons else None,
        "without_parts_s": why.reasons.without_parts_s if why.reasons else None,
        "boards": boards_line(why.boards),
    }


def _team_table(reasons: Explanation) -> Table:
    alone_s = reasons.by_team[0][1]
    return Table(_TEAMS, [(boards, seconds, alone_s - seconds) for boards, seconds in reasons.by_team])


def _instead(reasons: Explanation, index: int, everything: bool) -> str:
    """The alternatives of a segment, each with how much longer the whole plan takes."""
    reason = reasons.reasons[index]
    shown = reason.alternatives if everything else reason.alternatives[:MOST_ALTERNATIVES]
    rest = len(reason.alternatives) - len(shown)
    words = [_with_delta(item, reason.layout, item.seconds - reasons.seconds) for item in shown]
    return ", ".join([*words, *([f"{rest} more"] if rest else [])]) or "nothing else is possible"


def _with_delta(item: Alternative, chosen: Layout, delta_s: float) -> str:
    team = f" on {ranges(item.layout.ranks)}" if item.layout.ranks != chosen.ranks else ""
    return f"{layout_name(item.layout)}{team} {'-' if delta_s < 0 else '+'}{milli(abs(delta_s))}"


def boards_line(boards: BoardsUsed | None) -> str:
    """Why one more board pays or not; empty for a plan that nothing was searched for."""
    if boards is None:
        return ""
    if boards.ranks == 1:
        return "there is one board"
    head = f"{boards.used} of {count_of(boards.ranks, 'board')} {'is' if boards.used == 1 else 'are'} used"
    if boards.other is None:
        return f"{head}: no plan that shares its segments among another number is predicted to be faster"
    deltas = {"compute": boards.compute_s, "exchange": boards.exchange_s}
    return f"{head}: on {boards.other} the same segments would {' and '.join(_longer(deltas))}"


def _longer(deltas: dict[str, float]) -> Iterator[str]:
    for verb, delta_s in deltas.items():
        yield f"{verb} {milli(abs(delta_s))} ms {'longer' if delta_s > 0 else 'less'}"
