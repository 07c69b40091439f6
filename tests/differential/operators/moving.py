"""Operators that copy elements to other places: Pad, Slice, Concat, Split, Tile, Expand, Transpose."""

from __future__ import annotations

import numpy as np

from ..draft import Draft
from .drawing import draws

_ANY = ("float64", "int64", "int32", "uint8", "bool", "float16", "object")


@draws("Pad", weight=3)
def pad(d: Draft, op: str) -> list[str]:
    shape, dtype = d.shape(1, 4), d.dtype("float64", "int64", "int32", "uint8") if d.opset > 12 else "float32"
    mode = d.pick("constant", "constant", "reflect", "edge", "wrap" if d.opset >= 19 else "edge")
    axes = d.axes(len(shape)) if d.opset >= 18 and d.chance(0.4) else None
    chosen = [axis % len(shape) for axis in axes] if axes is not None else list(range(len(shape)))
    low = -1 if d.chance(0.3) else 0
    pads = [d.between(low, max(0, min(3, shape[axis] - 1)) if mode != "constant" else 3) for axis in chosen * 2]
    fill = None
    if mode == "constant" and d.chance(0.5):
        fill = 1.5 if d.opset < 11 else np.array(3, dtype)
    settings = dict(value=fill) if d.opset < 11 else dict(constant_value=fill)
    return d.call(op, [d.value(shape, dtype)], mode=mode if d.chance(0.9) else None, pads=np.array(pads),
                  axes=None if axes is None else np.array(axes, d.pick("int64", "int32")), **settings)  # fmt: skip


@draws("Slice", weight=3)
def slices(d: Draft, op: str) -> list[str]:
    shape = d.shape(1, 5)
    axes = d.axes(len(shape)) if d.chance(0.8) else list(range(d.between(1, len(shape))))
    axes = [axis % len(shape) for axis in axes] if d.opset < 10 else axes
    steps = [d.pick(1, 1, 2, 3, -1, -2) if d.opset > 9 else 1 for _ in axes]
    starts, ends = [], []
    for axis, step in zip(axes, steps, strict=True):
        extent = shape[axis]
        low, high = d.between(0, max(0, extent - 1)), d.pick(extent, 2**31 - 1, 2**63 - 1, d.between(0, extent))
        low = low - extent if d.chance(0.3) else low
        if step < 0:
            low, high = d.pick(extent - 1, -1, 2**31 - 1), d.pick(-extent - 1, -(2**63), d.between(-extent - 1, 0))
        starts.append(low)
        ends.append(high)
    dtype = "int64" if max(map(abs, ends)) > 2**31 - 1 or d.chance(0.7) else "int32"
    settings = dict(starts=np.array(starts, dtype), ends=np.array(ends, dtype), axes=np.array(axes, dtype))
    if axes == list(range(len(axes))) and d.chance(0.5):
        del settings["axes"]
    if d.opset > 9 and (any(step != 1 for step in steps) or d.chance(0.3)):
        settings["steps"] = np.array(steps, dtype)
    return d.call(op, [d.value(shape, d.dtype(*_ANY))], **settings)


@draws("Concat", weight=2)
def concat(d: Draft, op: str) -> list[str]:
    shape, dtype = d.shape(1, 4), d.dtype(*_ANY)
    axis, names = d.axis(len(shape)), []
    for _ in range(d.between(1, 4)):
        part = list(shape)
        part[axis % len(shape)] = d.extent(1, 6)
        names.append(d.value(part, dtype) if d.chance(0.7) else d.fixed(d.array(part, dtype)))
    if d.chance(0.2):
        names.append(names[0])
    return d.call(op, names, axis=axis)


@draws("Split", weight=2)
def split(d: Draft, op: str) -> list[str]:
    shape, dtype = d.shape(1, 4), d.dtype("int64", "int32", "uint8", "bool")
    axis, parts = d.axis(len(shape)), d.between(1, 4)
    extent = shape[axis % len(shape)]
    sizes = [0] * parts
    for _ in range(extent):
        sizes[d.between(0, parts - 1)] += 1
    settings = dict(split=np.array(sizes)) if d.chance(0.7) else dict(num_outputs=parts)
    return d.call(op, [d.value(shape, dtype)], parts, axis=axis if d.chance(0.8) else None, **settings)


@draws("Tile", "Expand", weight=2)
def repeat(d: Draft, op: str) -> list[str]:
    shape, dtype = d.shape(0, 4), d.dtype("int64", "int32", "uint8", "bool", "float64")
    if op == "Tile":
        return d.call(
            op, [d.value(shape, dtype), d.ints([d.pick(1, 1, 2, 3, 0 if d.chance(0.05) else 1) for _ in shape])]
        )
    d.opset = max(d.opset, 8)
    smaller = d.broadcast_of(shape, upwards=False)
    target = [1 if d.chance(0.2) else extent for extent in shape]
    return d.call(op, [d.value(smaller, dtype), d.ints(target)])


@draws("Transpose", weight=1.5)
def transpose(d: Draft, op: str) -> list[str]:
    shape = d.shape(0, 5)
    order = d.rng.sample(range(len(shape)), len(shape))
    return d.call(op, [d.value(shape, d.dtype(*_ANY))], perm=order if d.chance(0.8) else None)


@draws("Trilu")
def trilu(d: Draft, op: str) -> list[str]:
    inputs = [d.value(d.shape(2, 4), d.dtype("int64", "bool"))]
    if d.chance(0.6):
        inputs.append(d.parameter(np.int64(d.between(-4, 5))))
    return d.call(op, inputs, upper=d.pick(0, 1, None))


@draws("ReverseSequence")
def reverse_sequence(d: Draft, op: str) -> list[str]:
    length, batch = d.between(1, 6), d.between(1, 5)
    time = d.pick(0, 1)
    shape = (length, batch, *d.shape(0, 2)) if time == 0 else (batch, length, *d.shape(0, 2))
    lengths = d.ints([d.between(1, length) for _ in range(batch)])
    return d.call(op, [d.value(shape), lengths], time_axis=time, batch_axis=1 - time)
