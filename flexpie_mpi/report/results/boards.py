"""Boards: what each does with its time and its memory, in the cells that are worth a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from ...suite.results import RankResult, Result
from .cells import AUTO, SINGLE, Cell, by_model

SHOWN = 6
"""Cells that are drawn, at most."""


@dataclass(frozen=True, slots=True)
class Duel:
    """A cell with the two rows that are drawn of it: ``auto``, and the best of the others on several boards.

    Where one of them is missing, one row is drawn.
    """

    cell: Cell
    rows: tuple[Result, ...]


def duels(cells: Iterable[Cell]) -> list[Duel]:
    """For every model the cell with most boards, of these the one on the slowest links, of these the smallest batch."""
    found = []
    for those in by_model(cell for cell in cells if cell.ranks > 1).values():
        hardest = min(those, key=lambda cell: (-cell.ranks, cell.any.bandwidth or inf, cell.batch))
        others = [planner for planner in hardest.rows if planner not in (AUTO, SINGLE)]
        rows = (hardest.rows.get(AUTO), hardest.best_of(others))
        kept = tuple(row for row in rows if row is not None and row.per_rank)
        if kept:
            found.append(Duel(hardest, kept))
    return found


def fullest(rows: Iterable[Result]) -> RankResult | None:
    """Of all ranks of all rows, the one that needs most memory."""
    ranks = [rank for row in rows for rank in row.per_rank]
    return max(ranks, key=lambda rank: rank.needed_bytes, default=None)


def over_limit(cells: Iterable[Cell]) -> list[tuple[Cell, Result, RankResult]]:
    """Ranks that were resident in more memory than their device may use."""
    return [
        (cell, row, rank)
        for cell in cells
        for row in cell.rows.values()
        for rank in row.per_rank
        if rank.memory_bytes is not None and rank.peak_rss_bytes > rank.memory_bytes
    ]


def by_size(cells: Sequence[Cell]) -> dict[tuple[str, int], list[Cell]]:
    """Cells by (model, ranks), in order."""
    found: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.model, cell.ranks), []).append(cell)
    return found
