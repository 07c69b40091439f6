"""Curves over ranks, with the ideal line, and over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..figure import Draw, Figure
from ..results.scaling import Point
from ..tables import shorten
from ..theme import Theme
from ..units import count_of
from .axes import curved, entitle, handle, legend, log_scale, numbered, panels, ticks

Curves = Mapping[str, Sequence[Point]]
"""Points over ranks, by model."""


def speedups(groups: Mapping[tuple[str, str, int], Curves]) -> Draw:
    """For every testbed and batch two panels: speed-up and efficiency over ranks, a curve per model."""
    models = list(dict.fromkeys(model for curves in groups.values() for model in curves))

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.9 + 2.9 * len(groups))
        placed = panels(figure, 2 * len(groups), 2)
        for number, ((_, testbed, batch), curves) in enumerate(groups.items()):
            left, right = placed[2 * number : 2 * number + 2]
            title = testbed + (f", batch {batch}" if batch > 1 else "")
            _ideal(left, curves, theme)
            for model, points in curves.items():
                _curve(left, right, points, curved(*numbered(theme, models.index(model)), theme))
            _finish(left, title, "speed-up", "times faster than one board", points=curves)
            _finish(right, title, "efficiency", "speed-up over the ideal (%)", points=curves)
            right.set_ylim(0, max(105.0, right.get_ylim()[1]))
            right.axhline(100, **_ideal_style(theme))
            left.set_ylim(bottom=0)
        handles = [
            handle(curved(*numbered(theme, place), theme), shorten(model, 24)) for place, model in enumerate(models)
        ]
        legend(figure, [*handles, handle(_ideal_style(theme), "ideal")])

    return draw


def batch_rates(groups: Mapping[tuple[str, str, str], Mapping[int, Sequence[Point]]]) -> Draw:
    """A panel per model and testbed: inputs per second over the batch, a curve per number of ranks."""
    counts = sorted({ranks for curves in groups.values() for ranks in curves})
    across = min(2, len(groups))

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.9 + 2.6 * -(-len(groups) // across))
        placed = panels(figure, len(groups), across)
        for axes, ((_, testbed, model), curves) in zip(placed, groups.items(), strict=True):
            for ranks, points in curves.items():
                found = [(point.cell.batch, point.per_second) for point in points]
                axes.plot(*zip(*found, strict=True), **curved(*numbered(theme, counts.index(ranks)), theme))
            sizes = sorted({point.cell.batch for points in curves.values() for point in points})
            log_scale(axes.xaxis, sizes[0], sizes[-1])
            ticks(axes.xaxis, sizes, [str(size) for size in sizes])
            axes.set_ylim(0, 1.1 * max(point.per_second for points in curves.values() for point in points))
            entitle(axes, (model, testbed), 7.6 / across - 0.2)
            axes.set_xlabel("batch")
            axes.set_ylabel("inputs per second")
        handles = [
            handle(curved(*numbered(theme, place), theme), count_of(ranks, "board"))
            for place, ranks in enumerate(counts)
        ]
        legend(figure, handles)

    return draw


def _ideal(axes: Any, curves: Curves, theme: Theme) -> None:
    """The speed-up that the boards would have if nothing had to travel; equal boards give the diagonal."""
    found = sorted({(point.cell.ranks, point.ideal) for points in curves.values() for point in points})
    axes.plot(*zip(*found, strict=True), **_ideal_style(theme))


def _curve(left: Any, right: Any, points: Sequence[Point], style: Mapping[str, Any]) -> None:
    """One model's points in both panels, with quartiles where the rounds tell them."""
    found = [(point.cell.ranks, point.speedup, point.ideal) for point in points if point.speedup]
    for axes, scale in ((left, [1.0] * len(found)), (right, [100 / ideal for _, _, ideal in found])):
        ranks = [count for count, _, _ in found]
        medians, lows, highs = (
            [getattr(speedup, end) * factor for (_, speedup, _), factor in zip(found, scale, strict=True)]
            for end in ("median", "low", "high")
        )
        axes.vlines(ranks, lows, highs, color=style["color"], linewidth=1)
        axes.plot(ranks, medians, **style)


def _finish(axes: Any, place: str, what: str, label: str, points: Curves) -> None:
    counts = sorted({point.cell.ranks for those in points.values() for point in those})
    ticks(axes.xaxis, counts, [str(count) for count in counts])
    entitle(axes, (place,), 3.6, f": {what}")
    axes.set_xlabel("boards")
    axes.set_ylabel(label)


def _ideal_style(theme: Theme) -> dict[str, Any]:
    return {"color": theme.faint, "linestyle": (0, (4, 3)), "linewidth": 1.2}
