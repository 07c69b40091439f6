"""Pad: a box of the padded value reads what lies inside, or what the mode mirrors, repeats or wraps into it."""

from __future__ import annotations

from collections.abc import Callable

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .base import Const, Copy, LocalNode, Regions, hull, is_known, register, trimmed


@register
class Pad(Copy):
    """Pads known before the run, negative ones (which crop) included, in any mode."""

    ops = ("Pad",)

    def applies(self, node: BoundNode) -> bool:
        return node.constant_or_attribute("pads", 1) is not None and is_known(node, 1, 3)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        if _mode(node) == "constant":
            axes = zip(hull(out).bounds, _begins(node), node.in_shape(), strict=True)
            data = Region(tuple(_nearest((lo - begin, hi - begin), extent) for (lo, hi), begin, extent in axes))
        else:
            data = Region(tuple((min(items), max(items) + 1) for items in _sources(node, out)))
        fill = node.has_input(2) and _mode(node) == "constant"
        rest = (Region.full(node.in_shape(2)) if fill and index == 2 else None for index in range(1, len(node.inputs)))
        return (data, *rest)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        held = into[0]
        assert held is not None
        return _filled(node, out, held) if _mode(node) == "constant" else _gathered(_sources(node, out), held)


def _filled(node: BoundNode, out: Regions, held: Region) -> tuple[LocalNode, ...]:
    """Constant mode: a Pad of what is wanted and held together, and a crop where only padding is wanted."""
    inside = Region(tuple((lo + begin, hi + begin) for (lo, hi), begin in zip(held.bounds, _begins(node), strict=True)))
    computed = inside.hull(hull(out))
    pairs = list(zip(computed.bounds, inside.bounds, strict=True))
    pads = (*(ours[0] - outer[0] for outer, ours in pairs), *(outer[1] - ours[1] for outer, ours in pairs))
    if node.opset < 11:
        pad = LocalNode("Pad", (0,), (0,), (("pads", pads),), inherit=True)
    else:
        pad = LocalNode("Pad", (0, Const(pads), 2) if node.has_input(2) else (0, Const(pads)), (0,), inherit=True)
    return trimmed(node.opset, pad, (computed,), out)


def _gathered(sources: list[list[int]], held: Region) -> tuple[LocalNode, ...]:
    """Other modes: a Gather along every axis whose sources are not just what is held, in order."""
    picks = [
        (axis, tuple(item - lo for item in items))
        for axis, (items, (lo, hi)) in enumerate(zip(sources, held.bounds, strict=True))
        if items != list(range(lo, hi))
    ]
    if not picks:
        return (LocalNode("Identity", (0,), (0,)),)
    names: list[int | str] = [0, *(f"axis{axis}" for axis, _ in picks[:-1]), 0]
    return tuple(
        LocalNode("Gather", (names[number], Const(items)), (names[number + 1],), (("axis", axis),))
        for number, (axis, items) in enumerate(picks)
    )


def _mode(node: BoundNode) -> str:
    return str(node.attribute("mode", "constant"))


def _pads(node: BoundNode) -> tuple[Bounds, ...]:
    """(begin, end) of every axis."""
    pads, axes = node.constant_or_attribute("pads", 1), node.constant(3)
    pairs = [(0, 0)] * len(node.in_shape())
    for index, axis in enumerate(range(len(pairs)) if axes is None else axes):
        pairs[axis] = (pads[index], pads[index + len(pads) // 2])
    return tuple(pairs)


def _begins(node: BoundNode) -> tuple[int, ...]:
    return tuple(begin for begin, _ in _pads(node))


def _nearest(bounds: Bounds, extent: int) -> Bounds:
    """The part of `bounds` inside ``[0, extent)``, or the one element nearest to it."""
    lo = min(max(bounds[0], 0), extent - 1)
    return lo, max(min(bounds[1], extent), lo + 1)


def _sources(node: BoundNode, out: Regions) -> list[list[int]]:
    """Input index of every wanted output, axis by axis."""
    index = _INDEX[_mode(node)]
    axes = zip(hull(out).bounds, _pads(node), node.in_shape(), strict=True)
    sources = []
    for (lo, hi), (begin, end), extent in axes:
        dropped = max(-begin, 0)  # negative pads crop first
        kept = extent - dropped - max(-end, 0)
        sources.append([dropped + index(position - max(begin, 0), kept) for position in range(lo, hi)])
    return sources


def _reflect(position: int, extent: int) -> int:
    period = max(2 * (extent - 1), 1)
    position %= period
    return min(position, period - position) if extent > 1 else 0


_INDEX: dict[str, Callable[[int, int], int]] = {
    "reflect": _reflect,
    "edge": lambda position, extent: min(max(position, 0), extent - 1),
    "wrap": lambda position, extent: position % extent,
}
"""Which of `extent` inputs lies at a position that may be outside of them, by mode."""
