"""Cells and ratios: rows that were measured together, and what they say about each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, log
from pathlib import PurePath
from statistics import median, quantiles

from ...core.choices import PLANNERS
from ...suite.results import Result
from ..units import count_of

AUTO, SINGLE = "auto", "single"
FIXED = ("rows", "columns", "grid", "channels")
"""One layout throughout: InH, InW, 2D-grid and OutC of the paper."""

SEARCHED = ("layerwise", "fused")
"""FlexPie's two strong baselines: either its layouts or its fusion."""


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
        found = [row for planner, row in self.rows.items() if planner in planners]
        return min(found, key=lambda row: row.median_s, default=None)

    def best_but(self, planner: str) -> Result | None:
        """The row with the least median of all other planners."""
        return self.best_of([other for other in self.rows if other != planner])

    @property
    def is_comparison(self) -> bool:
        """Whether planners other than ``auto`` and ``single`` took part, on two boards or more."""
        return self.ranks > 1 and len(self.rows) > 1 and not set(self.rows) <= {AUTO, SINGLE}

    @property
    def place(self) -> str:
        """Testbed, boards and batch."""
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.testbed}, {count_of(self.ranks, 'board')}{batch}"

    @property
    def name(self) -> str:
        """Model and place."""
        return f"{self.model} on {self.place}"


def cells_of(results: Iterable[Result]) -> tuple[Cell, ...]:
    """Cells in the order of their first rows; rows without a measured round are left out."""
    found: dict[tuple[object, ...], dict[str, Result]] = {}
    for result in results:
        if result.measured_s:
            found.setdefault((result.suite, *result.cell), {})[result.planner] = result
    order = {planner: place for place, planner in enumerate(PLANNERS)}
    cells = []
    for rows in found.values():
        planners = sorted(rows, key=lambda planner: order.get(planner, len(order)))
        one = rows[planners[0]]
        kept = {planner: rows[planner] for planner in planners}
        cells.append(Cell(one.suite, model_name(one.model), one.batch, one.testbed, one.ranks, kept))
    return tuple(cells)


def ratio(one: Result, other: Result) -> Ratio:
    """Times of `one` over times of `other`.

    Round k of both took place together, so that what disturbed the one disturbed the other: rounds are divided first.
    """
    together = (one.suite, *one.cell, one.turn, one.date, len(one.measured_s))
    if together != (other.suite, *other.cell, other.turn, other.date, len(other.measured_s)):
        whole = one.median_s / other.median_s
        return Ratio(whole, whole, whole, 0)
    found = [a / b for a, b in zip(one.measured_s, other.measured_s, strict=True)]
    if len(found) < 2:
        return Ratio(found[0], found[0], found[0], 1)
    low, middle, high = quantiles(found, n=4, method="inclusive")
    return Ratio(middle, low, high, len(found))


def geometric_mean(numbers: Sequence[float]) -> float:
    """The mean of ratios: that of a ratio and its inverse is 1.

    >>> geometric_mean([2.0, 0.5]), round(geometric_mean([1.1, 1.2, 1.3]), 4)
    (1.0, 1.1972)
    """
    return exp(sum(map(log, numbers)) / len(numbers))


def quantile(numbers: Sequence[float], share: float) -> float:
    """The number that `share` of all do not exceed, between two neighbours in proportion.

    >>> quantile([1.0, 2.0, 3.0], 0.5), quantile([0.0, 10.0], 0.9), quantile([4.0], 0.9)
    (2.0, 9.0, 4.0)
    """
    ordered = sorted(numbers)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def model_name(text: str) -> str:
    """A model as people call it.

    >>> model_name("builtin:resnet18"), model_name("models/net.onnx"), model_name("hf.v1.5")
    ('resnet18', 'net', 'hf.v1.5')
    """
    name = PurePath(text.removeprefix("builtin:")).name
    return name.removesuffix(".onnx")


def is_cnn(model: str) -> bool:
    """Whether the paper would count a model among its CNNs: all but BERT are."""
    return "bert" not in model.lower()


def planners_in(cells: Iterable[Cell]) -> list[str]:
    """Planners of any of the cells, in the order of `PLANNERS`; unknown ones follow."""
    found = dict.fromkeys(planner for cell in cells for planner in cell.rows)
    return [*(name for name in PLANNERS if name in found), *(name for name in found if name not in PLANNERS)]


def middle(numbers: Iterable[float]) -> float:
    """The median."""
    return median(list(numbers))


def by_model(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Cells by model, in order."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.model, []).append(cell)
    return found
