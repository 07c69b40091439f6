"""Bars per board: where the time of a request goes, and what fills the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...core.timeline import KINDS
from ...suite.results import RankResult, Result
from ..figure import Draw, Figure, Patch
from ..results.boards import Duel
from ..tables import shorten
from ..theme import Theme
from ..units import mb
from .axes import dotted, entitle, handle, legend, panels

_BAR = 0.2
"""Inches from one bar to the next."""

FAR = 3.0
"""A limit so many times above what is used is written, not drawn."""


def times(duels: Sequence[Duel]) -> Draw:
    """A line of panels per cell, one planner each: a bar per board with what its request was spent on."""

    def bar(axes: Any, place: int, rank: RankResult, theme: Theme) -> None:
        left = 0.0
        for kind in KINDS:
            width = getattr(rank, f"{kind}_s") * 1e3
            axes.barh(place, width, left=left, height=0.74, color=theme.events[kind], linewidth=0)
            left += width

    def handles(theme: Theme) -> list[Any]:
        return [Patch(color=theme.events[kind], label=kind) for kind in KINDS]

    return _bars(duels, bar, handles, "ms per request")


def memory(duels: Sequence[Duel]) -> Draw:
    """The same for memory: weights and buffers, the peak that was resident, and what the device may use."""

    def bar(axes: Any, place: int, rank: RankResult, theme: Theme) -> None:
        weights, buffers = rank.weight_bytes / 1e6, rank.arena_bytes / 1e6
        axes.barh(place, weights, height=0.74, color=theme.kinds["rows"], linewidth=0)
        axes.barh(place, buffers, left=weights, height=0.74, color=theme.kinds["columns"], linewidth=0)
        axes.plot([rank.needed_bytes / 1e6], [place], **_predicted(theme))
        axes.plot([rank.peak_rss_bytes / 1e6], [place], **_peak(theme))
        if rank.memory_bytes is not None:
            _limit(axes, place, rank, theme)

    def handles(theme: Theme) -> list[Any]:
        found = [
            Patch(color=theme.kinds["rows"], label="weights"),
            Patch(color=theme.kinds["columns"], label="buffers"),
            handle(_predicted(theme), "predicted need"),
            handle(_peak(theme), "peak of the process"),
        ]
        ranks = [rank for duel in duels for row in duel.rows for rank in row.per_rank]
        is_limited = any(rank.memory_bytes is not None for rank in ranks)
        return [*found, handle({"color": theme.planners["auto"]}, "limit")] if is_limited else found

    return _bars(duels, bar, handles, "MB")


def _bars(duels: Sequence[Duel], bar: Callable[..., None], handles: Callable[[Theme], list[Any]], unit: str) -> Draw:
    """A panel for each row of each duel, its ranks from the top; the panels of a cell share their scale."""
    across = max(len(duel.rows) for duel in duels)
    heights = [0.95 + _BAR * duel.cell.ranks for duel in duels]

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.6 + sum(heights))
        placed = iter(panels(figure, len(duels) * across, across, height_ratios=heights))
        for duel in duels:
            those = [next(placed) for _ in range(across)]
            for axes, row in zip(those, duel.rows, strict=False):
                _panel(axes, duel, row, bar, theme, 6.4 / across)
                axes.set_xlabel(unit)
            for axes in those[len(duel.rows) :]:
                axes.remove()
            most = max(axes.get_xlim()[1] for axes in those[: len(duel.rows)])
            for axes in those[: len(duel.rows)]:
                axes.set_xlim(0, most)
        legend(figure, handles(theme))

    return draw


def _panel(axes: Any, duel: Duel, row: Result, bar: Callable[..., None], theme: Theme, inches: float) -> None:
    for place, rank in enumerate(row.per_rank):
        bar(axes, place, rank, theme)
    labels = [f"{rank.rank} {shorten(rank.device, 14)}" for rank in row.per_rank]
    axes.set_yticks(range(len(row.per_rank)), labels=labels)
    axes.set_ylim(len(row.per_rank) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    cell = duel.cell
    entitle(axes, (cell.model, cell.testbed), inches, f": {row.planner}")


def _limit(axes: Any, place: int, rank: RankResult, theme: Theme) -> None:
    """A line where the limit is; a limit far beyond what is used is told instead, or nothing else could be seen."""
    used, limit = max(rank.needed_bytes, rank.peak_rss_bytes), rank.memory_bytes or 0
    if limit <= FAR * used:
        axes.plot([limit / 1e6] * 2, [place - 0.45, place + 0.45], color=theme.planners["auto"])
    else:
        axes.annotate(
            f"limit {mb(limit)} ▸", (1.0, place), xycoords=("axes fraction", "data"), xytext=(-4, 0),
            textcoords="offset points", ha="right", va="center", fontsize=7, color=theme.faint,
        )  # fmt: skip
        axes.plot([used / 1e6 * 1.35], [place], alpha=0.0)  # room for the words


def _peak(theme: Theme) -> dict[str, Any]:
    return dotted(theme.ink, "D", theme, 5)


def _predicted(theme: Theme) -> dict[str, Any]:
    return dotted(theme.planners["layerwise"], "o", theme, 5)
