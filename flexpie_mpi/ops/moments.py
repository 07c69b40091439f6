"""Normalisations over space in two steps, so that ranks which cut space exchange a few numbers and no image.

A model that is prepared has an instance or group normalisation as two nodes of this package's own::

    moments = Moments(x)                                     mean and mean square of every group of channels
    y       = InstanceNormalization(x, moments, scale, bias)

Moments are sums, of which ranks leave parts. What computes all of space needs none: there the second node reads `x`
alone and runs as the operator that it was, which is one kernel where the two are a dozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .base import OWN, Const, Followed, LocalNode, OpRule, Regions, axes_of, hull, register, trimmed

MOMENTS = "Moments"

_FLOAT, _DOUBLE = 1, 11
"""ONNX's numbers of types."""
_LAST = ("axis", 3)
"""The axis of mean and mean square."""


def makes_moments(node: BoundNode) -> bool:
    """Whether a node is the first of the two."""
    return node.operator == f"{OWN}.{MOMENTS}"


def reads_moments(node: BoundNode) -> bool:
    """Whether a node is the second of the two, which reads moments where it has not all of space."""
    return node.node.domain == OWN and node.op in Normalisation.ops


@register
class Moments(OpRule):
    """Mean and mean square of every group of channels, over space: (N, C, spatial...) to (N, groups, 1, 2) in doubles.

    The variance is what the mean square exceeds the squared mean by, of which single precision may leave nothing.
    """

    domain = OWN
    ops = (MOMENTS,)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return (frozenset((0, 1)),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        (batch, groups, *_), shape = hull(out).bounds, node.in_shape()
        return (Region.full(shape).with_axis(0, batch).with_axis(1, _channels(node, groups)),)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        return self.part(node, into)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """A difference, a square and two sums of every element."""
        (data,) = self.in_regions(node, out)
        return 4 * data.size if data is not None else 0

    def combines(self, node: BoundNode) -> str:
        return "add"

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        return ((None, None, *range(2, len(node.in_shape()))),)

    def part(self, node: BoundNode, into: Regions) -> tuple[LocalNode, ...]:
        """The moments of what a rank has, by its share of all of space.

        One kernel, a layer normalisation of which nobody wants the result, tells mean and deviation of every group.
        """
        (data,) = into
        assert data is not None, "every part has a share"
        share = prod(data.shape[2:]) / prod(node.in_shape()[2:])
        groups, elements = data.shape[1] // _per_group(node), _per_group(node) * prod(data.shape[2:])
        return (
            LocalNode("Reshape", (0, Const((data.shape[0], groups, 1, elements))), ("grouped",)),
            LocalNode("ConstantOfShape", (Const((elements,)),), ("zeros",)),
            LocalNode(
                "LayerNormalization",
                ("grouped", "zeros"),
                ("unused", "mean", "inverse"),
                (_LAST, ("epsilon", 0.0)),
            ),
            LocalNode("Cast", ("mean",), ("wide_mean",), (("to", _DOUBLE),)),
            LocalNode("Cast", ("inverse",), ("wide_inverse",), (("to", _DOUBLE),)),
            LocalNode("Mul", ("wide_inverse", "wide_inverse"), ("precision",)),
            LocalNode("Reciprocal", ("precision",), ("variance",)),
            LocalNode("Mul", ("wide_mean", "wide_mean"), ("squared_mean",)),
            LocalNode("Add", ("squared_mean", "variance"), ("mean_square",)),
            LocalNode("Concat", ("wide_mean", "mean_square"), ("own",), (_LAST,)),
            LocalNode("Mul", ("own", Const((share,), "float64", ())), (0,)),
        )


@register
class Normalisation(OpRule):
    """Data (N, C, spatial...) by its moments, and by parameters of every channel."""

    domain = OWN
    ops = ("GroupNormalization", "InstanceNormalization")
    separable = False
    element_flops = 8  # mean, variance, scale and shift, also where moments are read

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        """Moments, unless all of space is wanted: then they are those of the data, whose groups are read whole."""
        region = hull(out)
        batch, channels = region.bounds[:2]
        groups = _groups(node, channels)
        if _has_all_space(node, region):
            channels = _channels(node, groups)
            moments = None
        else:
            moments = Region.full(node.in_shape(1)).with_axis(0, batch).with_axis(1, groups)
        parameters = (Region.full(node.in_shape(index)).with_axis(0, channels) for index in (2, 3))
        return (region.with_axis(1, channels), moments, *parameters)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        region, data = hull(out), into[0]
        assert data is not None, "it is always read"
        if into[1] is not None:
            return _scaled(node, data, into[1].bounds[1][0])
        if node.op == "InstanceNormalization":
            return (LocalNode(node.op, (0, 2, 3), (0,), (_epsilon(node),)),)
        *inner, last = _grouped(node, data)
        return (*inner, *trimmed(node.opset, last, (data,), (region,)))


def _has_all_space(node: BoundNode, region: Region) -> bool:
    return region.shape[2:] == node.out_shape()[2:]


def _per_group(node: BoundNode) -> int:
    """Channels of a group."""
    return int(node.in_shape()[1] // node.attribute("num_groups"))


def _channels(node: BoundNode, groups: Bounds) -> Bounds:
    """Channels of some groups."""
    per_group = _per_group(node)
    return groups[0] * per_group, groups[1] * per_group


def _groups(node: BoundNode, channels: Bounds) -> Bounds:
    """Groups that some channels touch."""
    per_group = _per_group(node)
    return channels[0] // per_group, -(-channels[1] // per_group)


def _epsilon(node: BoundNode) -> tuple[str, float]:
    return "epsilon", node.attribute("epsilon", 1e-5)


def _grouped(node: BoundNode, data: Region) -> tuple[LocalNode, ...]:
    """A group normalisation of whole groups and all of space, as PyTorch writes it: each group is an instance."""
    groups = data.shape[1] // _per_group(node)
    ones, zeros = (Const((number,) * groups, "float32") for number in (1.0, 0.0))
    return (
        LocalNode("Reshape", (0, Const((data.shape[0], groups, -1))), ("instances",)),
        LocalNode("InstanceNormalization", ("instances", ones, zeros), ("normal",), (_epsilon(node),)),
        LocalNode("Reshape", ("normal", Const(data.shape)), ("back",)),
        LocalNode("Mul", ("back", 2), ("scaled",)),
        LocalNode("Add", ("scaled", 3), (0,)),
    )


def _scaled(node: BoundNode, data: Region, first_group: int) -> tuple[LocalNode, ...]:
    """Data by moments that others have summed: a batch normalisation, one kernel that reads the data once."""
    of_channels = _of_channels(node, data, first_group)
    flat, moments = Const((-1,)), "moments" if of_channels else 1
    return (
        *of_channels,
        LocalNode("Gather", (moments, Const((0,), shape=())), ("wide_mean",), (_LAST,)),
        LocalNode("Gather", (moments, Const((1,), shape=())), ("mean_square",), (_LAST,)),
        LocalNode("Mul", ("wide_mean", "wide_mean"), ("squared_mean",)),
        LocalNode("Sub", ("mean_square", "squared_mean"), ("difference",)),
        LocalNode("Abs", ("difference",), ("wide_variance",)),  # rounding may leave it below 0
        LocalNode("Cast", ("wide_mean",), ("means",), (("to", _FLOAT),)),
        LocalNode("Cast", ("wide_variance",), ("variances",), (("to", _FLOAT),)),
        LocalNode("Reshape", ("means", flat), ("mean",)),
        LocalNode("Reshape", ("variances", flat), ("variance",)),
        *_batch_normalisation(node, data.shape),
    )


def _of_channels(node: BoundNode, data: Region, first_group: int) -> tuple[LocalNode, ...]:
    """The moments of every channel are those of its group; nothing to do where each has its own."""
    per_group = _per_group(node)
    if per_group == 1:
        return ()
    groups = Const(tuple(channel // per_group - first_group for channel in range(*data.bounds[1])))
    return (LocalNode("Gather", (1, groups), ("moments",), (("axis", 1),)),)


def _batch_normalisation(node: BoundNode, shape: tuple[int, ...]) -> Iterator[LocalNode]:
    """Several items become one with as many times the channels."""
    batch, channels, *space = shape
    for index, name in ((2, "scale"), (3, "shift")):
        yield LocalNode("Reshape", (index, Const((channels,))), (name,))
    if batch == 1:
        yield LocalNode("BatchNormalization", (0, "scale", "shift", "mean", "variance"), (0,), (_epsilon(node),))
        return
    for name in ("scale", "shift"):
        yield LocalNode("Concat", (name,) * batch, (f"{name}s",), (("axis", 0),))
    yield LocalNode("Reshape", (0, Const((1, batch * channels, *space))), ("items",))
    inputs = ("items", "scales", "shifts", "mean", "variance")
    yield LocalNode("BatchNormalization", inputs, ("normal",), (_epsilon(node),))
    yield LocalNode("Reshape", ("normal", Const(shape)), (0,))
