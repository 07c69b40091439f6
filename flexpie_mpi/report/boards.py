"""What every board spends a request on, and what its memory holds: the cells worth a picture, pictures and sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from operator import attrgetter
from typing import Any

from ..core.timeline import KINDS
from ..suite.cells import grouped
from ..suite.results import RankResult, Result
from .cells import AUTO, SINGLE, Cell, by_model, planners_in
from .figure import Draw, Figure, Patch, dotted, entitle, handle, legend, panels
from .section import Folded, Part, Picture, Section
from .tables import Column, Item, Table, shorten
from .theme import Theme
from .units import count_of, mb, milli

SHOWN = 6
"""At most so many cells are drawn."""

BAR = 0.2
"""Distance of two bars in inches."""

FAR = 3.0
"""A limit that is more than this factor above what is used is written instead of drawn."""

_TIMES = (
    Column("cell"),
    Column("planner"),
    Column("rank", "number"),
    *(Column(kind, "number", milli) for kind in KINDS),
    Column("sent (MB)", "number", mb),
    Column("messages", "number"),
)

_OF_MEMORY = ("needed_bytes", "weight_bytes", "arena_bytes", "peak_rss_bytes", "memory_bytes")
"""What records say of a rank's memory."""

# The numbers


@dataclass(frozen=True, slots=True)
class Duel:
    """A cell with the two rows that are drawn of it: ``auto``, and the best of the others on several boards.

    Where one of them is missing, one row is drawn.
    """

    cell: Cell
    rows: tuple[Result, ...]


def duels(cells: Iterable[Cell]) -> list[Duel]:
    """For every model the cell with most boards, of these the one on the slowest links, of these the smallest batch."""
    pairs = []
    for those in by_model(cell for cell in cells if cell.ranks > 1).values():
        hardest = min(those, key=lambda cell: (-cell.ranks, cell.any.bandwidth or inf, cell.batch))
        others = [planner for planner in hardest.rows if planner not in (AUTO, SINGLE)]
        rows = (hardest.rows.get(AUTO), hardest.best_of(others))
        kept = tuple(row for row in rows if row is not None and row.per_rank)
        if kept:
            pairs.append(Duel(hardest, kept))
    return pairs


def fullest(rows: Iterable[Result]) -> RankResult | None:
    """The rank that needs most memory, of all ranks of all rows; None where there are none."""
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


# The sections


def sections(cells: Sequence[Cell]) -> list[Section]:
    """Time, and memory; none where all cells have one board."""
    drawn = duels(cells)
    return [_time_section(drawn), _memory_section(drawn, cells)] if drawn else []


def _time_section(duels: Sequence[Duel]) -> Section:
    rest = [duel.cell.model for duel in duels[SHOWN:]]
    left_out = f" Not drawn, but in the table: {', '.join(rest)}." if rest else ""
    seconds = attrgetter(*(f"{kind}_s" for kind in KINDS))
    rows = [
        (duel.cell.name, row.planner, rank.rank, *seconds(rank), rank.sent_bytes, rank.messages)
        for duel in duels
        for row in duel.rows
        for rank in row.per_rank
    ]
    parts: list[Part] = [
        "Medians over rounds, for each model on the most boards with the slowest links: `auto`, and the best of the "
        "others that use several boards." + left_out,
        Picture("boards", "What every board spends a request on", times(duels[:SHOWN])),
        Folded("The numbers, in ms per request", Table(_TIMES, rows)),
    ]
    record = [
        duel.cell.record | {"planners": {row.planner: [asdict(rank) for rank in row.per_rank] for row in duel.rows}}
        for duel in duels
    ]
    return Section("Where the time goes", parts, {"boards": record})


def _memory_section(duels: Sequence[Duel], cells: Sequence[Cell]) -> Section:
    beyond = over_limit(cells)
    planners = planners_in(cells)
    columns = [Column("model"), Column("boards", "number"), *(Column(name, "number", _need) for name in planners)]
    rows, record = [], []
    for (model, ranks), those in grouped(cells, lambda cell: (cell.model, cell.ranks)).items():
        fullest_of = {name: fullest(cell.rows[name] for cell in those if name in cell.rows) for name in planners}
        rows.append((model, ranks, *fullest_of.values()))
        needs = {
            name: {of: getattr(rank, of) for of in _OF_MEMORY} for name, rank in fullest_of.items() if rank is not None
        }
        record.append({"model": model, "ranks": ranks, "planners": needs})
    parts: list[Part] = [
        "Weights and buffers are what a board holds for its part of the plan; the predicted need adds its messages and "
        "the process itself. The peak is what the process, Python and MPI with it, was seen to hold while it made this "
        "plan's sessions and ran them first. Of the same cells:",
        Picture("memory", "Memory of every board, in MB", memory(duels[:SHOWN])),
        "What the fullest board of any testbed was predicted to need, in MB, and in brackets its weights:",
        Table(columns, rows, missing="–"),
        _limits(beyond, cells),
    ]
    lines: list[Item] = [f"memory   {_limits(beyond, cells)}".replace("`", "")] if beyond else []
    return Section("Memory of every board", parts, {"memory": record}, lines)


def _need(rank: RankResult) -> str:
    return f"{mb(rank.needed_bytes)} ({mb(rank.weight_bytes)})"


