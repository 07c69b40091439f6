"""QuantizeLinear and DequantizeLinear: elementwise, with scales for all, per position of an axis, or per block."""

from __future__ import annotations

from ..core.graph import BoundNode, Value
from ..core.region import Region
from .axes import axes_of, axis_of, whole
from .base import OpRule, Regions, register
from .trim import hull

_FLOPS = 3
"""Per element: scale, shift and round or clamp."""


@register
class QuantizeLinear(OpRule):
    """Scale and zero point with one element, with one axis (that of ``axis``), or in blocks along ``axis``."""

    ops = ("QuantizeLinear", "DequantizeLinear")

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node, self._axis(node)) if _is_blocked(node) else axes_of(node)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region = hull(out)
        return (region, *(self._parameter(node, value, region) for value in node.inputs[1:]))

    def flops(self, node: BoundNode, out: Regions) -> int:
        return _FLOPS * super().flops(node, out)

    def _parameter(self, node: BoundNode, value: Value | None, region: Region) -> Region | None:
        """Region of a scale or zero point that belongs to `region` of the data."""
        shape = () if value is None else value.shape or ()
        if value is None or value.size == 1:
            return whole(value)
        if _is_blocked(node):
            return region.with_axis(self._axis(node), (0, shape[self._axis(node)]))
        return Region((region.bounds[self._axis(node)],))

    def _axis(self, node: BoundNode) -> int:
        return axis_of(node, 1, len(node.in_shape()))


def _is_blocked(node: BoundNode) -> bool:
    return bool(node.attribute("block_size", 0))
