"""Reductions, arg-reductions, running sums and top-k: what they work along is read whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..core.graph import BoundNode
from .base import AxisRule, Followed, LocalNode, Regions, axis_of, register
from .parts import averaged

_COMBINING = {
    **dict.fromkeys(("ReduceL1", "ReduceMean", "ReduceSum", "ReduceSumSquare"), "add"),
    "ReduceMax": "maximum",
    "ReduceMin": "minimum",
}


@register
class Reduce(AxisRule):
    """Reductions over ``axes``, an attribute or a constant input; without axes over all of them."""

    ops: ClassVar[tuple[str, ...]] = (
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
        "ReduceProd", "ReduceSum", "ReduceSumSquare",
    )  # fmt: skip
    known = (1,)
    read_flops = 1

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        reduced, ndim = self._reduced(node), len(node.in_shape())
        keeps_all = len(node.out_shape()) == ndim  # keepdims, whatever number it is
        outputs = iter(axis for axis in range(ndim) if not (keeps_all and axis in reduced))
        return ([None if axis in reduced else next(outputs) for axis in range(ndim)],)

    def combines(self, node: BoundNode) -> str:
        """An average of integers is rounded, so that it has no summands."""
        value = node.outputs[0]
        if node.op == "ReduceMean" and (value is None or "int" in value.dtype):
            return ""
        return _COMBINING.get(node.op, "")

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        reduced = self._reduced(node)
        return ([axis if axis in reduced else None for axis in range(len(node.in_shape()))],)

    def part(self, node: BoundNode, into: Regions) -> tuple[LocalNode, ...]:
        return averaged(node, into) if node.op == "ReduceMean" else super().part(node, into)

    def _reduced(self, node: BoundNode) -> frozenset[int]:
        ndim = len(node.in_shape())
        axes = node.constant_or_attribute("axes", 1)
        if not axes:
            return frozenset() if node.attribute("noop_with_empty_axes", 0) else frozenset(range(ndim))
        return frozenset(int(axis) % ndim for axis in axes)


@register
class ArgReduce(Reduce):
    """Position of the largest or smallest element along ``axis``."""

    ops = ("ArgMax", "ArgMin")

    def _reduced(self, node: BoundNode) -> frozenset[int]:
        return frozenset((axis_of(node, 0),))


@register
class Running(AxisRule):
    """Running sum or product along the axis that a constant second input names."""

    ops = ("CumSum", "CumProd")

    def applies(self, node: BoundNode) -> bool:
        return node.constant(1) is not None

    def axes(self, node: BoundNode) -> tuple[int]:
        axis = node.constant(1)
        assert axis is not None, "else the rule does not apply"
        return (int(axis[0]) % len(node.in_shape()),)


@register
class TopK(AxisRule):
    """The k largest or smallest along ``axis``, with their positions."""

    ops = ("TopK",)
    read_flops = 1

    def axes(self, node: BoundNode) -> tuple[int]:
        return (axis_of(node, -1),)
