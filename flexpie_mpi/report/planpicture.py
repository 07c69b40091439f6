"""The picture of a plan: nodes from left to right, ranks from top to bottom, layouts by colour, messages between.

A bar is one rank's part of a node, as high as the rank's share of it; what of it other ranks compute, too, is hatched
around it. Where several nodes run as one segment the hatching shows how the halo grows towards its front.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, partial
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from ..core.layout import KINDS
from .figure import WIDTH, Draw
from .plandrawer import ABOVE, BELOW, DOT, LETTERS, LINE, Pen, Point, bars, draw_panel, halos, is_seen
from .planpanels import panels
from .planview import PlanView
from .theme import Theme
from .units import count_of, percent, sized

_WORDS, _TITLE = 8.0, 11.0
"""Points."""
_FONT = FontProperties(family="DejaVu Sans")

_MARGIN, _HEAD, _ROW, _SIGN = 0.15, 0.48, 0.2, 0.24
"""Inches: around the picture, height of the title and of a row of the legend, width of a sign in it."""
_TALLEST, _ROOM = 0.26, 2.4
"""Inches: height of a rank at most, and of all ranks of a panel where there are many."""

_AGAIN, _MESSAGE, _ROOT = "again", "message", "root"
"""Signs in the legend that are no layout."""


def plan_picture(view: PlanView) -> Draw:
    """What draws a plan into a figure, for :func:`flexpie_mpi.report.figure.save`."""
    return partial(_draw, view)


def plan_words(view: PlanView) -> str:
    """A plan in one line."""
    provenance = view.plan.provenance
    keys = {"planner": "planned by", "testbed": "for"}
    words = [" ".join(f"{word} {provenance[key]}" for key, word in keys.items() if key in provenance)]
    words.append(count_of(len(view.segments), "segment"))
    words += [f"on average over {view.plan.period} turns"] if view.plan.period > 1 else []
    if view.redundant is None:
        words.append("messages not known without the model")
    else:
        links = [link for exchange in view.exchanges for link in exchange.links]
        nbytes = sized(sum(nbytes for _, _, nbytes in links))
        words.append(f"{nbytes} in {count_of(len(links), 'message')}" if links else "no messages")
        words.append(f"{percent(view.redundant)} redundant work" if view.redundant else "no redundant work")
    return ", ".join(filter(None, words))


def _draw(view: PlanView, figure: Figure, theme: Theme) -> None:
    left = _MARGIN + _width(f"rank {view.plan.ranks - 1}") + 0.08
    rows = panels(view, WIDTH - _MARGIN - left, _width)
    height = min(_TALLEST, _ROOM / view.plan.ranks)
    legend = list(_lines(_legend(view), WIDTH - 2 * _MARGIN))
    head = _MARGIN + _HEAD + _ROW * len(legend)
    above = ABOVE if any(gap.label for panel in rows for gap in panel.gaps) else 0.5 * LINE
    step = above + height * view.plan.ranks + BELOW
    axes = _paper(figure, head + step * len(rows) + _MARGIN / 2)
    _draw_title(axes, view, theme)
    for number, line in enumerate(legend):
        _draw_legend(axes, theme, line, _MARGIN + _HEAD + _ROW * (number + 0.3))
    most = max((nbytes for exchange in view.exchanges for _, _, nbytes in exchange.links), default=1)
    pen = Pen(axes, theme, view, height, most)
    for number, panel in enumerate(rows):
        draw_panel(pen, panel, Point(left, head + step * number + above))


def _paper(figure: Figure, height: float) -> Axes:
    """Axes in inches, from the upper left corner."""
    figure.set_layout_engine("none")
    figure.set_figheight(height)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, WIDTH)
    axes.set_ylim(height, 0.0)
    return axes


def _draw_title(axes: Axes, view: PlanView, theme: Theme) -> None:
    name = view.plan.provenance.get("model") or "plan"
    text = f"{name} on {count_of(view.plan.ranks, 'rank')}"
    axes.text(_MARGIN, _MARGIN, text, size=_TITLE, weight="bold", color=theme.ink, va="top")
    axes.text(_MARGIN, _MARGIN + 0.24, plan_words(view), size=_WORDS, color=theme.faint, va="top")


class _Entry(NamedTuple):
    """An entry of the legend."""

    sign: str
    text: str

    @property
    def width(self) -> float:
        return _SIGN + 0.06 + _width(self.text) + 0.2


def _legend(view: PlanView) -> Iterator[_Entry]:
    used = {segment.layout.kind for segment in view.segments}
    yield from (_Entry(kind, kind) for kind in KINDS if kind in used)
    if any(is_seen(segment) for segment in view.segments):
        yield _Entry(_AGAIN, "computed by several ranks")
    if any(exchange.links for exchange in view.exchanges):
        yield _Entry(_MESSAGE, "message, thicker with more bytes")
    if view.exchanges[0].links or view.exchanges[-1].links:
        yield _Entry(_ROOT, "inputs, outputs")


def _lines(entries: Iterable[_Entry], width: float) -> Iterator[list[_Entry]]:
    line: list[_Entry] = []
    for entry in entries:
        if line and sum(e.width for e in (*line, entry)) > width:
            yield line
            line = []
        line.append(entry)
    yield line


def _draw_legend(axes: Axes, theme: Theme, entries: Iterable[_Entry], y: float) -> None:
    left = _MARGIN
    for entry in entries:
        right = left + _SIGN
        box = [(left, y - 0.05), (right, y - 0.05), (right, y + 0.05), (left, y + 0.05)]
        if entry.sign == _MESSAGE:
            axes.plot([left, right], [y, y], color=theme.faint, linewidth=1.5, solid_capstyle="butt")
        elif entry.sign == _ROOT:
            axes.plot([right - 0.06], [y], "o", color=theme.ink, markersize=DOT)
        elif entry.sign == _AGAIN:
            axes.add_collection(halos([box], theme, theme.faint))
        else:
            axes.add_collection(bars([box], theme.kind(entry.sign)))
        axes.text(right + 0.06, y, entry.text, size=LETTERS, color=theme.ink, va="center_baseline")
        left += entry.width


@cache
def _width(text: str) -> float:
    """Inches."""
    return float(TextPath((0, 0), text, size=LETTERS, prop=_FONT).get_extents().width) / 72
