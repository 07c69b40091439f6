"""What plans cost: time to find them, bytes and messages to carry them out, and work done more than once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from ...suite.results import Result
from ..results.cells import AUTO, Cell, by_model, planners_in
from ..tables import Column, Item, Table
from ..units import mb, percent
from .section import Section

_HEADS = (
    Column("model"),
    Column("planner"),
    Column("planning: median (s)", "number"),
    Column("longest (s)", "number"),
    Column("sent (MB)", "number"),
    Column("messages", "number"),
    Column("redundant work", "number"),
    Column("proved best", "number"),
    Column("auto's own plan", "number"),
)


@dataclass(frozen=True, slots=True)
class _Effort:
    """One planner's rows of one model: medians, but means of what is sent and done twice."""

    cells: int
    planning_s: float
    longest_s: float
    sent_bytes: float
    messages: float
    redundant: float
    optimal: int
    same: int


def sections(cells: Iterable[Cell]) -> list[Section]:
    """One section, of cells with several boards; none where there are none."""
    found = {
        (model, planner): _effort([cell for cell in those if planner in cell.rows], planner)
        for model, those in by_model(cell for cell in cells if cell.ranks > 1).items()
        for planner in planners_in(those)
    }
    if not found:
        return []
    about = (
        "Per model and planner, over its cells with several boards. Sent and messages are means over cells, of all "
        "ranks together and one request; redundant is work done more than once, as a share of the model's. Proved "
        "best: cells in which the planner proved that nothing it may choose from is predicted to be faster. The last "
        "column counts cells in which it found the very plan of `auto`."
    )
    table = Table(_HEADS, tuple(_row(model, planner, effort) for (model, planner), effort in found.items()))
    record = [{"model": model, "planner": planner} | _record(effort) for (model, planner), effort in found.items()]
    mine = [effort for (_, planner), effort in found.items() if planner == AUTO]
    lines: list[Item] = []
    if mine:
        typical = median(effort.planning_s for effort in mine)
        longest = max(effort.longest_s for effort in mine)
        lines.append(f"planning auto takes {typical:.2f} s in the median, {longest:.1f} s at most")
    return [Section("Planning, traffic and redundant work", [about, table], {"effort": record}, lines)]


def _effort(cells: Sequence[Cell], planner: str) -> _Effort:
    rows: list[Result] = [cell.rows[planner] for cell in cells]
    same = [
        cell for cell in cells if AUTO in cell.rows and cell.rows[AUTO].plan_digest == cell.rows[planner].plan_digest
    ]
    return _Effort(
        cells=len(rows),
        planning_s=median(row.planning_s for row in rows),
        longest_s=max(row.planning_s for row in rows),
        sent_bytes=fmean(row.sent_bytes for row in rows),
        messages=fmean(row.messages for row in rows),
        redundant=fmean(row.redundant for row in rows),
        optimal=sum(row.is_optimal for row in rows),
        same=len(same),
    )


def _row(model: str, planner: str, effort: _Effort) -> Sequence[str]:
    return (
        model, planner, f"{effort.planning_s:.2f}", f"{effort.longest_s:.2f}", mb(round(effort.sent_bytes)),
        f"{effort.messages:.0f}", percent(effort.redundant), f"{effort.optimal} of {effort.cells}",
        "" if planner == AUTO else f"{effort.same} of {effort.cells}",
    )  # fmt: skip


def _record(effort: _Effort) -> dict[str, float]:
    return {name: getattr(effort, name) for name in _Effort.__slots__}
