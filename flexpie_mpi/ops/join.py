"""Concat, Split, Tile and Expand: pure copies, cut along any axis, the joined or split one included."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.graph import BoundNode
from ..core.region import Bounds, Region, consecutive
from .axes import axis_of, broadcast, is_settled, replaced, whole
from .base import Const, LocalNode, Regions, register
from .copying import Copy
from .crop import crop
from .trim import hull


@register
class Concat(Copy):
    """Inputs laid end to end along ``axis``; inputs that a region does not touch are not read."""

    ops = ("Concat",)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region = hull(out)
        axis = axis_of(node, 1, region.ndim)
        places = consecutive(node.in_shape(place)[axis] for place in range(len(node.inputs)))
        return tuple(_overlap(region, axis, place) for place in places)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        touched = tuple(place for place, region in enumerate(into) if region is not None)
        if len(touched) == 1:
            return (LocalNode("Identity", touched, (0,)),)
        return (LocalNode("Concat", touched, (0,), (("axis", axis_of(node, 1, hull(out).ndim)),)),)


def _overlap(region: Region, axis: int, place: Bounds) -> Region | None:
    """The part of `region` that lies in `place` along `axis`, counted from the start of `place`; None when empty."""
    lo, hi = max(region.bounds[axis][0], place[0]), min(region.bounds[axis][1], place[1])
    return region.with_axis(axis, (lo - place[0], hi - place[0])) if lo < hi else None


@register
class Split(Copy):
    """Consecutive blocks of the input along ``axis``; each wanted region is cut straight out of the input."""

    ops = ("Split",)
    settled = (1,)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        if not is_settled(node, *self.settled):
            return tuple(whole(value) for value in node.inputs)
        return (hull(self._sources(node, out)), *replaced(node, 1))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        held = hull(into)
        sources = enumerate(self._sources(node, out))
        return tuple(crop(node.opset, 0, place, held, source) for place, source in sources if source is not None)

    def _sources(self, node: BoundNode, out: Regions) -> Regions:
        """The region of the input that each wanted region of an output is a copy of."""
        axis = axis_of(node, 0, len(node.in_shape()))
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
        return [min(each, extent - place * each) for place in range(len(node.outputs))]


def _shifted(bounds: Bounds, by: int) -> Bounds:
    return bounds[0] + by, bounds[1] + by


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

    settled = (1,)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (Region(tuple(part.read for part in self._repeats(node, out))), *replaced(node, 1))

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

    settled = (1,)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (broadcast(hull(out), node.inputs[0]), *replaced(node, 1))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return (LocalNode("Expand", (0, Const(hull(out).shape)), (0,)),)
