"""Matrix products: output rows read rows of the left operand, output columns read columns of the right one.

The summed axis is always read whole, so a rank that wants some output features holds only their weights::

              N                          n
        +-----------+                  +---+
      K |     b     |       needs    K | b |
        +-----------+                  +---+
"""

from __future__ import annotations

from typing import ClassVar

from ..core.graph import BoundNode, Value
from ..core.region import Bounds, Region
from .axes import axes_of, broadcast, broadcast_bounds, whole
from .base import OpRule, Regions, macs, register
from .trim import hull

Axes = tuple[Bounds, ...]


@register
class MatMul(OpRule):
    """Stacked matrix product with numpy's rules: batch axes broadcast, operands with one axis are vectors."""

    ops = ("MatMul",)
    right: ClassVar[int] = 1
    """Place of the right operand among the inputs."""

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        batch, rows, columns = self._parts(node, out)
        left, right = node.in_shape(0), node.in_shape(self.right)
        regions = [whole(value) for value in node.inputs]
        regions[0] = Region((*broadcast_bounds(batch, left[:-2]), *rows, (0, left[-1])))
        summed = (0, right[-2] if len(right) > 1 else right[0])
        regions[self.right] = Region((*broadcast_bounds(batch, right[:-2]), summed, *columns))
        return tuple(regions)

    def flops(self, node: BoundNode, out: Regions) -> int:
        return macs(hull(out).size * node.in_shape(0)[-1])

    def _parts(self, node: BoundNode, out: Regions) -> tuple[Axes, Axes, Axes]:
        """Bounds of the batch axes, the row axis and the column axis; the last two are empty beside vectors."""
        bounds = hull(out).bounds
        rows, columns = len(node.in_shape(0)) > 1, len(node.in_shape(self.right)) > 1
        batch = len(bounds) - rows - columns
        return bounds[:batch], bounds[batch : batch + rows], bounds[batch + rows :]


class QuantisedMatMul(MatMul):
    """Product whose scales and zero points are one for all, or one per row (left, result) or per column (right)."""

    by_row: ClassVar[tuple[int, ...]] = ()
    by_column: ClassVar[tuple[int, ...]] = ()

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        batch, rows, columns = self._parts(node, out)
        regions = list(super().in_regions(node, out))
        for places, along in ((self.by_row, rows), (self.by_column, columns)):
            for place in places:
                if node.has_input(place):
                    regions[place] = _parameter(node.inputs[place], batch, along, place in self.by_row)
        return tuple(regions)


def _parameter(value: Value | None, batch: Axes, along: Axes, is_row: bool) -> Region | None:
    """Region of a scale or zero point: of shape (), (1), (M) or (N), or (..., M, 1) or (..., 1, N)."""
    shape = () if value is None else value.shape or ()
    if len(shape) < 2:
        return broadcast(Region(along), value)
    matrix = (*along, (0, 1)) if is_row else ((0, 1), *along)
    return broadcast(Region((*batch, *matrix)), value)


@register
class MatMulInteger(QuantisedMatMul):
    """Product of integer matrices with zero points, summed in 32 bits."""

    ops = ("MatMulInteger",)
    by_row = (2,)
    by_column = (3,)


@register
class QLinearMatMul(QuantisedMatMul):
    """Product of quantised matrices with a quantised result."""

    ops = ("QLinearMatMul",)
    right = 3
    by_row = (1, 2, 6, 7)
    by_column = (4, 5)


@register
class Gemm(OpRule):
    """``alpha * A' B' + beta * C`` where A' and B' may be transposed and C broadcasts to (M, N)."""

    ops = ("Gemm",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        rows, columns = hull(out).bounds
        summed = (0, _summed(node))
        left = (summed, rows) if node.attribute("transA", 0) else (rows, summed)
        right = (columns, summed) if node.attribute("transB", 0) else (summed, columns)
        added = (broadcast(hull(out), value) for value in node.inputs[2:])
        return (Region(left), Region(right), *added)

    def flops(self, node: BoundNode, out: Regions) -> int:
        return macs(hull(out).size * (_summed(node) + node.has_input(2)))


def _summed(node: BoundNode) -> int:
    """Extent of the axis that a Gemm sums over."""
    return node.in_shape(0)[0 if node.attribute("transA", 0) else 1]
