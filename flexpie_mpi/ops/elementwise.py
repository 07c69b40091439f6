"""Elementwise operators, quantisation among them: an output element depends on those at its own place.

DynamicQuantizeLinear has no rule and runs whole: its scale is worked out from the smallest and the largest element of
all, so every rank would read everything before it could write anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import ClassVar

from ..core.graph import BoundNode
from ..core.region import Region
from .base import AxisRule, Followed, LocalNode, Regions, aligned, axes_of, axis_of, hull, register, same, trimmed

_COPIES = ("BitCast", "Cast", "CastLike", "Dropout", "Identity")

_CHEAP = (
    "Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Clip", "Div",
    "Equal", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Max", "Mean",
    "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Reciprocal", "Relu", "Round", "Shrink", "Sign", "Sqrt", "Sub",
    "Sum", "ThresholdedRelu", "Where", "Xor",
)  # fmt: skip
"""About one operation per element and operand."""

_FEW = ("HardSigmoid", "HardSwish", "Softsign")
"""A handful of multiplications and comparisons."""

_TRANSCENDENTAL = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "Log",
    "Mish", "Pow", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "SwiGLU", "Swish", "Tan", "Tanh",
)  # fmt: skip
"""An exponential, a logarithm or the like, worked out as a polynomial of about a dozen operations."""

_WORK = {
    **dict.fromkeys(_COPIES, 0),
    **dict.fromkeys(_CHEAP, 1),
    **dict.fromkeys(_FEW, 4),
    **dict.fromkeys(_TRANSCENDENTAL, 12),
}
"""Flops per output element."""

_FUSED = {
    **dict.fromkeys(("BiasGelu", "FastGelu", "Gelu", "QuickGelu"), 12),
    **dict.fromkeys(("QLinearLeakyRelu", "QLinearSigmoid"), 1),  # a table of 256 results
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), 4),
}
"""The same of onnxruntime's own operators."""

_VARIADIC = frozenset(("Max", "Mean", "Min", "Sum"))


@register
class Elementwise(AxisRule):
    """Unary, binary and variadic elementwise operators; operands of extent 1 are read as they are."""

    work: ClassVar[Mapping[str, int]] = _WORK
    ops = tuple(work)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node)  # all, without a look at the operands

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        return aligned(node)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        regions = super().in_regions(node, out)
        if node.op == "CastLike":  # only the type of the second operand matters: any element of it will do
            regions = (regions[0], Region(tuple((0, 1) for _ in node.in_shape(1))))
        return regions

    def flops(self, node: BoundNode, out: Regions) -> int:
        operations = max(1, len(node.inputs) - 1) if node.op in _VARIADIC else 1
        return hull(out).size * operations * self.work[node.op]


@register
class FusedElementwise(Elementwise):
    """onnxruntime's own; the bias that some add has one axis, and scales and zero points are one element each."""

    domain = "com.microsoft"
    work = _FUSED
    ops = tuple(work)


@register
class QuantizeLinear(AxisRule):
    """Scale and zero point with one element, with one axis (that of ``axis``), or in blocks along ``axis``."""

    ops = ("QuantizeLinear", "DequantizeLinear")
    element_flops = 3  # scale, shift and round or clamp

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        """Where there are no blocks."""
        data, axis = range(len(node.in_shape())), axis_of(node, 1)
        shapes = (value.shape if value is not None else None for value in node.inputs[1:])
        return (data, *([None] * len(shape or ()) if prod(shape or ()) == 1 else [axis] for shape in shapes))

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        """Whole blocks."""
        size, axis, region = int(node.attribute("block_size", 0)), axis_of(node, 1), hull(out)
        if not size:
            return super().in_regions(node, out)
        lo, hi = region.bounds[axis]
        blocks = lo // size, -(-hi // size)
        data = region.with_axis(axis, (blocks[0] * size, min(blocks[1] * size, node.in_shape()[axis])))
        return (data, *(None if value is None else region.with_axis(axis, blocks) for value in node.inputs[1:]))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return trimmed(node.opset, same(node), into[:1], out)
