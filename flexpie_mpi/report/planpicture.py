"""The picture of a plan: nodes from left to right, ranks from top to bottom, layouts by colour, messages between.

A bar is one rank's part of a node, as high as the rank's share of it; what of it other ranks compute, too, is hatched
around it. Where several nodes run as one segment the hatching shows how the halo grows towards its front. All lengths
are inches, from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, pairwise
from math import ceil, sqrt
from typing import Any

from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from ..core.layout import KINDS
from .figure import WIDTH, Draw, Figure
from .planview import Gap, Panel, Part, PlanView, SegmentBox, panels
from .theme import Theme, mixed
from .units import count_of, percent, sized

_LETTERS, _WORDS, _TITLE, _DOT, _PLUS = 7.0, 8.0, 11.0, 3.5, 5.0
"""Points: texts of the picture, the line below the title, the title; the dot where the root has inputs or outputs; the
sign of a part."""
_FONT = FontProperties(family="DejaVu Sans")

_MARGIN, _HEAD, _ROW, _SIGN = 0.15, 0.48, 0.2, 0.24
"""Around the picture; heights of the title and of a row of the legend; width of a sign in it."""
_LINE = 0.14
_ABOVE, _BELOW = 2 * _LINE + 0.08, 2 * _LINE + 0.06
"""A line of text, and the room above the ranks, for labels of exchanges, and below, for names of nodes."""
_TALLEST, _ROOM = 0.26, 2.4
"""Height of a rank at most, and of all ranks of a panel where there are many."""

_FULL = 0.86
"""The largest bar of a segment has this share of a rank's height."""
_SEEN = 0.08
"""Redundant work is hatched where it is at least this share of the segment's largest bar; less is paler only."""
_NARROW = 0.03
"""Nodes that are narrower are not told apart."""
_THIN, _THICK = 0.4, 2.4
"""Points: lines of the smallest and the largest message."""

_AGAIN, _PART, _MESSAGE, _ROOT = "again", "part", "message", "root"
"""Signs in the legend that are no layout."""

Corners = list[tuple[float, float]]


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
    legend = _lines(_signs(view), WIDTH - 2 * _MARGIN)
    head = _MARGIN + _HEAD + _ROW * len(legend)
    above = _ABOVE if any(gap.label for panel in rows for gap in panel.gaps) else 0.5 * _LINE
    step = above + height * view.plan.ranks + _BELOW
    paper = head + step * len(rows) + _MARGIN / 2
    figure.set_layout_engine("none")
    figure.set_figheight(paper)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0.0, WIDTH), ylim=(paper, 0.0))  # inches, from the upper left
    axes.set_axis_off()
    title = f"{view.plan.provenance.get('model') or 'plan'} on {count_of(view.plan.ranks, 'rank')}"
    axes.text(_MARGIN, _MARGIN, title, size=_TITLE, weight="bold", color=theme.ink, va="top")
    axes.text(_MARGIN, _MARGIN + 0.24, plan_words(view), size=_WORDS, color=theme.faint, va="top")
    for number, signs in enumerate(legend):
        _draw_legend(axes, theme, signs, _MARGIN + _HEAD + _ROW * (number + 0.3))
    most = max((nbytes for exchange in view.exchanges for _, _, nbytes in exchange.links), default=1)
    for number, panel in enumerate(rows):
        _Drawer(axes, theme, view, height, most, panel, left, head + step * number + above).draw()


@cache
def _width(text: str) -> float:
    return float(TextPath((0, 0), text, size=_LETTERS, prop=_FONT).get_extents().width) / 72


# The legend


def _signs(view: PlanView) -> Iterator[tuple[str, str]]:
    """(sign, text) of everything that is in the picture."""
    used = {segment.layout.kind for segment in view.segments}
    yield from ((kind, kind) for kind in KINDS if kind in used)
    if any(segment.again >= _SEEN for segment in view.segments):
        yield _AGAIN, "computed by several ranks"
    if any(segment.parted for segment in view.segments):
        yield _PART, "part of a sum"
    if any(exchange.links for exchange in view.exchanges):
        yield _MESSAGE, "message, thicker with more bytes"
    if view.exchanges[0].links or view.exchanges[-1].links:
        yield _ROOT, "inputs, outputs"


