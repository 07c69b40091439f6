"""Matrix products and Einsum: output rows read rows of the left operand, output columns read columns of the right one.

What is summed over is always read whole, so a rank that wants some output features holds only their weights::

              N                          n
        +-----------+                  +---+
      K |     b     |       needs    K | b |
        +-----------+                  +---+
"""

from __future__ import annotations

from math import prod
from typing import ClassVar

from ..core.graph import BoundNode, Value
from ..core.region import Bounds, Region
from .base import AxisRule, Regions, broadcast, broadcast_bounds, hull, macs, register, whole

Axes = tuple[Bounds, ...]


@register
class MatMul(AxisRule):
    """Stacked matrix product with numpy's rules: batch axes broadcast, operands with one axis are vectors."""

    ops = ("MatMul",)
    right: ClassVar[int] = 1
    """Index of the right operand among the inputs."""

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        batch, rows, columns = self._parts(node, out)
        left, right = node.in_shape(0), node.in_shape(self.right)
        regions = list(map(whole, node.inputs))
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
        for indices, along in ((self.by_row, rows), (self.by_column, columns)):
            for index in indices:
                if node.has_input(index):
                    regions[index] = _parameter(node.inputs[index], batch, along, index in self.by_row)
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
class Gemm(AxisRule):
    """``alpha * A' B' + beta * C`` where A' and B' may be transposed and C broadcasts to (M, N)."""

    ops = ("Gemm",)

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


@register
class Einsum(AxisRule):
    """Einstein summation: an output axis may be cut when its label names axes of the inputs; other labels are summed.

    Equations with an ellipsis are run whole.
    """

    ops = ("Einsum",)

    def applies(self, node: BoundNode) -> bool:
        return "." not in str(node.attribute("equation", ""))

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        terms, result = _labels(node)
        bounds = dict(zip(result, hull(out).bounds, strict=True))
        return tuple(
            Region(tuple((0, 1) if n == 1 else bounds.get(label, (0, n)) for label, n in self._extents(node, index)))
            for index in range(len(terms))
        )

    def flops(self, node: BoundNode, out: Regions) -> int:
        terms, result = _labels(node)
        pairs = sorted(pair for index in range(len(terms)) for pair in self._extents(node, index))
        extents = dict(pairs)  # the largest of each label, where another is 1 and broadcast
        return macs(hull(out).size * prod(extent for label, extent in extents.items() if label not in result))

    def _extents(self, node: BoundNode, index: int) -> list[tuple[str, int]]:
        """(label, extent) of every axis of an input."""
        return list(zip(_labels(node)[0][index], node.in_shape(index), strict=True))


def _labels(node: BoundNode) -> tuple[list[str], str]:
    """Labels of each input's axes and of the output's.

    Without an arrow the output has every label that occurs once, in alphabetical order.
    """
    equation = str(node.attribute("equation", "")).replace(" ", "")
    left, arrow, result = equation.partition("->")
    if not arrow:
        letters = left.replace(",", "")
        result = "".join(sorted(label for label in set(letters) if letters.count(label) == 1))
    return left.split(","), result
