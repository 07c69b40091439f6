"""What a picture of a plan shows, every rank's part of every node and every message between segments, and where.

In goes a plan, with its graph and programs where they are known. A plan alone says which ranks run which nodes in which
layout, and with which weights; what is computed twice and what travels follows from the programs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..core.graph import Graph, Value
from ..core.layout import Layout
from ..core.plan import Plan, Segment
from ..core.program import NodeBlock, Program
from ..core.region import Region
from ..lower.facts import Traffic, model_flops, rank_flops, redundant_share, traffic_of
from .units import sized


@dataclass(frozen=True, slots=True)
class Part:
    """One rank's part of one node, as shares of the node's first output.

    `again` is what of it other ranks compute, too, beyond the rank's own `share`: its halo.
    """

    share: float
    again: float = 0.0

    @property
    def total(self) -> float:
        return self.share + self.again


@dataclass(frozen=True, slots=True)
class SegmentView:
    """A segment; `parts` has a row per node and in it a part per rank of the job, `ranks` are those that run it."""

    index: int
    layout: Layout
    ranks: tuple[int, ...]
    nodes: tuple[str, ...]
    parts: tuple[tuple[Part, ...], ...]

    @property
    def largest(self) -> float:
        """The largest part of any rank in a node that the ranks share, or in any where they share none."""
        shared = [row for row in self.parts if any(0.0 < part.total < 1.0 for part in row)]
        return max(part.total for row in shared or self.parts for part in row) or 1.0

    @property
    def parted(self) -> tuple[int, ...]:
        """Ranks that leave a part of a sum behind."""
        return tuple(rank for rank in self.ranks if self.layout.in_parts and self.parts[-1][rank].share)

    @property
    def again(self) -> float:
        """The largest part that other ranks compute, too, relative to the largest of all."""
        return min(1.0, max(part.again for row in self.parts for part in row) / self.largest)


@dataclass(frozen=True)
class PlanView:
    """A plan as it is drawn."""

    plan: Plan
    segments: tuple[SegmentView, ...]
    # Before every segment, and at last the one that brings the outputs to the root; all empty without a graph
    exchanges: tuple[Traffic, ...]
    # Work that is done more than once, as a share of the work of one rank; None without a graph
    redundant: float | None


def plan_view(plan: Plan, graph: Graph | None = None, turns: Sequence[Sequence[Program]] = ()) -> PlanView:
    """What there is to draw of a plan: where replicas take turns, what is done on average over them.

    Parameters
    ----------
    plan : Plan
    graph : Graph, optional
    turns : sequence of sequence of Program
        What the plan was lowered to: for every turn the programs of all ranks. Empty where the graph is not known.
    """
    variants = [plan.variant(request) for request in range(plan.period)]
    if graph is None:
        rows = [list(_nominal_rows(variant)) for variant in variants]
        redundant = None
    else:
        rows = [list(_rows(variant, graph, programs)) for variant, programs in zip(variants, turns, strict=True)]
        once = model_flops(graph)
        shares = [redundant_share((rank_flops(graph, program) for program in programs), once) for programs in turns]
        redundant = sum(shares) / len(shares)
    segments = tuple(
        SegmentView(index, segment.layout, segment.ranks, segment.nodes, tuple(map(_mean, zip(*parts, strict=True))))
        for index, (segment, *parts) in enumerate(zip(plan.segments, *rows, strict=True))
    )
    traffic = list(map(traffic_of, turns))
    exchanges = tuple(_exchange([turn.get(index, Traffic()) for turn in traffic]) for index in range(len(segments) + 1))
    return PlanView(plan, segments, exchanges, redundant)


Row = tuple[Part, ...]
"""Every rank's part of a node."""


def _mean(turns: Sequence[Row]) -> Row:
    """Every rank's part of a node from its parts by turn: one that has every other turn does half of the work."""
    count = len(turns)
    return tuple(
        Part(sum(part.share for part in parts) / count, sum(part.again for part in parts) / count)
        for parts in zip(*turns, strict=True)
    )


def _exchange(turns: Sequence[Traffic]) -> Traffic:
    """What an exchange is on average over the turns."""
    if len(turns) == 1:
        return turns[0]
    nbytes: Counter[tuple[int, int]] = Counter()
    for source, target, each in (link for traffic in turns for link in traffic.links):
        nbytes[source, target] += each
    links = ((source, target, round(total / len(turns))) for (source, target), total in sorted(nbytes.items()))
    return Traffic(next((traffic.kind for traffic in turns if traffic.kind), ""), tuple(links))


_LARGE = Value("", (10**12,) * 4, "float32")
"""A value with so many rows, columns and channels that parts of it are as unequal as a layout says."""


def _nominal_rows(plan: Plan) -> Iterator[list[Row]]:
    """Parts of every node of every segment, as far as layouts tell."""
    for segment in plan.segments:
        row = tuple(Part(_own(_LARGE, segment.layout, rank, 1.0)) for rank in range(plan.ranks))
        yield [row] * len(segment.nodes)


