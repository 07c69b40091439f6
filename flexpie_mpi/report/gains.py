"""Planners in numbers: the paper's scores, what ``auto`` gains over the others, and where it falls behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, geometric_mean
from typing import Any

from .cells import AUTO, FIXED, SEARCHED, Cell, Ratio, by_model, is_cnn, planners_in, ratio
from .units import milli, percent, signed

BEHIND = 0.03
"""A cell is named where ``auto`` is slower than the best of all others by more than this share."""


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times longer than ``auto`` the best of some planners took in a cell; below 1 where ``auto`` was slower.

    `other` is that best planner.
    """

    cell: Cell
    other: str
    ratio: Ratio

    @property
    def record(self) -> dict[str, Any]:
        """The gain for scripts."""
        return {
            "suite": self.cell.suite,
            **self.cell.record,
            "other": self.other,
            "gain": self.ratio.median,
            "quartiles": [self.ratio.low, self.ratio.high],
            "rounds": self.ratio.rounds,
        }

    @property
    def words(self) -> str:
        """The gain as a sentence without its end."""
        mine, other = self.cell.rows[AUTO], self.cell.rows[self.other]
        slower = 1 / self.ratio.median - 1
        told = f"{percent(abs(slower))} {'slower' if slower > 0 else 'faster'} than `{self.other}`"
        times = f"medians {milli(mine.median_s)} and {milli(other.median_s)} ms"
        if mine.plan_digest == other.plan_digest:
            same = f"as fast as `{self.other}`, which found the same plan ({milli(mine.median_s)} ms)"
            return f"{self.cell.name}: {same}"
        if not self.ratio.rounds:
            return f"{self.cell.name}: {told} ({times}, which were not measured together)"
        quartiles = f"{signed(1 / self.ratio.high - 1)} to {signed(1 / self.ratio.low - 1)}"
        return f"{self.cell.name}: {told} round by round (quartiles {quartiles}; {times})"


@dataclass(frozen=True)
class Summary:
    """Gains in several cells: their geometric mean, and the least and the most of them."""

    cells: int
    mean: float
    least: float
    most: float


@dataclass(frozen=True)
class Versus:
    """Cells with several planners, and everything that follows from their times."""

    cells: Sequence[Cell]  # those where `Cell.is_comparison` holds

    @cached_property
    def planners(self) -> list[str]:
        return planners_in(self.cells)

    @cached_property
    def groups(self) -> dict[str, list[Cell]]:
        """Cells by model; then of all CNNs, by boards and together; then all. None of them twice."""
        groups = by_model(self.cells)
        cnns = [cell for cell in self.cells if is_cnn(cell.model)]
        for ranks in sorted({cell.ranks for cell in cnns}):
            groups[f"CNNs, {ranks} boards"] = [cell for cell in cnns if cell.ranks == ranks]
        groups |= {"CNNs": cnns, "all": list(self.cells)}
        kept: dict[frozenset[int], str] = {}
        for name, cells in groups.items():
            kept.setdefault(frozenset(map(id, cells)), name)
        return {name: groups[name] for which, name in kept.items() if which}

    def score(self, planner: str, cells: Iterable[Cell]) -> float | None:
        """The paper's: the mean, over the cells a planner took part in, of the best time over its own."""
        scores = [1 / relative(cell, planner).median for cell in cells if planner in cell.rows]
        return fmean(scores) if scores else None

    @cached_property
    def gains(self) -> dict[str, list[Gain]]:
        """Over the best fixed layout of each cell, the better of ``layerwise`` and ``fused``, and the best of all."""
        kinds = {"over_fixed": FIXED, "over_searched": SEARCHED, "over_all": self.planners}
        return {kind: list(_gains(self.cells, others)) for kind, others in kinds.items()}

    @cached_property
    def behind(self) -> list[Gain]:
        """Cells in which ``auto`` takes more than `BEHIND` longer than the best of all others, the worst first."""
        gains = [gain for gain in self.gains["over_all"] if 1 / gain.ratio.median > 1 + BEHIND]
        return sorted(gains, key=lambda gain: gain.ratio.median)

    @cached_property
    def worst(self) -> Gain | None:
        """The cell in which ``auto`` gains least over the best of all others."""
        return min(self.gains["over_all"], key=lambda gain: gain.ratio.median, default=None)


def _gains(cells: Iterable[Cell], others: Sequence[str]) -> Iterator[Gain]:
    for cell in cells:
        best = cell.best_of([planner for planner in others if planner != AUTO])
        if AUTO in cell.rows and best is not None:
            yield Gain(cell, best.planner, ratio(best, cell.rows[AUTO]))


def relative(cell: Cell, planner: str) -> Ratio:
    """A planner's time over the best one's; 1 for the best."""
    return ratio(cell.rows[planner], cell.best)


def summary(gains: Sequence[Gain], cells: Iterable[Cell]) -> Summary | None:
    """Gains in some of the cells; None where there are none."""
    wanted = set(map(id, cells))
    ratios = [gain.ratio.median for gain in gains if id(gain.cell) in wanted]
    return Summary(len(ratios), geometric_mean(ratios), min(ratios), max(ratios)) if ratios else None
