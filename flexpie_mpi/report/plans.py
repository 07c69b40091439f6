"""Plans for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..core.plan import Plan
from ..lower.facts import PlanFacts, RankNeeds, SegmentFacts, Traffic
from ..model import Model
from .tables import Column, Item, Table, fold
from .units import count_of, flops, mb, milli, percent, ranges, shape_of

if TYPE_CHECKING:  # those who report a plan without prices import no planner
    from ..planner import PricedPlan

_SEGMENTS = (
    Column("#", "number"),
    Column("layout"),
    Column("ranks"),
    Column("first node", "name"),
    Column("last node", "name"),
    Column("nodes", "number"),
    Column("work", "number"),
    Column("exchange"),
    Column("MB", "number"),
)

_PRICED = (*_SEGMENTS[:6], Column("compute", "number"), *_SEGMENTS[7:], Column("ms", "number"))
"""The same with what the segments are predicted to take in place of their work, and what the exchanges are."""

_NEEDS = (
    Column("rank", "number"),
    Column("work", "number"),
    Column("weights", "number"),
    Column("buffers", "number"),
    Column("sum", "number"),
    Column("sent", "number"),
    Column("messages", "number"),
)


def model_lines(model: Model) -> list[Item]:
    """What is run: name, size, and the shape of all that goes in and out."""
    graph = model.graph

    def described(names: tuple[str, ...]) -> str:
        values = (graph.value(name) for name in names)
        return ", ".join(f"{value.name} ({shape_of(value.shape)} {value.dtype})" for value in values)

    size = f"{count_of(len(graph.nodes), 'node')}, {mb(graph.weight_bytes)} MB of weights"
    return [
        f"model    {model.name}: {size}",
        f"inputs   {described(graph.inputs) or 'none'}",
        f"outputs  {described(graph.outputs)}",
    ]


def planner_line(plan: Plan) -> Item:
    """Who made a plan."""
    planner, fusion = plan.provenance.get("planner"), plan.provenance.get("fusion")
    words = [str(plan.provenance["objective"])] if "objective" in plan.provenance else []
    words += [str(planner)] if planner else []
    words += [f"fusion {fusion}"] if fusion else []
    return f"plan     {', '.join(words) or 'from a file'}"


def plan_items(facts: PlanFacts, priced: PricedPlan | None = None, *, everything: bool = False) -> list[Item]:
    """A line per segment, and the plan as a whole below; with what each is predicted to take, where that is known."""
    columns = _PRICED if priced else _SEGMENTS
    rows = [_segment_row(segment, facts.flops) for segment in facts.segments]
    outputs: tuple[str, ...] = _outputs_row(facts.after)
    if priced:
        rows = [_priced_row(row, *pair) for row, pair in zip(rows, _predicted(priced), strict=True)]
        outputs = (*outputs, milli(priced.exit_s) if facts.after.kind else "")
    shown = (*fold(rows, len(columns), everything=everything), outputs)
    total = (
        f"{flops(facts.flops)} per request and {percent(facts.redundant)} redundant; "
        f"{mb(facts.sent_bytes)} MB in {count_of(facts.messages, 'message')}"
    )
    hint = " (-v lists them all)" if len(shown) <= len(rows) else ""
    title = "predicted compute and exchange in ms" if priced else ""
    return [
        Table(columns, shown, title),
        f"{count_of(len(rows), 'segment')}{hint}: {total}",
        *(f"* {share}" for share in _shares(facts)),
    ]


def needs_table(facts: PlanFacts) -> Item:
    """What the plan asks of every rank."""
    return Table(
        _NEEDS,
        tuple(_needs_row(rank, facts.flops) for rank in facts.ranks),
        "per rank (MB; work as a share of the model's)",
    )


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


def needs_record(facts: PlanFacts) -> list[dict[str, int]]:
    """What the plan asks of every rank, in flops and bytes."""
    return [asdict(rank) for rank in facts.ranks]


def model_record(model: Model, source: str) -> dict[str, Any]:
    """What was run."""
    graph = model.graph
    values = {
        side: [{"name": n, "shape": graph.value(n).shape, "dtype": graph.value(n).dtype} for n in names]
        for side, names in (("inputs", graph.inputs), ("outputs", graph.outputs))
    }
    return {
        "source": source,
        "name": model.name,
        "digest": graph.digest,
        "nodes": len(graph.nodes),
        "weight_bytes": graph.weight_bytes,
        **values,
    }


def _segment_row(segment: SegmentFacts, total: int) -> tuple[str, ...]:
    count = len(segment.nodes)
    name, *shares = segment.layout.split()
    return (
        str(segment.index),
        f"{name}*" if shares else name,
        ranges(sorted(segment.ranks)) + (" in turn" if segment.turns > 1 else ""),
        segment.nodes[0],
        segment.nodes[-1] if count > 1 else "",
        str(count),
        percent(segment.flops / total) if total else "",
        segment.before.kind or "-",
        mb(segment.before.nbytes) if segment.before.kind else "",
    )


def _priced_row(row: tuple[str, ...], exchange_s: float, compute_s: float) -> tuple[str, ...]:
    return (*row[:6], milli(compute_s), *row[7:], milli(exchange_s) if exchange_s else "")


def _predicted(priced: PricedPlan) -> list[tuple[float, float]]:
    return [(price.exchange_s, price.compute_s) for price in priced.segments]


def _shares(facts: PlanFacts) -> list[str]:
    """Every layout with unequal shares, in words; the table marks them with a star."""
    layouts = [segment.layout for segment in facts.segments if " " in segment.layout]
    return list(dict.fromkeys(layouts))


def _outputs_row(after: Traffic) -> tuple[str, ...]:
    return ("", "", "", "(outputs)", "", "", "", after.kind or "-", mb(after.nbytes) if after.kind else "")


def _needs_row(rank: RankNeeds, total: int) -> tuple[str, ...]:
    return (
        str(rank.rank),
        percent(rank.flops / total) if total else "",
        mb(rank.weight_bytes),
        mb(rank.arena_bytes),
        mb(rank.weight_bytes + rank.arena_bytes),
        mb(rank.sent_bytes),
        str(rank.messages),
    )


def _traffic_record(traffic: Traffic) -> dict[str, Any]:
    return {"kind": traffic.kind, "bytes": traffic.nbytes, "messages": traffic.messages}
