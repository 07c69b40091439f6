"""Convolutions, plain and transposed: rows, columns and batch by windows, channels by slices of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .base import Followed, LocalNode, OpRule, Regions, hull, macs, register, same, trimmed
from .window import Fit, Window, WindowRule, unpadded


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups that a range of output channels touches."""

    count: int  # number of groups of the local form
    read: Bounds  # (lo, hi). Input channels of these groups.
    # (lo, hi). Output channels of the local form: just those wanted inside one group, otherwise whole groups.
    computed: Bounds


def touched(wanted: Bounds, groups: int, inputs: int, outputs: int) -> Groups:
    """Groups touched by the output channels `wanted`, when `inputs` and `outputs` channels form `groups` groups.

    >>> touched((3, 4), groups=2, inputs=6, outputs=8)
    Groups(count=1, read=(0, 3), computed=(3, 4))
    >>> touched((3, 5), groups=2, inputs=6, outputs=8)
    Groups(count=2, read=(0, 6), computed=(0, 8))
    """
    per_in, per_out = inputs // groups, outputs // groups
    first, last = wanted[0] // per_out, (wanted[1] - 1) // per_out + 1
    computed = wanted if last - first == 1 else (first * per_out, last * per_out)
    return Groups(last - first, (first * per_in, last * per_in), computed)


def _groups(node: BoundNode, out: Regions) -> Groups:
    return touched(hull(out).bounds[1], node.attribute("group", 1), node.in_shape()[1], node.out_shape()[1])


# Inputs that are the weight (M, C / group, ...), and vectors that may have one item per output channel M
_WEIGHT = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_VECTORS = {"Conv": (2,), "ConvInteger": (3,), "QLinearConv": (4, 5, 8)}


