"""What Resize and Upsample say about each axis, in the words of any opset: scales or sizes, modes, cropping."""

from __future__ import annotations

from ..core.graph import BoundNode
from .sampling import Sampling, single


def is_modern(node: BoundNode) -> bool:
    """Whether a node has coordinate modes, a region of interest and sizes: Resize from opset 11 on."""
    return node.op == "Resize" and node.opset > 10


def has_sizes(node: BoundNode) -> bool:
    """Whether sizes are given, and not scales."""
    return is_modern(node) and node.has_input(3) and node.in_shape(3) != (0,)


def mode(node: BoundNode) -> str:
    """How samples are made: "nearest", "linear" (by any of its older names) or "cubic"."""
    name = str(node.attribute("mode", "nearest"))
    return "linear" if name.endswith("linear") else name


def policy(node: BoundNode) -> str:
    """What sizes mean: "stretch", or limits within which the aspect ratio is kept."""
    return str(node.attribute("keep_aspect_ratio_policy", "stretch")) if has_sizes(node) else "stretch"


def crops(node: BoundNode) -> bool:
    """Whether a region of interest is resized, and not all of the value."""
    return bool(node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize")


def named_axes(node: BoundNode) -> tuple[int, ...]:
    """The axes that scales and sizes speak of."""
    ndim = len(node.in_shape())
    return tuple(axis % ndim for axis in node.attribute("axes") or range(ndim))


def samplings(node: BoundNode) -> tuple[Sampling, ...] | None:
    """How every axis is resampled.

    None when that is known only in the run, when axes are cropped and not scaled, and when scales change no extent:
    whether onnxruntime then copies or samples depends on its version. None too where sizes are limits for axes that
    are counted from the back, which onnxruntime then leaves as they are.
    """
    scales, shape = _scales(node), node.out_shape()
    if scales is None or (crops(node) and not _keeps_uncropped(node, scales)):
        return None
    if shape == node.in_shape() and set(scales) != {1.0}:
        return None
    by_axis = dict(zip(named_axes(node), scales, strict=True))
    transform, rounding = "asymmetric", "simple"
    if is_modern(node):
        transform = node.attribute("coordinate_transformation_mode", "half_pixel")
        rounding = node.attribute("nearest_mode", "round_prefer_floor")
    return tuple(
        Sampling(extent, shape[axis], by_axis.get(axis, 1.0), transform, rounding)
        for axis, extent in enumerate(node.in_shape())
    )


def _scales(node: BoundNode) -> tuple[float, ...] | None:
    """Scale along each of the named axes, in single precision; None when it comes out of the run."""
    if not has_sizes(node):
        given = node.constant_or_attribute("scales", 2 if is_modern(node) else 1)
        return tuple(single(scale) for scale in given) if given else None
    extents = [node.in_shape()[axis] for axis in named_axes(node)]
    if policy(node) == "stretch":
        lengths = [node.out_shape()[axis] for axis in named_axes(node)]
        return tuple(single(length / extent) for length, extent in zip(lengths, extents, strict=True))
    sizes = node.constant(3)
    if sizes is None or min(node.attribute("axes") or (0,)) < 0:
        return None
    ratios = [single(size / extent) for size, extent in zip(sizes, extents, strict=True)]
    return (min(ratios) if policy(node) == "not_larger" else max(ratios),) * len(ratios)


def _keeps_uncropped(node: BoundNode, scales: tuple[float, ...]) -> bool:
    """Whether the region of interest is known and takes nothing from the axes that are not scaled."""
    roi = node.constant(1)
    if not roi:
        return False
    corners = zip(roi[: len(scales)], roi[len(scales) :], scales, strict=True)
    return all(scale != 1.0 or (start, end) == (0.0, 1.0) for start, end, scale in corners)
