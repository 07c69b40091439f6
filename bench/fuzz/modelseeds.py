"""Small valid models, which the fuzzer's models begin as."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def noise(*shape: int) -> np.ndarray:
    """Seeded normal numbers."""
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def _model(nodes, inputs, outputs, weights=None, functions=(), kinds=None) -> onnx.ModelProto:
    kinds = kinds or {}
    graph = helper.make_graph(
        nodes,
        "fuzzed",
        [helper.make_tensor_value_info(name, kinds.get(name, 1), shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kinds.get(name, 1), None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", 17), *([helper.make_opsetid("local", 1)] if functions else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions))


@cache
def seeds() -> tuple[onnx.ModelProto, ...]:
    """Models of one or a few nodes, each with something of its own to go wrong."""
    node = helper.make_node
    image = {"x": (1, 3, 8, 8)}
    branch = [
        helper.make_graph([node("Neg", ["x"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, None)]),
        helper.make_graph([node("Relu", ["x"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, None)]),
    ]
    inner = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    twice = helper.make_function("local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], inner)
    calls = helper.make_function(
        "local", "Calls", ["a"], ["b"], [node("Twice", ["a"], ["c"], domain="local"), node("Relu", ["c"], ["b"])], inner
    )
    sparse = onnx.SparseTensorProto(dims=[4, 4])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([1, 5, 9]), "si"))
    of_sparse = _model([node("MatMul", ["x", "s"], ["y"])], {"x": (2, 4)}, ["y"])
    of_sparse.graph.sparse_initializer.append(sparse)
    return (
        _model(
            [
                node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[1, 1]),
                node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
                node("Relu", ["n"], ["r"]),
                node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
                node("Flatten", ["p"], ["f"]),
                node("Gemm", ["f", "g"], ["y"], transB=1),
            ],
            image,
            ["y"],
            {"w": noise(4, 3, 3, 3), "g": noise(5, 64), **{name: np.ones(4, np.float32) for name in "sbmv"}},
        ),
        _model([node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])], {"x": ("N", 160)}, ["y"],
               {"w": noise(160, 120), "b": noise(120)}),
        _model(
            [
                node("Constant", [], ["shape"], value_ints=[1, -1]),
                node("Constant", [], ["half"], value_float=0.5),
                node("Constant", [], ["t"], value=numpy_helper.from_array(noise(192))),
                node("Reshape", ["x", "shape"], ["r"]),
                node("Mul", ["r", "half"], ["m"]),
                node("Add", ["m", "t"], ["y"]),
            ],
            image,
            ["y"],
        ),
        _model([node("Resize", ["x", "", "scales"], ["u"], mode="linear"), node("Pad", ["u", "pads"], ["y"])],
               image, ["y"],
               {"scales": np.array([1, 1, 2, 1.5], np.float32), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
        _model([node("ReduceSum", ["x", "k"], ["s"]), node("Greater", ["s", "z"], ["g"]),
                node("If", ["g"], ["y"], then_branch=branch[0], else_branch=branch[1])], image, ["y"],
               {"k": np.arange(4), "z": np.zeros((1, 1, 1, 1), np.float32)}),
        _model([node("Calls", ["x"], ["c"], domain="local"), node("Twice", ["c"], ["y"], domain="local")], image, ["y"],
               functions=(twice, calls)),
        of_sparse,
        _model([node("Gather", ["table", "x"], ["e"]), node("MatMul", ["e", "w"], ["y"])], {"x": (1, 7)}, ["y"],
               {"table": noise(20, 6), "w": noise(6, 5)}, kinds={"x": TensorProto.INT64}),
        _model([node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"]),
                node("Conv", ["d", "w"], ["y"], group=3)], image, ["y"],
               {"s": np.float32(0.1), "z": np.uint8(3), "w": noise(3, 1, 3, 3)}),
        _model([node("Shape", ["x"], ["s"]), node("Slice", ["s", "one", "two"], ["n"]),
                node("ConstantOfShape", ["n"], ["o"]),
                node("Split", ["x"], ["a", "b"], axis=3), node("Concat", ["a", "b"], ["y"], axis=1)], image, ["y", "o"],
               {"one": np.array([1]), "two": np.array([3])}),
    )  # fmt: skip
