"""Predicted and simulated against measured."""

from __future__ import annotations

from collections.abc import Sequence

from ..figure import Draw, Figure
from ..results.accuracy import Case
from ..tables import shorten
from ..theme import Theme
from .axes import dotted, handle, legend, log_scale, numbered, panels

BAND = 0.1
"""The band around the diagonal."""


def scatter(cases: Sequence[Case], sources: Sequence[str]) -> Draw:
    """A panel per source, a dot per case, the diagonal, and the band of ±10 % around it."""
    models = list(dict.fromkeys(case.cell.model for case in cases))
    found = {
        source: [
            (case.cell.model, case.row.median_s * 1e3, seconds * 1e3)
            for case in cases
            if (seconds := case.seconds(source))
        ]
        for source in sources
    }
    values = [value for dots in found.values() for _, *pair in dots for value in pair]
    least, most = min(values) / 1.1, max(values) * 1.1

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(4.9 if len(sources) > 1 else 5.4)
        for axes, (source, dots) in zip(panels(figure, len(sources), len(sources)), found.items(), strict=True):
            line = (least / 2, most * 2)
            axes.fill_between(
                line, [end * (1 - BAND) for end in line], [end * (1 + BAND) for end in line], color=theme.line,
                linewidth=0, alpha=0.6,
            )  # fmt: skip
            axes.plot(line, line, color=theme.faint, linewidth=1)
            for place, model in enumerate(models):
                pairs = [(measured, value) for of, measured, value in dots if of == model]
                if pairs:
                    axes.plot(*zip(*pairs, strict=True), **dotted(*numbered(theme, place), theme))
            log_scale(axes.xaxis, least, most)
            log_scale(axes.yaxis, least, most)
            axes.set_box_aspect(1)
            axes.set_title(source)
            axes.set_xlabel("measured (ms)")
            axes.set_ylabel(f"{source} (ms)")
        handles = [
            handle(dotted(*numbered(theme, place), theme), shorten(model, 24)) for place, model in enumerate(models)
        ]
        band = {"color": theme.line, "linewidth": 6}
        legend(figure, [*handles, handle(band, f"within {BAND:.0%}".replace("%", " %"))])

    return draw
