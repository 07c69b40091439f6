"""Slice: a box, possibly with steps, out of the input; any box of the result is again a Slice."""

from __future__ import annotations

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .axes import is_settled, replaced, whole
from .base import LocalNode, Regions, register
from .copying import Copy
from .crop import slice_node
from .trim import hull


@register
class Slice(Copy):
    """Start, end and step along some axes; attributes before opset 10 and inputs since."""

    ops = ("Slice",)
    settled = (1, 2, 3, 4)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        if not is_settled(node, *self.settled):
            return tuple(whole(value) for value in node.inputs)
        pairs = zip(_taken(node), hull(out).bounds, strict=True)
        return (Region(tuple(_read(taken[lo:hi]) for taken, (lo, hi) in pairs)), *replaced(node, 1))

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
        return (slice_node(node.opset, 0, 0, starts, ends, axes, steps),)


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
