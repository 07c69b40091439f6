"""Transpose, reshapes (Flatten, Squeeze and Unsqueeze among them), and blocks of pixels traded for channels.

A reshape pairs up runs of axes with equal numbers of elements; each pair is a *group* in which elements keep their
order. Within a group the leading axis of the output may be cut: the box is then one contiguous range of the group, and
so lies in a contiguous range of the input's leading axis::

    input  (8, 6, 10)  ->  output (48, 2, 5)         groups: (8, 6 | 48) and (10 | 2, 5)
    output rows 7:20 of 48  <-  input rows 1:4 of 8, whole along 6, then cropped to 7:20
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .base import AxisRule, Const, Copy, Followed, LocalNode, Regions, crop, hull, parameters, register, same, trimmed


@register
class Transpose(AxisRule):
    """Axes in another order, by default reversed."""

    ops = ("Transpose",)
    element_flops = 0

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        axes = range(len(node.in_shape()))
        order = node.attribute("perm") or axes[::-1]
        return ([order.index(axis) for axis in axes],)


@dataclass(frozen=True, slots=True)
class Group:
    """Axes ``[first, end)`` of the input and of the output that hold the same elements in the same order."""

    source: tuple[int, int]
    target: tuple[int, int]


@lru_cache(maxsize=1024)
def groups(source: tuple[int, ...], target: tuple[int, ...]) -> tuple[Group, ...]:
    """The smallest groups that two shapes of equal size fall into; axes of extent 1 join a neighbour.

    >>> [(g.source, g.target) for g in groups((8, 6, 10), (48, 2, 5))]
    [((0, 2), (0, 1)), ((2, 3), (1, 3))]
    """
    pairs, i, j = [], 0, 0
    while i < len(source) and j < len(target):
        first = i, j
        left, right = source[i], target[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * source[i], i + 1
            else:
                right, j = right * target[j], j + 1
        pairs.append(Group((first[0], i), (first[1], j)))
    last = pairs.pop() if pairs else Group((0, 0), (0, 0))  # only axes of extent 1 are left on either side
    return (*pairs, Group((last.source[0], len(source)), (last.target[0], len(target))))


@dataclass(frozen=True, slots=True)
class _Move:
    """What one group of a cut reshape does: flat ranges, counted in elements of the group."""

    read: tuple[Bounds, ...]
    held: Bounds
    wanted: Bounds


def _move(group: Group, source: Sequence[int], target: Sequence[int], region: Region) -> _Move:
    """The input bounds that a group reads for `region`, which is cut along the group's leading output axis only."""
    wanted = _flat_range(target[slice(*group.target)], region.bounds[slice(*group.target)])
    extents = source[slice(*group.source)]
    read = _cover(extents, wanted)
    return _Move(read, _flat_range(extents, read), wanted)


def _flat_range(extents: Sequence[int], bounds: Sequence[Bounds]) -> Bounds:
    """Range of flat positions that a box spans when only its first axis longer than one position is cut."""
    lo = hi = 0
    for extent, (first, end) in zip(extents, bounds, strict=True):
        lo, hi = lo * extent + first, hi * extent + end - 1
    return lo, hi + 1


def _cover(extents: Sequence[int], flat: Bounds) -> tuple[Bounds, ...]:
    """The smallest box that is contiguous and holds the flat range: narrow up to the first axis that it spans.

    >>> _cover((8, 6), (7, 20)), _cover((8, 6), (7, 9))
    (((1, 4), (0, 6)), ((1, 2), (1, 3)))
    """
    bounds: list[Bounds] = []
    (lo, hi), rest = flat, prod(extents)
    for axis, extent in enumerate(extents):
        rest //= extent
        first, end = lo // rest, -(-hi // rest)
        bounds.append((first, end))
        if end - first > 1:
            return (*bounds, *((0, n) for n in extents[axis + 1 :]))
        lo, hi = lo - first * rest, hi - first * rest
    return tuple(bounds)


