"""Plans for people and for scripts: their segments, what they need, and what they are predicted to take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..core.layout import Layout
from ..core.plan import Plan
from ..lower.facts import PlanFacts, SegmentFacts, Traffic
from .tables import Column, Item, Table
from .units import count_of, flops, mb, milli, ms, percent, ranges

if TYPE_CHECKING:  # who shows a plan need not have what makes plans
    from ..planner import PricedPlan
    from ..session.inputs import PredictionInputs
    from ..session.planning import Prediction
    from ..session.races import Race

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

_PLANS = (
    Column("plan", "number"),
    Column("segments", "number"),
    Column("most ranks", "number"),
    Column("layouts", "name"),
    Column("predicted", "number", milli),
    Column("measured", "number", milli),
    Column(""),
)

# A plan


def planner_line(plan: Plan) -> Item:
    """Who made a plan."""
    planner, fusion = plan.provenance.get("planner"), plan.provenance.get("fusion")
    words = [str(plan.provenance["objective"])] if "objective" in plan.provenance else []
    words += [str(planner)] if planner else []
    words += [f"fusion {fusion}"] if fusion else []
    if "pairs" in plan.provenance:
        words.append(f"{count_of(int(plan.provenance['pairs']), 'pair')} of products")
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
    layouts = dict.fromkeys(segment.layout for segment in facts.segments)
    unequal = [words for words in layouts if marked(words).endswith("*")]
    return [
        Table(table.columns, [*table.rows, outputs], title),
        f"{count_of(len(rows), 'segment')}{hint}: {total}",
        *(f"* {shares}" for shares in unequal),
        *part_lines(map(marked, layouts)),
    ]


def _row(segment: SegmentFacts, share: float | None) -> tuple[Any, ...]:
    count = len(segment.nodes)
    ranks = ranges(sorted(segment.ranks)) + (" in turn" if segment.turns > 1 else "")
    last = segment.nodes[-1] if count > 1 else ""
    return (
        segment.index,
        marked(segment.layout),
        ranks,
        segment.nodes[0],
        last,
        count,
        share,
        *_exchange(segment.before),
    )


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


# A prediction


def inputs_lines(inputs: PredictionInputs) -> list[Item]:
    """What predictions stand on."""
    return [f"boards   {inputs.testbed.ranks}; {inputs.testbed_source}", f"costs    {inputs.cost_source}"]


def inputs_record(inputs: PredictionInputs) -> dict[str, Any]:
    """The same for scripts."""
    testbed = {"name": inputs.testbed.name, "digest": inputs.testbed.digest}
    return {"testbed": testbed, "boards": inputs.testbed_source, "costs": inputs.cost_source}


def prediction_lines(prediction: Prediction) -> list[Item]:
    """The prediction in lines: how long, how sure, and on what grounds."""
    best, search = prediction.best, prediction.search
    compute_s = sum(price.compute_s for price in best.segments)
    exchange_s = sum(price.exchange_s for price in best.segments)
    parts = f"{milli(compute_s)} compute, {milli(exchange_s)} exchange, {milli(best.exit_s)} outputs"
    items: list[Item] = [
        *inputs_lines(prediction.inputs),
        f"predicts {ms(best.seconds)} per request: {parts}",
    ]
    if prediction.is_searched:
        items.append(f"bound    {_bound(prediction)}")
        outside = f"; {prediction.extrapolated} of {count_of(prediction.prices, 'price')} extrapolated"
        searched = f"{count_of(search.segments_priced, 'segment')} in {search.planning_s:.2f} s"
        items.append(f"search   {searched}{outside if prediction.is_measured else ''}")
    return [*items, *race_lines(prediction.race)]


def race_lines(race: Race | None) -> list[Item]:
    """The plans that were run to choose one, with what they took, or why there were none; nothing of a rule."""
    if race is None:
        return []
    runs = (
        f"{each.planner} {ms(each.seconds)}{' (kept)' if place == race.kept else ''}"
        for place, each in enumerate(race.entrants)
    )
    said = f"{', '.join(runs)}; measured {race.note}{'' if race.is_clear else ', undecided'}"
    return [f"race     {said if race.entrants else race.note}"]


def race_record(race: Race | None) -> dict[str, Any] | None:
    """The same in seconds."""
    return None if race is None else asdict(race)


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """The prediction in seconds, and the prices of all segments."""
    best, search = prediction.best, prediction.search
    return {
        "planner": prediction.planner,
        "planning_s": search.planning_s,
        "segments_priced": search.segments_priced,
        "predicted_s": best.seconds,
        "lower_bound_s": search.lower_bound_s if prediction.is_searched else None,
        "is_optimal": search.is_optimal and prediction.chosen == 0,
        "prices": prediction.prices,
        "prices_extrapolated": prediction.extrapolated,
        **inputs_record(prediction.inputs),
        "segments": [{"exchange_s": each.exchange_s, "compute_s": each.compute_s} for each in best.segments],
        "exit_s": best.exit_s,
        "race": race_record(prediction.race),
    }


def _bound(prediction: Prediction) -> str:
    best, search = prediction.best, prediction.search
    if prediction.chosen:
        first = f"the plan predicted to take {ms(search.plans[0].seconds)}"
        return f"kept because it was measured to be faster than {first}"
    if search.is_optimal:
        return "proved: no plan that was searched is predicted to be faster"
    bound = f"no plan is predicted below {ms(search.lower_bound_s)}"
    if search.lower_bound_s <= 0:
        return f"not proved; {bound}"
    return f"not proved; {bound}, {percent(1 - search.lower_bound_s / best.seconds)} less"


def choice_table(plans: Sequence[PricedPlan], measured_s: Sequence[float] = (), chosen: int = -1) -> Table:
    """A line for each of several plans, with what each took where that was measured."""
    rows = [
        (
            index + 1,
            len(each.segments),
            max(len(segment.layout.ranks) for segment in each.plan.segments),
            _kinds(each.plan),
            each.seconds,
            *((measured_s[index], "kept" if index == chosen else "") if measured_s else ()),
        )
        for index, each in enumerate(plans)
    ]
    if measured_s:
        return Table(_PLANS, rows, "the plans that were run (ms)")
    return Table(_PLANS[:5], rows, "the best plans (ms)")


def _kinds(plan: Plan) -> str:
    """Kinds of layouts, the most frequent first."""
    kinds = [segment.layout.kind + "+" * segment.layout.in_parts for segment in plan.segments]
    return " ".join(sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind)))


def layout_name(layout: Layout) -> str:
    """The kind of a layout, with the marks of :func:`marked`.

    >>> layout_name(Layout("grid", (0, 1), grid=(2, 1))), layout_name(Layout("rows", (0, 1), weights=(2, 1)))
    ('grid(2x1)', 'rows*')
    """
    return marked(str(layout).rsplit(" on ", 1)[0])


def marked(layout: str) -> str:
    """A layout in words as its kind, with a plus where it leaves sums in parts, and a star for unequal shares.

    >>> marked("rows"), marked("rows in parts"), marked("rows in parts 2:1")
    ('rows', 'rows+', 'rows+*')
    """
    name, *rest = layout.replace(" in parts", "+").split()
    return f"{name}*" if rest else name


def part_lines(names: Iterable[str]) -> list[Item]:
    """What the plus means, where one of the layouts has it."""
    line = "+ ranks leave parts of a sum, which are put together where it is needed"
    return [line] if any("+" in name for name in names) else []
