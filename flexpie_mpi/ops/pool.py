"""Pools: rows, columns and batch by windows, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import ClassVar

from ..core.graph import BoundNode
from ..core.region import Region
from .base import AxisRule, Const, Followed, LocalNode, Regions, hull, register, same, trimmed, whole
from .parts import averaged
from .window import WindowRule


@register
class Pool(WindowRule):
    """Pool of data (N, C, ...).

    Borders keep their meaning because the local form keeps `ceil_mode`, and the operator's own pads at the true border:
    whatever an average divides by there, the local form divides by as well.
    """

    ops: ClassVar[tuple[str, ...]] = ("MaxPool", "AveragePool", "LpPool")

    def applies(self, node: BoundNode) -> bool:
        """Indices that count columns first cannot be worked out anew from those of a part."""
        return len(node.node.writes) == 1 or not node.attribute("storage_order", 0)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        return (Region((*hull(out).bounds[:2], *self.spatial(node, out).read)), *map(whole, node.inputs[1:]))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        form = self.spatial(node, out)
        computed = Region((*hull(out).bounds[:2], *form.computed))
        nodes = trimmed(node.opset, same(node, form.attributes), tuple(want and computed for want in out), out)
        if len(out) == 1 or out[1] is None or into[0] is None:
            return nodes
        local_indices = (
            replace(item, outputs=tuple("indices" if name == 1 else name for name in item.outputs)) for item in nodes
        )
        return (*local_indices, *_renumber("indices", 1, into[0], node.in_shape()))

    def flops(self, node: BoundNode, out: Regions) -> int:
        """One per output element and input element under its window."""
        return hull(out).size * prod(node.attribute("kernel_shape"))


@register
class QLinearAveragePool(Pool):
    """Average of quantised data; scales and zero points are one element each."""

    domain = "com.microsoft"
    ops = ("QLinearAveragePool",)

    def applies(self, node: BoundNode) -> bool:
        return not node.attribute("channels_last", 0)


def _renumber(source: str, target: int, held: Region, shape: tuple[int, ...]) -> tuple[LocalNode, ...]:
    """Nodes that turn row-major positions in a tensor that holds `held` into positions in the whole of `shape`.

    Axes held whole are one with the next outer one, so that two or three divisions do.
    """
    blocks = _blocks(held, shape)
    nodes: list[LocalNode] = []
    total: int | str | Const = Const((sum(lo * step for _, step, lo in blocks),), shape=())
    rest: str = source
    for number, (extent, step, _) in enumerate(blocks[:-1]):
        size, outer, digit = Const((extent,), shape=()), f"outer{number}", f"digit{number}"
        nodes += [
            LocalNode("Div", (rest, size), (outer,)),
            LocalNode("Mul", (outer, size), (f"{outer}_begin",)),
            LocalNode("Sub", (rest, f"{outer}_begin"), (digit,)),
            LocalNode("Mul", (digit, Const((step,), shape=())), (f"{digit}_steps",)),
            LocalNode("Add", (total, f"{digit}_steps"), (f"total{number}",)),
        ]
        rest, total = outer, f"total{number}"
    nodes.append(LocalNode("Mul", (rest, Const((blocks[-1][1],), shape=())), ("outermost",)))
    return (*nodes, LocalNode("Add", (total, "outermost"), (target,)))


def _blocks(held: Region, shape: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(extent held, step in the whole, first one held) of every block of axes, innermost first.

    >>> _blocks(Region(((0, 2), (0, 3), (4, 6), (0, 5))), (2, 3, 8, 5))
    [(10, 1, 20), (6, 40, 0)]
    """
    blocks: list[tuple[int, int, int]] = []
    step, whole = 1, False
    for (lo, hi), extent in reversed(list(zip(held.bounds, shape, strict=True))):
        if whole:
            inner, inner_step, _ = blocks.pop()
            blocks.append(((hi - lo) * inner, inner_step, lo * inner))
        else:
            blocks.append((hi - lo, step, lo))
        step *= extent
        whole = (lo, hi) == (0, extent)
    return blocks


@register
class GlobalPool(AxisRule):
    """Pool of (N, C, ...) over all of its spatial axes, into (N, C, 1, ...)."""

    ops: ClassVar[tuple[str, ...]] = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    read_flops = 1

    def axes(self, node: BoundNode) -> range:
        return range(2, len(node.in_shape()))

    def combines(self, node: BoundNode) -> str:
        return {"GlobalAveragePool": "add", "GlobalMaxPool": "maximum"}.get(node.op, "")

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        return ((None, None, *self.axes(node)),)

    def part(self, node: BoundNode, into: Regions) -> tuple[LocalNode, ...]:
        return averaged(node, into) if node.op == "GlobalAveragePool" else super().part(node, into)


@register
class QLinearGlobalAveragePool(GlobalPool):
    """The same of quantised data; parts would be rounded before they are added."""

    domain = "com.microsoft"
    ops = ("QLinearGlobalAveragePool",)

    def axes(self, node: BoundNode) -> range:
        last = len(node.in_shape())
        return range(1, last - 1) if node.attribute("channels_last", 0) else range(2, last)
