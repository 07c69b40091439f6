"""Drawing one panel of the picture of a plan: ranks, segments with their nodes, and messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.path import Path

from .planpanels import Block, Gap, Panel
from .planview import Part, PlanView, SegmentView
from .theme import Theme, mixed

LETTERS, DOT = 7.0, 3.5
"""Points: texts, and the dot where the root has the inputs or the outputs."""

LINE = 0.14
ABOVE, BELOW = 2 * LINE + 0.08, 2 * LINE + 0.06
"""Inches: a line of text, and the room above the ranks, for labels of exchanges, and below, for names of nodes."""

_FULL = 0.86
"""Of a rank's height is the largest bar of a segment."""
_SEEN = 0.08
"""Of a segment's largest bar is hatched; less is paler only."""
_NARROW = 0.03
"""Nodes that are narrower are not told apart."""

_THIN, _THICK = 0.4, 2.4
"""Points: lines of the smallest and the largest message."""

Corners = list[tuple[float, float]]


class Point(NamedTuple):
    """Inches from the left and from the top."""

    x: float
    y: float


@dataclass(frozen=True)
class Pen:
    """What all panels of a picture share.

    Attributes
    ----------
    axes : Axes
        In inches, from the top.
    theme : Theme
    view : PlanView
    height : float
        Of a rank.
    most : int
        Bytes of the largest message.
    """

    axes: Axes
    theme: Theme
    view: PlanView
    height: float
    most: int


def draw_panel(pen: Pen, panel: Panel, origin: Point) -> None:
    """Draw a panel whose ranks and segments begin at `origin`."""
    drawer = _Drawer(pen, panel, origin)
    drawer.draw_ranks()
    drawer.draw_segments()
    for gap in panel.gaps:
        drawer.draw_gap(gap)


def is_seen(segment: SegmentView) -> bool:
    """Whether a segment has so much redundant work that it is hatched."""
    return segment.again >= _SEEN


def bars(outlines: Sequence[Corners], colours: str | Sequence[str]) -> PolyCollection:
    """What ranks own."""
    return PolyCollection(outlines, facecolors=colours, edgecolors="none", zorder=4)


def halos(outlines: Sequence[Corners], theme: Theme, colour: str, *, is_hatched: bool = True) -> PolyCollection:
    """What ranks compute beyond that: in a paler colour, behind it."""
    pale = mixed(colour, theme.paper, 0.35)
    found = PolyCollection(outlines, facecolors=pale, edgecolors=colour, linewidths=0.0, zorder=3)
    if is_hatched:
        found.set_hatch("//////")
    return found


