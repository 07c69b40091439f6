"""Normalisations: cut along the axes they do not take statistics over."""

from __future__ import annotations

from ..core.graph import BoundNode
from ..core.region import Region
from .base import LocalNode, OpRule, Regions, register, same
from .groups import touched
from .trim import hull, trimmed


def _whole_from(axis: int, region: Region, shape: tuple[int, ...]) -> Region:
    """`region` with every axis from `axis` on whole."""
    return Region((*region.bounds[:axis], *Region.full(shape).bounds[axis:]))


def _aligned(region: Region, shape: tuple[int, ...]) -> Region:
    """Region of a value of `shape` that broadcasts against `region`, last axes together."""
    bounds = region.bounds[region.ndim - len(shape) :]
    return Region(tuple((0, 1) if extent == 1 else item for item, extent in zip(bounds, shape, strict=True)))


@register
class BatchNormalization(OpRule):
    """Inference form: every element on its own, parameters by channel (or, before opset 9, by element)."""

    ops = ("BatchNormalization",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        is_whole = len(node.node.writes) > 1 or node.attribute("training_mode", 0) or len(node.in_shape()) < 2
        return (frozenset(range(0 if is_whole else len(node.out_shape()))), *super().cut_axes(node)[1:])

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        if not self.cut_axes(node)[0]:
            return super().in_regions(node, out)
        region = hull(out)
        shapes = [node.in_shape(place) for place in range(1, 5)]
        return (region, *(Region(region.bounds[1 : 1 + len(shape)]) for shape in shapes))

    def flops(self, node: BoundNode, out: Regions) -> int:
        """A multiplication and an addition per element."""
        return 2 * sum(region.size for region in out if region is not None)


@register
class InstanceNormalization(OpRule):
    """Statistics over the spatial axes of every channel of every item; parameters by channel."""

    ops = ("InstanceNormalization",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return (frozenset((0, 1)),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region = hull(out)
        return (region, *(Region((region.bounds[1],)) for _ in node.inputs[1:]))

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Mean, variance, scale and shift: about eight per element."""
        return 8 * hull(out).size


@register
class LayerNormalization(OpRule):
    """Statistics over all axes from `axis` on; the parameters broadcast against the data."""

    ops = ("LayerNormalization", "RMSNormalization")

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        axes = frozenset(range(_axis(node)))
        return tuple(frozenset[int]() if value is None else axes for value in node.outputs)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        data = _whole_from(_axis(node), hull(out), node.in_shape())
        rest = (None if value is None else _aligned(data, value.shape or ()) for value in node.inputs[1:])
        return (data, *rest)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """Mean and InvStdDev may be wanted in other boxes than the data: all are computed on the hull."""
        leading = hull(out).bounds[: _axis(node)]
        held = tuple(want and Region((*leading, *want.bounds[_axis(node) :])) for want in out)
        return trimmed(node.opset, same(node), held, out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Mean, variance, scale and shift: about eight per element."""
        return 8 * _whole_from(_axis(node), hull(out), node.in_shape()).size


def _axis(node: BoundNode) -> int:
    return int(node.attribute("axis", -1)) % len(node.in_shape())


@register
class GroupNormalization(OpRule):
    """Statistics over groups of channels; a range of channels computes the groups it touches and crops."""

    ops = ("GroupNormalization",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return (frozenset((0, 1)),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region, channels = hull(out), node.in_shape()[1]
        per_group = channels // node.attribute("num_groups")
        lo, hi = _group_channels(node, out)
        parameter = (lo, hi) if node.opset >= 21 else (lo // per_group, hi // per_group)  # before 21 one per group
        return (region.with_axis(1, (lo, hi)), Region((parameter,)), Region((parameter,)))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        lo, hi = _group_channels(node, out)
        count = (hi - lo) * node.attribute("num_groups") // node.in_shape()[1]
        return trimmed(node.opset, same(node, (("num_groups", count),)), (hull(out).with_axis(1, (lo, hi)),), out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Mean, variance, scale and shift: about eight per element of the groups touched."""
        return 8 * hull(out).with_axis(1, _group_channels(node, out)).size


def _group_channels(node: BoundNode, out: Regions) -> tuple[int, int]:
    """Channels of the groups touched."""
    channels = node.in_shape()[1]
    return touched(hull(out).bounds[1], node.attribute("num_groups"), channels, channels).read


@register
class LRN(OpRule):
    """Local response normalisation: a window over channels, zeros outside, the divisor the same everywhere."""

    ops = ("LRN",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return (frozenset(range(len(node.out_shape()))),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region, size = hull(out), node.attribute("size")
        lo, hi = region.bounds[1]
        return (region.with_axis(1, (lo - (size - 1) // 2, hi + size // 2)).clip(node.in_shape()),)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return trimmed(node.opset, same(node), into, out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """A multiply-accumulate per element under the window, and a power."""
        return hull(out).size * (2 * int(node.attribute("size")) + 4)


@register
class MeanVarianceNormalization(OpRule):
    """Statistics over `axes`."""

    ops = ("MeanVarianceNormalization",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        ndim = len(node.out_shape())
        taken = {axis % ndim for axis in node.attribute("axes", (0, 2, 3))}
        return (frozenset(range(ndim)) - taken,)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (hull(out),)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Mean, variance and scale: about six per element."""
        return 6 * hull(out).size


@register
class LpNormalization(OpRule):
    """Division by the norm along `axis`."""

    ops = ("LpNormalization",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        ndim = len(node.out_shape())
        return (frozenset(range(ndim)) - {node.attribute("axis", -1) % ndim},)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (hull(out),)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Norm and division: three per element."""
        return 3 * hull(out).size
