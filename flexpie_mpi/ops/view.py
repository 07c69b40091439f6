"""Transpose, and the operators that change a shape without moving an element: Reshape, Flatten, Squeeze, Unsqueeze.

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
from .axes import is_settled, replaced
from .base import Const, LocalNode, OpRule, Regions, register
from .copying import Copy
from .crop import crop
from .trim import hull


@register
class Transpose(Copy):
    """Axes in another order, by default reversed."""

    ops = ("Transpose",)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region = hull(out)
        order = node.attribute("perm") or tuple(reversed(range(region.ndim)))
        bounds = dict(zip(order, region.bounds, strict=True))
        return (Region(tuple(bounds[axis] for axis in range(region.ndim))),)


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
    found, i, j = [], 0, 0
    while i < len(source) and j < len(target):
        first = i, j
        left, right = source[i], target[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * source[i], i + 1
            else:
                right, j = right * target[j], j + 1
        found.append(Group((first[0], i), (first[1], j)))
    last = found.pop() if found else Group((0, 0), (0, 0))  # only axes of extent 1 are left on either side
    return (*found, Group((last.source[0], len(source)), (last.target[0], len(target))))


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
    for place, extent in enumerate(extents):
        rest //= extent
        first, end = lo // rest, -(-hi // rest)
        bounds.append((first, end))
        if end - first > 1:
            return (*bounds, *((0, n) for n in extents[place + 1 :]))
        lo, hi = lo - first * rest, hi - first * rest
    return tuple(bounds)


@register
class Reshape(OpRule):
    """Reshape and its special cases; static shapes on both sides say all there is to know."""

    ops = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        if not is_settled(node, 1):
            return super().cut_axes(node)
        shape = node.out_shape()
        leading = (_leading(shape, group) for group in groups(node.in_shape(), shape))
        return (frozenset(axis for axis in leading if axis is not None),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        read = tuple(bounds for move in self._moves(node, out) for bounds in move.read)
        return (Region(read), *replaced(node, 1))

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

    def flops(self, node: BoundNode, out: Regions) -> int:
        return 0

    def _moves(self, node: BoundNode, out: Regions) -> list[_Move]:
        source, target = node.in_shape(), node.out_shape()
        return [_move(group, source, target, hull(out)) for group in groups(source, target)]


def _leading(shape: tuple[int, ...], group: Group) -> int | None:
    """The first axis of a group's output side that is longer than 1, or its first axis when none is."""
    axes = range(*group.target)
    return next((axis for axis in axes if shape[axis] > 1), axes[0] if axes else None)
