"""Errors of onnxruntime as sentences: its codes, the places in its sources and its signatures are left out."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from flexpie_mpi.model.session import reason

from .build import make

SOURCES = "/onnxruntime_src/onnxruntime/core"
INFO = (
    "onnxruntime::Frame::Info::Info(const std::vector<const Node*>&, const std::filesystem::__cxx11::path&, "
    "const std::function<bool(const std::__cxx11::basic_string<char>&)>&) "
)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            f"[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: {SOURCES}/o/frame.cc:74 {INFO}"
            "[ONNXRuntimeError] : 1 : FAIL : utils.cc:1716 CheckSize Initializer 's': count (1) is not that of (3)\n",
            "Exception during initialization: Initializer 's': count (1) is not that of (3).",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'/a/r' "
            f"Status Message: {SOURCES}/reshape_helper.h:91 R::R(const Shape&, bool) a == b.size() was false. It (x)",
            "Reshape '/a/r': It (x).",
        ),
        (f"{SOURCES}/a.cc:360 void* A::Raw(size_t, Stream*) const failed to get 8 bytes", "failed to get 8 bytes."),
        (f"{SOURCES}/a.cc:3 A::f(int)::<lambda(int, int)> [with T = int] a < b was false.", "a < b was false."),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got 5\n Expected 4\n", "Got 5 Expected 4."),
        ("Load of /my/net (2).onnx:3 failed", "Load of /my/net (2).onnx:3 failed."),
        ("a \x1b[31mname", r"a \x1b[31mname."),
        ("", "RuntimeError."),
    ],
)
def test_what_is_left(raw: str, said: str) -> None:
    assert reason(RuntimeError(raw)) == said


@pytest.mark.parametrize("bad", ["/a.cc:1 ", "/a.cc:1 f(", "/a.cc:1 f()::", "(", "/a.h:1 f()::a()b()", "q was false. "])
def test_long_ones_are_cut(bad: str) -> None:
    assert len(reason(RuntimeError(bad * 100_000))) <= 401


def test_what_this_onnxruntime_says() -> None:
    counted = TensorProto(name="s", data_type=TensorProto.STRING, dims=[3], string_data=[b"x"])
    model = make([("Identity", ["s"], ["y"])], {"x": (1,)}, [])
    model.graph.initializer.append(counted)
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.STRING, None))
    added = make([("Add", ["x", "z"], ["y"])], {"x": ("a",), "z": ("b",)}, ["y"])
    for proto in (model, added):
        with pytest.raises(Exception) as caught:
            run(proto)
        assert "/" in str(caught.value) and "::" in str(caught.value)
        said = reason(caught.value)
        assert "/" not in said and "::" not in said and said.startswith(("Exception during", "Add: Attempting to"))


def run(proto: onnx.ModelProto) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    made = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made.run(None, {"x": np.ones(2, np.float32), "z": np.ones(3, np.float32)})
