"""Matrix products and Einsum: output rows read rows of the left operand, output columns read columns of the right one.

What is summed over is always read whole, so a rank that wants some output features holds only their weights::

              N                          n
        +-----------+                  +---+
      K |     b     |       needs    K | b |
        +-----------+                  +---+
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from ..core.graph import BoundNode
from ..core.region import Region
from .base import (
    AxisRule,
    Followed,
    LocalNode,
    OpRule,
    Regions,
    aligned,
    axes_of,
    hull,
    macs,
    register,
    same,
    whole,
    without,
)


@register
class MatMul(AxisRule):
    """Stacked matrix product with numpy's rules: batch axes broadcast, operands with one axis are vectors."""

    ops = ("MatMul",)
    by_row: ClassVar[tuple[int, ...]] = (0,)
    """Inputs whose rows, or only axis, are those of the result: the left operand, its scales and zero points."""
    by_column: ClassVar[tuple[int, ...]] = (1,)
    """The same of columns, the right operand first."""

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        """Scales and zero points have shape (..., M, 1) or (..., 1, N), or one axis."""
        has_rows, has_columns = (len(node.in_shape(side[0])) > 1 for side in (self.by_row, self.by_column))
        batch = len(node.out_shape()) - has_rows - has_columns
        row, column = batch if has_rows else None, batch + has_rows if has_columns else None

        def axes(index: int, ndim: int) -> Followed:
            is_row = index in self.by_row
            if ndim < 2:
                return (row if is_row else column,) * ndim
            return (*range(batch - ndim + 2, batch), *((row, None) if is_row else (None, column)))

        shapes = [(value.shape if value is not None else None) or () for value in node.inputs]
        return [axes(index, len(shape)) for index, shape in enumerate(shapes)]

    def combines(self, node: BoundNode) -> str:
        return "add"

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        """Columns of the left operand, and the rows, or only axis, of the right one."""
        summed, stacked = len(node.in_shape(0)) - 1, len(node.in_shape(1)) - 2
        right = (summed,) if stacked < 0 else (*(None,) * stacked, summed, None)
        return ((*(None,) * summed, summed), right)

    def flops(self, node: BoundNode, out: Regions) -> int:
        return macs(hull(out).size * node.in_shape(0)[-1])


@register
class FusedMatMul(MatMul):
    """The same times a number, of operands whose last two axes may be turned."""

    domain = "com.microsoft"
    ops = ("FusedMatMul",)

    def applies(self, node: BoundNode) -> bool:
        """Not where a batch axis is turned as well."""
        return not (node.attribute("transBatchA", 0) or node.attribute("transBatchB", 0))

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        return _turned(node, super().follows(node))

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        """Of a turned left operand, what is summed over is the last axis but one."""
        left, right = _turned(node, super().part_axes(node))
        summed = max(axis for axis, own in enumerate(left) if own is not None)
        return tuple([None if axis is None else summed for axis in axes] for axes in (left, right))

    def flops(self, node: BoundNode, out: Regions) -> int:
        summed = node.in_shape(0)[-2 if _turns(node, 0) else -1]
        return macs(hull(out).size * summed)


def _turns(node: BoundNode, operand: int) -> bool:
    """Whether an operand of a FusedMatMul is turned; a vector is not."""
    return bool(node.attribute(("transA", "transB")[operand], 0)) and len(node.in_shape(operand)) > 1


def _turned(node: BoundNode, axes: Sequence[Followed]) -> list[Followed]:
    """What the axes of both operands follow, of axes as they are once turned."""
    return [(*each[:-2], each[-1], each[-2]) if _turns(node, index) else each for index, each in enumerate(axes)]


@register
class MatMulInteger(MatMul):
    """Product of integer matrices with zero points, summed in 32 bits."""

    ops = ("MatMulInteger",)
    by_row = (0, 2)
    by_column = (1, 3)


@register
class QLinearMatMul(MatMul):
    """Product of quantised matrices with a quantised result."""

    ops = ("QLinearMatMul",)
    by_row = (0, 1, 2, 6, 7)
    by_column = (3, 4, 5)

    def combines(self, node: BoundNode) -> str:
        """Parts would be rounded before they are added."""
        return ""


@register
class Gemm(AxisRule):
    """``alpha * A' B' + beta * C`` where A' and B' may be transposed and C broadcasts to (M, N)."""

    ops: ClassVar[tuple[str, ...]] = ("Gemm",)
    added_once = (2,)

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        left = (None, 0) if node.attribute("transA", 0) else (0, None)
        right = (1, None) if node.attribute("transB", 0) else (None, 1)
        return (left, right, *aligned(node, 2))

    def combines(self, node: BoundNode) -> str:
        """Before opset 11 the summand C cannot be left out."""
        return "add" if node.opset >= 11 or not node.has_input(2) else ""

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        left = (0, None) if node.attribute("transA", 0) else (None, 1)
        summed = max(axis for axis in left if axis is not None)
        return (left, (None, summed) if node.attribute("transB", 0) else (summed, None))

    def flops(self, node: BoundNode, out: Regions) -> int:
        summed = node.in_shape(0)[0 if node.attribute("transA", 0) else 1]
        return macs(hull(out).size * (summed + node.has_input(2)))


