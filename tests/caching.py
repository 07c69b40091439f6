"""Decoders of one layer whose operators put new keys and values into caches themselves; two key heads to four."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from .model.build import Dims, Node, make, noise

VOCABULARY, HIDDEN, HEADS, GROUPS, WIDTH = 23, 64, 4, 2, 16
CACHES = ("past_key_values.0.key", "past_key_values.0.value")
PRESENT = ("present.0.key", "present.0.value")
_INTEGERS = dict.fromkeys(("input_ids", "attention_mask", "position_ids"), TensorProto.INT64)


def grouped() -> onnx.ModelProto:
    """With onnxruntime's GroupQueryAttention, which takes numbers of positions from the mask, as its exports do."""
    nodes: list[Node] = [
        ("ReduceSum", ["attention_mask", "one"], ["count"]),
        ("Sub", ["count", "one"], ["last"]),
        helper.make_node("Cast", ["last"], ["lasts"], to=TensorProto.INT32),
        ("Reshape", ["lasts", "flat"], ["lengths"]),
        ("Shape", ["attention_mask"], ["sizes"]),
        ("Gather", ["sizes", "second"], ["size"]),
        helper.make_node("Cast", ["size"], ["total"], to=TensorProto.INT32),
        helper.make_node(
            "GroupQueryAttention",
            ["qp", "kp", "vp", *CACHES, "lengths", "total", "cos", "sin"],
            ["a", *PRESENT],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=GROUPS,
            do_rotary=1,
        ),
    ]
    angles = np.arange(64)[:, None] * 10000.0 ** (-np.arange(WIDTH // 2) / (WIDTH // 2))
    weights = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    weights |= {"flat": np.array([-1]), "second": np.array(1)}
    return _decoder(nodes, weights, {}, opset=21)


def scattered() -> onnx.ModelProto:
    """With ONNX's own TensorScatter, into a cache that has its size, and Attention."""
    nodes: list[Node] = [
        ("Squeeze", ["position_ids", "one"], ["place"]),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=TensorProto.BOOL),
        ("Unsqueeze", ["seen", "middle"], ["mask"]),
    ]
    for name in "qkv":
        nodes.append(("Reshape", [f"{name}p", f"{name}s"], [f"{name}4"]))
        nodes.append(helper.make_node("Transpose", [f"{name}4"], [f"{name}h"], perm=[0, 2, 1, 3]))
    for name, cache, present in zip("kv", CACHES, PRESENT, strict=True):
        nodes.append(("TensorScatter", [cache, f"{name}h", "place"], [present]))
    nodes += [
        ("Attention", ["qh", *PRESENT, "mask"], ["ah"]),
        helper.make_node("Transpose", ["ah"], ["a4"], perm=[0, 2, 1, 3]),
        ("Reshape", ["a4", "rows"], ["a"]),
    ]
    heads = {"q": HEADS, "k": GROUPS, "v": GROUPS}
    weights = {f"{name}s": np.array([0, 0, count, WIDTH]) for name, count in heads.items()}
    weights |= {"middle": np.array([1, 2]), "rows": np.array([0, 0, HEADS * WIDTH])}
    return _decoder(nodes, weights, {"position_ids": [1, "tokens"]}, opset=24)


def _decoder(
    attention: list[Node], weights: dict[str, np.ndarray], inputs: dict[str, Dims], *, opset: int
) -> onnx.ModelProto:
    """A decoder around nodes that make `a` of products `qp`, `kp` and `vp`."""
    nodes: list[Node] = [("Gather", ["table", "input_ids"], ["x"])]
    nodes += [("MatMul", ["x", f"{name}w"], [f"{name}p"]) for name in "qkv"]
    nodes += [
        *attention,
        ("MatMul", ["a", "ow"], ["o"]),
        ("Add", ["x", "o"], ["y"]),
        ("MatMul", ["y", "head"], ["logits"]),
    ]
    columns = {"q": HEADS * WIDTH, "k": GROUPS * WIDTH, "v": GROUPS * WIDTH, "o": HIDDEN}
    weights |= {f"{name}w": noise(HIDDEN, size, seed=size + ord(name)) / 8 for name, size in columns.items()}
    weights |= {"table": noise(VOCABULARY, HIDDEN), "head": noise(HIDDEN, VOCABULARY), "one": np.array([1])}
    given: dict[str, Dims] = {"input_ids": [1, "tokens"], "attention_mask": [1, "total"], **inputs}
    given |= {name: [1, GROUPS, "past", WIDTH] for name in CACHES}
    domains = ["com.microsoft"] if opset < 24 else []
    outputs = ["logits", *PRESENT]
    return make(nodes, given, outputs, weights, opset=opset, ir_version=10, domains=domains, dtypes=_INTEGERS)


ENCODED = tuple(f"past_key_values.0.encoder.{name}" for name in ("key", "value"))


def crossing(*, passes_on: bool = False) -> onnx.ModelProto:
    """Attention to its own past and to what an encoder has left, whose keys and values no request changes.

    Where it `passes_on`, these are outputs as well.
    """
    past = [f"past_key_values.0.decoder.{name}" for name in ("key", "value")]
    present = [f"present.0.decoder.{name}" for name in ("key", "value")]
    nodes: list[Node] = [("Gather", ["table", "input_ids"], ["x"])]
    weights = {name: noise(HIDDEN, HIDDEN, seed=seed) / 8 for seed, name in enumerate(("q", "k", "v", "o", "c", "p"))}

    def turned(data: str, name: str, perm: list[int]) -> str:
        nodes.append(("MatMul", [data, name], [f"{name}.all"]))
        nodes.append(("Reshape", [f"{name}.all", "heads"], [f"{name}.apart"]))
        nodes.append(helper.make_node("Transpose", [f"{name}.apart"], [f"{name}.turned"], perm=perm))
        return f"{name}.turned"

    def attended(query: str, keys: str, values: str, name: str, bias: str = "") -> str:
        nodes.append(helper.make_node("Transpose", [keys], [f"{keys}.t"], perm=[0, 1, 3, 2]))
        nodes.append(("MatMul", [query, f"{keys}.t"], [f"{name}.scores"]))
        if bias:
            nodes.append(("Add", [f"{name}.scores", bias], [f"{name}.masked"]))
        nodes.append(helper.make_node("Softmax", [f"{name}.{'masked' if bias else 'scores'}"], [f"{name}.s"], axis=-1))
        nodes.append(("MatMul", [f"{name}.s", values], [f"{name}.mixed"]))
        nodes.append(helper.make_node("Transpose", [f"{name}.mixed"], [f"{name}.back"], perm=[0, 2, 1, 3]))
        nodes.append(("Reshape", [f"{name}.back", "flat"], [f"{name}.flat"]))
        nodes.append(("MatMul", [f"{name}.flat", name], [f"{name}.out"]))
        return f"{name}.out"

    for name, before, after in zip("kv", past, present, strict=True):
        nodes.append(helper.make_node("Concat", [before, turned("x", name, [0, 2, 1, 3])], [after], axis=2))
    nodes += [
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=TensorProto.FLOAT),
        ("Sub", ["seen", "one"], ["unseen"]),
        ("Mul", ["unseen", "far"], ["far off"]),
        ("Unsqueeze", ["far off", "middle"], ["bias"]),
    ]
    own = attended(turned("x", "q", [0, 2, 1, 3]), *present, "o", "bias")
    nodes.append(("Add", ["x", own], ["y"]))
    nodes.append(("Add", ["y", attended(turned("y", "c", [0, 2, 1, 3]), *ENCODED, "p")], ["z"]))
    nodes.append(("MatMul", ["z", "head"], ["logits"]))
    outputs = ["logits", *present]
    if passes_on:
        outputs += [name.replace("past_key_values", "present") for name in ENCODED]
        nodes += [("Identity", [name], [output]) for name, output in zip(ENCODED, outputs[3:], strict=True)]
    weights |= {"table": noise(VOCABULARY, HIDDEN), "head": noise(HIDDEN, VOCABULARY), "far": np.float32([1e4])}
    weights |= {"heads": np.array([0, 0, HEADS, WIDTH]), "flat": np.array([0, 0, HIDDEN]), "middle": np.array([1, 2])}
    weights["one"] = np.float32([1])
    given: dict[str, Dims] = {"input_ids": [1, "tokens"], "attention_mask": [1, "total"]}
    given |= {name: [1, HEADS, "past", WIDTH] for name in past}
    given |= {name: [1, HEADS, "encoder_sequence_length", WIDTH] for name in ENCODED}
    return make(nodes, given, outputs, weights, dtypes=_INTEGERS)
