"""What a plan is predicted to take, on what grounds, and what it took when it was run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..core.layout import Layout
from ..core.plan import Plan
from ..planner import PricedPlan
from ..session.planning import Comparison, Prediction
from .tables import Column, Item, Table, fold
from .units import count_of, milli, ms, percent, ranges

_PLANS = (
    Column("plan", "number"),
    Column("segments", "number"),
    Column("most ranks", "number"),
    Column("layouts", "name"),
    Column("predicted", "number"),
    Column("measured", "number"),
    Column(""),
)

_COMPARED = (
    Column("#", "number"),
    Column("layout"),
    Column("ranks"),
    Column("first node", "name"),
    Column("compute", "number"),
    Column("measured", "number"),
    Column("exchange", "number"),
    Column("measured", "number"),
)


def prediction_lines(prediction: Prediction) -> list[Item]:
    """The prediction in lines: how long, how sure, and on what grounds."""
    best, search = prediction.best, prediction.search
    compute_s = sum(price.compute_s for price in best.segments)
    exchange_s = sum(price.exchange_s for price in best.segments)
    parts = f"{milli(compute_s)} compute, {milli(exchange_s)} exchange, {milli(best.exit_s)} outputs"
    items: list[Item] = [
        f"boards   {prediction.testbed.ranks}; {prediction.boards}",
        f"costs    {prediction.source}",
        f"predicts {ms(best.seconds)} per request: {parts}",
    ]
    if prediction.is_searched:
        items.append(f"bound    {_bound(prediction)}")
        outside = f"; {prediction.extrapolated} of {count_of(prediction.prices, 'price')} extrapolated"
        searched = f"{count_of(search.segments_priced, 'segment')} in {search.planning_s:.2f} s"
        items.append(f"search   {searched}{outside if prediction.is_measured else ''}")
    return items


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """The same in seconds."""
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
        "testbed": {"name": prediction.testbed.name, "digest": prediction.testbed.digest},
        "boards": prediction.boards,
        "costs": prediction.source,
        "segments": [{"exchange_s": each.exchange_s, "compute_s": each.compute_s} for each in best.segments],
        "exit_s": best.exit_s,
    }


def choice_table(plans: Sequence[PricedPlan], measured_s: Sequence[float] = (), chosen: int = -1) -> Item:
    """A line for each of several plans, with what each took where that was measured."""
    measured = [milli(seconds) for seconds in measured_s] or [""] * len(plans)
    rows: Iterable[tuple[str, ...]] = (
        (
            str(place + 1),
            str(len(each.segments)),
            str(max(len(segment.layout.ranks) for segment in each.plan.segments)),
            _kinds(each.plan),
            milli(each.seconds),
            took,
            "kept" if place == chosen else "",
        )
        for place, (each, took) in enumerate(zip(plans, measured, strict=True))
    )
    if measured_s:
        return Table(_PLANS, tuple(rows), "the best plans (ms)")
    return Table(_PLANS[:5], tuple(row[:5] for row in rows), "the best plans (ms)")


def comparison_items(priced: PricedPlan, found: Comparison, *, everything: bool = False) -> list[Item]:
    """Predicted beside measured for every segment of a plan, and for the whole."""
    rows = [_compared_row(priced, found, place) for place in range(len(priced.segments))]
    shown = fold(rows, len(_COMPARED), everything=everything)
    outputs = ("", "", "", "(outputs)", "", "", milli(priced.exit_s), milli(found.exchange_s[-1]))
    columns = ([each.compute_s for each in priced.segments], found.compute_s, _exchanges(priced), found.exchange_s)
    sums = ("", "", "", "(sum)", *(milli(sum(column)) for column in columns))
    error = percent(found.latency_s / priced.seconds - 1) if priced.seconds else "no time"
    return [
        "predicted and measured (ms; compute is the slowest rank's)",
        Table(_COMPARED, (*shown, outputs, sums)),
        f"report   {ms(priced.seconds)} predicted, {ms(found.latency_s)} measured ({'+' * (error[0] != '-')}{error}); "
        f"{found.added}",
    ]


def comparison_record(priced: PricedPlan, found: Comparison) -> dict[str, Any]:
    """The same in seconds."""
    segments = zip(priced.segments, found.compute_s, found.exchange_s, strict=False)  # the last exchange has no segment
    return {
        "predicted_s": priced.seconds,
        "measured_s": found.latency_s,
        "segments": [
            {
                "predicted": {"exchange_s": price.exchange_s, "compute_s": price.compute_s},
                "measured": {"exchange_s": exchange_s, "compute_s": compute_s},
            }
            for price, compute_s, exchange_s in segments
        ],
        "exit": {"predicted_s": priced.exit_s, "measured_s": found.exchange_s[-1]},
        "added": found.added,
    }


def layout_name(layout: Layout) -> str:
    """The kind of a layout, with a star for unequal shares.

    >>> layout_name(Layout("grid", (0, 1), grid=(2, 1))), layout_name(Layout("rows", (0, 1), weights=(2, 1)))
    ('grid(2x1)', 'rows*')
    """
    name = str(layout).split()[0]
    return f"{name}*" if layout.weights else name


def _bound(prediction: Prediction) -> str:
    """How good the plan is among all."""
    best, search = prediction.best, prediction.search
    if prediction.chosen:
        return (
            f"kept because it was measured to be faster than the plan predicted to take {ms(search.plans[0].seconds)}"
        )
    if search.is_optimal:
        return "proved: no plan that was searched is predicted to be faster"
    bound = f"no plan is predicted below {ms(search.lower_bound_s)}"
    if search.lower_bound_s <= 0:
        return f"not proved; {bound}"
    return f"not proved; {bound}, {percent(1 - search.lower_bound_s / best.seconds)} less"


def _kinds(plan: Plan) -> str:
    """Kinds of layouts, the most frequent first."""
    kinds = [segment.layout.kind for segment in plan.segments]
    return " ".join(sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind)))


def _exchanges(priced: PricedPlan) -> list[float]:
    return [*(each.exchange_s for each in priced.segments), priced.exit_s]


def _compared_row(priced: PricedPlan, found: Comparison, place: int) -> tuple[str, ...]:
    segment, price = priced.plan.segments[place], priced.segments[place]
    return (
        str(place),
        layout_name(segment.layout),
        ranges(segment.layout.ranks),
        segment.nodes[0],
        milli(price.compute_s),
        milli(found.compute_s[place]),
        milli(price.exchange_s),
        milli(found.exchange_s[place]),
    )
