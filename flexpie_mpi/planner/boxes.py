"""What ranks own of values and what nodes read, for thousands of regions at once.

Rules answer for one region. Along each axis that may be cut only a few distinct ranges occur, and what a node reads is
the intersection of what each axis alone asks for. So a rule is asked once per axis and range, and the rest is
table look-up.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..core.graph import BoundNode, Graph, Value
from ..core.layout import Layout
from ..core.region import Region
from ..lower.forms import Forms
from ..lower.shards import can_cut, is_in_parts, part_block, shard_region
from ..ops import Regions, rule_for, widen
from ..ops.elementwise import Elementwise
from ..testbed import Testbed

FAR = np.int32(1 << 30)
"""Lower bound of a region that is not there; its upper bound is 0."""

TABLE_CODES = 1 << 21
"""Axes with up to this many pairs of bounds find their row in a table; longer ones by sorting."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """n boxes of one value: bounds `lo` and `hi`, int arrays (n, max(ndim, 1)); absent ones are (FAR, 0)."""

    lo: np.ndarray
    hi: np.ndarray

    @classmethod
    def absent(cls, count: int, ndim: int) -> Boxes:
        """Boxes none of which is there."""
        shape = (count, max(ndim, 1))
        return cls(np.full(shape, FAR, np.int32), np.zeros(shape, np.int32))

    @classmethod
    def whole(cls, count: int, shape: Sequence[int]) -> Boxes:
        """All of a value of `shape`, over and over."""
        hi = np.broadcast_to(np.asarray(shape or (1,), np.int32), (count, max(len(shape), 1)))
        return cls(np.zeros_like(hi), hi.copy())

    @property
    def present(self) -> np.ndarray:
        """Which boxes are there: bool array (n,)."""
        return np.asarray(self.lo[:, 0] < self.hi[:, 0])

    @property
    def bounds(self) -> np.ndarray:
        """The same as one array (n, max(ndim, 1), 2)."""
        return np.stack((self.lo, self.hi), axis=-1)

    @property
    def extents(self) -> np.ndarray:
        """Extents of each box, float array (n, max(ndim, 1)); zero where it is absent."""
        return np.maximum(self.hi - self.lo, 0).astype(float)

    @property
    def sizes(self) -> np.ndarray:
        """Elements of each box, float array (n,)."""
        sizes, *others = self.extents.T  # multiplied column by column: rows are short
        for extents in others:
            sizes = sizes * extents
        return np.asarray(sizes)

    def hull(self, other: Boxes) -> Boxes:
        """The smallest boxes around both, pair by pair."""
        return Boxes(np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi))

    def take(self, index: np.ndarray) -> Boxes:
        """The boxes at `index`, or where it is true."""
        if index.dtype == bool:
            index = np.flatnonzero(index)
        return Boxes(self.lo.take(index, 0), self.hi.take(index, 0))

    def join(self, other: Boxes) -> Boxes:
        """These boxes, then the others."""
        return Boxes(np.concatenate((self.lo, other.lo)), np.concatenate((self.hi, other.hi)))


def signature(node: BoundNode) -> Hashable:
    """Two nodes with the same signature read alike."""

    def face(value: Value | None) -> Hashable:
        return None if value is None else (value.shape, value.dtype, value.is_constant, value.data)

    attributes = (node.node.attributes, node.node.domain, node.node.has_opaque_attributes)
    return node.op, attributes, tuple(map(face, node.inputs)), tuple(map(face, node.outputs)), node.opset


@dataclass
class _Axis:
    """What ranges along one output axis read of every input.

    A range [lo, hi) has the code ``lo * (extent + 1) + hi``. `bounds` holds, for each input, what the ranges read that
    were asked for so far, int array (ranges, ndim, 2); `numbers` their rows there by code, and `table` the same as an
    array where the axis is short.
    """

    node: BoundNode
    axis: int
    extent: int
    numbers: dict[int, int] = field(default_factory=dict)
    table: np.ndarray = field(init=False)
    bounds: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        codes = (self.extent + 1) ** 2
        self.table = np.full(codes if codes <= TABLE_CODES else 0, -1, np.int32)
        self.bounds = [np.zeros((0, _axes(value), 2), np.int32) for value in self.node.inputs]

    def find(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """Rows in `bounds` of ranges [lo, hi), int array (n,)."""
        codes = lo.astype(np.int64) * (self.extent + 1) + hi
        if self.table.size:
            numbers = self.table[codes]
            if (numbers >= 0).all():
                return numbers
            self._learn(np.unique(codes[numbers < 0]))
            return self.table[codes]
        distinct, inverse = np.unique(codes, return_inverse=True)
        self._learn(np.array([code for code in distinct if int(code) not in self.numbers], np.int64))
        return np.array([self.numbers[int(code)] for code in distinct], np.int32)[inverse]

    def _learn(self, codes: np.ndarray) -> None:
        """Ask the node's rule about ranges that are new."""
        if not codes.size:
            return
        answers: list[list[np.ndarray]] = []
        rule = rule_for(self.node)
        full = Region.full(self.node.out_shape())
        for code in codes.tolist():
            wanted = full.with_axis(self.axis, divmod(code, self.extent + 1))
            answers.append(_bounds(self.node, rule.in_regions(self.node, (wanted,))))
            self.numbers[code] = len(self.numbers)
        self.bounds = [
            np.concatenate((known, np.stack(more)))
            for known, more in zip(self.bounds, zip(*answers, strict=True), strict=True)
        ]
        if self.table.size:
            self.table[codes] = np.arange(len(self.numbers) - len(codes), len(self.numbers))


