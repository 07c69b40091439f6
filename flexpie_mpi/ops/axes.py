"""Arithmetic of axes that rules share: broadcasting, axis parameters, outputs that go together."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.graph import BoundNode, Value
from ..core.region import Bounds, Region
from .base import LocalNode, Regions, full, same
from .trim import hull, trimmed


def all_axes(value: Value | None) -> frozenset[int]:
    """Every axis of a value; none for an absent one."""
    return frozenset(range(len(value.shape or ()))) if value is not None else frozenset()


def axes_of(node: BoundNode, *fixed: int) -> tuple[frozenset[int], ...]:
    """Every axis of every output, without the axes in `fixed`."""
    return tuple(all_axes(value) - frozenset(fixed) for value in node.outputs)


def axis_of(node: BoundNode, default: int, ndim: int) -> int:
    """The ``axis`` attribute counted from the front of a value with `ndim` axes."""
    return int(node.attribute("axis", default)) % max(ndim, 1)


def whole(value: Value | None) -> Region | None:
    """All of a value; None for an absent one."""
    return None if value is None else full(value.shape)


def is_settled(node: BoundNode, *places: int) -> bool:
    """Whether what each of these inputs says is known before the run: it is absent or a small constant."""
    return all(node.constant(place) is not None for place in places if node.has_input(place))


def replaced(node: BoundNode, first: int) -> Regions:
    """Regions of the parameters from input `first` on that a local form replaces: constants are not read."""
    places = range(first, len(node.inputs))
    return tuple(None if is_settled(node, place) else whole(node.inputs[place]) for place in places)


def broadcast_bounds(bounds: Sequence[Bounds], shape: Sequence[int]) -> tuple[Bounds, ...]:
    """What an operand of `shape` contributes to ``bounds`` of a broadcast result, both aligned at their last axes.

    >>> broadcast_bounds(((0, 2), (3, 5), (4, 6)), (8, 1))
    ((3, 5), (0, 1))
    """
    padded = [(0, 1)] * (len(shape) - len(bounds)) + list(bounds[max(0, len(bounds) - len(shape)) :])
    return tuple((0, 1) if extent == 1 else pair for pair, extent in zip(padded, shape, strict=True))


def broadcast(region: Region, value: Value | None) -> Region | None:
    """Region of an operand that `region` of a broadcast result reads; None for an absent operand."""
    return None if value is None else Region(broadcast_bounds(region.bounds, value.shape or ()))


def coupled(node: BoundNode, out: Regions) -> tuple[LocalNode, ...]:
    """Local form of a node whose outputs all come out on the hull of what is wanted: the node, then crops."""
    held = hull(out)
    return trimmed(node.opset, same(node), (held,) * len(out), tuple(region or held for region in out))
