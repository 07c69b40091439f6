"""Operators of onnxruntime's own domain and of ai.onnx.ml."""

from __future__ import annotations

import numpy as np

from ..draft import Draft
from .drawing import draws

_MS = "com.microsoft"


@draws("Gelu", "FastGelu", "QuickGelu", "BiasGelu", domain=_MS)
def gelus(d: Draft, op: str) -> list[str]:
    shape = tuple(d.between(1, 8) for _ in range(d.between(1, 4)))
    inputs = [d.value(shape)]
    if op == "BiasGelu" or (op == "FastGelu" and d.chance(0.5)):
        inputs.append(d.fixed(d.array(shape[-1:])))
    return d.nodes_outputs(op, inputs, domain=_MS, alpha=1.7 if op == "QuickGelu" else None)


@draws("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=_MS)
def skip(d: Draft, op: str) -> list[str]:
    shape = (d.between(1, 2), d.between(1, 5), d.between(1, 8))
    each = shape[-1:]
    inputs = [d.value(shape), d.value(shape), *(d.fixed(d.array(each)) for _ in range(d.between(1, 3)))]
    there = d.pick([True], [True, False, False, True])
    return d.nodes_outputs(op, inputs[: 5 if op == "SkipLayerNormalization" else 4], there, _MS, epsilon=1e-5)


@draws("FusedMatMul", "MatMulNBits", domain=_MS)
def products(d: Draft, op: str) -> list[str]:
    rows, summed, columns = d.between(1, 6), d.between(1, 6), d.between(1, 6)
    if op == "FusedMatMul":
        left, right = d.pick(0, 1), d.pick(0, 1)
        batch = d.pick((), (2,))
        first = d.value((*batch, summed, rows) if left else (*batch, rows, summed))
        second = d.fixed(d.array((columns, summed) if right else (summed, columns)))
        return d.nodes_outputs(op, [first, second], 1, _MS, transA=left, transB=right, alpha=d.pick(None, 0.5))
    summed, block = d.pick(16, 32, 48), d.pick(16, 32)
    blocks = -(-summed // block)
    weight = d.fixed(d.array((columns, blocks, block // 2), "uint8", 0, 255))
    inputs = [
        d.value((2, rows, summed)),
        weight,
        d.fixed(abs(d.array((columns, blocks))) if d.chance(0.5) else abs(d.array((columns * blocks,)))),
    ]
    return d.nodes_outputs(op, inputs, 1, _MS, K=summed, N=columns, bits=4, block_size=block)


@draws(
    "QLinearAdd",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearGlobalAveragePool",
    "QLinearAveragePool",
    "QLinearConcat",
    domain=_MS,
)
def quantised(d: Draft, op: str) -> list[str]:
    dtype, shape = d.pick("uint8", "int8"), d.image(axes=2)
    scale, zero = d.fixed(np.float32(d.pick(0.1, 0.3))), d.fixed(d.array((), dtype, 0, 9))
    pair, other = [scale, zero], [d.fixed(np.float32(0.5)), zero]
    if op in ("QLinearAdd", "QLinearMul"):
        second = (
            d.value(d.broadcast_of(shape, upwards=False), dtype)
            if d.chance(0.7)
            else d.fixed(d.array(shape[-1:], dtype))
        )
        return d.nodes_outputs(op, [d.value(shape, dtype), *pair, second, *pair, *other], 1, _MS)
    if op == "QLinearConcat":
        return d.nodes_outputs(
            op, [*other, d.value(shape, dtype), *pair, d.value(shape, dtype), *pair], 1, _MS, axis=d.between(0, 3)
        )
    more = dict(kernel_shape=[2, 2], strides=[2, 2], ceil_mode=d.pick(0, 1)) if op == "QLinearAveragePool" else {}
    more |= dict(alpha=0.2) if op == "QLinearLeakyRelu" else {}
    return d.nodes_outputs(op, [d.value(shape, dtype), *pair, *other], 1, _MS, **more)


@draws("Attention", "MultiHeadAttention", domain=_MS)
def attention(d: Draft, op: str) -> list[str]:
    batch, length, heads, size = d.between(1, 2), d.between(1, 5), d.pick(1, 2), d.pick(2, 4)
    hidden = heads * size
    if op == "MultiHeadAttention":
        inputs = [d.value((batch, length, hidden)) for _ in range(3)]
        return d.nodes_outputs(op, inputs, 1, _MS, num_heads=heads)
    inputs = [d.value((batch, length, hidden)), d.fixed(d.array((hidden, 3 * hidden))), d.fixed(d.array((3 * hidden,)))]
    return d.nodes_outputs(op, inputs, 1, _MS, num_heads=heads, unidirectional=d.pick(0, 1))


@draws("FusedConv", "ConvTransposeWithDynamicPads", domain=_MS)
def convolutions(d: Draft, op: str) -> list[str]:
    data = d.value(d.image(axes=2, channels=2))
    if op == "FusedConv":
        return d.nodes_outputs(op, [data, d.fixed(d.array((3, 2, 3, 3)))], 1, _MS, activation="Relu", pads=[1] * 4)
    return d.nodes_outputs(op, [data, d.fixed(d.array((2, 3, 3, 3))), d.ints([1, 0, 0, 1])], 1, _MS, strides=[2, 2])


@draws("Scaler", "Normalizer", "Binarizer", "LinearRegressor", weight=0.7, domain="ai.onnx.ml")
def classical(d: Draft, op: str) -> list[str]:
    shape = (d.between(1, 5), d.between(1, 5))
    width = shape[1]
    settings = {
        "Scaler": dict(offset=d.array((width,)).tolist(), scale=d.array((width,)).tolist()),
        "Normalizer": dict(norm=d.pick("MAX", "L1", "L2")),
        "Binarizer": dict(threshold=0.1),
        "LinearRegressor": dict(coefficients=d.array((width * 2,)).tolist(), intercepts=[0.5, 1.0], targets=2),
    }[op]
    return d.nodes_outputs(op, [d.value(shape)], 1, "ai.onnx.ml", **settings)


@draws("ExpandDims", "Inverse", "CDist", "Trilu", "GroupQueryAttention", weight=0.7, domain=_MS)
def others(d: Draft, op: str) -> list[str]:
    if op == "ExpandDims":
        return d.nodes_outputs(op, [d.value(d.shape(1, 3)), d.fixed(np.int32(d.between(-1, 1)))], 1, _MS)
    if op == "CDist":
        return d.nodes_outputs(
            op, [d.value((4, 3)), d.value((5, 3))], 1, _MS, metric=d.pick("euclidean", "sqeuclidean")
        )
    if op == "GroupQueryAttention":
        past = [d.value((1, 2, 3, 8)), d.value((1, 2, 3, 8))]
        inputs = [d.value((1, 2, 32)), d.value((1, 2, 16)), d.value((1, 2, 16)), *past]
        lengths = [d.given(np.array([4], "int32")), d.given(np.array(5, "int32"))]
        return d.nodes_outputs(op, [*inputs, *lengths], 3, _MS, num_heads=4, kv_num_heads=2)
    if op == "Trilu":
        return d.nodes_outputs(op, [d.value(d.shape(2, 3))], 1, _MS, upper=d.pick(0, 1))
    data = d.array((d.between(1, 2), 3, 3)) + 4 * np.eye(3, dtype="float32")
    return d.nodes_outputs(op, [d.given(data.astype("float32"))], 1, _MS)
