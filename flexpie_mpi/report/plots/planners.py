"""Planners against each other: all of them in one picture, and cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..figure import Draw, Figure
from ..results.cells import AUTO, Cell, Ratio, by_model, geometric_mean, planners_in
from ..results.versus import Versus, relative
from ..tables import shorten
from ..theme import Theme, mark
from .axes import dotted, entitle, handle, legend, numbered, panels, ratio_scale

ROOMY = 12
"""Up to so many cells are drawn with a lane for every planner, and quartiles."""

MOST = 2.0
"""Times over the best one's beyond this are drawn at the edge of a panel, so that those below can be told apart."""


def overview(versus: Versus) -> Draw:
    """A line per planner, the best mean first: its time over the best one's in every cell, and the mean of these."""
    models = by_model(versus.cells)
    found = {
        planner: [(cell.model, relative(cell, planner).median) for cell in versus.cells if planner in cell.rows]
        for planner in versus.planners
    }
    means = {planner: geometric_mean([value for _, value in rows]) for planner, rows in found.items()}
    order = sorted(found, key=lambda planner: means[planner])
    values = [value for rows in found.values() for _, value in rows]

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(1.2 + len(order) * max(0.34, 0.09 * len(models)))
        axes = figure.subplots()
        handles = []
        for place, model in enumerate(models):
            lift = ((place + 0.5) / len(models) - 0.5) * 0.78
            dots = [(value, line + lift) for line, name in enumerate(order) for of, value in found[name] if of == model]
            style = dotted(*numbered(theme, place), theme)
            axes.plot(*zip(*dots, strict=True), **style)
            handles.append(handle(style, shorten(model, 24)))
        for line, name in enumerate(order):
            axes.plot([means[name]] * 2, [line - 0.45, line + 0.45], color=theme.ink, linewidth=2, zorder=1.5)
            _beside(axes, line, f"{means[name]:.2f}", theme)
        ratio_scale(axes, min(values), max(values), 6.8)
        axes.set_yticks(range(len(order)), labels=order)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time over the best planner's of the same cell: a dot per cell; the line is the geometric mean")
        legend(figure, handles)

    return draw


def by_cell(cells: Sequence[Cell]) -> Draw:
    """A panel per model with a line per cell, and on it every planner's time over the best one's."""
    models = by_model(cells)
    planners = planners_in(cells)
    lanes = planners if len(cells) <= ROOMY else []
    found = {(id(cell), planner): relative(cell, planner) for cell in cells for planner in cell.rows}
    least = min(value.low for value in found.values())
    most = max(value.high for value in found.values())
    across = min(2, len(models))
    line = 0.12 + 0.075 * len(lanes) if lanes else 0.19
    rows = [list(models.values())[place : place + across] for place in range(0, len(models), across)]
    heights = [0.6 + line * max(map(len, row)) for row in rows]

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.75 + sum(heights))
        placed = panels(figure, len(models), across, height_ratios=heights)
        for axes, (model, those) in zip(placed, models.items(), strict=True):
            for planner in reversed(planners):
                dots = [(found[id(cell), planner], at) for at, cell in enumerate(those) if planner in cell.rows]
                if dots:
                    _planner(axes, planner, dots, _lift(planner, lanes), theme)
            ratio_scale(axes, least, min(most, MOST), 7.0 if across == 1 else 2.9, is_cut=most > MOST)
            axes.set_yticks(range(len(those)), labels=_labels(those, cells, 24 if across > 1 else 40))
            axes.set_ylim(len(those) - 0.4, -0.6)
            entitle(axes, (model,), 7.0 if across == 1 else 2.5)
            if lanes:
                axes.grid(visible=False, axis="y")
                for at in range(len(those) - 1):
                    axes.axhline(at + 0.5, color=theme.line, linewidth=0.6)
        figure.supxlabel("time over the best planner's of the same cell", fontsize=9, color=theme.faint)
        legend(figure, [handle(_mark(theme, planner), planner) for planner in planners])

    return draw


def _lift(planner: str, lanes: Sequence[str]) -> float:
    return (lanes.index(planner) + 0.5) / len(lanes) * 0.84 - 0.42 if lanes else 0.0


def _planner(axes: Any, planner: str, dots: Sequence[tuple[Ratio, int]], lift: float, theme: Theme) -> None:
    """Dots of one planner in one panel, in a lane of its own with quartiles where it has one; ``auto`` lies on top."""
    style = _mark(theme, planner)
    if lift:
        places = [place + lift for _, place in dots]
        lows, highs = ([min(getattr(value, end), MOST) for value, _ in dots] for end in ("low", "high"))
        axes.hlines(places, lows, highs, color=style["color"], linewidth=1)
    xs = [min(value.median, MOST) for value, _ in dots]
    axes.plot(xs, [place + lift for _, place in dots], **style, clip_on=False)


def _labels(cells: Sequence[Cell], every: Sequence[Cell], width: int) -> list[str]:
    """Testbeds, with boards and batch where one testbed has cells of several."""
    boards = {(cell.testbed, cell.ranks) for cell in every}
    is_sized = len(boards) > len({testbed for testbed, _ in boards})
    is_batched = len({cell.batch for cell in every}) > 1
    return [
        shorten(cell.testbed + f" · {cell.ranks}" * is_sized + f" · batch {cell.batch}" * is_batched, width)
        for cell in cells
    ]


def _beside(axes: Any, place: float, text: str, theme: Theme) -> None:
    """A number at the right of a line, outside of the data."""
    axes.annotate(
        text, (1.0, place), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
        va="center", color=theme.ink, fontsize=8, annotation_clip=False,
    )  # fmt: skip


def _mark(theme: Theme, planner: str) -> dict[str, Any]:
    return dotted(theme.planner(planner), mark(planner), theme, 6 if planner == AUTO else 5)
