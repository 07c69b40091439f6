"""Convolutions and pools: windows with every kind of padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..draft import Draft
from .drawing import draws

_AUTO = ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")


def _kernel(d: Draft, axes: int) -> list[int]:
    return [d.pick(1, 2, 3, 3, 3, 4, 5) for _ in range(axes)]


def _sliding(d: Draft, kernel: Sequence[int], dilations: bool = True) -> dict[str, Any]:
    """Strides, dilations and pads, each at times left out."""
    axes = len(kernel)
    found: dict[str, Any] = {}
    if d.chance(0.6):
        found["strides"] = [d.pick(1, 2, 2, 3) for _ in range(axes)]
    if dilations and d.chance(0.3):
        found["dilations"] = [d.pick(1, 2, 3) for _ in range(axes)]
    if d.chance(0.3):
        found["auto_pad"] = d.pick(*_AUTO)
    if found.get("auto_pad", "NOTSET") == "NOTSET" and d.chance(0.7):
        found["pads"] = [d.between(0, max(0, n - 1 if d.chance(0.9) else n + 1)) for n in (*kernel, *kernel)]
    return found


@draws("Conv", weight=3)
def conv(d: Draft, op: str) -> list[str]:
    group = d.pick(1, 1, 1, 2, 3)
    channels, kernels = group * d.pick(1, 2, 3, 5), group * d.pick(1, 2, 3, 4)
    if d.chance(0.15):
        group, kernels = channels, channels * d.pick(1, 2)
    shape = d.image(channels=channels)
    kernel = _kernel(d, len(shape) - 2)
    dtype = d.dtype("float64") if d.chance(0.3) else "float32"
    inputs = [d.value(shape, dtype), d.parameter(d.array((kernels, channels // group, *kernel), dtype), 0.9)]
    if d.chance(0.5):
        inputs.append(d.parameter(d.array((kernels,), dtype), 0.9))
    return d.call(op, inputs, group=group if d.chance(0.9) or group > 1 else None,
                  kernel_shape=kernel if d.chance(0.6) else None, **_sliding(d, kernel))  # fmt: skip


@draws("ConvInteger", "QLinearConv", weight=1.5)
def integer_conv(d: Draft, op: str) -> list[str]:
    group, per = d.pick(1, 1, 2), d.pick(1, 3)
    kernels = group * d.pick(1, 2, 4)
    shape = d.image(axes=2, channels=group * per)
    kernel = _kernel(d, 2)
    dtype = d.pick("uint8", "uint8", "int8")
    data, weight = (
        d.value(shape, dtype),
        d.fixed(d.array((kernels, per, *kernel), "int8" if op == "QLinearConv" else "uint8")),
    )
    sliding = dict(group=group, **_sliding(d, kernel))
    if op == "ConvInteger":
        return d.call(op, [data, weight, d.parameter(d.array((), dtype, 0, 9))][: d.pick(2, 3)], **sliding)
    one, each = d.fixed(abs(d.array(()))), d.fixed(abs(d.array((kernels,))) + 0.1)
    zeros = d.fixed(d.array((kernels,), "int8", 0, 1)) if d.chance(0.5) else d.fixed(d.array((), "int8", 0, 1))
    zero = d.fixed(d.array((), dtype, 0, 9))
    inputs = [data, one, zero, weight, each if d.chance(0.7) else one, zeros, d.fixed(abs(d.array(())) * 30 + 1), zero]
    if d.chance(0.5):
        inputs.append(d.fixed(d.array((kernels,), "int32")))
    return d.call(op, inputs, **sliding)


@draws("ConvTranspose", weight=3)
def conv_transpose(d: Draft, op: str) -> list[str]:
    group, per, kernels = d.pick(1, 1, 2, 3), d.pick(1, 2, 3), d.pick(1, 2, 3)
    shape = d.image(axes=d.pick(1, 2, 2, 2), channels=group * per, low=1)
    kernel = _kernel(d, len(shape) - 2)
    inputs = [d.value(shape), d.parameter(d.array((group * per, kernels, *kernel)), 0.9)]
    if d.chance(0.5):
        inputs.append(d.parameter(d.array((group * kernels,)), 0.9))
    settings = dict(group=group, kernel_shape=kernel if d.chance(0.6) else None, **_sliding(d, kernel))
    if d.chance(0.4):
        settings["output_padding"] = [d.between(0, 2) for _ in kernel]
    if d.chance(0.25):
        strides = settings.get("strides") or [1] * len(kernel)
        settings["output_shape"] = [n * step + d.between(-1, 3) for n, step in zip(shape[2:], strides, strict=True)]
    return d.call(op, inputs, **settings)


@draws("MaxPool", "AveragePool", "LpPool", weight=4)
def pool(d: Draft, op: str) -> list[str]:
    shape = d.image()
    kernel = _kernel(d, len(shape) - 2)
    settings = _sliding(d, kernel)
    for key, share in (("ceil_mode", 0.5), ("count_include_pad", 0.5), ("storage_order", 0.2)):
        if d.chance(share):
            settings[key] = d.pick(0, 1, 1)
    if op == "LpPool":
        settings["p"] = d.pick(1, 2, 3)
    outputs = d.pick(1, 1, 2) if op == "MaxPool" and d.opset > 7 else 1
    dtype = d.dtype("float64", "int8", "uint8", "float16") if op == "MaxPool" and d.opset > 11 else "float32"
    return d.call(op, [d.value(shape, dtype)], outputs, kernel_shape=kernel, **settings)


@draws("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(d: Draft, op: str) -> list[str]:
    return d.call(op, [d.value(d.image(low=1))], p=d.pick(1, 2, 3) if op == "GlobalLpPool" else None)


@draws("MaxUnpool")
def unpool(d: Draft, op: str) -> list[str]:
    """Behind the pool that makes its indices, or of indices of its own."""
    shape, kernel = d.image(axes=d.pick(1, 2, 3)), None
    kernel = [2] * (len(shape) - 2)
    d.opset = max(d.opset, 11)
    pooled = d.call("MaxPool", [d.value(shape)], 2, kernel_shape=kernel, strides=kernel)
    inputs = pooled if d.chance(0.6) else [*pooled, d.ints(shape)]
    return [*d.call(op, inputs, kernel_shape=kernel, strides=kernel), *pooled[: d.pick(0, 1, 2)]]


@draws("MaxRoiPool", weight=0.5)
def roi_pool(d: Draft, op: str) -> list[str]:
    shape = d.image(axes=2)
    boxes = [
        [
            d.between(0, shape[0] - 1),
            *sorted(d.between(0, 6) for _ in range(2)),
            *sorted(d.between(3, 9) for _ in range(2)),
        ]
        for _ in range(3)
    ]
    rois = d.parameter(d.array((3, 5)) * 0 + boxes)
    return d.call(op, [d.value(shape), d.node("Cast", [rois], to=1)], pooled_shape=[d.between(1, 3), d.between(1, 3)])


@draws("DeformConv", weight=0.5)
def deform_conv(d: Draft, op: str) -> list[str]:
    channels, kernels, (height, width) = d.pick(1, 2, 4), d.pick(1, 2), (d.between(4, 8), d.between(4, 8))
    offset = d.parameter(d.array((1, 18, height, width)), 0.3)
    return d.call(
        op,
        [d.value((1, channels, height, width)), d.fixed(d.array((kernels, channels, 3, 3))), offset],
        pads=[1] * 4,
        kernel_shape=[3, 3],
    )


@draws("Col2Im", weight=0.5)
def col2im(d: Draft, op: str) -> list[str]:
    image, block = (d.between(3, 8), d.between(3, 8)), (d.between(1, 3), d.between(1, 3))
    blocks = math.prod(n - k + 1 for n, k in zip(image, block, strict=True))
    data = d.value((d.between(1, 2), d.pick(1, 2, 3) * math.prod(block), blocks))
    return d.call(op, [data, d.ints(image), d.ints(block)])
