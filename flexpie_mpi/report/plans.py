"""Plans for people and for scripts: their segments, and what they ask of every rank."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..core.plan import Plan
from ..lower.facts import PlanFacts, SegmentFacts, Traffic
from .tables import Column, Item, Table
from .units import count_of, flops, mb, milli, percent, ranges

if TYPE_CHECKING:  # those who report a plan without prices import no planner
    from ..planner import PricedPlan

_SEGMENTS = (
    Column("#", "number"),
    Column("layout"),
    Column("ranks"),
    Column("first node", "name"),
    Column("last node", "name"),
    Column("nodes", "number"),
    Column("work", "number", percent),
    Column("exchange"),
    Column("MB", "number", mb),
)

_PRICED = (*_SEGMENTS[:6], Column("compute", "number", milli), *_SEGMENTS[7:], Column("ms", "number", milli))
"""Columns of a plan with prices: what segments are predicted to compute instead of their work, and exchanges."""

_NEEDS = (
    Column("rank", "number"),
    Column("work", "number", percent),
    Column("weights", "number", mb),
    Column("buffers", "number", mb),
    Column("sum", "number", mb),
    Column("sent", "number", mb),
    Column("messages", "number"),
)


def planner_line(plan: Plan) -> Item:
    """Who made a plan."""
    planner, fusion = plan.provenance.get("planner"), plan.provenance.get("fusion")
    words = [str(plan.provenance["objective"])] if "objective" in plan.provenance else []
    words += [str(planner)] if planner else []
    words += [f"fusion {fusion}"] if fusion else []
    return f"plan     {', '.join(words) or 'from a file'}"


def plan_items(facts: PlanFacts, priced: PricedPlan | None = None, *, everything: bool = False) -> list[Item]:
    """A line per segment, and the plan as a whole below; with what each is predicted to take, where that is known."""
    rows = [_row(segment, segment.flops / facts.flops if facts.flops else None) for segment in facts.segments]
    outputs: tuple[Any, ...] = ("", "", "", "(outputs)", "", "", "", *_exchange(facts.after))
    if priced:
        pairs = zip(rows, priced.segments, strict=True)
        rows = [(*row[:6], price.compute_s, *row[7:], price.exchange_s or None) for row, price in pairs]
        outputs = (*outputs, priced.exit_s if facts.after.kind else None)
    title = "predicted compute and exchange in ms" if priced else ""
    table = Table(_PRICED if priced else _SEGMENTS, rows, title).folded(everything=everything)
    hint = " (-v lists them all)" if len(table.rows) < len(rows) else ""
    total = (
        f"{flops(facts.flops)} per request and {percent(facts.redundant)} redundant; "
        f"{mb(facts.sent_bytes)} MB in {count_of(facts.messages, 'message')}"
    )
    unequal = dict.fromkeys(segment.layout for segment in facts.segments if " " in segment.layout)
    return [
        Table(table.columns, [*table.rows, outputs], title),
        f"{count_of(len(rows), 'segment')}{hint}: {total}",
        *(f"* {shares}" for shares in unequal),
    ]


def _row(segment: SegmentFacts, share: float | None) -> tuple[Any, ...]:
    """A segment that does a share of the work; a star marks unequal shares of its ranks."""
    count = len(segment.nodes)
    name, *shares = segment.layout.split()
    ranks = ranges(sorted(segment.ranks)) + (" in turn" if segment.turns > 1 else "")
    last = segment.nodes[-1] if count > 1 else ""
    layout = f"{name}*" if shares else name
    return segment.index, layout, ranks, segment.nodes[0], last, count, share, *_exchange(segment.before)


def _exchange(traffic: Traffic) -> tuple[str, int | None]:
    return (traffic.kind, traffic.nbytes) if traffic.kind else ("-", None)


def needs_table(facts: PlanFacts) -> Table:
    """What the plan asks of every rank."""
    rows = [
        (
            rank.rank,
            rank.flops / facts.flops if facts.flops else None,
            rank.weight_bytes,
            rank.arena_bytes,
            rank.weight_bytes + rank.arena_bytes,
            rank.sent_bytes,
            rank.messages,
        )
        for rank in facts.ranks
    ]
    return Table(_NEEDS, rows, "per rank (MB; work as a share of the model's)")


def needs_record(facts: PlanFacts) -> list[dict[str, int]]:
    """What the plan asks of every rank, in flops and bytes."""
    return [asdict(rank) for rank in facts.ranks]


def plan_record(plan: Plan) -> dict[str, Any]:
    """The plan as its file has it."""
    record: dict[str, Any] = json.loads(plan.to_json())
    return record


def facts_record(facts: PlanFacts) -> dict[str, Any]:
    """The numbers of a plan, in flops and bytes."""
    return {
        "flops": facts.flops,
        "redundant_share": facts.redundant,
        "sent_bytes": facts.sent_bytes,
        "messages": facts.messages,
        "segments": [
            {
                "layout": segment.layout,
                "ranks": list(segment.ranks),
                "turns": segment.turns,
                "nodes": len(segment.nodes),
                "flops": segment.flops,
                "exchange": _traffic_record(segment.before),
            }
            for segment in facts.segments
        ],
        "output_exchange": _traffic_record(facts.after),
    }


def _traffic_record(traffic: Traffic) -> dict[str, Any]:
    return {"kind": traffic.kind, "bytes": traffic.nbytes, "messages": traffic.messages}