def _rows(plan: Plan, graph: Graph, programs: Sequence[Program]) -> Iterator[list[Row]]:
    """Parts of every node of every segment, as the programs have them."""
    blocks: dict[str, dict[int, NodeBlock]] = {}
    for program in programs:
        for block in (block for step in program.computes for block in step.blocks):
            blocks.setdefault(block.node, {})[program.rank] = block
    for segment in plan.segments:
        yield [_row(graph, segment, name, blocks.get(name, {}), plan.ranks) for name in segment.nodes]


def _row(graph: Graph, segment: Segment, name: str, blocks: dict[int, NodeBlock], ranks: int) -> Row:
    """Every rank's part of one node, from the ranks' blocks of it.

    Of a node that is left in parts it is the share of what is summed. What all ranks together hold beyond the whole is
    computed several times; it counts as theirs in proportion to what each holds beyond its shard.
    """
    output = graph.value(graph.nodes[graph.position[name]].writes[0])
    held = {}
    for rank, block in blocks.items():
        read = graph.value(graph.nodes[graph.position[name]].inputs[0]) if block.is_part else output
        seen = block.inputs if block.is_part else block.outputs
        held[rank] = _share(read, next((region for region in seen if region is not None), None))
    excess = max(0.0, sum(held.values()) - 1.0)
    if excess == 0.0 or segment.layout.kind == "replicated":
        return tuple(Part(held.get(rank, 0.0)) for rank in range(ranks))
    beyond = {rank: share - _own(output, segment.layout, rank, share) for rank, share in held.items()}
    shares = beyond if sum(beyond.values()) else held
    again = {rank: excess * share / sum(shares.values()) for rank, share in shares.items()}
    return tuple(Part(held[rank] - again[rank], again[rank]) if rank in held else Part(0.0) for rank in range(ranks))


def _share(value: Value, region: Region | None) -> float:
    """How much of a value a region is; all of one whose shape is not known."""
    return 1.0 if region is None or not value.shape or not value.size else min(1.0, region.size / value.size)


def _own(value: Value, layout: Layout, rank: int, most: float) -> float:
    """The share of a value that the layout gives a rank."""
    if not value.shape or not layout.applies_to(value.shape):
        return most
    region = layout.region(value.shape, rank)
    return 0.0 if region is None else min(most, _share(value, region))


# Where it lies: segments from left to right, wrapped into panels of a given width
#
# Between two segments is a gap for the messages of their exchange, as wide as its label asks for; a label stands above
# its gap and may reach over the segments beside it, but never into another label. All lengths are inches. The one
# difficulty: plans have one node or a thousand, so a segment is as wide as its nodes only between two bounds:
#
#     |gap|--segment--|  gap  |seg|gap|--segment--|gap|

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
    index: int
    links: tuple[tuple[int, int, int], ...]
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

    def with_segment(self, view: PlanView, index: int, measure: Measure) -> Panel:
        """The panel with a segment and the exchange before it, and behind the last segment that of the outputs."""
        panel, segment = self.with_gap(view, index, measure), view.segments[index]
        width = min(WIDEST, max(NARROWEST, NODE * len(segment.nodes)))
        box = SegmentBox(Span(panel.right, panel.right + width), segment)
        panel = replace(panel, boxes=(*panel.boxes, box))
        return panel.with_gap(view, index + 1, measure) if index == len(view.segments) - 1 else panel

    def with_gap(self, view: PlanView, index: int, measure: Measure) -> Panel:
        """The panel with an exchange at its end."""
        end, label_end = self.right, self.label_end
        exchange = view.exchanges[index]
        label = (exchange.kind, sized(exchange.nbytes)) if exchange.links else ()
        half = max(map(measure, label), default=0.0) / 2
        width = OPEN if label else UNKNOWN if view.redundant is None else CLOSED
        if label:
            width = max(width, 2 * (label_end + BETWEEN + half - end))
        span = Span(end, end + width)
        gaps = (*self.gaps, Gap(span, index, exchange.links, label))
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
    """As few panels as hold a plan, of about the same length and none wider than `width`.

    The width of a label or a name is what `measure` gives.
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
    """Panels, each filled before the next is begun."""
    panel = Panel()
    for index in range(len(view.segments)):
        wide = panel.with_segment(view, index, measure)
        if max(wide.right, wide.label_end) > width and panel.boxes:
            yield panel
            wide = Panel().with_segment(view, index, measure)
        panel = wide
    yield panel


def _captions(boxes: Sequence[SegmentBox], width: float, measure: Measure) -> Iterator[Caption]:
    """The name of each segment's first node where there is room, with the shares of ranks where they become unequal.

    Those with shares go first.
    """
    layouts = [box.segment.layout for box in boxes]
    changes = [bool(now.weights) and now != was for was, now in pairwise([None, *layouts]) if now]
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
