"""Sessions and what they may write: exactly what the plan expects, or a sentence."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from flexpie_mpi.core.errors import ModelError, ProgramError
from flexpie_mpi.runtime.moving import mover
from flexpie_mpi.runtime.ort import Kernel, OpaqueKernel, outputs_of, run_options
from flexpie_mpi.runtime.provider import ProviderOptions

X = np.arange(24, dtype=np.float32).reshape(3, 8)


def session(nodes, outputs, opset=21):
    """A session of segment 7, whose model says no shape of its outputs."""
    graph = helper.make_graph(
        nodes,
        "segment7",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "k"])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def of_one(op, **attributes):
    return session([helper.make_node(op, ["x"], ["y"], **attributes)], {"y": TensorProto.FLOAT})


RELU = ("Relu", {})
SUM = ("ReduceSum", {"keepdims": 0})


@pytest.mark.parametrize(
    ("node", "shape", "dtype"),
    [
        (RELU, (1, 8), np.float32),
        (RELU, (4, 8), np.float32),
        (RELU, (8, 3), np.float32),
        (RELU, (24,), np.float32),
        (RELU, (3, 8), np.float64),
        (RELU, (3, 8), np.int32),
        (SUM, (1,), np.float32),  # onnxruntime writes this one
        (SUM, (1, 1), np.float32),
    ],
)
def test_nothing_else_than_planned_is_written(node, shape, dtype):
    made = of_one(node[0], **node[1])
    right = "(3, 8)" if node is RELU else "()"
    said = rf"value 'y' of segment7 with shape {right} and type float32, where shape {shape} and type {np.dtype(dtype)}"
    for run in (
        lambda: Kernel(made, {"x": X}, {"y": np.zeros(shape, dtype)}).run(),
        lambda: OpaqueKernel(made, {"x": 0}, {"y": 1}, {0: X, 1: np.zeros(shape, dtype)}).run(),
    ):
        with pytest.raises(ModelError) as caught:
            run()
        assert said in str(caught.value)


def test_an_output_that_is_an_input_is_not_taken_for_written():
    made = session([helper.make_node("Relu", ["x"], ["y"])], {"x": TensorProto.FLOAT})
    with pytest.raises(ModelError, match="did not write value 'x' of segment7"):
        Kernel(made, {"x": X}, {"x": np.zeros((3, 8), np.float32)}).run()


def test_what_fits_is_written():
    target = np.zeros((3, 8), np.float32)
    kernel = Kernel(of_one("Relu"), {"x": X}, {"y": target})
    for _ in range(2):
        target[:] = 0
        kernel.run()
        np.testing.assert_array_equal(target, X)


def test_a_run_has_the_option_that_onnxruntime_asks_for_each_time():
    """Where it is missing, the answer is an exception inside, ten times as long as a short run."""
    assert run_options().get_run_config_entry("gpu_graph_id") == "-1"


def test_threads_of_a_file_are_bounded():
    with pytest.raises(ModelError, match="100000 threads per rank"):
        ProviderOptions(100_000)


def test_what_onnxruntime_refuses_is_one_error():
    made = of_one("Softmax", axis=1)
    with pytest.raises(ModelError, match=r"^onnxruntime cannot run segment7: Unexpected input data type"):
        OpaqueKernel(made, {"x": 0}, {"y": 1}, {0: np.zeros((3, 9), np.float64)}).run()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("BFLOAT16", "float32"), ("FLOAT8E5M2", "float32"), ("INT4", "int8"), ("UINT4", "uint8"), ("FLOAT16", "float16")],
)
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_types_that_numpy_does_not_have_come_in_wider_ones(kind, dtype, rows):
    to = getattr(TensorProto, kind)
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=to),
        helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT),
    ]
    made = session(nodes, {"y": to, "z": TensorProto.FLOAT})
    x = np.random.default_rng(0).standard_normal((rows, 3), np.float32) * 4
    y, z = outputs_of(made, ["y", "z"], {"x": x})
    assert y.dtype == dtype and y.shape == (rows, 3)
    np.testing.assert_array_equal(y.astype(np.float32), z)


@pytest.mark.parametrize("source", [np.zeros(1, np.float32), np.zeros((1, 8), np.float32), np.zeros((2, 8))])
def test_no_copy_stretches_or_converts(source):
    with pytest.raises(ProgramError, match=r"'exchange 3' of shape .* only what is alike is copied"):
        mover([(np.zeros((2, 8), np.float32), source, "")], "exchange 3")
