"""Small ONNX models made in code, and the whole model that a loaded one stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from flexpie_mpi.model import Model

Node = tuple[str, Sequence[str], Sequence[str]] | onnx.NodeProto
Dims = Sequence[int | str | None] | None


def make(
    nodes: Sequence[Node],
    inputs: Mapping[str, Dims],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
    domains: Sequence[str] = (),
    dtypes: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of (op, inputs, outputs) triples and node messages; inputs are float32 unless `dtypes` knows better."""
    dtypes = dtypes or {}
    graph = helper.make_graph(
        [item if isinstance(item, onnx.NodeProto) else helper.make_node(*item) for item in nodes],
        "test",
        [helper.make_tensor_value_info(name, dtypes.get(name, 1), dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, dtypes.get(name, 1), None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def save(model: onnx.ModelProto, path: Path) -> str:
    path.write_bytes(model.SerializeToString())
    return str(path)


def classifier(width: int = 8) -> onnx.ModelProto:
    """Convolution, BatchNorm, ReLU, pooling and a fully connected layer; every kind of folding has something to do."""
    nodes: list[Node] = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        ("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        ("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        ("Add", ["c2", "bias"], ["biased"]),
        helper.make_node("Conv", ["biased", "w3"], ["c3"]),
        ("GlobalAveragePool", ["c3"], ["p"]),
        ("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "gb"], ["h"], transB=1),
        ("MatMul", ["h", "k"], ["y"]),
        ("Add", ["y", "kb"], ["z"]),
    ]
    weights = {
        "w": noise(width, 3, 3, 3),
        "s": noise(width, seed=1),
        "b": noise(width, seed=2),
        "m": noise(width, seed=3),
        "v": 1 + noise(width, seed=4) ** 2,
        "w2": noise(width, width, 3, 3, seed=5),
        "bias": noise(1, width, 1, 1, seed=6),
        "w3": noise(width, width, 1, 1, seed=7),
        "g": noise(5, width, seed=8),
        "gb": noise(5, seed=9),
        "k": noise(5, 7, seed=10),
        "kb": noise(7, seed=11),
    }
    return make(nodes, {"x": ("N", 3, 8, 8)}, ["z"], weights)


def session(model: onnx.ModelProto, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def whole(model: Model) -> onnx.ModelProto:
    """The skeleton with its data put back."""
    proto = onnx.ModelProto.FromString(model.skeleton())
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            data = numpy_helper.from_array(model.array(tensor.name), tensor.name)
            assert (data.data_type, list(data.dims)) == (tensor.data_type, list(tensor.dims))
            tensor.CopyFrom(data)
    return proto


def check_consistent(model: Model) -> None:
    """Everything a Graph promises: order, unique names, a value for every name, agreement between ranks."""
    graph = model.graph
    known = {*graph.inputs, *(value.name for value in graph.constants)}
    for node in graph.nodes:
        assert set(node.reads) <= known, node
        known |= set(node.writes)
        assert model.node_proto(node.name).name == node.name
    assert known == set(graph.values)
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    assert all(name in graph.producer for name in graph.outputs)
    other = Model.from_skeleton(model.skeleton())
    assert other.graph == graph
    assert other.graph.digest == graph.digest
    assert other.store is None


def feeds(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs: numbers around 0 for floats, ones for everything else."""
    rng = np.random.default_rng(seed)
    values = [model.graph.value(name) for name in model.graph.inputs]
    return {
        value.name: rng.standard_normal(value.shape).astype(value.dtype)
        if value.dtype.startswith("float")
        else np.ones(value.shape or (), value.dtype)
        for value in values
    }
