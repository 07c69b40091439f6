"""What became of a prediction, and of every rank's share: for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .plans import layout_name, part_lines
from .tables import Column, Item, Table
from .units import digits, milli, ms, percent, ranges, signed

if TYPE_CHECKING:  # who shows a comparison has all of it already
    from ..measure.shares import SegmentShare, Shares
    from ..planner import PricedPlan
    from ..session.choosing import Comparison

_COMPARED = (
    Column("#", "number"),
    Column("layout"),
    Column("ranks", "text", ranges),
    Column("first node", "name"),
    Column("compute", "number", milli),
    Column("measured", "number", milli),
    Column("exchange", "number", milli),
    Column("measured", "number", milli),
)

_SHARES = (
    Column("#", "number", key="segment"),
    Column("layout", key="layout"),
    Column("first node", "name", key="first_node"),
    Column("one rank", "number", milli, "one_rank_s"),
    Column("all", "number", milli, "all_ranks_s"),
    Column("beyond its share", "number", signed, "beyond"),
    Column("redundant", "number", signed, "redundant"),
    Column("calls", "number", signed, "calls"),
    Column("kernels", "number", signed, "kernels"),
)

_SPENT = (
    Column("a request takes", key="part"),
    Column("ms", "number", milli, "seconds"),
    Column("of it", "number", percent, "share"),
    Column("", key="about"),
)

PARTS = {
    "ideal": "one rank's time over the ranks",
    "redundant work": "what several ranks compute",
    "calls": "of sessions, with re-layouts at their ends",
    "kernels": "that take more than their share",
    "exchange": "in the open",
    "waiting": "for the slowest rank of a segment",
    "rest": "inputs, outputs, beginning and end",
}
"""Where the time of a request goes, with a line about each; the first is what nobody can spare."""


def comparison_items(priced: PricedPlan, measured: Comparison, *, everything: bool = False) -> list[Item]:
    """Predicted beside measured for every segment of a plan, and for the whole; shares where they are known."""
    computes = [each.compute_s for each in priced.segments]
    exchanges = [*(each.exchange_s for each in priced.segments), priced.exit_s]
    columns = (computes, measured.compute_s, exchanges, measured.exchange_s)
    rows = [
        (index, layout_name(segment.layout), segment.layout.ranks, segment.nodes[0], *(each[index] for each in columns))
        for index, segment in enumerate(priced.plan.segments)
    ]
    table = Table(_COMPARED, rows).folded(everything=everything)
    outputs = ("", "", "", "(outputs)", "", "", priced.exit_s, measured.exchange_s[-1])
    sums = ("", "", "", "(sum)", *map(sum, columns))
    error = percent(measured.latency_s / priced.seconds - 1) if priced.seconds else "no time"
    times = f"{ms(priced.seconds)} predicted, {ms(measured.latency_s)} measured"
    return [
        "predicted and measured (ms; compute is the slowest rank's)",
        Table(_COMPARED, [*table.rows, outputs, sums]),
        *part_lines(layout_name(segment.layout) for segment in priced.plan.segments),
        f"report   {times} ({'+' * (error[0] != '-')}{error}); {measured.added}",
        *(share_items(priced, measured.shares, everything=everything) if measured.shares else ()),
        *([f"shares   not known: {measured.unshared}"] if measured.unshared else ()),
    ]


def share_items(priced: PricedPlan, shares: Shares, *, everything: bool = False) -> list[Item]:
    """What all ranks compute beyond one rank's compute, segment by segment, and where the time of a request goes."""
    table = _share_table(priced, shares).folded(everything=everything)
    return [
        "",
        "compute of all ranks beyond one rank's (ms of all together; the last three add up to what is beyond)",
        Table(_SHARES, [*table.rows, _share_row(("", "", "(all)"), shares.total)], missing="-"),
        "",
        spent_table(shares.spent_s, shares.latency_s),
        f"shares   efficiency {percent(shares.efficiency)} of {digits(shares.boards)} boards; all ranks together "
        f"compute {shares.inflation:.2f} times what one does",
    ]


def spent_table(spent_s: dict[str, float], latency_s: float) -> Table:
    """Where the time of a request goes, a row for each part; `spent_s` are its parts' seconds by name."""
    return Table(_SPENT, [(part, spent, spent / latency_s, PARTS[part]) for part, spent in spent_s.items()])


def comparison_record(priced: PricedPlan, measured: Comparison) -> dict[str, Any]:
    """Predicted beside measured in seconds, and shares where they are known."""
    segments = zip(priced.segments, measured.compute_s, measured.exchange_s, strict=False)  # the last has no segment
    return {
        "predicted_s": priced.seconds,
        "measured_s": measured.latency_s,
        "segments": [
            {
                "predicted": {"exchange_s": price.exchange_s, "compute_s": price.compute_s},
                "measured": {"exchange_s": exchange_s, "compute_s": compute_s},
            }
            for price, compute_s, exchange_s in segments
        ],
        "exit": {"predicted_s": priced.exit_s, "measured_s": measured.exchange_s[-1]},
        "added": measured.added,
        **({"shares": share_record(priced, measured.shares)} if measured.shares else {}),
    }


def share_record(priced: PricedPlan, shares: Shares) -> dict[str, Any]:
    """Shares in seconds, and as parts of one rank's compute."""
    return {
        "latency_s": shares.latency_s,
        "alone_s": shares.alone_s,
        "boards": shares.boards,
        "efficiency": shares.efficiency,
        "inflation": shares.inflation,
        "segments": _share_table(priced, shares).records,
        "spent": spent_table(shares.spent_s, shares.latency_s).records,
    }


def _share_table(priced: PricedPlan, shares: Shares) -> Table:
    named = [(index, layout_name(it.layout), it.nodes[0]) for index, it in enumerate(priced.plan.segments)]
    return Table(_SHARES, [_share_row(names, share) for names, share in zip(named, shares.segments, strict=True)])


def _share_row(names: Sequence[Any], share: SegmentShare) -> tuple[Any, ...]:
    parts = (share.redundant_s, share.calls_s, share.kernels_s)
    return *names, share.one_s, share.all_s, share.beyond, *map(share.of_one, parts)
