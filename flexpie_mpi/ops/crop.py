"""Crops: the Slice nodes that local forms use to cut a box out of a larger one."""

from __future__ import annotations

from ..core.region import Region
from .base import Const, LocalNode


def crop(opset: int, source: int | str, target: int | str, held: Region, wanted: Region) -> LocalNode:
    """Node that cuts region `wanted` out of a tensor that holds region `held` of the same value."""
    cuts = [
        (axis, part.start, part.stop)
        for axis, (part, extent) in enumerate(zip(wanted.slices(held), held.shape, strict=True))
        if (part.start, part.stop) != (0, extent)
    ]
    axes, starts, ends = zip(*cuts, strict=True) if cuts else ((), (), ())
    return (
        slice_node(opset, source, target, starts, ends, axes) if cuts else LocalNode("Identity", (source,), (target,))
    )


def slice_node(
    opset: int,
    source: int | str,
    target: int | str,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...],
    steps: tuple[int, ...] = (),
) -> LocalNode:
    """A Slice in the form of `opset`: bounds are inputs from 10 on and attributes before (without steps)."""
    if opset < 10:
        return LocalNode("Slice", (source,), (target,), (("starts", starts), ("ends", ends), ("axes", axes)))
    bounds = [starts, ends, axes, steps] if steps else [starts, ends, axes]
    return LocalNode("Slice", (source, *map(Const, bounds)), (target,))
