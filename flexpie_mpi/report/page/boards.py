"""Where the time of a request goes on every board, and what its memory holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...suite.results import RankResult, Result
from ..plots.boards import memory, times
from ..results.boards import SHOWN, Duel, by_size, duels, fullest, over_limit
from ..results.cells import Cell, planners_in
from ..tables import Column, Item, Table
from ..units import count_of, mb, milli
from .section import Folded, Part, Picture, Section

_TIMES = (
    Column("cell"),
    Column("planner"),
    Column("rank", "number"),
    Column("compute", "number"),
    Column("send", "number"),
    Column("receive", "number"),
    Column("wait", "number"),
    Column("sent (MB)", "number"),
    Column("messages", "number"),
)


def sections(cells: Sequence[Cell]) -> list[Section]:
    """Time, and memory; none where all cells have one board."""
    found = duels(cells)
    if not found:
        return []
    return [_times(found), _memory(found, cells)]


def _times(found: Sequence[Duel]) -> Section:
    parts: list[Part] = [
        "Medians over rounds, for each model on the most boards with the slowest links: `auto`, and the best of the "
        "others that use several boards." + _left_out(found),
        Picture("boards", "What every board spends a request on", times(found[:SHOWN])),
        Folded("The numbers, in ms per request", (_times_table(found),)),
    ]
    return Section("Where the time goes", parts, {"boards": [_duel_record(duel) for duel in found]})


def _left_out(found: Sequence[Duel]) -> str:
    rest = [duel.cell.model for duel in found[SHOWN:]]
    return f" Not drawn, but in the table: {', '.join(rest)}." if rest else ""


def _times_table(found: Sequence[Duel]) -> Table:
    rows = [
        [
            duel.cell.name, row.planner, str(rank.rank), milli(rank.compute_s), milli(rank.send_s),
            milli(rank.receive_s), milli(rank.wait_s), mb(rank.sent_bytes), str(rank.messages),
        ]
        for duel in found
        for row in duel.rows
        for rank in row.per_rank
    ]  # fmt: skip
    return Table(_TIMES, tuple(rows))


def _duel_record(duel: Duel) -> dict[str, Any]:
    cell = duel.cell
    place = {"model": cell.model, "batch": cell.batch, "testbed": cell.testbed, "ranks": cell.ranks}
    return place | {"planners": {row.planner: [asdict(rank) for rank in row.per_rank] for row in duel.rows}}


def _memory(found: Sequence[Duel], cells: Sequence[Cell]) -> Section:
    beyond = over_limit(cells)
    parts: list[Part] = [
        "Weights and buffers are what a board holds for its part of the plan; the predicted need adds its messages and "
        "the process itself. The peak is what the process, Python and MPI with it, was seen to hold while it made this "
        "plan's sessions and ran them first. Of the same cells:",
        Picture("memory", "Memory of every board, in MB", memory(found[:SHOWN])),
        "What the fullest board of any testbed was predicted to need, in MB, and in brackets its weights:",
        _memory_table(cells),
        _limits(beyond, cells),
    ]
    record = {"memory": [_need_record(key, those) for key, those in by_size(cells).items()]}
    lines: list[Item] = [f"memory   {_limits(beyond, cells)}".replace("`", "")] if beyond else []
    return Section("Memory of every board", parts, record, lines)


def _memory_table(cells: Sequence[Cell]) -> Table:
    planners = planners_in(cells)
    rows = []
    for (model, ranks), those in by_size(cells).items():
        found = [fullest(cell.rows[planner] for cell in those if planner in cell.rows) for planner in planners]
        rows.append([model, str(ranks), *map(_need, found)])
    heads = [Column("model"), Column("boards", "number"), *(Column(planner, "number") for planner in planners)]
    return Table(tuple(heads), tuple(rows))


def _need(rank: RankResult | None) -> str:
    return f"{mb(rank.needed_bytes)} ({mb(rank.weight_bytes)})" if rank else "–"


def _limits(beyond: Sequence[tuple[Cell, Result, RankResult]], cells: Sequence[Cell]) -> str:
    """Whether boards kept to their limits, in a sentence."""
    if not any(rank.memory_bytes for cell in cells for row in cell.rows.values() for rank in row.per_rank):
        return "No board had a limit."
    if not beyond:
        return "Every process stayed below the limit of its board, where it had one."
    cell, row, rank = max(beyond, key=lambda found: found[2].peak_rss_bytes / (found[2].memory_bytes or 1))
    worst = f"`{row.planner}` in {cell.name}, rank {rank.rank}"
    sizes = f"{mb(rank.peak_rss_bytes)} of {mb(rank.memory_bytes or 0)} MB"
    cases = count_of(len(beyond), "case")
    return f"In {cases} (a plan on a rank) a process held more than its board may use; the worst is {worst}: {sizes}."


def _need_record(key: tuple[str, int], cells: Sequence[Cell]) -> dict[str, Any]:
    model, ranks = key
    found = {}
    for planner in planners_in(cells):
        rank = fullest(cell.rows[planner] for cell in cells if planner in cell.rows)
        if rank is not None:
            found[planner] = {
                "needed_bytes": rank.needed_bytes,
                "weight_bytes": rank.weight_bytes,
                "arena_bytes": rank.arena_bytes,
                "peak_rss_bytes": rank.peak_rss_bytes,
                "memory_bytes": rank.memory_bytes,
            }
    return {"model": model, "ranks": ranks, "planners": found}
