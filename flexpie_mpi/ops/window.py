"""Receptive fields of sliding windows along one axis, shared by convolutions and pools.

Output i reads inputs ``i * stride - begin + j * dilation`` for ``0 <= j < kernel``, where ``begin`` counts the zeros
that the operator adds before the first input::

    input (begin 1)    . 0 1 2 3 4 5 .
    output 0           |---|
    output 1             |---|             kernel 3, stride 1: outputs [1:4] read inputs [0:5]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..core.graph import Attribute, BoundNode
from ..core.region import Bounds, Region
from .base import Attributes, OpRule, Regions, hull


@dataclass(frozen=True, slots=True)
class Fit:
    """How a range of outputs comes out of a local window operator."""

    read: Bounds  # (lo, hi). Inputs it gets; never empty.
    # `begin` and `end`: its own pads: the operator's at the true border, none inside
    begin: int
    end: int
    computed: Bounds  # (lo, hi). Outputs it computes; more than wanted only where windows see nothing but padding.


@dataclass(frozen=True, slots=True)
class LocalWindows:
    """What a box of outputs takes along the spatial axes."""

    # `read` and `computed`: tuple of (lo, hi). Inputs that the local operator gets, and outputs that it computes.
    read: tuple[Bounds, ...]
    computed: tuple[Bounds, ...]
    attributes: Attributes = ()  # tuple of (name, value). Those that it has in place of the node's own.


@dataclass(frozen=True, slots=True)
class Window:
    """A window sliding along an axis of `extent` inputs, padded by `begin` and `end`."""

    extent: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    begin: int = 0
    end: int = 0

    @property
    def reach(self) -> int:
        """Elements from the first to the last under the window."""
        return self.dilation * (self.kernel - 1) + 1

    def outputs(self, ceil: bool = False) -> int:
        """Number of outputs; with `ceil` the last window may stick out, but must begin before the end padding.

        >>> Window(6, kernel=3, stride=2).outputs(), Window(6, kernel=3, stride=2).outputs(ceil=True)
        (2, 3)
        """
        room = self.extent + self.begin + self.end - self.reach
        count = (-(-room // self.stride) if ceil else room // self.stride) + 1
        return count - 1 if ceil and (count - 1) * self.stride >= self.extent + self.begin else count

    def fit(self, wanted: Bounds) -> Fit:
        """What the outputs `wanted` read, and how a local operator computes them from just that.

        A wrong halo of a convolution or a pool is mended here.

        >>> Window(8, kernel=3, begin=1, end=1).fit((4, 8))  # lower half of a "same" convolution
        Fit(read=(3, 8), begin=0, end=1, computed=(4, 8))

        With ceil_mode the last of three windows sticks out. It reads what there is, and no pad is added for it: the
        local operator keeps ceil_mode.

        >>> Window(6, kernel=3, stride=2).fit((2, 3))
        Fit(read=(4, 6), begin=0, end=0, computed=(2, 3))
        """
        # windows that begin behind the last input, or end before the first, take the nearest one along
        first = min(wanted[0], (self.extent - 1 + self.begin) // self.stride)
        lo = first * self.stride - self.begin
        hi = (wanted[1] - 1) * self.stride - self.begin + self.reach
        read = max(lo, 0), min(max(hi, 1), self.extent)
        begin, end = read[0] - lo, min(max(hi - read[1], 0), self.end)
        count = (begin + read[1] - read[0] + end - self.reach) // self.stride + 1
        # where the last window sticks out (ceil_mode) it is not in `count`
        return Fit(read, begin, end, (first, max(wanted[1], first + count)))


def unpadded(node: BoundNode, kernel: tuple[int, ...]) -> tuple[Window, ...]:
    """The windows of a node along its spatial axes, without their pads."""
    return _unpadded(node.node.attributes, node.in_shape()[2:], kernel)


class WindowRule(OpRule):
    """Rule of an operator whose windows slide along the spatial axes of data (N, C, ...)."""

    def kernel(self, node: BoundNode) -> tuple[int, ...]:
        """Extents of the window."""
        return tuple(node.attribute("kernel_shape"))

    def fit(self, window: Window, wanted: Bounds) -> Fit:
        """What outputs along an axis read; more than :meth:`Window.fit` says where that saves a crop."""
        return window.fit(wanted)

    def windows(self, node: BoundNode) -> tuple[Window, ...] | None:
        """One window per spatial axis, with `auto_pad` made explicit.

        None where they are not known: the operator's own count of outputs along some axis is another one, or it crops
        by negative pads. A local form must then leave the node's attributes, and all spatial axes, as they are.
        """
        padded = _padded(node.node.attributes, node.in_shape()[2:], self.kernel(node), node.op.endswith("Pool"))
        ceil, pairs = bool(node.attribute("ceil_mode", 0)), zip(padded, node.out_shape()[2:], strict=True)
        is_known = all(min(item.begin, item.end) >= 0 and item.outputs(ceil) == extent for item, extent in pairs)
        return padded if is_known else None

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        axes = frozenset((0, 1) if self.windows(node) is None else range(len(node.out_shape())))
        return (axes,) * len(node.outputs)

    def spatial(self, node: BoundNode, out: Regions) -> LocalWindows:
        """How a local operator computes the spatial axes of `out`."""
        wanted, along = hull(out).bounds[2:], self.windows(node)
        if along is None:
            return LocalWindows(Region.full(node.in_shape()[2:]).bounds, wanted)
        fits = [self.fit(*pair) for pair in zip(along, wanted, strict=True)]
        pads = (*(item.begin for item in fits), *(item.end for item in fits))
        attributes = (("auto_pad", None), ("pads", pads))
        return LocalWindows(tuple(item.read for item in fits), tuple(item.computed for item in fits), attributes)


@lru_cache(maxsize=4096)
def _unpadded(
    attributes: tuple[tuple[str, Attribute], ...], extents: tuple[int, ...], kernel: tuple[int, ...]
) -> tuple[Window, ...]:
    attribute: dict[str, Any] = dict(attributes)
    ones = (1,) * len(extents)
    strides, dilations = attribute.get("strides") or ones, attribute.get("dilations") or ones
    return tuple(Window(*item) for item in zip(extents, kernel, strides, dilations, strict=True))


@lru_cache(maxsize=4096)
def _padded(
    attributes: tuple[tuple[str, Attribute], ...], extents: tuple[int, ...], kernel: tuple[int, ...], is_pool: bool
) -> tuple[Window, ...]:
    attribute: dict[str, Any] = dict(attributes)
    bare = _unpadded(attributes, extents, kernel)
    mode = attribute.get("auto_pad", "NOTSET")
    pads = attribute.get("pads") or (0,) * (2 * len(extents))
    explicit = zip(pads, pads[len(bare) :], strict=False)
    pairs = explicit if mode in ("NOTSET", "") else (_auto_pad(mode, window, is_pool) for window in bare)
    return tuple(replace(window, begin=begin, end=end) for window, (begin, end) in zip(bare, pairs, strict=False))


def _auto_pad(mode: str, window: Window, is_pool: bool) -> Bounds:
    """Pads that give ``ceil(extent / stride)`` outputs, the odd one at the end for SAME_UPPER; none for VALID.

    In onnxruntime the pads of a pool follow from its kernel as if there were no dilation, and may be negative.
    """
    if mode == "VALID":
        return 0, 0
    count = -(-window.extent // window.stride)
    total = (count - 1) * window.stride + (window.kernel if is_pool else window.reach) - window.extent
    total = total if is_pool else max(0, total)
    return (total // 2, total - total // 2) if mode == "SAME_UPPER" else (total - total // 2, total // 2)
