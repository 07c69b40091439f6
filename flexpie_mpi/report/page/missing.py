"""What the tables cannot show: rows that were not measured, planners that are missing, cells of one board."""

from __future__ import annotations

from collections.abc import Sequence

from ...suite.results import Result
from ..results.cells import SINGLE, Cell, planners_in
from ..units import count_of
from .section import Section


def sections(results: Sequence[Result], cells: Sequence[Cell]) -> list[Section]:
    """One section; none where nothing is missing."""
    lines = [*_unmeasured(results), *_incomplete(cells), *_lonely(cells), *_apart(cells)]
    if not lines:
        return []
    record = {"missing": lines}
    summary = [f"missing  {count_of(len(lines), 'remark')} at the end of the report"]
    return [Section("What is missing", ["\n".join(f"- {line}" for line in lines)], record, summary)]


def _unmeasured(results: Sequence[Result]) -> list[str]:
    return [
        f"{result.model} on {result.testbed}, {count_of(result.ranks, 'board')}, batch {result.batch}: "
        f"`{result.planner}` has no measured round, so it is left out."
        for result in results
        if not result.measured_s
    ]


def _incomplete(cells: Sequence[Cell]) -> list[str]:
    """Cells without planners that others of their suite have; cells that lack the same ones share a line."""
    found: dict[tuple[str, tuple[str, ...]], list[Cell]] = {}
    for suite in dict.fromkeys(cell.suite for cell in cells):
        those = [cell for cell in cells if cell.suite == suite and cell.is_comparison]
        planners = planners_in(those)
        for cell in those:
            absent = tuple(planner for planner in planners if planner not in cell.rows)
            if absent:
                found.setdefault((suite, absent), []).append(cell)
    return [
        f"Without {', '.join(f'`{planner}`' for planner in absent)}: {'; '.join(cell.name for cell in those)}."
        for (_, absent), those in found.items()
    ]


def _lonely(cells: Sequence[Cell]) -> list[str]:
    """Cells that no comparison of planners has."""
    lines = []
    alone = [cell for cell in cells if cell.ranks == 1]
    if alone:
        names = "; ".join(cell.name for cell in alone)
        lines.append(f"One board only, so there for speed-ups alone: {names}.")
    one = [cell for cell in cells if cell.ranks > 1 and len(cell.rows) == 1]
    if one:
        lines.append(f"One planner only, so nothing to compare: {'; '.join(cell.name for cell in one)}.")
    ungrounded = [cell for cell in cells if cell.ranks > 1 and SINGLE not in cell.rows and not _has_one(cell, cells)]
    if ungrounded:
        names = "; ".join(cell.name for cell in ungrounded)
        lines.append(f"One board was not measured (planner `single`, or 1 rank), so there is no speed-up: {names}.")
    return lines


def _has_one(cell: Cell, cells: Sequence[Cell]) -> bool:
    key = (cell.suite, cell.model, cell.batch, cell.testbed)
    return any(key == (other.suite, other.model, other.batch, other.testbed) for other in cells if other.ranks == 1)


def _apart(cells: Sequence[Cell]) -> list[str]:
    """Cells whose rows were not all measured together."""
    apart = [cell for cell in cells if len({(row.turn, len(row.measured_s)) for row in cell.rows.values()}) > 1]
    if not apart:
        return []
    names = "; ".join(cell.name for cell in apart)
    return [f"Not all planners were measured side by side, so medians are divided instead of rounds: {names}."]
