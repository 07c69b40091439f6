"""Where the parts of a picture of a plan lie: segments from left to right, wrapped into panels of a given width.

Between two segments is a gap for the messages of their exchange, as wide as its label asks for; a label stands above
its gap and may reach over the segments beside it, but never into another label. All lengths are inches. The one
difficulty: plans have one node or a thousand, so a segment is as wide as its nodes only between two bounds::

    |gap|--segment--|  gap  |seg|gap|--segment--|gap|
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from .planview import ExchangeView, PlanView, SegmentView
from .units import sized

NODE, NARROWEST, WIDEST = 0.09, 0.26, 2.6
"""Width of a node in a segment, and of a segment at least and at most."""

OPEN, CLOSED, UNKNOWN = 0.32, 0.07, 0.16
"""Widths of gaps with messages, without, and where it is not known whether there are any."""

BETWEEN = 0.1
"""The distance of two texts of one line."""

STRETCHED = 1.6
"""Everything is made wider by this factor at most to fill the width."""

LONGEST_NAME = 1.7

Measure = Callable[[str], float]
"""Width of a text."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where something begins and ends, from left to right."""

    left: float
    right: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def centre(self) -> float:
        return (self.left + self.right) / 2

    def times(self, factor: float) -> Span:
        return Span(self.left * factor, self.right * factor)


@dataclass(frozen=True, slots=True)
class Gap:
    """The room of an exchange's messages, and its label, a text per line, centred above."""

    span: Span
    exchange: ExchangeView
    label: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SegmentBox:
    """The room of a segment."""

    span: Span
    segment: SegmentView


@dataclass(frozen=True, slots=True)
class Caption:
    """A text below a segment, from `left` on."""

    left: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One row of the picture; `label_end` is where its last label ends."""

    gaps: tuple[Gap, ...] = ()
    boxes: tuple[SegmentBox, ...] = ()
    captions: tuple[Caption, ...] = ()
    label_end: float = -OPEN

    @property
    def right(self) -> float:
        """Where the last segment or exchange ends."""
        spans = [gap.span for gap in self.gaps] + [box.span for box in self.boxes]
        return max((span.right for span in spans), default=0.0)

    def with_segment(self, exchange: ExchangeView, segment: SegmentView, measure: Measure) -> Panel:
        """The panel with an exchange and the segment behind it."""
        panel = self.with_gap(exchange, measure)
        width = min(WIDEST, max(NARROWEST, NODE * len(segment.nodes)))
        box = SegmentBox(Span(panel.right, panel.right + width), segment)
        return replace(panel, boxes=(*panel.boxes, box))

    def with_gap(self, exchange: ExchangeView, measure: Measure) -> Panel:
        """The panel with an exchange at its end."""
        end, label_end = self.right, self.label_end
        label = (exchange.kind, sized(exchange.nbytes)) if exchange.links and exchange.kind else ()
        half = max(map(measure, label), default=0.0) / 2
        width = OPEN if label else UNKNOWN if exchange.kind is None else CLOSED
        if label:
            width = max(width, 2 * (label_end + BETWEEN + half - end))
        span = Span(end, end + width)
        gaps = (*self.gaps, Gap(span, exchange, label))
        return replace(self, gaps=gaps, label_end=span.centre + half if label else label_end)

    def factor(self, width: float, measure: Measure) -> float:
        """How much wider the panel may be made to fill a width; its labels stay as they are."""
        labels = [(gap.span.centre, max(map(measure, gap.label)) / 2) for gap in self.gaps if gap.label]
        return min([STRETCHED, width / self.right, *((width - half) / centre for centre, half in labels)])

    def finished(self, factor: float, width: float, measure: Measure) -> Panel:
        """The panel, wider by a factor, with names below its segments."""
        gaps = tuple(replace(gap, span=gap.span.times(factor)) for gap in self.gaps)
        boxes = tuple(replace(box, span=box.span.times(factor)) for box in self.boxes)
        return Panel(gaps, boxes, tuple(_captions(boxes, width, measure)))


def panels(view: PlanView, width: float, measure: Measure) -> tuple[Panel, ...]:
    """As few panels as hold a plan, of about the same length.

    Parameters
    ----------
    view : PlanView
    width : float
        No panel is wider.
    measure : callable
        Gives the width of a label or a name.
    """
    best = tuple(_wrapped(view, width, measure))
    narrow, wide = width / 2, width
    while len(best) > 1 and wide - narrow > 0.1:  # the narrowest width that takes as many panels
        middle = (narrow + wide) / 2
        tried = tuple(_wrapped(view, middle, measure))
        if len(tried) == len(best):
            best, wide = tried, middle
        else:
            narrow = middle
    factor = min((panel.factor(width, measure) for panel in best), default=1.0)
    return tuple(panel.finished(factor, width, measure) for panel in best)


def _wrapped(view: PlanView, width: float, measure: Measure) -> Iterator[Panel]:
    """Panels, each filled before the next is begun; the last one ends with the exchange of the outputs."""
    panel = Panel()
    for segment, exchange in zip(view.segments, view.exchanges, strict=False):

        def longer(panel: Panel, segment: SegmentView = segment, exchange: ExchangeView = exchange) -> Panel:
            panel = panel.with_segment(exchange, segment, measure)
            return panel.with_gap(view.exchanges[-1], measure) if segment is view.segments[-1] else panel

        wide = longer(panel)
        if max(wide.right, wide.label_end) > width and panel.boxes:
            yield panel
            wide = longer(Panel())
        panel = wide
    yield panel


def _captions(boxes: Sequence[SegmentBox], width: float, measure: Measure) -> Iterator[Caption]:
    """The name of each segment's first node where there is room, with the shares of ranks where they become unequal.

    Those with shares go first.
    """
    before = (None, *(box.segment.layout for box in boxes))
    changes = [
        bool(box.segment.layout.weights) and box.segment.layout != was
        for box, was in zip(boxes, before, strict=False)  # the last layout is before nothing
    ]
    taken: list[Span] = []
    for index in sorted(range(len(boxes)), key=lambda index: not changes[index]):
        box = boxes[index]
        text = shortened(box.segment.nodes[0], max(LONGEST_NAME, box.span.width), measure)
        if changes[index]:
            text += f"  {_shares(box.segment)}"
        left = max(0.0, min(box.span.left, width - measure(text)))
        span = Span(left, left + measure(text))
        if all(span.left >= other.right + BETWEEN or span.right + BETWEEN <= other.left for other in taken):
            taken.append(span)
            yield Caption(left, text)


def shortened(text: str, most: float, measure: Measure) -> str:
    """A text without so much of its beginning that it fits, whole words where that leaves any.

    >>> shortened("encoder.query.matmul", 15, len), shortened("encoder.query.matmul", 5, len)
    ('…query.matmul', '…tmul')
    """
    if measure(text) <= most:
        return text
    starts = sorted(range(1, len(text) + 1), key=lambda start: text[start - 1] not in "./_")
    return "…" + next(text[start:] for start in starts if measure("…" + text[start:]) <= most)


def _shares(segment: SegmentView) -> str:
    """Shares of the ranks in the last node, in percent."""
    parts = segment.parts[-1]
    shares = [parts[rank].share for rank in segment.ranks]
    return ":".join(f"{100 * share / (sum(shares) or 1.0):.0f}" for share in shares) + " %"
