"""Operators that change a shape, tell it, or make a value of it."""

from __future__ import annotations

import math

import numpy as np
from onnx import numpy_helper

from ..draft import Draft
from .drawing import draws

_ANY = ("float64", "int64", "int32", "uint8", "bool", "float16", "object")


def _regrouped(d: Draft, shape: tuple[int, ...]) -> list[int]:
    """Another shape of as many elements: neighbouring axes joined and broken up at random."""
    factors: list[int] = []
    for extent in shape:
        while extent > 1:
            factor = next(n for n in range(2, extent + 1) if extent % n == 0)
            factors.append(factor)
            extent //= factor
        if extent == 0:
            factors.append(0)
    found = [1]
    for factor in factors:
        if d.chance(0.5):
            found.append(1)
        found[-1] *= factor
    return found + [1] * d.pick(0, 0, 0, 1)


@draws("Reshape", weight=3)
def reshape(d: Draft, op: str) -> list[str]:
    shape = d.shape(0, 5)
    target = _regrouped(d, shape)
    if d.chance(0.4) and math.prod(shape):
        target[d.between(0, len(target) - 1)] = -1
    for axis, extent in enumerate(target):
        if axis < len(shape) and shape[axis] == extent and d.chance(0.3):
            target[axis] = 0
    allow = d.pick(None, None, None, 0, 1)
    return d.call(op, [d.value(shape, d.dtype(*_ANY)), d.ints(target)], allowzero=allow)


@draws("Flatten")
def flatten(d: Draft, op: str) -> list[str]:
    shape = d.shape(1, 5)
    low = -len(shape) if d.opset >= 11 else 0
    return d.call(op, [d.value(shape, d.dtype("int64", "uint8"))], axis=d.pick(None, d.between(low, len(shape))))


@draws("Squeeze", "Unsqueeze", weight=2)
def squeeze(d: Draft, op: str) -> list[str]:
    shape = list(d.shape(1, 4))
    if op == "Squeeze":
        ones = [axis for axis in range(len(shape)) if d.chance(0.5)]
        for axis in ones:
            shape[axis] = 1
        axes = [axis - len(shape) if d.chance(0.3) and d.opset > 10 else axis for axis in ones]
        settings = {} if d.chance(0.2) else dict(axes=np.array(axes, np.int64))
        return d.call(op, [d.value(shape, d.dtype(*_ANY))], **settings)
    more = d.between(1, 2)
    total = len(shape) + more
    axes = [axis - total if d.chance(0.3) and d.opset > 10 else axis for axis in d.rng.sample(range(total), more)]
    return d.call(op, [d.value(shape, d.dtype(*_ANY))], axes=np.array(axes, np.int64))


@draws("Shape", "Size", weight=1.5)
def shape_of(d: Draft, op: str) -> list[str]:
    shape = d.shape(0, 5)
    settings = {}
    if op == "Shape" and d.chance(0.6):
        settings = dict(start=d.between(-6, 6), end=d.pick(None, d.between(-6, 6)))
    name = d.value(shape, d.dtype(*_ANY))
    return [*d.call(op, [name], **settings), name][: d.pick(1, 1, 2)]


@draws("ConstantOfShape")
def constant_of_shape(d: Draft, op: str) -> list[str]:
    d.opset = max(d.opset, 9)
    value = numpy_helper.from_array(d.array((1,), d.dtype("int64", "bool", "uint8")))
    return d.call(op, [d.ints(d.shape(0, 4), constant=0.5)], value=value if d.chance(0.7) else None)


@draws("Range")
def ranges(d: Draft, op: str) -> list[str]:
    dtype = d.dtype("float32", "int32", common="int64")
    start, count, step = d.between(-3, 3), d.between(0, 9), d.pick(1, 2, -1)
    return d.call(op, [d.parameter(np.array(item, dtype), 0.5) for item in (start, start + count * step, step)])


@draws("EyeLike", "OneHot")
def eye(d: Draft, op: str) -> list[str]:
    if op == "EyeLike":
        return d.call(
            op, [d.value((d.extent(), d.extent()), d.dtype("int64"))], k=d.between(-3, 3), dtype=d.pick(None, 1, 7)
        )
    d.opset = max(d.opset, 9)
    depth = d.between(1, 7)
    values = d.dtype("int64", "float32", common="float32")
    indices = d.value(d.shape(0, 3), d.dtype("int32", "float32", common="int64"), low=-depth, high=depth)
    inputs = [indices, d.parameter(np.array(d.pick(depth, [depth]), "int64")), d.parameter(d.array((2,), values))]
    return d.call(op, inputs, axis=d.pick(None, -1, 0, 1))
