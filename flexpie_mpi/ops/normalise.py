"""Normalisations and softmaxes: cut along the axes they do not take statistics over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..core.graph import BoundNode
from ..core.region import Region
from .base import AxisRule, Followed, LocalNode, Regions, axis_of, hull, register, same, trimmed
from .named import NamedAxes, Share


@register
class Softmax(AxisRule):
    """Normalises over ``axis``; before opset 13 over the flattened axes from ``axis`` to the last."""

    ops = ("Softmax", "LogSoftmax", "Hardmax")
    element_flops = 5  # the maximum, a subtraction, an exponential counted as one, the sum, and a division

    def axes(self, node: BoundNode) -> range:
        first = axis_of(node, -1 if node.opset >= 13 else 1)
        return range(first, first + 1 if node.opset >= 13 else len(node.in_shape()))


@register
class LpNormalization(AxisRule):
    """Division by the norm along `axis`."""

    ops = ("LpNormalization",)
    element_flops = 3  # norm and division

    def axes(self, node: BoundNode) -> tuple[int]:
        return (axis_of(node, -1),)


@register
class MeanVarianceNormalization(AxisRule):
    """Statistics over `axes`."""

    ops = ("MeanVarianceNormalization",)
    element_flops = 6  # mean, variance and scale

    def axes(self, node: BoundNode) -> set[int]:
        return {axis % len(node.in_shape()) for axis in node.attribute("axes", (0, 2, 3))}


@register
class BatchNormalization(AxisRule):
    """Inference form: every element on its own, parameters by channel (or, before opset 9, by element)."""

    ops = ("BatchNormalization",)
    element_flops = 2  # a multiplication and an addition

    def applies(self, node: BoundNode) -> bool:
        """In training the statistics are those of the data, which the other outputs then tell."""
        return len(node.node.writes) == 1 and not node.attribute("training_mode", 0) and len(node.in_shape()) > 1

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        parameters = (range(1, 1 + len(node.in_shape(index))) for index in range(1, 5))
        return (range(len(node.in_shape())), *parameters)


@register
class InstanceNormalization(AxisRule):
    """Statistics over the spatial axes of every channel of every item; parameters by channel."""

    ops = ("InstanceNormalization",)
    element_flops = 8  # mean, variance, scale and shift

    def axes(self, node: BoundNode) -> range:
        return range(2, len(node.in_shape()))

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        return (*super().follows(node), (1,), (1,))


@register
class LayerNormalization(AxisRule):
    """Statistics over all axes from `axis` on; the parameters broadcast against the data."""

    ops = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
    read_flops = 8  # mean, variance, scale and shift, also where Mean alone is wanted

    def axes(self, node: BoundNode) -> range:
        return range(axis_of(node, -1), len(node.in_shape()))

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        (data,) = super().follows(node)
        shapes = ((value.shape if value is not None else None) or () for value in node.inputs[1:])
        return (data, *(data[len(data) - len(shape) :] for shape in shapes))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """Mean and InvStdDev may be wanted in other boxes than the data: all are computed on the hull."""
        axis = axis_of(node, -1)
        leading = hull(out).bounds[:axis]
        held = tuple(want and Region((*leading, *want.bounds[axis:])) for want in out)
        return trimmed(node.opset, same(node), held, out)


@register
class SkipLayerNormalization(AxisRule):
    """Normalisation of a sum (..., hidden) over its last axis; the sum itself is the fourth output."""

    domain = "com.microsoft"
    ops = ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
    element_flops = 9  # an addition, mean, variance, scale and shift

    def applies(self, node: BoundNode) -> bool:
        """Mean and deviation, which only training wants, have other axes."""
        return not any(node.node.outputs[1:3])

    def axes(self, node: BoundNode) -> tuple[int]:
        return (len(node.in_shape()) - 1,)

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        """What is added may have fewer axes, or one item for all of the batch."""
        (data,) = super().follows(node)
        return (data, data[-len(node.in_shape(1)) :])


@register
class EmbedLayerNormalization(NamedAxes):
    """Rows of up to three tables added and normalised: (batch, tokens) indices into (batch, tokens, hidden).

    The second output says how many ones every item's mask begins with, and reads all of the mask.
    """

    domain = "com.microsoft"
    ops = ("EmbedLayerNormalization",)
    element_flops = 10  # two additions, mean, variance, scale and shift

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        return ("BS", "BS", "", "", "", "", "", "BS", "BS"), ("BS.", "B", "BS.")[: len(node.outputs)]

    def counts(self, node: BoundNode) -> Mapping[str, int]:
        batch, tokens = node.in_shape()
        return {"B": batch, "S": tokens}

    def share(self, node: BoundNode, out: Regions) -> Share:
        share = super().share(node, out)
        return share if len(out) < 2 or out[1] is None else {**share, "S": (0, node.in_shape()[1])}

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        """Without positions the rows of the second table are those of the tokens."""
        regions = list(super().in_regions(node, out))
        if not node.has_input(8):
            regions[3] = Region.full(node.in_shape(3)).with_axis(0, self.share(node, out)["S"])
        return tuple(regions)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """The second output is made, whether wanted or not: onnxruntime insists on it."""
        first, *crops = super().local(node, out, into)
        unused = () if len(first.outputs) > 1 else ("unused1",)
        return (replace(first, outputs=(*first.outputs, *unused)), *crops)


@register
class LRN(AxisRule):
    """Local response normalisation: a window over channels, zeros outside, the divisor the same everywhere."""

    ops = ("LRN",)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region, size = hull(out), node.attribute("size")
        lo, hi = region.bounds[1]
        return (region.with_axis(1, (lo - (size - 1) // 2, hi + size // 2)).clip(node.in_shape()),)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return trimmed(node.opset, same(node), into, out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """A multiply-accumulate per element under the window, and a power."""
        return hull(out).size * (2 * int(node.attribute("size")) + 4)
