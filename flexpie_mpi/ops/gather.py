"""Gather and scatter: the axes that indices point into are read whole, all others may be cut.

Where the indices of a Gather are constants, only the range of positions that they name is read. Where they are
computed, ranks may share out the positions, as of a vocabulary: each then leaves its part, which is what it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from ..core.graph import BoundNode
from ..core.region import Region
from .base import AxisRule, Const, Copy, Followed, LocalNode, OpRule, Regions, axes_of, axis_of, hull, register, same


@register
class Gather(Copy):
    """Slabs of the data along ``axis``, one per index: an embedding is cut by tokens and by features."""

    ops = ("Gather",)
    separable = False  # the range of indices in a box is no meeting of ranges

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        data, axis = node.in_shape(0), axis_of(node, 0)
        bounds = hull(out).bounds
        indices = _index_region(node, out)
        positions = _positions(node, indices)
        along = (min(positions), max(positions) + 1) if positions else (0, data[axis])
        slab = (*bounds[:axis], along, *bounds[axis + indices.ndim :])
        return (Region(slab), None if positions else indices)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        indices = _index_region(node, out)
        positions = _positions(node, indices)
        if not positions:
            return (same(node),)
        axis = axis_of(node, 0)
        shifted = tuple(position - min(positions) for position in positions)
        return (LocalNode("Gather", (0, Const(shifted, shape=indices.shape)), (0,), (("axis", axis),)),)

    def combines(self, node: BoundNode) -> str:
        return "add" if node.opset >= 9 and node.constant(1) is None else ""

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        axis = axis_of(node, 0)
        return ([each if each == axis else None for each in range(len(node.in_shape()))],)

    def part(self, node: BoundNode, into: Regions) -> tuple[LocalNode, ...]:
        """Slabs that this share has, and one of -0 in the place of others: whatever is added to that stays as it is.

        That slab is gathered too, since onnxruntime's Where makes 0 of -0. An index that names no position fails on
        every rank, as it would without shares.
        """
        data, indices, axis = into[0], node.inputs[1], axis_of(node, 0)
        assert data is not None and indices is not None and node.inputs[0] is not None, "a share, and all indices"
        (lo, hi), extent, wanted = data.bounds[axis], node.in_shape()[axis], node.in_shape(1)
        along, slab, count = (("axis", axis),), data.with_axis(axis, (0, 1)).shape, prod(wanted)

        def whole(value: int) -> Const:
            return Const((value,), indices.dtype, ())

        return (
            LocalNode("Less", (1, whole(0)), ("from the end",)),
            LocalNode("Where", ("from the end", whole(lo - extent), whole(lo)), ("begin",)),
            LocalNode("Sub", (1, "begin"), ("place",)),
            *_within(whole(-1), "place", whole(hi - lo), "here"),
            *_within(whole(-lo - 1), "place", whole(extent - lo), "somewhere"),
            LocalNode("Where", ("somewhere", whole(0), whole(extent)), ("else",)),
            LocalNode("Where", ("here", "place", "else"), ("index",)),
            LocalNode("Reshape", ("index", Const((count,))), ("row",)),
            LocalNode("Gather", (0, "row"), ("found",), along),
            LocalNode("Expand", (Const((-0.0,), node.inputs[0].dtype, ()), Const(slab)), ("nothing",)),
            LocalNode("Concat", ("found", "nothing"), ("both",), along),
            LocalNode("Where", ("here", Const(tuple(range(count)), indices.dtype, wanted), whole(count)), ("choice",)),
            LocalNode("Gather", ("both", "choice"), (0,), along),
        )


def _within(below: Const, name: str, above: Const, target: str) -> tuple[LocalNode, ...]:
    """Whether numbers are between two others."""
    return (
        LocalNode("Less", (below, name), (f"{target}: above",)),
        LocalNode("Less", (name, above), (f"{target}: below",)),
        LocalNode("And", (f"{target}: above", f"{target}: below"), (target,)),
    )


def _index_region(node: BoundNode, out: Regions) -> Region:
    axis = axis_of(node, 0)
    return Region(hull(out).bounds[axis : axis + len(node.in_shape(1))])


def _positions(node: BoundNode, region: Region) -> tuple[int, ...]:
    """Positions that a region of constant indices names, row by row; empty when the indices are not known.

    Raises ValueError for an index that is no position.
    """
    data = node.constant(1)
    if data is None:
        return ()
    extent = node.in_shape(0)[axis_of(node, 0)]
    shape = node.in_shape(1)
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    points = product(*(range(lo, hi) for lo, hi in region.bounds))
    flat = (sum(i * stride for i, stride in zip(point, strides, strict=True)) for point in points)
    return tuple(_position(int(data[index]), extent) for index in flat)


def _position(index: int, extent: int) -> int:
    if not -extent <= index < extent:
        raise ValueError(f"index {index} into {extent} positions")
    return index % extent


@register
class GatherElements(AxisRule):
    """One element of the data per index, at the index's own place except along ``axis``."""

    ops = ("GatherElements",)
    element_flops = 0

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        axes, axis = range(len(node.in_shape())), axis_of(node, 0)
        return ([None if index == axis else index for index in axes], axes)


@register
class GatherND(AxisRule):
    """Slabs of the data at the points that the last axis of the indices holds, behind ``batch_dims`` shared axes."""

    ops = ("GatherND",)
    element_flops = 0

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        indices, batch = node.in_shape(1), int(node.attribute("batch_dims", 0))
        pointed, points = (None,) * indices[-1], range(len(indices) - 1)
        return ((*range(batch), *pointed, *range(len(points), len(node.out_shape()))), (*points, None))


@register
class ScatterElements(OpRule):
    """Updates written over single elements of the data, at their own place except along ``axis``."""

    ops = ("ScatterElements", "Scatter")

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node, axis_of(node, 0))

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region, extents, axis = hull(out), node.in_shape(1), axis_of(node, 0)
        touched = region.clip(extents).with_axis(axis, (0, extents[axis]))
        updates = None if touched.is_empty else touched
        return (region, updates, updates)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """The node itself; beyond the extent of the indices nothing is written."""
        return (LocalNode("Identity", (0,), (0,)),) if into[1] is None else (same(node),)


@register
class ScatterND(AxisRule):
    """Slabs written over the data at points; the axes behind the points are copied one to one."""

    ops = ("ScatterND",)

    def axes(self, node: BoundNode) -> range:
        return range(node.in_shape(1)[-1])

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        (data,), indices = super().follows(node), node.in_shape(1)
        return (data, (None,) * len(indices), (*(None,) * (len(indices) - 1), *data[indices[-1] :]))


@register
class TensorScatter(AxisRule):
    """New positions of each item, written over those of a cache from the place on that the item has."""

    ops = ("TensorScatter",)
    element_flops = 0

    def axes(self, node: BoundNode) -> tuple[int]:
        return (axis_of(node, -2),)

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        (data,) = super().follows(node)
        return (data, data, (0,))
