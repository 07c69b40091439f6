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
"""Width of a node in a segment, and of a segment."""

OPEN, CLOSED, UNKNOWN = 0.32, 0.07, 0.16
"""Gaps with messages, without, and where it is not known whether there are any."""

BETWEEN = 0.1
"""Between two texts of one line."""

STRETCHED = 1.6
"""So much wider is everything made at most to fill the width."""

LONGEST_NAME = 1.7

Measure = Callable[[str], float]
"""Width of a text."""


@dataclass(frozen=True, slots=True)
class Span:
    """From left to right."""

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
class Block:
    """The room of a segment."""

    span: Span
    segment: SegmentView


@dataclass(frozen=True, slots=True)
class Caption:
    """A text below a block, from `left` on."""

    left: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One row of the picture."""

    gaps: tuple[Gap, ...]
    blocks: tuple[Block, ...]
    captions: tuple[Caption, ...] = ()

    @property
    def right(self) -> float:
        """Where the last segment or exchange ends."""
        spans = [gap.span for gap in self.gaps] + [block.span for block in self.blocks]
        return max(span.right for span in spans)

    def factor(self, width: float, measure: Measure) -> float:
        """How much wider the panel may be made to fill a width; its labels stay as they are."""
        labels = [(gap.span.centre, max(map(measure, gap.label)) / 2) for gap in self.gaps if gap.label]
        return min([STRETCHED, width / self.right, *((width - half) / centre for centre, half in labels)])

    def stretched(self, factor: float) -> Panel:
        """The panel, so much wider."""
        gaps = (replace(gap, span=gap.span.times(factor)) for gap in self.gaps)
        blocks = (replace(block, span=block.span.times(factor)) for block in self.blocks)
        return replace(self, gaps=tuple(gaps), blocks=tuple(blocks))

    def named(self, width: float, measure: Measure) -> Panel:
        """The panel with names below its segments."""
        return replace(self, captions=tuple(_captions(self.blocks, width, measure)))


def panels(view: PlanView, width: float, measure: Measure) -> tuple[Panel, ...]:
    """As few panels as hold a plan, of about the same length.

    Parameters
    ----------
    view : PlanView
    width : float
        That no panel exceeds.
    measure : callable
        Of labels and names.
    """
    best = tuple(_wrapped(view, width, measure))
    narrow, wide = width / 2, width
    while len(best) > 1 and wide - narrow > 0.1:
        middle = (narrow + wide) / 2
        found = tuple(_wrapped(view, middle, measure))
        if len(found) == len(best):
            best, wide = found, middle
        else:
            narrow = middle
    factor = min((panel.factor(width, measure) for panel in best), default=1.0)
    return tuple(panel.stretched(factor).named(width, measure) for panel in best)


def _captions(blocks: Sequence[Block], width: float, measure: Measure) -> Iterator[Caption]:
    """The name of each segment's first node where there is room, with the shares of ranks where they become unequal.

    Those with shares go first.
    """
    before = (None, *(block.segment.layout for block in blocks))
    texts = [_caption(block, measure) for block in blocks]
    changes = [
        block.segment.layout.weights and block.segment.layout != was for block, was in zip(blocks, before, strict=False)
    ]
    taken: list[Span] = []
    for place in sorted(range(len(blocks)), key=lambda place: not changes[place]):
        text = f"{texts[place]}  {_shares(blocks[place].segment)}" if changes[place] else texts[place]
        left = max(0.0, min(blocks[place].span.left, width - measure(text)))
        span = Span(left, left + measure(text))
        if all(span.left >= other.right + BETWEEN or span.right + BETWEEN <= other.left for other in taken):
            taken.append(span)
            yield Caption(left, text)


def _caption(block: Block, measure: Measure) -> str:
    return shortened(block.segment.nodes[0], max(LONGEST_NAME, block.span.width), measure)


def shortened(text: str, most: float, measure: Measure) -> str:
    """A text without so much of its beginning that it fits, whole words where that leaves any.

    >>> shortened("encoder.query.matmul", 15, len), shortened("encoder.query.matmul", 5, len)
    ('…query.matmul', '…tmul')
    """
    if measure(text) <= most:
        return text
    starts = sorted(range(1, len(text) + 1), key=lambda start: text[start - 1] not in "./_")
    return "…" + next(text[start:] for start in starts if measure("…" + text[start:]) <= most)


def _wrapped(view: PlanView, width: float, measure: Measure) -> Iterator[Panel]:
    """Panels, each filled before the next is begun."""
    line = _Line(measure)
    for segment, exchange in zip(view.segments, view.exchanges, strict=False):
        ends = view.exchanges[-1:] if segment is view.segments[-1] else ()
        longer = line.with_segment(exchange, segment).with_end(*ends)
        if longer.right > width and line.blocks:
            yield line.panel
            longer = _Line(measure).with_segment(exchange, segment).with_end(*ends)
        line = longer
    yield line.panel


@dataclass(frozen=True, slots=True)
class _Line:
    """A panel that is being filled; `end` is where its last segment ends, `label_end` where its last label does."""

    measure: Measure
    gaps: tuple[Gap, ...] = ()
    blocks: tuple[Block, ...] = ()
    end: float = 0.0
    label_end: float = -OPEN

    @property
    def panel(self) -> Panel:
        return Panel(self.gaps, self.blocks)

    @property
    def right(self) -> float:
        return max(self.end, self.label_end)

    def with_segment(self, exchange: ExchangeView, segment: SegmentView) -> _Line:
        """The line with an exchange and the segment behind it."""
        line = self.with_end(exchange)
        span = Span(line.end, line.end + min(WIDEST, max(NARROWEST, NODE * len(segment.nodes))))
        return _Line(self.measure, line.gaps, (*self.blocks, Block(span, segment)), span.right, line.label_end)

    def with_end(self, exchange: ExchangeView | None = None) -> _Line:
        """The line with a gap."""
        if exchange is None:
            return self
        label = (exchange.kind, sized(exchange.nbytes)) if exchange.links and exchange.kind else ()
        half = max(map(self.measure, label), default=0.0) / 2
        width = OPEN if label else UNKNOWN if exchange.kind is None else CLOSED
        if label:
            width = max(width, 2 * (self.label_end + BETWEEN + half - self.end))
        span = Span(self.end, self.end + width)
        label_end = span.centre + half if label else self.label_end
        return _Line(self.measure, (*self.gaps, Gap(span, exchange, label)), self.blocks, span.right, label_end)


def _shares(segment: SegmentView) -> str:
    """Shares of the ranks in the last node, in percent."""
    parts = segment.parts[-1]
    shares = [parts[rank].share for rank in segment.ranks]
    return ":".join(f"{100 * share / (sum(shares) or 1.0):.0f}" for share in shares) + " %"
