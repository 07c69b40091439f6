"""Pictures of placements: solvers over the best placement, cell by cell, and along what a study varies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ratios import CellResults, spread

from flexpie_mpi.report.figure import (
    Draw,
    Figure,
    curved,
    dotted,
    entitle,
    handle,
    legend,
    log_scale,
    numbered,
    panels,
    ratio_scale,
    ticks,
)
from flexpie_mpi.report.tables import shorten
from flexpie_mpi.report.theme import Theme

DRAWN = ("kpath", "greedy", "capacity-greedy", "even")
"""Solvers in their colours; ``random`` is so far off that the others could not be told apart beside it."""

MOST = 7.0
"""Times over the best beyond which a solver is drawn at the edge."""


def lanes(cells: Sequence[CellResults], solvers: Sequence[str]) -> Draw:
    """A line per cell with a lane per solver: mean ratio to the best placement, and the span of nine in ten trials."""
    spreads = {solver: [spread(cell.ratios(solver)) for cell in cells] for solver in solvers}
    highs = [each.p95 for those in spreads.values() for each in those if each]

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(1.0 + len(cells) * (0.12 + 0.09 * len(solvers)))
        axes = figure.subplots()
        for lane, solver in enumerate(solvers):
            lift = (lane + 0.5) / len(solvers) * 0.8 - 0.4
            rows = [(line + lift, each) for line, each in enumerate(spreads[solver]) if each]
            style = _mark(theme, solver)
            lows = [min(each.p5, MOST) for _, each in rows]
            axes.hlines([at for at, _ in rows], lows, [min(each.p95, MOST) for _, each in rows], color=style["color"])
            axes.plot([min(each.mean, MOST) for _, each in rows], [at for at, _ in rows], **style, clip_on=False)
        most = max(highs, default=1.0)
        ratio_scale(axes, 1.0, min(most, MOST), 6.0, is_cut=most > MOST)
        axes.set_yticks(range(len(cells)), labels=[label(cell) for cell in cells])
        axes.set_ylim(len(cells) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        for line in range(len(cells) - 1):
            axes.axhline(line + 0.5, color=theme.line, linewidth=0.6)
        axes.set_xlabel("bottleneck over the best possible: the mean, and 5th to 95th percentile of the trials")
        legend(figure, [handle(_mark(theme, solver), solver) for solver in solvers])

    return draw


def label(cell: CellResults) -> str:
    """A cell in few letters."""
    return f"{shorten(cell.model.removeprefix('builtin:'), 18)} {cell.size} · {cell.boards}"


def along(groups: Mapping[str, Sequence[tuple[float, CellResults]]], axis: str, solvers: Sequence[str]) -> Draw:
    """A panel per group of cells: mean ratio to the best placement over what is varied, a curve per solver."""
    across = min(3, len(groups))
    curves_of = {
        title: {
            solver: [(at, each.mean) for at, cell in cells if (each := spread(cell.ratios(solver)))]
            for solver in solvers
        }
        for title, cells in groups.items()
    }
    means = [mean for curves in curves_of.values() for points in curves.values() for _, mean in points]

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.7 + 2.7 * -(-len(groups) // across))
        for axes, (title, curves) in zip(panels(figure, len(groups), across), curves_of.items(), strict=True):
            settings = sorted({at for at, _ in groups[title]})
            for solver, points in curves.items():
                shown = [(settings.index(at), min(mean, MOST)) for at, mean in points]
                if shown:
                    axes.plot(*zip(*shown, strict=True), **_curve(theme, solver))
            ticks(axes.xaxis, range(len(settings)), [f"{at:g}" for at in settings])
            log_scale(axes.yaxis, 1.0, min(max(means, default=1.0), MOST))
            axes.set_ylim(bottom=0.98)  # nothing is better than the best
            entitle(axes, (title,), 8.0 / across - 0.5)
            axes.set_xlabel(axis)
        figure.supylabel("mean bottleneck over the best possible", fontsize=9, color=theme.faint)
        legend(figure, [handle(_curve(theme, solver), solver) for solver in solvers])

    return draw


def _mark(theme: Theme, solver: str) -> dict[str, Any]:
    return dotted(*numbered(theme, DRAWN.index(solver)), theme)


def _curve(theme: Theme, solver: str) -> dict[str, Any]:
    return curved(*numbered(theme, DRAWN.index(solver)), theme)
