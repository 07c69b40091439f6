"""Small models of fused operators: transformers as onnxruntime's optimisers leave them, recurrent and quantised ones.

``MODELS`` names them, each a function that makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper

from .model.build import Node, make, noise

BATCH, TOKENS, HIDDEN, HEADS, GROUPS, PAST = 2, 6, 32, 4, 2, 3
WIDTH = HIDDEN // HEADS
MICROSOFT = "com.microsoft"

_fused = partial(helper.make_node, domain=MICROSOFT)


def bert() -> onnx.ModelProto:
    """Embeddings, an attention that projects by itself, two sums that are normalised, and a bias in front of Gelu."""
    nodes: list[Node] = [
        _fused("EmbedLayerNormalization", ["ids", "kinds", "words", "places", "types", "g", "b", "mask"], ["x", "m"]),
        _fused("Attention", ["x", "w", "c", "m"], ["a"], num_heads=HEADS),
        ("MatMul", ["a", "o"], ["p"]),
        _fused("SkipLayerNormalization", ["p", "x", "g", "b", "ob"], ["n"]),
        ("MatMul", ["n", "up"], ["u"]),
        _fused("BiasGelu", ["u", "ub"], ["h"]),
        ("MatMul", ["h", "down"], ["d"]),
        _fused("SkipLayerNormalization", ["d", "n", "g", "b"], ["y"]),
    ]
    ids = {name: [BATCH, TOKENS] for name in ("ids", "kinds", "mask")}
    weights = _weights(
        words=(20, HIDDEN), places=(16, HIDDEN), types=(2, HIDDEN), g=(HIDDEN,), b=(HIDDEN,), ob=(HIDDEN,),
        w=(HIDDEN, 3 * HIDDEN), c=(3 * HIDDEN,), o=(HIDDEN, HIDDEN), up=(HIDDEN, 64), ub=(64,), down=(64, HIDDEN),
    )  # fmt: skip
    return make(nodes, ids, ["y"], weights, domains=[MICROSOFT], dtypes=dict.fromkeys(ids, TensorProto.INT32))


def gpt() -> onnx.ModelProto:
    """Causal attention of queries, keys and values apart, with rotary embeddings, a past, and two kinds of Gelu."""
    past = [BATCH, HEADS, PAST, WIDTH]
    nodes: list[Node] = [
        *(("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"),
        _fused("RotaryEmbedding", ["q", "first", "cos", "sin"], ["rq"]),
        _fused("RotaryEmbedding", ["k", "first", "cos", "sin"], ["rk"]),
        _fused(
            "MultiHeadAttention",
            ["rq", "rk", "v", "", "", "", "past_k", "past_v"],
            ["a", "present_k", "present_v"],
            num_heads=HEADS,
            unidirectional=1,
        ),
        ("MatMul", ["a", "up"], ["u"]),
        _fused("FastGelu", ["u", "ub"], ["f"]),
        ("MatMul", ["f", "down"], ["d"]),
        _fused("QuickGelu", ["d"], ["y"], alpha=1.7),
    ]
    square = (HIDDEN, HIDDEN)
    weights = _weights(
        wq=square, wk=square, wv=square, cos=(20, WIDTH // 2), sin=(20, WIDTH // 2), up=(HIDDEN, 64), ub=(64,),
        down=(64, HIDDEN),
    )  # fmt: skip
    inputs = {"x": [BATCH, TOKENS, HIDDEN], "past_k": past, "past_v": past}
    return make(
        nodes,
        inputs,
        ["y", "present_k", "present_v"],
        weights | {"first": np.array([PAST], np.int64)},
        domains=[MICROSOFT],
    )


def llama(opset: int = 23) -> onnx.ModelProto:
    """The same in ONNX's own operators, with fewer heads of keys than of queries."""
    past = [BATCH, GROUPS, PAST, WIDTH]
    nodes: list[Node] = [
        *(("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"),
        helper.make_node("RotaryEmbedding", ["q", "cos", "sin", "at"], ["rq"], num_heads=HEADS),
        helper.make_node("RotaryEmbedding", ["k", "cos", "sin", "at"], ["rk"], num_heads=GROUPS),
        helper.make_node(
            "Attention",
            ["rq", "rk", "v", "", "past_k", "past_v"],
            ["a", "present_k", "present_v"],
            q_num_heads=HEADS,
            kv_num_heads=GROUPS,
            is_causal=1,
        ),
        ("MatMul", ["a", "o"], ["p"]),
        ("Add", ["p", "x"], ["s"]),
        helper.make_node("RMSNormalization", ["s", "g"], ["y"]),
    ]
    keys, table = (HIDDEN, GROUPS * WIDTH), (20, WIDTH // 2)
    weights = _weights(wq=(HIDDEN, HIDDEN), wk=keys, wv=keys, cos=table, sin=table, o=(HIDDEN, HIDDEN), g=(HIDDEN,))
    inputs = {"x": [BATCH, TOKENS, HIDDEN], "past_k": past, "past_v": past, "at": [BATCH, TOKENS]}
    outputs = ["y", "present_k", "present_v"]
    return make(nodes, inputs, outputs, weights, opset=opset, ir_version=10, dtypes={"at": TensorProto.INT64})


def four_bits() -> onnx.ModelProto:
    """One token of a decoder with weights of four bits, its lengths an input."""
    past = [BATCH, GROUPS, PAST, 16]
    hidden, columns, keys = HEADS * 16, HEADS * 16, GROUPS * 16
    nodes: list[Node] = [
        *(_bits(f"w{name}", "x", name, hidden, n) for name, n in (("q", columns), ("k", keys), ("v", keys))),
        _fused(
            "GroupQueryAttention",
            ["q", "k", "v", "past_k", "past_v", "lengths", "total", "cos", "sin"],
            ["a", "present_k", "present_v"],
            num_heads=HEADS,
            kv_num_heads=GROUPS,
            do_rotary=1,
        ),
        _bits("o", "a", "p", columns, hidden),
        _fused("SkipSimplifiedLayerNormalization", ["p", "x", "g"], ["n", "", "", "s"]),
        _bits("head", "n", "y", hidden, 40),
    ]
    weights = _weights(cos=(20, 8), sin=(20, 8), g=(hidden,)) | {"total": np.array(PAST + 1, np.int32)}
    for name, n in (("wq", columns), ("wk", keys), ("wv", keys), ("o", hidden), ("head", 40)):
        weights |= {f"{name}.bits": _bytes(n, 2, 16), f"{name}.scales": 0.01 + 0.01 * np.abs(noise(n, 2))}
    inputs = {"x": [BATCH, 1, hidden], "past_k": past, "past_v": past, "lengths": [BATCH]}
    outputs = ["y", "s", "present_k", "present_v"]
    return make(nodes, inputs, outputs, weights, domains=[MICROSOFT], dtypes={"lengths": TensorProto.INT32})


def recurrent() -> onnx.ModelProto:
    """A bidirectional LSTM with lengths, and a GRU behind it."""
    nodes: list[Node] = [
        helper.make_node(
            "LSTM", ["x", "w", "r", "b", "lengths"], ["l", "state"], hidden_size=8, direction="bidirectional"
        ),
        helper.make_node("Transpose", ["l"], ["t"], perm=[0, 2, 1, 3]),
        ("Reshape", ["t", "flat"], ["f"]),
        helper.make_node("GRU", ["f", "gw", "gr"], ["g"], hidden_size=6),
        ("Relu", ["g"], ["y"]),
    ]
    weights = _weights(w=(2, 32, 5), r=(2, 32, 8), b=(2, 64), gw=(1, 18, 16), gr=(1, 18, 6))
    weights["flat"] = np.array([TOKENS, 4, 16], np.int64)
    inputs = {"x": [TOKENS, 4, 5], "lengths": [4]}
    return make(nodes, inputs, ["y", "state"], weights, dtypes={"lengths": TensorProto.INT32})


def quantised() -> onnx.ModelProto:
    """An image in bytes through all that onnxruntime has kernels of its own for."""
    scale = {name: [f"{name}s", f"{name}z"] for name in ("x", "y")}
    x, y = scale["x"], scale["y"]
    nodes: list[Node] = [
        _fused("QLinearSigmoid", ["x", *x, *y], ["g"]),
        _fused("QLinearMul", ["x", *x, "g", *y, *x], ["m"]),
        _fused("QLinearLeakyRelu", ["m", *x, *x], ["l"], alpha=0.1),
        _fused("QLinearAdd", ["l", *x, "x", *x, *y], ["a"]),
        _fused("QLinearConcat", [*x, "a", *y, "l", *x], ["c"], axis=1),
        _fused("QLinearAveragePool", ["c", *x, *y], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        _fused("QLinearGlobalAveragePool", ["p", *y, *x], ["v"]),
        helper.make_node("Flatten", ["v"], ["f"]),
        _fused("QGemm", ["f", *x, "w", *y, "b"], ["logits"], transB=1),
    ]
    weights = {
        "xs": np.float32(0.05), "xz": np.uint8(128), "ys": np.float32(0.02), "yz": np.uint8(3),
        "w": _bytes(10, 16), "b": np.arange(10, dtype=np.int32) * 40,
    }  # fmt: skip
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    image = {"x": [2, 8, 12, 10]}
    return make(
        nodes, image, ["logits", "p"], arrays, domains=[MICROSOFT], dtypes=dict.fromkeys(("x", "p"), TensorProto.UINT8)
    )


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "bert": bert,
    "gpt": gpt,
    "llama": llama,
    "four bits": four_bits,
    "recurrent": recurrent,
    "quantised": quantised,
}


def _bits(name: str, data: str, result: str, features: int, columns: int) -> onnx.NodeProto:
    sizes = {"K": features, "N": columns, "bits": 4, "block_size": 32}
    return _fused("MatMulNBits", [data, f"{name}.bits", f"{name}.scales"], [result], **sizes)


def _bytes(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)


def _weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Seeded numbers, small enough that what comes out stays of the order of one."""
    return {name: noise(*shape, seed=number) * 0.3 for number, (name, shape) in enumerate(shapes.items())}
