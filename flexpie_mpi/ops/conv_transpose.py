"""Transposed convolution: inputs spread over the output, so pads take away where a convolution's add."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .base import LocalNode, OpRule, Regions, macs, register, same
from .groups import Groups, touched
from .trim import hull, trimmed


@dataclass(frozen=True, slots=True)
class Spread:
    """Input i writes outputs ``i * stride - begin + j * dilation`` for ``0 <= j < kernel``.

    Outputs behind the last one written (output_padding) hold the bias alone.
    """

    extent: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    begin: int = 0

    @property
    def reach(self) -> int:
        """Outputs from the first to the last that one input writes."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def end(self) -> int:
        """The output behind the last one written."""
        return (self.extent - 1) * self.stride - self.begin + self.reach

    def reads(self, wanted: Bounds) -> Bounds:
        """Inputs that write into the outputs `wanted`, and those that a local form needs to reach from end to end.

        >>> Spread(4, kernel=3, stride=2, begin=1).reads((2, 5))
        (1, 3)
        """
        lo, hi = wanted[0] + self.begin, wanted[1] + self.begin
        first = min(-(-(lo - self.reach + 1) // self.stride), lo // self.stride)
        last = max((hi - 1) // self.stride, -(-(hi - self.reach) // self.stride))
        return min(max(first, 0), self.extent - 1), min(max(last + 1, 1), self.extent)

    def trims(self, wanted: Bounds) -> tuple[int, int, int]:
        """Pads at both ends and output_padding with which the inputs read give exactly the outputs `wanted`."""
        lo, hi = self.reads(wanted)
        end = (hi - 1) * self.stride - self.begin + self.reach - wanted[1]
        return wanted[0] - (lo * self.stride - self.begin), max(end, 0), max(-end, 0)


@register
class ConvTranspose(OpRule):
    """Transposed convolution of data (N, C, ...) with a weight (C, M / group, ...)."""

    ops = ("ConvTranspose",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        extents = node.out_shape()[2:]
        spatial = (
            axis
            for axis, (spread, extent) in enumerate(zip(_spreads(node), extents, strict=True), 2)
            if spread.begin >= 0 and extent - spread.end < spread.stride
        )
        return (frozenset((0, 1, *spatial)),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region, groups = hull(out), _groups(node, out)
        pairs = zip(_spreads(node), region.bounds[2:], strict=True)
        regions = list(super().in_regions(node, out))
        regions[0] = Region((region.bounds[0], groups.read, *(spread.reads(wanted) for spread, wanted in pairs)))
        regions[1] = Region.full(node.in_shape(1)).with_axis(0, groups.read).with_axis(1, _columns(node, groups))
        if node.has_input(2):
            regions[2] = Region((groups.computed,))
        return tuple(regions)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        region, groups = hull(out), _groups(node, out)
        trims = [spread.trims(wanted) for spread, wanted in zip(_spreads(node), region.bounds[2:], strict=True)]
        begins, ends, extra = zip(*trims, strict=True)
        attributes = (
            ("auto_pad", None), ("output_shape", None), ("group", groups.count),
            ("pads", (*begins, *ends)), ("output_padding", extra),
        )  # fmt: skip
        return trimmed(node.opset, same(node, attributes), (region.with_axis(1, groups.computed),), out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Multiply-accumulates of every input element read with the outputs it writes."""
        data, weight = self.in_regions(node, out)[:2]
        assert data is not None and weight is not None
        return macs(data.size * prod(weight.shape[1:]))


def _spreads(node: BoundNode) -> tuple[Spread, ...]:
    extents, kernel, outputs = node.in_shape()[2:], node.in_shape(1)[2:], node.out_shape()[2:]
    ones = (1,) * len(extents)
    strides, dilations = node.attribute("strides") or ones, node.attribute("dilations") or ones
    bare = zip(extents, kernel, strides, dilations, strict=True)
    pads = node.attribute("pads") or (0,) * len(extents)
    computed = node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "") or node.attribute("output_shape")
    return tuple(
        Spread(*item, _begin(node, Spread(*item), outputs[axis], axis) if computed else pads[axis])
        for axis, item in enumerate(bare)
    )


def _begin(node: BoundNode, spread: Spread, extent: int, axis: int) -> int:
    """Pads before the first output when they follow from the output's `extent`: half, the odd one as auto_pad says."""
    mode = node.attribute("auto_pad", "NOTSET")
    if mode == "VALID" and not node.attribute("output_shape"):
        return 0
    padding = node.attribute("output_padding") or (0,) * (axis + 1)
    total = max(0, spread.end + padding[axis] - extent)
    return total // 2 if mode == "SAME_UPPER" else total - total // 2


def _columns(node: BoundNode, groups: Groups) -> Bounds:
    """Outputs within a group: those wanted when there is one group, else all."""
    if groups.count > 1:
        return 0, node.in_shape(1)[1]
    base = groups.computed[0] // node.in_shape(1)[1] * node.in_shape(1)[1]
    return groups.computed[0] - base, groups.computed[1] - base


def _groups(node: BoundNode, out: Regions) -> Groups:
    return touched(hull(out).bounds[1], node.attribute("group", 1), node.in_shape()[1], node.out_shape()[1])