def _entry_width(text: str) -> float:
    return _SIGN + 0.06 + _width(text) + 0.2


def _lines(signs: Iterable[tuple[str, str]], width: float) -> list[list[tuple[str, str]]]:
    """Entries of the legend, wrapped into lines of a width."""
    lines: list[list[tuple[str, str]]] = [[]]
    for entry in signs:
        if lines[-1] and sum(_entry_width(text) for _, text in (*lines[-1], entry)) > width:
            lines.append([])
        lines[-1].append(entry)
    return lines


def _draw_legend(axes: Any, theme: Theme, entries: Iterable[tuple[str, str]], y: float) -> None:
    left = _MARGIN
    for sign, text in entries:
        right = left + _SIGN
        box = [(left, y - 0.05), (right, y - 0.05), (right, y + 0.05), (left, y + 0.05)]
        if sign == _MESSAGE:
            axes.plot([left, right], [y, y], color=theme.faint, linewidth=1.5, solid_capstyle="butt")
        elif sign == _ROOT:
            axes.plot([right - 0.06], [y], "o", color=theme.ink, markersize=_DOT)
        elif sign == _PART:
            _draw_plus(axes, theme, [right - 0.06], [y])
        elif sign == _AGAIN:
            axes.add_collection(_halos([box], theme, theme.faint))
        else:
            axes.add_collection(_bars([box], theme.kind(sign)))
        axes.text(right + 0.06, y, text, size=_LETTERS, color=theme.ink, va="center_baseline")
        left += _entry_width(text)


# A panel


def _draw_plus(axes: Any, theme: Theme, xs: Sequence[float], ys: Sequence[float]) -> None:
    """Where ranks leave parts of a sum."""
    style = {"color": theme.paper, "markeredgecolor": theme.ink, "markeredgewidth": 0.5}
    axes.plot(xs, ys, "P", markersize=_PLUS, linestyle="none", zorder=7, **style)


def _bars(outlines: Sequence[Corners], colours: str | Sequence[str]) -> PolyCollection:
    return PolyCollection(outlines, facecolors=colours, edgecolors="none", zorder=4)


def _halos(outlines: Sequence[Corners], theme: Theme, colour: str, *, is_hatched: bool = True) -> PolyCollection:
    """What ranks compute beyond that: in a paler colour, behind it."""
    pale = mixed(colour, theme.paper, 0.35)
    halos = PolyCollection(outlines, facecolors=pale, edgecolors=colour, linewidths=0.0, zorder=3)
    if is_hatched:
        halos.set_hatch("//////")
    return halos