@register
class Reshape(Copy):
    """Reshape and its special cases; static shapes on both sides say all there is to know."""

    ops = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
    known = (1,)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        shape = node.out_shape()
        leading = (_leading(shape, group) for group in groups(node.in_shape(), shape))
        return (frozenset(axis for axis in leading if axis is not None),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        read = tuple(bounds for move in self._moves(node, out) for bounds in move.read)
        return (Region(read), *parameters(node, 1))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        moves, shape = self._moves(node, out), hull(out).shape
        held = Region(tuple(move.held for move in moves))
        wanted = Region(tuple(move.wanted for move in moves))
        if held == wanted:
            return (LocalNode("Reshape", (0, Const(shape)), (0,)),)
        flat = LocalNode("Reshape", (0, Const(held.shape)), ("flat",))
        if wanted.shape == shape:
            return flat, crop(node.opset, "flat", 0, held, wanted)
        cut = crop(node.opset, "flat", "cut", held, wanted)
        return flat, cut, LocalNode("Reshape", ("cut", Const(shape)), (0,))

    def _moves(self, node: BoundNode, out: Regions) -> list[_Move]:
        source, target = node.in_shape(), node.out_shape()
        return [_move(group, source, target, hull(out)) for group in groups(source, target)]


def _leading(shape: tuple[int, ...], group: Group) -> int | None:
    """The first axis of a group's output side that is longer than 1, or its first axis when none is."""
    axes = range(*group.target)
    return next((axis for axis in axes if shape[axis] > 1), axes[0] if axes else None)


@register
class DepthToSpace(Copy):
    """(N, C * b * b, H, W) to (N, C, H * b, W * b).

    In mode CRD the inputs of an output channel lie together. In mode DCR they are C apart, so that a cut by channels
    reads the hull, from the first block's to the last's, and picks from it.
    """

    ops = ("DepthToSpace",)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        batch, (lo, hi), *spatial = hull(out).bounds
        block, area, channels = _block(node), _block(node) ** 2, node.out_shape()[1]
        depth = (lo * area, hi * area) if _is_crd(node) else (lo, (area - 1) * channels + hi)
        return (Region((batch, depth, *(_shrunk(bounds, block) for bounds in spatial))),)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        (held,), region, block, channels = into, hull(out), _block(node), node.out_shape()[1]
        assert held is not None
        computed = Region((*region.bounds[:2], *(_grown(bounds, block) for bounds in held.bounds[2:])))
        nodes = trimmed(node.opset, same(node), (computed,), out)
        lo, hi = region.bounds[1]
        if _is_crd(node) or hi - lo == channels:
            return nodes
        picked = tuple(offset * channels + channel for offset in range(block * block) for channel in range(hi - lo))
        gather = LocalNode("Gather", (0, Const(picked)), ("picked",), (("axis", 1),))
        first = LocalNode(node.op, ("picked",), nodes[0].outputs, inherit=True)
        return (gather, first, *nodes[1:])


@register
class SpaceToDepth(Copy):
    """(N, C, H * b, W * b) to (N, C * b * b, H, W): output channel ``k * C + c`` holds pixel k of every block."""

    ops = ("SpaceToDepth",)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        batch, depth, *spatial = hull(out).bounds
        return (Region((batch, _pixels(node, depth)[1], *(_grown(bounds, _block(node)) for bounds in spatial))),)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """All pixels of the channels read, of which the wanted ones are then consecutive."""
        region, area = hull(out), _block(node) ** 2
        pixel, (lo, hi) = _pixels(node, region.bounds[1])
        first = pixel * (node.in_shape()[1] - (hi - lo)) + lo
        computed = region.with_axis(1, (first, first + area * (hi - lo)))
        return trimmed(node.opset, same(node), (computed,), out)


def _pixels(node: BoundNode, depth: Bounds) -> tuple[int, Bounds]:
    """The pixel in a block and the input channels of output channels `depth`; (0, all) when they span pixels.

    In mode CRD (from opset 28 on) every range of them does.
    """
    channels = node.in_shape()[1]
    pixel, lo = divmod(depth[0], channels)
    hi = lo + depth[1] - depth[0]
    return (pixel, (lo, hi)) if hi <= channels and not _is_crd(node) else (0, (0, channels))


def _block(node: BoundNode) -> int:
    return int(node.attribute("blocksize"))


def _is_crd(node: BoundNode) -> bool:
    return bool(node.attribute("mode", "DCR") == "CRD")


def _shrunk(bounds: Bounds, block: int) -> Bounds:
    """The blocks that hold `bounds`."""
    return bounds[0] // block, -(-bounds[1] // block)


def _grown(bounds: Bounds, block: int) -> Bounds:
    """The pixels of the blocks `bounds`."""
    return bounds[0] * block, bounds[1] * block
