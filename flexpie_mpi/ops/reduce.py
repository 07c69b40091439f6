"""Reductions, arg-reductions, running sums and top-k: what they work along is read whole."""

from __future__ import annotations

from typing import ClassVar

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .axes import axes_of, axis_of, coupled, is_settled, whole
from .base import LocalNode, OpRule, Regions, register
from .trim import hull


@register
class Reduce(OpRule):
    """Reductions over ``axes``, an attribute or a constant input; without axes over all of them."""

    ops: ClassVar[tuple[str, ...]] = (
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
        "ReduceProd", "ReduceSum", "ReduceSumSquare",
    )  # fmt: skip

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return (frozenset(place for place, _ in self._kept(node)),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        bounds: list[Bounds] = [(0, extent) for extent in node.in_shape()]
        for place, axis in self._kept(node):
            bounds[axis] = hull(out).bounds[place]
        return (Region(tuple(bounds)), *(whole(value) for value in node.inputs[1:]))

    def flops(self, node: BoundNode, out: Regions) -> int:
        region = self.in_regions(node, out)[0]
        return 0 if region is None else region.size

    def _kept(self, node: BoundNode) -> list[tuple[int, int]]:
        """(output axis, input axis) of every axis that is not reduced."""
        reduced = self._reduced(node) if is_settled(node, 1) else frozenset(range(len(node.in_shape())))
        kept = [axis for axis in range(len(node.in_shape())) if axis not in reduced]
        keeps_all = len(node.out_shape()) == len(node.in_shape())  # keepdims, whatever number it is
        return [(axis if keeps_all else place, axis) for place, axis in enumerate(kept)]

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
        return frozenset((axis_of(node, 0, len(node.in_shape())),))


@register
class Running(OpRule):
    """Running sum or product along the axis that a constant second input names."""

    ops = ("CumSum", "CumProd")

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        axis = node.constant(1)
        return super().cut_axes(node) if axis is None else axes_of(node, int(axis[0]) % len(node.in_shape()))

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (out[0], whole(node.inputs[1]))


@register
class TopK(OpRule):
    """The k largest or smallest along ``axis``, with their positions."""

    ops = ("TopK",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node, self._axis(node))

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        axis = self._axis(node)
        region = hull(out).with_axis(axis, (0, node.in_shape()[axis]))
        return (region, *(whole(value) for value in node.inputs[1:]))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return coupled(node, out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        region = self.in_regions(node, out)[0]
        return 0 if region is None else region.size

    def _axis(self, node: BoundNode) -> int:
        return axis_of(node, -1, len(node.in_shape()))
