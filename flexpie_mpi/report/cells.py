"""Cells: results that were measured side by side, what they say about each other, and a table of each.

In go rows of :mod:`flexpie_mpi.suite.results`. The one difficulty: times are worth comparing only where they were
measured side by side, so every ratio is taken round by round inside a cell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

from ..core.choices import PLANNERS
from ..core.quartiles import quartiles
from ..suite.cells import grouped
from ..suite.results import Result
from .tables import Column, Item, Table
from .units import count_of, ms

AUTO, SINGLE = "auto", "single"
FIXED = ("rows", "columns", "grid", "channels")
"""One layout throughout: InH, InW, 2D-grid and OutC of the paper."""

SEARCHED = ("layerwise", "fused")
"""FlexPie's two strong baselines: either its layouts or its fusion."""

_PLANNERS = (
    Column("planner", "prose", key="planner"),
    Column("median", "number", ms, "median_s"),
    Column("quartiles", "number", lambda ends: " .. ".join(ms(end).removesuffix(" ms") for end in ends), "quartiles_s"),
    Column("ratio", "number", "{:.3f}".format, "ratio"),
    Column("predicted", "number", ms, "predicted_s"),
    Column("simulated", "number", ms, "simulated_s"),
    Column("plan", "recorded", key="plan_digest"),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One row's times over another's: median and quartiles over the rounds they took together.

    `rounds` is 0 where they were not measured together; medians are then divided, and there are no quartiles to tell.
    """

    median: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class Cell:
    """Rows of one model and batch on the first ranks of one testbed, by planner, in the order of `PLANNERS`."""

    suite: str
    model: str
    batch: int
    testbed: str
    ranks: int
    rows: Mapping[str, Result]

    @cached_property
    def best(self) -> Result:
        """The row with the least median."""
        return min(self.rows.values(), key=lambda row: row.median_s)

    @property
    def any(self) -> Result:
        """A row, for what all rows of a cell have in common."""
        return next(iter(self.rows.values()))

    def best_of(self, planners: Collection[str]) -> Result | None:
        """The row with the least median among those of `planners`; None when there is none."""
        rows = [row for planner, row in self.rows.items() if planner in planners]
        return min(rows, key=lambda row: row.median_s, default=None)

    @property
    def is_comparison(self) -> bool:
        """Whether planners other than ``auto`` and ``single`` took part, on two boards or more."""
        return self.ranks > 1 and len(self.rows) > 1 and not set(self.rows) <= {AUTO, SINGLE}

    @property
    def where(self) -> str:
        """Testbed, boards and batch."""
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.testbed}, {count_of(self.ranks, 'board')}{batch}"

    @property
    def name(self) -> str:
        """Model, testbed, boards and batch."""
        return f"{self.model} on {self.where}"

    @property
    def family(self) -> tuple[str, str, int, str]:
        """What cells have in common that differ in their number of boards only."""
        return self.suite, self.model, self.batch, self.testbed

    @property
    def record(self) -> dict[str, Any]:
        """Which cell it is, for scripts."""
        return {"model": self.model, "batch": self.batch, "testbed": self.testbed, "ranks": self.ranks}


def cells_of(results: Iterable[Result]) -> tuple[Cell, ...]:
    """Cells in the order of their first rows; rows without a measured round are left out."""
    measured = [result for result in results if result.measured_s]
    order = {planner: index for index, planner in enumerate(PLANNERS)}
    cells = []
    for those in grouped(measured, lambda row: (row.suite, *row.cell)).values():
        rows = {row.planner: row for row in those}
        planners = sorted(rows, key=lambda planner: order.get(planner, len(order)))
        kept = {planner: rows[planner] for planner in planners}
        one = rows[planners[0]]
        cells.append(Cell(one.suite, model_name(one.model), one.batch, one.testbed, one.ranks, kept))
    return tuple(cells)


def by_model(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Cells by model, in order."""
    return grouped(cells, lambda cell: cell.model)


def ratio(one: Result, other: Result) -> Ratio:
    """The times of `one` divided by those of `other`.

    Round k of both took place together, so that what disturbed the one disturbed the other: rounds are divided first.
    """
    together = (one.suite, *one.cell, one.turn, one.date, len(one.measured_s))
    if together != (other.suite, *other.cell, other.turn, other.date, len(other.measured_s)):
        whole = one.median_s / other.median_s
        return Ratio(whole, whole, whole, 0)
    shares = [a / b for a, b in zip(one.measured_s, other.measured_s, strict=True)]
    low, middle, high = quartiles(shares)
    return Ratio(middle, low, high, len(shares))


def model_name(text: str) -> str:
    """A model as people call it.

    >>> model_name("builtin:resnet18"), model_name("models/net.onnx"), model_name("hf.v1.5")
    ('resnet18', 'net', 'hf.v1.5')
    """
    return PurePath(text.removeprefix("builtin:")).name.removesuffix(".onnx")


def is_cnn(model: str) -> bool:
    """Whether the paper would count a model among its CNNs: all but BERT are."""
    return "bert" not in model.lower()


def planners_in(cells: Iterable[Cell]) -> list[str]:
    """Planners of any of the cells, in the order of `PLANNERS`; unknown ones follow."""
    names = dict.fromkeys(planner for cell in cells for planner in cell.rows)
    return [*(name for name in PLANNERS if name in names), *(name for name in names if name not in PLANNERS)]


# What ``bench`` says of the cells that it has measured


def cells_items(rows: Sequence[Result]) -> list[Item]:
    """A table per cell; planners that found the same plan share a line."""
    items: list[Item] = []
    for those in grouped(rows, lambda row: row.cell).values():
        lines = []
        for same in grouped(those, lambda row: (row.plan_digest, row.date)).values():
            _, *numbers = _planner(same[0], those)
            lines.append((", ".join(row.planner for row in same), *numbers))
        lines.sort(key=lambda line: line[1])
        items += [Table(_PLANNERS, lines, _title(those)), ""]
    return items[:-1]


def cells_record(rows: Sequence[Result]) -> list[dict[str, Any]]:
    """All cells in seconds, each with a record for every planner."""
    return [
        {
            **dict(zip(("model", "batch", "testbed", "ranks"), cell, strict=True)),
            "planners": Table(_PLANNERS, [_planner(row, those) for row in those]).records,
        }
        for cell, those in grouped(rows, lambda row: row.cell).items()
    ]


def _planner(row: Result, cell: Sequence[Result]) -> tuple[Any, ...]:
    """A planner's line; its ratio is to ``auto``, or to the first planner of a cell without."""
    reference = next((row for row in cell if row.planner == AUTO), cell[0])
    relative = ratio(row, reference).median
    times = (row.median_s, list(row.quartiles_s), relative, row.predicted_s, row.simulated_s)
    return row.planner, *times, row.plan_digest


def _title(rows: Sequence[Result]) -> str:
    model, batch, testbed, ranks = rows[0].cell
    batches = f", batch {batch}" if batch > 1 else ""
    counts = sorted({len(row.measured_s) for row in rows})
    rounds = " or ".join(map(str, counts)) + (" round" if counts == [1] else " rounds")
    return f"{model} on {testbed}, {count_of(ranks, 'rank')}{batches} ({rounds})"