@dataclass(frozen=True, slots=True)
class _Drawer:
    """Draws one panel."""

    pen: Pen
    panel: Panel
    origin: Point

    @property
    def bottom(self) -> float:
        return self.origin.y + self.pen.height * self.pen.view.plan.ranks

    def draw_ranks(self) -> None:
        """A line and a name for every rank; fewer names where lines are close."""
        ranks, theme = range(self.pen.view.plan.ranks), self.pen.theme
        for rank in ranks[:: ceil(0.9 * LINE / self.pen.height)]:
            self._text(-0.08, self._middle(rank), f"rank {rank}", theme.faint, "right")
        ends = self.origin.x, self.origin.x + self.panel.right
        lines = [[(x, self._middle(rank)) for x in ends] for rank in ranks]
        self.pen.axes.add_collection(LineCollection(lines, colors=theme.line, linewidths=0.6, zorder=1))

    def draw_segments(self) -> None:
        """Frames, bars of all ranks, lines between nodes, numbers and names."""
        theme, blocks, add = self.pen.theme, self.panel.blocks, self.pen.axes.add_collection
        ground = mixed(theme.line, theme.paper, 0.35)
        add(
            PolyCollection(
                [*map(self._frame, blocks)], facecolors=ground, edgecolors=theme.line, linewidths=0.8, zorder=2
            )
        )
        for block in blocks:
            if block.segment.again:
                outlines = self._outlines(block, lambda part: part.total)
                add(halos(outlines, theme, self._colour(block), is_hatched=is_seen(block.segment)))
        own = [
            (line, self._colour(block)) for block in blocks for line in self._outlines(block, lambda part: part.share)
        ]
        add(bars([line for line, _ in own], [colour for _, colour in own]))
        add(LineCollection(self._between(), colors=theme.paper, linewidths=0.5, alpha=0.6, zorder=5))
        for block in blocks:
            self._text(block.span.centre, self.bottom + 0.6 * LINE, str(block.segment.index), theme.faint, "center")
        for caption in self.panel.captions:
            self._text(caption.left, self.bottom + 1.6 * LINE, caption.text, theme.ink, "left")

    def _colour(self, block: Block) -> str:
        return self.pen.theme.kind(block.segment.layout.kind)

    def _frame(self, block: Block) -> Corners:
        left, right = self.origin.x + block.span.left, self.origin.x + block.span.right
        return [(left, self.origin.y), (right, self.origin.y), (right, self.bottom), (left, self.bottom)]

    def _between(self) -> list[Corners]:
        """A line between every two nodes of a segment."""
        places = [
            place
            for block in self.panel.blocks
            if block.span.width / len(block.segment.nodes) >= _NARROW
            for place in self._places(block)[1:-1]
        ]
        return [[(x, self.origin.y), (x, self.bottom)] for x in places]

    def _places(self, block: Block) -> list[float]:
        """Where the nodes of a segment begin, and where the last one ends."""
        count = len(block.segment.nodes)
        return [self.origin.x + block.span.left + block.span.width * place / count for place in range(count + 1)]

    def _outlines(self, block: Block, size: Callable[[Part], float]) -> list[Corners]:
        """The bars of every rank of a segment, as one step per node around the middle of the rank's line."""
        found, full = [], _FULL * self.pen.height / 2
        for rank in block.segment.ranks:
            middle, parts = self._middle(rank), [row[rank] for row in block.segment.parts]
            halves = [full * size(part) / max(block.segment.largest, part.total) for part in parts]
            edge = [(x, half) for half, ends in zip(halves, pairwise(self._places(block)), strict=True) for x in ends]
            upper, lower = [(x, middle - half) for x, half in edge], [(x, middle + half) for x, half in reversed(edge)]
            found.append(upper + lower)
        return found

    def draw_gap(self, gap: Gap) -> None:
        """The label of an exchange, a curve per message, and a dot where the root has the inputs or the outputs."""
        theme, links = self.pen.theme, gap.exchange.links
        for place, line in enumerate(reversed(gap.label)):
            y = self.origin.y - (place + 0.65) * LINE
            self._text(gap.span.centre, y, line, theme.ink if place else theme.faint, "center")
        if not links:
            return
        widths = [_THIN + (_THICK - _THIN) * sqrt(nbytes / self.pen.most) for _, _, nbytes in links]
        curves = [self._curve(gap, source, target) for source, target, _ in links]
        lines = PathCollection(curves, facecolors="none", edgecolors=theme.faint, linewidths=widths, zorder=6)
        lines.set_alpha(min(0.9, max(0.3, 12 / len(curves))))
        self.pen.axes.add_collection(lines)
        ends = {0: gap.span.left, len(self.pen.view.segments): gap.span.right}
        if gap.exchange.index in ends:
            x, y = self.origin.x + ends[gap.exchange.index], self._middle(self.pen.view.plan.root)
            self.pen.axes.plot([x], [y], "o", color=theme.ink, markersize=DOT, zorder=7)

    def _curve(self, gap: Gap, source: int, target: int) -> Path:
        left, right = self.origin.x + gap.span.left, self.origin.x + gap.span.right
        bend, above, below = 0.45 * gap.span.width, self._middle(source), self._middle(target)
        corners = [(left, above), (left + bend, above), (right - bend, below), (right, below)]
        return Path(corners, [Path.MOVETO, *[Path.CURVE4] * 3])

    def _middle(self, rank: int) -> float:
        return self.origin.y + self.pen.height * (rank + 0.5)

    def _text(self, x: float, y: float, text: str, colour: str, side: str) -> None:
        x += self.origin.x
        self.pen.axes.text(x, y, text, color=colour, size=LETTERS, ha=side, va="center_baseline", zorder=8)