def _axes(value: Value | None) -> int:
    return 1 if value is None or value.shape is None else max(1, len(value.shape))


def _bounds(node: BoundNode, regions: Regions) -> list[np.ndarray]:
    """Bounds (ndim, 2) of a region of each input."""
    return [_bounds_of(region, _axes(value)) for value, region in zip(node.inputs, regions, strict=True)]


def _bounds_of(region: Region | None, ndim: int) -> np.ndarray:
    """Bounds (ndim, 2) of a region; (FAR, 0) where there is none."""
    return np.array([(FAR, 0)] * ndim if region is None else region.bounds or ((0, 1),), np.int32)


class NodeMap:
    """Regions read by nodes of one signature, which all have static shapes."""

    def __init__(self, node: BoundNode) -> None:
        rule = rule_for(node)
        self.node = node
        self.cut = rule.cut_axes(node)
        self._axes: dict[int, _Axis] = {}
        self._is_aligned = isinstance(rule, Elementwise) and node.op != "CastLike"
        self._is_separable = len(node.outputs) == 1 and rule.separable
        if self._is_separable:
            shape = node.out_shape()
            self._axes = {axis: _Axis(node, axis, shape[axis]) for axis in sorted(self.cut[0])}
            self._base = _bounds(node, rule.in_regions(node, (Region.full(shape),)))

    def widen(self, out: Sequence[Boxes | None]) -> list[Boxes | None]:
        """The boxes with the full extent of every axis that may not be cut."""
        return [None if box is None else self._widen(box, number) for number, box in enumerate(out)]

    def _widen(self, box: Boxes, number: int) -> Boxes:
        lo, hi, present = box.lo.copy(), box.hi.copy(), box.present
        for axis, extent in enumerate(self.node.out_shape(number)):
            if axis not in self.cut[number]:
                lo[present, axis], hi[present, axis] = 0, extent
        return Boxes(lo, hi)

    def read(self, out: Sequence[Boxes | None]) -> list[Boxes | None]:
        """What widened boxes of the outputs read of each input; None for an absent input.

        Every row of `out` has at least one box that is there.
        """
        if not self._is_separable or out[0] is None:
            return self._read_rows(out)
        box = out[0]
        if self._is_aligned:
            return [None if value is None or value.is_opaque else _aligned(box, value) for value in self.node.inputs]
        count = len(box.lo)
        read = [np.broadcast_to(base, (count, *base.shape)) for base in self._base]
        for axis, ranges in self._axes.items():
            numbers = ranges.find(box.lo[:, axis], box.hi[:, axis])
            read = [_meet(*each, numbers) for each in zip(read, self._base, ranges.bounds, strict=True)]
        return [_boxes_of(value, bounds) for value, bounds in zip(self.node.inputs, read, strict=True)]

    def _read_rows(self, out: Sequence[Boxes | None]) -> list[Boxes | None]:
        """The same for nodes with several outputs: the rule is asked once per distinct row."""
        parts = [part for box in out if box is not None for part in (box.lo, box.hi)]
        distinct, inverse = np.unique(np.concatenate(parts, axis=1), axis=0, return_inverse=True)
        rule = rule_for(self.node)
        answers = [_bounds(self.node, rule.in_regions(self.node, self._regions(row, out))) for row in distinct]
        read = (np.stack(bounds)[inverse.reshape(-1)] for bounds in zip(*answers, strict=True))
        return [_boxes_of(value, bounds) for value, bounds in zip(self.node.inputs, read, strict=True)]

    def _regions(self, row: np.ndarray, out: Sequence[Boxes | None]) -> Regions:
        """The regions of the outputs that one row of their bounds stands for."""
        regions: list[Region | None] = []
        numbers = iter(row.tolist())
        for value, box in zip(self.node.outputs, out, strict=True):
            if box is None:
                regions.append(None)
                continue
            lo, hi = ([next(numbers) for _ in range(box.lo.shape[1])] for _ in range(2))
            is_scalar = value is not None and value.shape == ()
            bounds = () if is_scalar else tuple(zip(lo, hi, strict=True))
            regions.append(Region(bounds) if lo[0] < hi[0] else None)
        return widen(self.node, tuple(regions))


