"""Numbers to few bits and back."""

from __future__ import annotations

import numpy as np

from ..draft import Draft
from .drawing import draws


@draws("QuantizeLinear", "DequantizeLinear", weight=3)
def linear(d: Draft, op: str) -> list[str]:
    shape = tuple(d.between(1, 8) for _ in range(d.between(1, 4)))
    d.opset = max(d.opset, 10)
    axis, settings, each = d.axis(len(shape)), {}, ()
    place = axis % len(shape)
    way = d.pick("one", "one", "axis", "axis", "block")
    if way == "axis" and d.opset >= 13:
        settings, each = dict(axis=axis), (shape[place],)
    elif way == "block" and d.opset >= 21:
        block = d.between(1, 4)
        each = (*shape[:place], -(-shape[place] // block), *shape[place + 1 :])
        settings = dict(axis=axis, block_size=block)
    dtype = d.pick("uint8", "int8", "uint16" if d.opset > 20 else "int8")
    scale = abs(d.array(each)) * 0.2 + 0.05
    scale = np.array(scale, "float32").reshape(each)
    data = d.value(shape) if op == "QuantizeLinear" else d.value(shape, dtype)
    inputs = [data, d.parameter(scale, 0.85)]
    if d.chance(0.7) or dtype != "uint8":
        inputs.append(d.parameter(d.array(each, dtype, 0, 9), 0.9))
    return d.call(op, inputs, **settings)


@draws("DynamicQuantizeLinear")
def dynamic(d: Draft, op: str) -> list[str]:
    return d.call(op, [d.value(d.shape(1, 4))], 3)
