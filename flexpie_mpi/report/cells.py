"""Cells of a suite for people and for scripts: what the planners of each took, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ..suite.results import Result
from .results.cells import ratio
from .tables import Column, Item, Table
from .units import count_of, ms

REFERENCE = "auto"
"""The planner that others are held against; the first of a cell that lacks it."""

_COLUMNS = (
    Column("planner", "prose"),
    Column("median", "number"),
    Column("quartiles", "number"),
    Column("ratio", "number"),
    Column("predicted", "number"),
    Column("simulated", "number"),
)


def cells_items(rows: Sequence[Result]) -> list[Item]:
    """A table per cell: planners that found the same plan share a line; `ratio` is to `REFERENCE`."""
    items: list[Item] = []
    for cell, found in by_cell(rows):
        items += [Table(_COLUMNS, tuple(_lines(found)), f"{_title(*cell)} ({_rounds(found)})"), ""]
    return items[:-1]


def cells_record(rows: Sequence[Result]) -> list[dict[str, Any]]:
    """The same in seconds."""
    return [
        {
            "model": cell[0],
            "batch": cell[1],
            "testbed": cell[2],
            "ranks": cell[3],
            "planners": [
                {
                    "planner": row.planner,
                    "median_s": row.median_s,
                    "quartiles_s": list(row.quartiles_s),
                    "ratio": ratio(row, _reference(found)).median,
                    "predicted_s": row.predicted_s,
                    "simulated_s": row.simulated_s,
                    "plan_digest": row.plan_digest,
                }
                for row in found
            ],
        }
        for cell, found in by_cell(rows)
    ]


def by_cell(rows: Sequence[Result]) -> list[tuple[tuple[str, int, str, int], list[Result]]]:
    """Rows by their cell, cells in the order in which they first occur."""
    order = {cell: place for place, cell in enumerate(dict.fromkeys(row.cell for row in rows))}
    ordered = sorted(rows, key=lambda row: order[row.cell])
    return [(cell, list(found)) for cell, found in groupby(ordered, key=lambda row: row.cell)]


def _reference(rows: Sequence[Result]) -> Result:
    return next((row for row in rows if row.planner == REFERENCE), rows[0])


def _lines(rows: Sequence[Result]) -> list[tuple[str, ...]]:
    alike: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        alike.setdefault((row.plan_digest, row.date), []).append(row)
    reference = _reference(rows)
    return [_line(found, reference) for found in sorted(alike.values(), key=lambda found: found[0].median_s)]


def _line(rows: Sequence[Result], reference: Result) -> tuple[str, ...]:
    row = rows[0]
    low, high = row.quartiles_s
    return (
        ", ".join(row.planner for row in rows),
        ms(row.median_s),
        f"{ms(low).removesuffix(' ms')} .. {ms(high).removesuffix(' ms')}",
        f"{ratio(row, reference).median:.3f}",
        ms(row.predicted_s),
        ms(row.simulated_s),
    )


def _title(model: str, batch: int, testbed: str, ranks: int) -> str:
    return f"{model} on {testbed}, {count_of(ranks, 'rank')}" + (f", batch {batch}" if batch > 1 else "")


def _rounds(rows: Sequence[Result]) -> str:
    counts = sorted({len(row.measured_s) for row in rows})
    return " or ".join(map(str, counts)) + (" round" if counts == [1] else " rounds")
