"""Concat, Split, Slice, Tile and Expand: pure copies, cut along any axis, the joined or split one included."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.graph import BoundNode
from ..core.region import Bounds, Region, consecutive
from .base import (
    Const,
    Copy,
    LocalNode,
    Regions,
    aligned,
    axis_of,
    crop,
    hull,
    parameters,
    read_by,
    register,
    slice_node,
    whole,
)


@register
class Concat(Copy):
    """Inputs laid end to end along ``axis``; inputs that a region does not touch are not read."""

    ops = ("Concat",)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region = hull(out)
        axis = axis_of(node, 1)
        blocks = consecutive(node.in_shape(index)[axis] for index in range(len(node.inputs)))
        return tuple(_overlap(region, axis, block) for block in blocks)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        touched = tuple(index for index, region in enumerate(into) if region is not None)
        if len(touched) == 1:
            return (LocalNode("Identity", touched, (0,)),)
        return (LocalNode("Concat", touched, (0,), (("axis", axis_of(node, 1)),)),)


@register
class QLinearConcat(Concat):
    """The same of quantised data, in threes: data, its scale and its zero point, behind those of the result."""

    domain = "com.microsoft"
    ops = ("QLinearConcat",)
    element_flops = 1

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region, data = hull(out), range(2, len(node.inputs), 3)
        axis = node.attribute("axis") % len(region.bounds)
        blocks = consecutive(node.in_shape(index)[axis] for index in data)
        regions = list(map(whole, node.inputs))
        for index, block in zip(data, blocks, strict=True):
            regions[index] = _overlap(region, axis, block)
            if regions[index] is None:
                regions[index : index + 3] = [None] * 3
        return tuple(regions)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        touched = tuple(index for index, region in enumerate(into) if region is not None)
        return (LocalNode(node.op, touched, (0,), (("axis", node.attribute("axis")),), self.domain),)


def _overlap(region: Region, axis: int, block: Bounds) -> Region | None:
    """The part of `region` that lies in `block` along `axis`, counted from the start of `block`; None when empty."""
    lo, hi = max(region.bounds[axis][0], block[0]), min(region.bounds[axis][1], block[1])
    return region.with_axis(axis, (lo - block[0], hi - block[0])) if lo < hi else None


@register
class Split(Copy):
    """Consecutive blocks of the input along ``axis``; each wanted region is cut straight out of the input."""

    ops = ("Split",)
    known = (1,)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (hull(self._sources(node, out)), *parameters(node, 1))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        held = hull(into)
        sources = enumerate(self._sources(node, out))
        return tuple(crop(node.opset, 0, output, held, source) for output, source in sources if source is not None)

    def _sources(self, node: BoundNode, out: Regions) -> Regions:
        """The region of the input that each wanted region of an output is a copy of."""
        axis = axis_of(node, 0)
        starts = (lo for lo, _ in consecutive(self._extents(node, axis)))
        return tuple(
            None if region is None else region.with_axis(axis, _shifted(region.bounds[axis], start))
            for region, start in zip(out, starts, strict=True)
        )

    def _extents(self, node: BoundNode, axis: int) -> list[int]:
        """Extent of each output along `axis`; equal but for the last unless the node says otherwise."""
        sizes = node.constant_or_attribute("split", 1)
        if sizes:
            return [int(size) for size in sizes]
        extent = node.in_shape()[axis]
        each = -(-extent // int(node.attribute("num_outputs", len(node.outputs))))
        return [min(each, extent - index * each) for index in range(len(node.outputs))]


def _shifted(bounds: Bounds, by: int) -> Bounds:
    return bounds[0] + by, bounds[1] + by


@register
class Slice(Copy):
    """A box, possibly with steps, out of the input, by attributes before opset 10 and by inputs since.

    Any box of the result is again a Slice.
    """

    ops = ("Slice",)
    known = (1, 2, 3, 4)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        pairs = zip(_taken(node), hull(out).bounds, strict=True)
        return (Region(tuple(_read(taken[lo:hi]) for taken, (lo, hi) in pairs)), *parameters(node, 1))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """A Slice of the axes with a step: the others are read as they are wanted.

        Backwards the end is one before position 0, written as far before the last position as it takes.
        """
        held = hull(into).shape
        stepped = [(axis, taken.step) for axis, taken in enumerate(_taken(node)) if taken.step != 1]
        if not stepped:
            return (LocalNode("Identity", (0,), (0,)),)
        axes, steps = zip(*stepped, strict=True)
        starts = tuple(0 if step > 0 else held[axis] - 1 for axis, step in stepped)
        ends = tuple(held[axis] if step > 0 else -held[axis] - 1 for axis, step in stepped)
        return (slice_node(node.opset, 0, 0, starts, ends, axes, steps=steps),)


def _taken(node: BoundNode) -> list[range]:
    """Positions of the input that the node takes along each axis."""
    shape = node.in_shape()
    starts, ends = node.constant_or_attribute("starts", 1), node.constant_or_attribute("ends", 2)
    axes = node.constant_or_attribute("axes", 3) or range(len(starts))
    steps = node.constant(4) or (1,) * len(starts)
    taken = [range(extent) for extent in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        extent = shape[int(axis)]
        taken[int(axis)] = range(*slice(int(start), int(end), int(step)).indices(extent))
    return taken


def _read(positions: range) -> Bounds:
    """Smallest bounds that hold all positions."""
    first, last = sorted((positions[0], positions[-1]))
    return first, last + 1


@dataclass(frozen=True, slots=True)
class _Repeat:
    """Along one axis: the bounds read, how often they are laid end to end, and where the wanted range then starts."""

    read: Bounds
    copies: int
    start: int


def _repeat(extent: int, wanted: Bounds) -> _Repeat:
    """How to make range `wanted` of an axis that repeats `extent` elements over and over."""
    first, last = wanted[0] // extent, (wanted[1] - 1) // extent
    if first == last:
        return _Repeat(_shifted(wanted, -first * extent), 1, 0)
    return _Repeat((0, extent), last - first + 1, wanted[0] - first * extent)


@register
class Tile(Copy):
    """The input repeated along each axis."""

    ops = ("Tile",)
    known = (1,)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (Region(tuple(part.read for part in self._repeats(node, out))), *parameters(node, 1))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        parts, wanted = self._repeats(node, out), hull(out)
        made = Region(
            tuple(
                (lo - part.start, lo - part.start + part.copies * (part.read[1] - part.read[0]))
                for part, (lo, _) in zip(parts, wanted.bounds, strict=True)
            )
        )
        repeats = Const(tuple(part.copies for part in parts))
        if made == wanted:
            return (LocalNode("Tile", (0, repeats), (0,)),)
        return LocalNode("Tile", (0, repeats), ("repeated",)), crop(node.opset, "repeated", 0, made, wanted)

    def _repeats(self, node: BoundNode, out: Regions) -> list[_Repeat]:
        return [_repeat(extent, wanted) for extent, wanted in zip(node.in_shape(), hull(out).bounds, strict=True)]


@register
class Expand(Copy):
    """The input broadcast to a constant shape."""

    ops = ("Expand",)
    known = (1,)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (read_by(hull(out), node.inputs[0], aligned(node)[0]), *parameters(node, 1))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return (LocalNode("Expand", (0, Const(hull(out).shape)), (0,)),)