def _boxes_of(value: Value | None, bounds: np.ndarray) -> Boxes | None:
    """Boxes from bounds (n, ndim, 2) of an input; None for one that is absent or opaque."""
    if value is None or value.is_opaque:
        return None
    lo, hi = bounds[..., 0], bounds[..., 1]
    gone = np.asarray((lo >= hi).any(axis=1))
    if gone.any():
        lo, hi = np.where(gone[:, None], FAR, lo), np.where(gone[:, None], 0, hi)
    return Boxes(lo, hi)


def _aligned(box: Boxes, value: Value) -> Boxes:
    """What an operand of an elementwise operator is read of: the same box, but all of an axis that is stretched."""
    shape = value.shape or (1,)
    if len(shape) == box.lo.shape[1] and 1 not in shape:
        return box
    lo, hi = box.lo[:, box.lo.shape[1] - len(shape) :].copy(), box.hi[:, box.lo.shape[1] - len(shape) :].copy()
    stretched = np.array(shape) == 1
    lo[:, stretched], hi[:, stretched] = 0, 1
    return Boxes(lo, hi)


def _meet(known: np.ndarray, base: np.ndarray, table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Intersection of known bounds with what one axis asks for; axes of the input that it leaves alone stay shared."""
    touched = np.flatnonzero((table != base).any(axis=(0, 2))) if len(table) else np.zeros(0, int)
    if not touched.size:
        return known
    result = known.copy()
    for axis in touched:
        asked = table[rows, axis]
        result[:, axis, 0] = np.maximum(result[:, axis, 0], asked[:, 0])
        result[:, axis, 1] = np.minimum(result[:, axis, 1], asked[:, 1])
    return result


# Shards of all candidate layouts


class ShardTable:
    """Candidate layouts laid out as rows, layout after layout and rank after rank.

    `offsets` (L + 1,) is the first row of each layout, `layout` and `rank` (rows,) are those of each row. `slowdown`
    and `active` (rows,) say how much slower than the reference device the rank is, and how much its host is overloaded:
    when all ranks of the layout compute, or as `crowds` says of every rank of the testbed.
    """

    def __init__(
        self, graph: Graph, testbed: Testbed, layouts: Sequence[Layout], crowds: Sequence[float] | None = None
    ) -> None:
        self.graph = graph
        self.ranks = testbed.ranks
        self.layouts = tuple(layouts)
        sizes = [len(layout.ranks) for layout in layouts]
        self.offsets = np.concatenate(([0], np.cumsum(sizes)))
        self.layout = np.repeat(np.arange(len(layouts)), sizes)
        self.rank = np.array([rank for layout in layouts for rank in layout.ranks])
        self.slowdown = np.array([testbed.devices[rank].slowdown for rank in self.rank])
        if crowds is None:
            self.active = np.array([load for layout in layouts for load in testbed.active(layout.ranks)])
        else:
            self.active = np.array([crowds[rank] for rank in self.rank])
        self._forms = Forms(graph, testbed.blocks)
        self._shards: dict[tuple[object, ...], Boxes] = {}
        self._in_parts: dict[str, np.ndarray] = {}
        self._part_reads: dict[str, list[Boxes | None]] = {}
        self._cuts: dict[tuple[str, str, bool], bool] = {}

    @cached_property
    def replicas(self) -> np.ndarray:
        """Layout that holds everything on the team of each layout, int array (L,); -1 where there is none."""
        layouts = list(enumerate(self.layouts))
        holding = {layout.ranks: number for number, layout in layouts if layout.kind == "replicated"}
        holding |= {layout.ranks: number for number, layout in layouts if layout.kind == "single"}
        return np.array([holding.get(layout.ranks, -1) for layout in self.layouts])

    def cuts(self, name: str) -> np.ndarray:
        """Which layouts can cut a value: bool array (L,)."""
        return np.array([self._can_cut(name, layout) for layout in self.layouts])

    def in_parts(self, name: str) -> np.ndarray:
        """Which layouts leave a value in parts: bool array (L,)."""
        if name not in self._in_parts:
            self._in_parts[name] = np.array([is_in_parts(self.graph, name, layout) for layout in self.layouts])
        return self._in_parts[name]

    def part_reads(self, name: str) -> list[Boxes | None]:
        """What every row reads of each input for its part of a value; absent boxes in rows that make no part."""
        if name not in self._part_reads:
            node = self.graph.bound[self.graph.producer[name]]
            blocks = [
                part_block(self.graph, name, layout, rank) if parted else None
                for layout, parted in zip(self.layouts, self.in_parts(name).tolist(), strict=True)
                for rank in layout.ranks
            ]
            nothing = (None,) * len(node.inputs)
            rows = [_bounds(node, nothing if block is None else block.inputs) for block in blocks]
            stacked = (np.stack(bounds) for bounds in zip(*rows, strict=True))
            self._part_reads[name] = [
                _boxes_of(value, bounds) for value, bounds in zip(node.inputs, stacked, strict=True)
            ]
        return self._part_reads[name]

    def shares(self, name: str) -> np.ndarray:
        """Which layouts give several ranks a part of a value: bool array (L,)."""
        counts: np.ndarray = np.add.reduceat(self.owned(name).present, self.offsets[:-1])
        return self.cuts(name) & (counts > 1)

    def are_blocked(self, name: str, box: Boxes, rows: np.ndarray) -> np.ndarray:
        """Whether each of n rows holds its box of a value in blocks of channels, bool array (n,)."""
        return self._forms.are_blocked(self.rank[rows], name, box.lo, box.hi)

    def owned(self, name: str) -> Boxes:
        """What every row answers for of a value."""
        shape = self.graph.value(name).shape or ()
        key = (shape, *self._kinds(name))
        if key not in self._shards:
            regions = [self._region(name, layout, rank) for layout in self.layouts for rank in layout.ranks]
            bounds = np.stack([_bounds_of(region, max(1, len(shape))) for region in regions])
            self._shards[key] = Boxes(bounds[..., 0].copy(), bounds[..., 1].copy())
        return self._shards[key]

    def shape_class(self, name: str) -> tuple[object, ...]:
        """Values of one class are held alike in every layout, and cost the same to move."""
        value = self.graph.value(name)
        return (value.shape, value.itemsize, *self._kinds(name))

    def _kinds(self, name: str) -> tuple[object, ...]:
        """Kinds among the candidates that can cut a value, and those that leave it in parts, and of what."""
        kinds = {(layout.kind, layout.in_parts): layout for layout in self.layouts}
        cutting = (kind for kind, layout in kinds.items() if self._can_cut(name, layout))
        parting = tuple(kind for kind, layout in kinds.items() if is_in_parts(self.graph, name, layout))
        shared = self.graph.bound[self.graph.producer[name]].in_shape() if parting else ()
        return (*cutting, parting, shared)

    def _can_cut(self, name: str, layout: Layout) -> bool:
        key = (name, layout.kind, layout.in_parts)
        if key not in self._cuts:
            made = name in self.graph.producer  # inputs are never spread by a layout, only fetched
            self._cuts[key] = can_cut(self.graph, name, layout) if made else layout.kind in ("replicated", "single")
        return self._cuts[key]

    def _region(self, name: str, layout: Layout, rank: int) -> Region | None:
        if name in self.graph.producer:
            return shard_region(self.graph, name, layout, rank)
        return Region.full(self.graph.value(name).shape or ())
