"""Scaling: what more boards, and larger batches, bring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...suite.results import Result
from .cells import AUTO, SINGLE, Cell, Ratio, ratio


@dataclass(frozen=True)
class Point:
    """One planner's row held against one board.

    Attributes
    ----------
    cell : Cell
    row : Result
    alone : Result or None
        One board's row: ``single`` of the same cell, or else the row of one rank on the same testbed. None where
        neither was measured.
    """

    cell: Cell
    row: Result
    alone: Result | None

    @cached_property
    def speedup(self) -> Ratio | None:
        """Time on one board over time on all; None where one board was not measured."""
        return ratio(self.alone, self.row) if self.alone else None

    @property
    def ideal(self) -> float:
        """Boards, a slower one counted as the part of the root's speed that it has."""
        slowdowns = [rank.slowdown for rank in self.row.per_rank]
        return sum(slowdowns[0] / slowdown for slowdown in slowdowns) or float(self.cell.ranks)

    @property
    def efficiency(self) -> float | None:
        """Speed-up over the ideal one."""
        return self.speedup.median / self.ideal if self.speedup else None

    @property
    def per_second(self) -> float:
        """Inputs per second."""
        return self.cell.batch / self.row.median_s


def points_of(cells: Iterable[Cell]) -> list[Point]:
    """A point per cell that has ``auto``, or else whichever planner comes first, but never ``single``."""
    cells = tuple(cells)
    ones = {_family(cell): _of_one_rank(cell) for cell in cells if cell.ranks == 1}
    points = []
    for cell in cells:
        row = _row(cell)
        if row is not None:
            points.append(Point(cell, row, cell.rows.get(SINGLE, ones.get(_family(cell)))))
    return points


def curves(points: Iterable[Point]) -> dict[tuple[str, str, int], dict[str, list[Point]]]:
    """Points over ranks: by (suite, testbed, batch) and model; only curves of several numbers of ranks."""
    found: dict[tuple[str, str, int], dict[str, list[Point]]] = {}
    for point in sorted(points, key=lambda point: point.cell.ranks):
        if point.speedup is not None:
            cell = point.cell
            found.setdefault((cell.suite, cell.testbed, cell.batch), {}).setdefault(cell.model, []).append(point)
    return _several(found)


def batches(points: Iterable[Point]) -> dict[tuple[str, str, str], dict[int, list[Point]]]:
    """Points over batches: by (suite, testbed, model) and ranks; only curves of several batches."""
    found: dict[tuple[str, str, str], dict[int, list[Point]]] = {}
    for point in sorted(points, key=lambda point: (point.cell.ranks, point.cell.batch)):
        cell = point.cell
        found.setdefault((cell.suite, cell.testbed, cell.model), {}).setdefault(cell.ranks, []).append(point)
    return _several(found)


def _several(found: dict) -> dict:
    """Without curves of one point, and without groups that then are empty."""
    kept = {key: {name: curve for name, curve in group.items() if len(curve) > 1} for key, group in found.items()}
    return {key: group for key, group in kept.items() if group}


def by_ranks(points: Sequence[Point]) -> dict[tuple[str, int], list[Point]]:
    """Points of several boards with a known efficiency, by (model, ranks)."""
    found: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        if point.efficiency is not None and point.cell.ranks > 1:
            found.setdefault((point.cell.model, point.cell.ranks), []).append(point)
    return found


def _family(cell: Cell) -> tuple[str, str, int, str]:
    return cell.suite, cell.model, cell.batch, cell.testbed


def _row(cell: Cell) -> Result | None:
    found = [row for planner, row in cell.rows.items() if planner != SINGLE or cell.ranks == 1]
    return cell.rows.get(AUTO) or next(iter(found), None)


def _of_one_rank(cell: Cell) -> Result:
    return cell.rows.get(SINGLE) or cell.rows.get(AUTO) or cell.any