def _limits(beyond: Sequence[tuple[Cell, Result, RankResult]], cells: Sequence[Cell]) -> str:
    """Whether boards kept to their limits, in a sentence."""
    if not any(rank.memory_bytes for cell in cells for row in cell.rows.values() for rank in row.per_rank):
        return "No board had a limit."
    if not beyond:
        return "Every process stayed below the limit of its board, where it had one."
    cell, row, rank = max(beyond, key=lambda each: each[2].peak_rss_bytes / (each[2].memory_bytes or 1))
    worst = f"`{row.planner}` in {cell.name}, rank {rank.rank}"
    sizes = f"{mb(rank.peak_rss_bytes)} of {mb(rank.memory_bytes or 0)} MB"
    cases = count_of(len(beyond), "case")
    return f"In {cases} (a plan on a rank) a process held more than its board may use; the worst is {worst}: {sizes}."


# The pictures


def times(duels: Sequence[Duel]) -> Draw:
    """A line of panels per cell, one planner each: a bar per board with what its request was spent on."""

    def bar(axes: Any, line: int, rank: RankResult, theme: Theme) -> None:
        left = 0.0
        for kind in KINDS:
            width = getattr(rank, f"{kind}_s") * 1e3
            axes.barh(line, width, left=left, height=0.74, color=theme.events[kind], linewidth=0)
            left += width

    def handles(theme: Theme) -> list[Any]:
        return [Patch(color=theme.events[kind], label=kind) for kind in KINDS]

    return _bars(duels, bar, handles, "ms per request")


def memory(duels: Sequence[Duel]) -> Draw:
    """A line of panels per cell, with a bar per board: weights and buffers, the peak, and what the device may use."""

    def dots(theme: Theme) -> tuple[dict[str, Any], dict[str, Any]]:
        """How the predicted need and the peak are drawn."""
        return dotted(theme.planners["layerwise"], "o", theme, 5), dotted(theme.ink, "D", theme, 5)

    def bar(axes: Any, line: int, rank: RankResult, theme: Theme) -> None:
        weights, buffers = rank.weight_bytes / 1e6, rank.arena_bytes / 1e6
        axes.barh(line, weights, height=0.74, color=theme.kinds["rows"], linewidth=0)
        axes.barh(line, buffers, left=weights, height=0.74, color=theme.kinds["columns"], linewidth=0)
        for nbytes, style in zip((rank.needed_bytes, rank.peak_rss_bytes), dots(theme), strict=True):
            axes.plot([nbytes / 1e6], [line], **style)
        if rank.memory_bytes is not None:
            _limit(axes, line, rank, theme)

    def handles(theme: Theme) -> list[Any]:
        entries = [
            Patch(color=theme.kinds["rows"], label="weights"),
            Patch(color=theme.kinds["columns"], label="buffers"),
            *map(handle, dots(theme), ("predicted need", "peak of the process")),
        ]
        ranks = [rank for duel in duels for row in duel.rows for rank in row.per_rank]
        is_limited = any(rank.memory_bytes is not None for rank in ranks)
        return [*entries, handle({"color": theme.planners["auto"]}, "limit")] if is_limited else entries

    return _bars(duels, bar, handles, "MB")


def _bars(duels: Sequence[Duel], bar: Callable[..., None], handles: Callable[[Theme], list[Any]], unit: str) -> Draw:
    """A panel for each row of each duel, its ranks from the top; the panels of a cell share their scale."""
    across = max(len(duel.rows) for duel in duels)
    heights = [0.95 + BAR * duel.cell.ranks for duel in duels]

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.6 + sum(heights))
        placed = iter(panels(figure, len(duels) * across, across, height_ratios=heights))
        for duel in duels:
            those = [next(placed) for _ in range(across)]
            used = those[: len(duel.rows)]
            for axes, row in zip(used, duel.rows, strict=True):
                for line, rank in enumerate(row.per_rank):
                    bar(axes, line, rank, theme)
                labels = [f"{rank.rank} {shorten(rank.device, 14)}" for rank in row.per_rank]
                axes.set_yticks(range(len(labels)), labels=labels)
                axes.set_ylim(len(labels) - 0.45, -0.55)
                axes.grid(visible=False, axis="y")
                entitle(axes, (duel.cell.model, duel.cell.testbed), 6.4 / across, f": {row.planner}")
                axes.set_xlabel(unit)
            for axes in those[len(used) :]:
                axes.remove()
            most = max(axes.get_xlim()[1] for axes in used)
            for axes in used:
                axes.set_xlim(0, most)
        legend(figure, handles(theme))

    return draw


def _limit(axes: Any, line: int, rank: RankResult, theme: Theme) -> None:
    """A line where the limit is; a limit far beyond what is used is told instead, or nothing else could be seen."""
    used, limit = max(rank.needed_bytes, rank.peak_rss_bytes), rank.memory_bytes or 0
    if limit <= FAR * used:
        axes.plot([limit / 1e6] * 2, [line - 0.45, line + 0.45], color=theme.planners["auto"])
    else:
        axes.annotate(
            f"limit {mb(limit)} ▸", (1.0, line), xycoords=("axes fraction", "data"), xytext=(-4, 0),
            textcoords="offset points", ha="right", va="center", fontsize=7, color=theme.faint,
        )  # fmt: skip
        axes.plot([used / 1e6 * 1.35], [line], alpha=0.0)  # room for the words