@register
class QGemm(Gemm):
    """The same of quantised matrices, with a scale and a zero point behind each, and C of 32-bit integers."""

    domain = "com.microsoft"
    ops = ("QGemm",)

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        """Scales and zero points of the right operand may have one element per column."""
        left, right = super().follows(node)[:2]
        columns, summand = aligned(node, 4)[:2], aligned(node, 6)[:1]
        return (left, *([None] * len(axes) for axes in aligned(node, 1)[:2]), right, *columns, *summand)

    def combines(self, node: BoundNode) -> str:
        """Parts would be rounded before they are added."""
        return ""

    def flops(self, node: BoundNode, out: Regions) -> int:
        return macs(hull(out).size * node.in_shape()[0 if node.attribute("transA", 0) else 1])


@register
class MatMulNBits(OpRule):
    """Product of data (..., K) with a matrix of few bits, packed along K in blocks: (N, blocks, bytes of a block).

    Columns of the result are rows of the packed matrix, so that nothing is unpacked to cut it. Scales are
    (N, blocks), zero points are that as floats, or packed (N, bytes). Shares of K have whole blocks, and whole bytes of
    zero points.
    """

    domain = "com.microsoft"
    ops = ("MatMulNBits",)
    added_once = (5,)

    def applies(self, node: BoundNode) -> bool:
        """Not with features in another order, blocks packed for another processor, or weights left out."""
        columns, shapes = node.attribute("N"), [value.shape or () for value in node.inputs[1:] if value is not None]
        is_plain = not node.has_input(4) and not node.attribute("weight_prepacked", 0)
        return is_plain and all(prod(shape) and shape[:1] == (columns,) for shape in shapes)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        *rows, columns = hull(out).bounds
        packed = (region and region.with_axis(0, columns) for region in map(whole, node.inputs[1:]))
        return (Region((*rows, (0, node.in_shape()[-1]))), *packed)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return (same(node, (("N", hull(out).shape[-1]),)),)

    def combines(self, node: BoundNode) -> str:
        return "add"

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        summed = len(node.in_shape()) - 1
        return ((*(None,) * summed, summed),)

    def part_grain(self, node: BoundNode) -> int:
        return max(_spans(node))

    def part_reads(self, node: BoundNode, data: Region) -> Regions:
        lo, hi = data.bounds[-1]
        bounds = [(lo // span, -(-hi // span)) for span in _spans(node)]
        packed = zip(map(whole, node.inputs[1:]), bounds, strict=False)
        return (data, *(region and region.with_axis(1, pair) for region, pair in packed))

    def part(self, node: BoundNode, into: Regions) -> tuple[LocalNode, ...]:
        assert into[0] is not None, "every part has a share"
        return (without(same(node, (("K", into[0].shape[-1]),)), into),)

    def flops(self, node: BoundNode, out: Regions) -> int:
        return macs(hull(out).size * int(node.attribute("K")))


def _spans(node: BoundNode) -> tuple[int, int, int]:
    """Features to an element along the blocks of the matrix, of the scales, and of the zero points."""
    size, points = int(node.attribute("block_size")), node.inputs[3] if len(node.inputs) > 3 else None
    is_packed = points is not None and points.dtype == "uint8"
    return size, size, size * max(1, 8 // node.attribute("bits", 4)) if is_packed else size


@register
class Einsum(AxisRule):
    """Einstein summation: an output axis may be cut when its label names axes of the inputs; other labels are summed.

    Equations with an ellipsis are run whole.
    """

    ops = ("Einsum",)

    def applies(self, node: BoundNode) -> bool:
        return "." not in str(node.attribute("equation", ""))

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        terms, result = _labels(node)
        return [[result.index(label) if label in result else None for label in term] for term in terms]

    def combines(self, node: BoundNode) -> str:
        return "add"

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        """Labels of the first term that are summed, unless another operand is stretched along one."""
        terms, result = _labels(node)
        first = terms[0]
        summed = {label: axis for axis, label in enumerate(first) if label not in result and first.count(label) == 1}
        for number, term in enumerate(terms):
            for label, extent in zip(term, node.in_shape(number), strict=True):
                if label in summed and extent != node.in_shape()[summed[label]]:
                    del summed[label]
        return [[summed.get(label) for label in term] for term in terms]

    def flops(self, node: BoundNode, out: Regions) -> int:
        terms, result = _labels(node)
        shapes = map(node.in_shape, range(len(terms)))
        pairs = (pair for term, shape in zip(terms, shapes, strict=True) for pair in zip(term, shape, strict=True))
        extents = dict(sorted(pairs))  # the largest of each label, where another is 1 and broadcast
        return macs(hull(out).size * prod(extent for label, extent in extents.items() if label not in result))


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
