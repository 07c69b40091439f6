"""Convolutions: rows, columns and batch by windows, channels by slices of the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .base import LocalNode, OpRule, Regions, macs, register, same
from .groups import Groups, touched
from .trim import hull, trimmed
from .window import Fit, Local, Window, fitted, windows


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which input is what: data (N, C, ...), weight (M, C / group, ...), and vectors that may have one item per M."""

    weight: int
    vectors: tuple[int, ...]


_ROLES = {"Conv": _Roles(1, (2,)), "ConvInteger": _Roles(1, (3,)), "QLinearConv": _Roles(3, (4, 5, 8))}


@register
class Conv(OpRule):
    """Convolution of data (N, C, ...) with a weight (M, C / group, ...), in floats or integers.

    Channels [lo:hi) need the weight's [lo:hi) and the input channels of the groups they touch. A range inside one group
    becomes a convolution without groups; one over several computes those groups whole and crops.
    """

    ops = ("Conv", "ConvInteger", "QLinearConv")

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return (frozenset((0, 1) if _windows(node) is None else range(len(node.out_shape()))),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        roles, groups = _ROLES[node.op], _groups(node, out)
        regions = list(super().in_regions(node, out))
        regions[0] = Region((hull(out).bounds[0], groups.read, *_fitted(node, out).read))
        for place in (roles.weight, *roles.vectors):
            if node.has_input(place) and node.in_shape(place)[:1] == node.out_shape()[1:2]:
                regions[place] = Region.full(node.in_shape(place)).with_axis(0, groups.computed)
        return tuple(regions)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        form, groups = _fitted(node, out), _groups(node, out)
        computed = Region((hull(out).bounds[0], groups.computed, *form.computed))
        conv = same(node, (("group", groups.count), *form.attributes))
        return trimmed(node.opset, conv, (computed,), out)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Multiply-accumulates of ``C / group`` channels under the window, for every output element."""
        return macs(hull(out).size * prod(node.in_shape(_ROLES[node.op].weight)[1:]))


def _windows(node: BoundNode) -> tuple[Window, ...] | None:
    return windows(node, node.in_shape(_ROLES[node.op].weight)[2:])


def _fitted(node: BoundNode, out: Regions) -> Local:
    return fitted(node, _windows(node), hull(out), _fit)


def _fit(window: Window, wanted: Bounds) -> Fit:
    """What a range of outputs reads; up to the end of the input at the end of the output.

    The last inputs may be read by no window (a stride that does not divide them): whoever has the end of the output
    has them anyway, and taking them saves a crop.
    """
    fit = window.fit(wanted)
    if wanted[1] < window.outputs() or fit.read[1] == window.extent:
        return fit
    return replace(fit, read=(fit.read[0], window.extent), end=window.end)


def _groups(node: BoundNode, out: Regions) -> Groups:
    return touched(hull(out).bounds[1], node.attribute("group", 1), node.in_shape()[1], node.out_shape()[1])
