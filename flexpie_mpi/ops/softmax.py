"""Softmax, LogSoftmax and Hardmax: the normalised axes are read whole, all others may be cut."""

from __future__ import annotations

from ..core.graph import BoundNode
from .axes import axes_of, axis_of
from .base import OpRule, Regions, register

_FLOPS = 5
"""Per element: the maximum, a subtraction, an exponential counted as one, the sum, and a division."""


@register
class Softmax(OpRule):
    """Normalises over ``axis``; before opset 13 over the flattened axes from ``axis`` to the last."""

    ops = ("Softmax", "LogSoftmax", "Hardmax")

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        ndim = len(node.out_shape())
        if node.opset < 13:
            return axes_of(node, *range(axis_of(node, 1, ndim), ndim))
        return axes_of(node, axis_of(node, -1, ndim))

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (out[0],)

    def flops(self, node: BoundNode, out: Regions) -> int:
        return _FLOPS * super().flops(node, out)
