"""Elementwise operators: every output element depends on the elements at its own place, after numpy broadcasting."""

from __future__ import annotations

from ..core.graph import BoundNode
from ..core.region import Region
from .axes import axes_of, broadcast, coupled
from .base import LocalNode, OpRule, Regions, register
from .trim import hull

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
class Elementwise(OpRule):
    """Unary, binary and variadic elementwise operators; operands of extent 1 are read as they are."""

    ops = tuple(_WORK)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node)

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