@dataclass(frozen=True, slots=True)
class _Drawer:
    """Draws one panel, whose ranks and segments begin at (`left`, `top`)."""

    axes: Any
    theme: Theme
    view: PlanView
    height: float  # of a rank
    most: int  # bytes of the largest message of the picture
    panel: Panel
    left: float
    top: float

    @property
    def bottom(self) -> float:
        return self.top + self.height * self.view.plan.ranks

    def draw(self) -> None:
        """Ranks, each a line and a name (fewer names where lines are close), segments, and the exchanges between."""
        ranks, theme = range(self.view.plan.ranks), self.theme
        for rank in ranks[:: ceil(0.9 * _LINE / self.height)]:
            self._text(-0.08, self._middle(rank), f"rank {rank}", theme.faint, "right")
        ends = self.left, self.left + self.panel.right
        lines = [[(x, self._middle(rank)) for x in ends] for rank in ranks]
        self.axes.add_collection(LineCollection(lines, colors=theme.line, linewidths=0.6, zorder=1))
        self._draw_segments()
        for gap in self.panel.gaps:
            self._draw_gap(gap)

    def _draw_segments(self) -> None:
        """Frames, bars of all ranks, lines between nodes, numbers and names."""
        theme, boxes, add = self.theme, self.panel.boxes, self.axes.add_collection
        ground = mixed(theme.line, theme.paper, 0.35)
        frames = [*map(self._frame, boxes)]
        add(PolyCollection(frames, facecolors=ground, edgecolors=theme.line, linewidths=0.8, zorder=2))
        colours = [theme.kind(box.segment.layout.kind) for box in boxes]
        for box, colour in zip(boxes, colours, strict=True):
            if box.segment.again:
                outlines = self._outlines(box, lambda part: part.total)
                add(_halos(outlines, theme, colour, is_hatched=box.segment.again >= _SEEN))
        own = [self._outlines(box, lambda part: part.share) for box in boxes]
        each = [colour for outlines, colour in zip(own, colours, strict=True) for _ in outlines]
        add(_bars([*chain.from_iterable(own)], each))
        add(LineCollection(self._between(), colors=theme.paper, linewidths=0.5, alpha=0.6, zorder=5))
        for box in boxes:
            middles = [self._middle(rank) for rank in box.segment.parted]
            _draw_plus(self.axes, theme, [self.left + box.span.right - 0.05] * len(middles), middles)
            self._text(box.span.centre, self.bottom + 0.6 * _LINE, str(box.segment.index), theme.faint, "center")
        for caption in self.panel.captions:
            self._text(caption.left, self.bottom + 1.6 * _LINE, caption.text, theme.ink, "left")

    def _frame(self, box: SegmentBox) -> Corners:
        left, right = self.left + box.span.left, self.left + box.span.right
        return [(left, self.top), (right, self.top), (right, self.bottom), (left, self.bottom)]

    def _between(self) -> list[Corners]:
        """A line between every two nodes of a segment."""
        wide = [box for box in self.panel.boxes if box.span.width / len(box.segment.nodes) >= _NARROW]
        return [[(x, self.top), (x, self.bottom)] for box in wide for x in self._edges(box)[1:-1]]

    def _edges(self, box: SegmentBox) -> list[float]:
        """Where the nodes of a segment begin, and where the last one ends."""
        count = len(box.segment.nodes)
        return [self.left + box.span.left + box.span.width * index / count for index in range(count + 1)]

    def _outlines(self, box: SegmentBox, size: Callable[[Part], float]) -> list[Corners]:
        """The bars of every rank of a segment, as one step per node around the middle of the rank's line."""
        outlines, full = [], _FULL * self.height / 2
        for rank in box.segment.ranks:
            middle, parts = self._middle(rank), [row[rank] for row in box.segment.parts]
            halves = [full * size(part) / max(box.segment.largest, part.total) for part in parts]
            edge = [(x, half) for half, ends in zip(halves, pairwise(self._edges(box)), strict=True) for x in ends]
            upper, lower = [(x, middle - half) for x, half in edge], [(x, middle + half) for x, half in reversed(edge)]
            outlines.append(upper + lower)
        return outlines

    def _draw_gap(self, gap: Gap) -> None:
        """The label of an exchange, a curve per message, and a dot where the root has the inputs or the outputs."""
        theme, links = self.theme, gap.links
        for index, line in enumerate(reversed(gap.label)):
            y = self.top - (index + 0.65) * _LINE
            self._text(gap.span.centre, y, line, theme.ink if index else theme.faint, "center")
        if not links:
            return
        widths = [_THIN + (_THICK - _THIN) * sqrt(nbytes / self.most) for _, _, nbytes in links]
        curves = [self._curve(gap, source, target) for source, target, _ in links]
        lines = PathCollection(curves, facecolors="none", edgecolors=theme.faint, linewidths=widths, zorder=6)
        lines.set_alpha(min(0.9, max(0.3, 12 / len(curves))))
        self.axes.add_collection(lines)
        ends = {0: gap.span.left, len(self.view.segments): gap.span.right}
        if gap.index in ends:
            x, y = self.left + ends[gap.index], self._middle(self.view.plan.root)
            self.axes.plot([x], [y], "o", color=theme.ink, markersize=_DOT, zorder=7)

    def _curve(self, gap: Gap, source: int, target: int) -> Path:
        left, right = self.left + gap.span.left, self.left + gap.span.right
        bend, above, below = 0.45 * gap.span.width, self._middle(source), self._middle(target)
        corners = [(left, above), (left + bend, above), (right - bend, below), (right, below)]
        return Path(corners, [Path.MOVETO, *[Path.CURVE4] * 3])

    def _middle(self, rank: int) -> float:
        return self.top + self.height * (rank + 0.5)

    def _text(self, x: float, y: float, text: str, colour: str, side: str) -> None:
        x += self.left
        self.axes.text(x, y, text, color=colour, size=_LETTERS, ha=side, va="center_baseline", zorder=8)
