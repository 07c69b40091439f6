"""Resize and Upsample in all their forms, and operators that sample between pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..draft import Draft
from .drawing import draws

_TRANSFORMS = (
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
    "tf_half_pixel_for_nn", "half_pixel_symmetric",
)  # fmt: skip


def _extents(d: Draft, axes: int, sizes: list[int], shape: tuple[int, ...]) -> tuple[list[float], list[int]]:
    """Scales and sizes along `axes` axes of `shape`; some of them whole or half numbers, some size by size."""
    scales, lengths = [], []
    for axis in sizes:
        extent = max(shape[axis], 1)
        target = d.between(1, 3 * extent + 2)
        way = d.between(0, 3)
        scale = float(np.float32(target / extent)) if way < 2 else d.pick(0.5, 1.0, 1.5, 2.0, 0.75, 2.5, 3.0, 0.33, 1.3)
        if axis < 2 and d.chance(0.85):
            scale, target = 1.0, extent
        scales.append(scale)
        lengths.append(target)
    return scales, lengths


@draws("Resize", weight=6)
def resize(d: Draft, op: str) -> list[str]:
    shape = d.image(axes=d.pick(1, 2, 2, 2, 3), low=1)
    dtype = d.dtype("uint8", "int32", "int8", "float16", "float64") if d.chance(0.4) else "float32"
    mode = d.pick("nearest", "nearest", "linear", "linear", "cubic")
    chosen = list(range(len(shape)))
    settings: dict[str, Any] = dict(mode=mode)
    if d.opset >= 18 and d.chance(0.3):
        settings["axes"] = axes = d.axes(len(shape))
        chosen = [axis % len(shape) for axis in axes]
    scales, lengths = _extents(d, len(shape), chosen, shape)
    if d.opset < 11:
        return d.call(
            op, [d.value(shape, dtype), d.parameter(np.float32(scales))], mode=mode if mode != "cubic" else "linear"
        )
    if d.chance(0.85):
        settings["coordinate_transformation_mode"] = d.pick(*_TRANSFORMS)
    if d.chance(0.7):
        settings["nearest_mode"] = d.pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if d.chance(0.2):
        settings |= dict(exclude_outside=d.pick(0, 1), cubic_coeff_a=d.pick(-0.5, -0.75))
    if d.chance(0.2):
        settings["extrapolation_value"] = 2.5
    return d.call(op, [d.value(shape, dtype), *_asked(d, settings, scales, lengths)], **settings)


def _asked(d: Draft, settings: dict[str, Any], scales: list[float], lengths: list[int]) -> list[str]:
    """The inputs roi, scales and sizes; attributes that are only for some of them."""
    count = len(scales)
    if d.opset >= 18 and d.chance(0.2):
        settings["antialias"] = 1
    corners = d.pick([0.0] * count + [1.0] * count, [0.0] * (count - 1) + [0.1] + [1.0] * (count - 1) + [0.8])
    crops = settings.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    roi = d.fixed(np.float32(corners)) if crops or d.chance(0.1) else d.pick("", "", d.fixed(np.float32([])))
    if d.chance(0.5):
        return [roi or (d.fixed(np.float32([])) if d.opset < 13 else ""), d.parameter(np.float32(scales), 0.85)]
    if d.opset >= 18 and d.chance(0.3):
        settings["keep_aspect_ratio_policy"] = d.pick("stretch", "not_larger", "not_smaller")
    empty = d.fixed(np.float32([]))
    return [roi or empty, empty if d.opset < 13 or d.chance(0.3) else "", d.ints(lengths, constant=0.85)]


@draws("Upsample", weight=1.5)
def upsample(d: Draft, op: str) -> list[str]:
    d.opset = d.between(7, 9)
    shape = d.image(axes=2, low=1)
    scales = [1.0, 1.0, d.pick(1.0, 2.0, 1.5, 3.0, 2.6), d.pick(1.0, 2.0, 1.5, 2.3)]
    scales = scales if d.opset == 7 else np.float32(scales)
    return d.call(op, [d.value(shape)], mode=d.pick("nearest", "linear"), scales=scales)


@draws("GridSample")
def grid_sample(d: Draft, op: str) -> list[str]:
    axes = d.pick(2, 2, 3) if d.opset > 19 else 2
    shape = d.image(axes=axes, low=2)
    grid = d.value((shape[0], *(d.extent(1, 6) for _ in range(axes)), axes))
    modes = ("linear", "nearest", "cubic") if d.opset > 19 else ("bilinear", "nearest", "bicubic")
    return d.call(op, [d.value(shape), grid], mode=d.pick(*modes), align_corners=d.pick(0, 1),
                  padding_mode=d.pick("zeros", "border", "reflection"))  # fmt: skip


@draws("AffineGrid", weight=0.5)
def affine_grid(d: Draft, op: str) -> list[str]:
    axes, batch = d.pick(2, 3), d.between(1, 2)
    size = [batch, d.between(1, 3), *(d.between(1, 6) for _ in range(axes))]
    return d.call(op, [d.value((batch, axes, axes + 1)), d.ints(size)], align_corners=d.pick(0, 1))


@draws("RoiAlign")
def roi_align(d: Draft, op: str) -> list[str]:
    shape, count = d.image(axes=2, low=5), d.between(1, 5)
    corners = d.numbers.uniform(0, 5, (count, 2))
    boxes = np.concatenate([corners, corners + d.numbers.uniform(0.5, 6, (count, 2))], 1).astype(np.float32)
    batches = d.ints([d.between(0, shape[0] - 1) for _ in range(count)])
    mode = d.pick("half_pixel", "output_half_pixel") if d.opset >= 16 else None
    settings = dict(
        mode=d.pick("avg", "max"), output_height=d.between(1, 5), output_width=d.between(1, 5),
        sampling_ratio=d.pick(0, 1, 2), spatial_scale=d.pick(1.0, 0.5), coordinate_transformation_mode=mode,
    )  # fmt: skip
    return d.call(op, [d.value(shape), d.parameter(boxes, 0.3), batches], **settings)


@draws("DepthToSpace", "SpaceToDepth", weight=1.5)
def depth(d: Draft, op: str) -> list[str]:
    block, channels = d.pick(1, 2, 3), d.pick(1, 2, 3)
    height, width = d.extent(1, 5), d.extent(1, 5)
    dtype = d.dtype("float64", "uint8")
    mode = d.pick("DCR", "CRD", None)
    if op == "DepthToSpace":
        return d.call(op, [d.value((2, channels * block**2, height, width), dtype)], blocksize=block, mode=mode)
    return d.call(op, [d.value((2, channels, height * block, width * block), dtype)], blocksize=block)


@draws("CenterCropPad", weight=0.7)
def center_crop_pad(d: Draft, op: str) -> list[str]:
    shape = d.shape(1, 4)
    axes = d.axes(len(shape)) if d.chance(0.6) else None
    count = len(axes) if axes is not None else len(shape)
    return d.call(op, [d.value(shape), d.ints([d.between(1, 9) for _ in range(count)])], axes=axes)
