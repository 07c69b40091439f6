"""Elementwise operators, quantisation among them: an output element depends on those at its own place."""

from __future__ import annotations

from ..core.graph import BoundNode, Value
from ..core.region import Region
from .base import AxisRule, LocalNode, Regions, axis_of, broadcast, coupled, hull, register, whole

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

_VARIADIC = frozenset(("Max", "Mean", "Min", "Sum"))


@register
class Elementwise(AxisRule):
    """Unary, binary and variadic elementwise operators; operands of extent 1 are read as they are."""

    ops = tuple(_WORK)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region = hull(out)
        operands = [broadcast(region, value) for value in node.inputs]
        if node.op == "CastLike":  # only the type of the second operand matters: any element of it will do
            operands[1] = Region(tuple((0, 1) for _ in node.in_shape(1)))
        return tuple(operands)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return coupled(node, out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        operations = max(1, len(node.inputs) - 1) if node.op in _VARIADIC else 1
        return hull(out).size * operations * _WORK[node.op]


@register
class QuantizeLinear(AxisRule):
    """Scale and zero point with one element, with one axis (that of ``axis``), or in blocks along ``axis``."""

    ops = ("QuantizeLinear", "DequantizeLinear")
    element_flops = 3  # scale, shift and round or clamp

    def axes(self, node: BoundNode) -> tuple[int, ...]:
        return (axis_of(node, 1),) if node.attribute("block_size", 0) else ()

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region = hull(out)
        return (region, *(self._parameter(node, value, region) for value in node.inputs[1:]))

    def _parameter(self, node: BoundNode, value: Value | None, region: Region) -> Region | None:
        """Region of a scale or zero point that belongs to `region` of the data."""
        if value is None or value.shape is None or value.size == 1:
            return whole(value)
        axis = axis_of(node, 1)
        return region.with_axis(axis, (0, value.shape[axis])) if self.axes(node) else Region((region.bounds[axis],))