@register
class Conv(WindowRule):
    """Convolution of data (N, C, ...) with a weight (M, C / group, ...), in floats or integers.

    Channels [lo:hi) need the weight's [lo:hi) and the input channels of the groups they touch. A range inside one group
    becomes a convolution without groups; one over several computes those groups whole and crops.
    """

    ops = tuple(_WEIGHT)
    added_once = (2,)

    def combines(self, node: BoundNode) -> str:
        """Only floats: a zero point of the input is what is padded with, and a quantised result would be rounded."""
        return "add" if node.op == "Conv" and node.attribute("group", 1) == 1 else ""

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        """Input channels, of the data and of the weight."""
        follow = (None, 1, *(None,) * (len(node.in_shape()) - 2))
        return (follow, follow)

    def kernel(self, node: BoundNode) -> tuple[int, ...]:
        return node.in_shape(_WEIGHT[node.op])[2:]

    def fit(self, window: Window, wanted: Bounds) -> Fit:
        """Up to the end of the input at the end of the output.

        The last inputs may be read by no window (a stride that does not divide them): whoever has the end of the output
        has them anyway, and taking them saves a crop.
        """
        fit = window.fit(wanted)
        if wanted[1] < window.outputs() or fit.read[1] == window.extent:
            return fit
        return replace(fit, read=(fit.read[0], window.extent), end=window.end)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        groups = _groups(node, out)
        regions = list(super().in_regions(node, out))
        regions[0] = Region((hull(out).bounds[0], groups.read, *self.spatial(node, out).read))
        for index in (_WEIGHT[node.op], *_VECTORS[node.op]):
            if node.has_input(index) and node.in_shape(index)[:1] == node.out_shape()[1:2]:
                regions[index] = Region.full(node.in_shape(index)).with_axis(0, groups.computed)
        return tuple(regions)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        form, groups = self.spatial(node, out), _groups(node, out)
        computed = Region((hull(out).bounds[0], groups.computed, *form.computed))
        conv = same(node, (("group", groups.count), *form.attributes))
        return trimmed(node.opset, conv, (computed,), out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Multiply-accumulates of ``C / group`` channels under the window, for every output element."""
        return macs(hull(out).size * prod(node.in_shape(_WEIGHT[node.op])[1:]))


@dataclass(frozen=True, slots=True)
class Spread:
    """A window through which inputs write: `begin` outputs are taken away where a convolution would add zeros.

    Input i writes outputs ``i * stride - begin + j * dilation`` for ``0 <= j < kernel``. Outputs behind the last one
    written (output_padding) hold the bias alone.
    """

    window: Window
    begin: int = 0

    @property
    def end(self) -> int:
        """The output behind the last one written."""
        return self._end_of(self.window.extent)

    def _end_of(self, inputs: int) -> int:
        return (inputs - 1) * self.window.stride - self.begin + self.window.reach

    def reads(self, wanted: Bounds) -> Bounds:
        """Inputs that write into the outputs `wanted`, and those that a local form needs to reach from end to end.

        >>> Spread(Window(4, kernel=3, stride=2), begin=1).reads((2, 5))
        (1, 3)
        """
        lo, hi = wanted[0] + self.begin, wanted[1] + self.begin
        reach, stride, extent = self.window.reach, self.window.stride, self.window.extent
        first = min(-(-(lo - reach + 1) // stride), lo // stride)
        last = max((hi - 1) // stride, -(-(hi - reach) // stride))
        return min(max(first, 0), extent - 1), min(max(last + 1, 1), extent)

    def trims(self, wanted: Bounds) -> tuple[int, int, int]:
        """Pads at both ends and output_padding with which the inputs read give exactly the outputs `wanted`."""
        lo, hi = self.reads(wanted)
        end = self._end_of(hi) - wanted[1]
        return wanted[0] - (lo * self.window.stride - self.begin), max(end, 0), max(-end, 0)


@register
class ConvTranspose(OpRule):
    """Transposed convolution of data (N, C, ...) with a weight (C, M / group, ...)."""

    ops = ("ConvTranspose",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        pairs = enumerate(zip(_spreads(node), node.out_shape()[2:], strict=True), 2)
        spatial = (
            axis for axis, (spread, extent) in pairs if spread.begin >= 0 and extent - spread.end < spread.window.stride
        )
        return (frozenset((0, 1, *spatial)),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region, groups = hull(out), _groups(node, out)
        pairs = zip(_spreads(node), region.bounds[2:], strict=True)
        regions = list(super().in_regions(node, out))
        regions[0] = Region((region.bounds[0], groups.read, *(spread.reads(wanted) for spread, wanted in pairs)))
        regions[1] = Region.full(node.in_shape(1)).with_axis(0, groups.read).with_axis(1, _within(node, groups))
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
    bare = unpadded(node, node.in_shape(1)[2:])
    if node.attribute("auto_pad", "NOTSET") in ("NOTSET", "") and not node.attribute("output_shape"):
        pads = node.attribute("pads") or (0,) * len(bare)
        return tuple(Spread(window, begin) for window, begin in zip(bare, pads, strict=False))
    return tuple(Spread(window, _begin(node, window, axis)) for axis, window in enumerate(bare))


def _begin(node: BoundNode, window: Window, axis: int) -> int:
    """Pads before the first output when they follow from the output's extent: half, the odd one as auto_pad says."""
    mode = node.attribute("auto_pad", "NOTSET")
    if mode == "VALID" and not node.attribute("output_shape"):
        return 0
    padding = node.attribute("output_padding") or (0,) * (axis + 1)
    total = max(0, Spread(window).end + padding[axis] - node.out_shape()[axis + 2])
    return total // 2 if mode == "SAME_UPPER" else total - total // 2


def _within(node: BoundNode, groups: Groups) -> Bounds:
    """Outputs within a group: those wanted when there is one group, else all."""
    per_group = node.in_shape(1)[1]
    if groups.count > 1:
        return 0, per_group
    first = groups.computed[0] // per_group * per_group
    return groups.computed[0] - first, groups.computed[1] - first
