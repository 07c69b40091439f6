"""Signed quantised values lose their sign where onnxruntime would take it from them, and nowhere else."""

from __future__ import annotations

import platform

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

from flexpie_mpi.model.rewrite import drop_signs

from .build import make, noise

ZEROS = {"scale": np.float32(0.02), "zero": np.int8(-7), "other": np.int8(3)}


def pair(value, floats, zero="zero", back="zero"):
    return [
        ("QuantizeLinear", [value, "scale", zero], [f"{value}.q"]),
        ("DequantizeLinear", [f"{value}.q", "scale", back], [floats]),
    ]


def run(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": noise(2, 8)})


@pytest.mark.parametrize(("machine", "dropped"), [("x86_64", True), ("AMD64", True), ("aarch64", False)])
def test_a_pair_of_its_own_is_unsigned_and_computes_the_same(monkeypatch, machine, dropped):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    model = make([*pair("x", "a"), ("Relu", ["a"], ["b"]), *pair("b", "y")], {"x": (2, 8)}, ["y"], ZEROS)
    before = run(model)
    drop_signs(model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types = {kinds[node.input[2]] for node in model.graph.node if len(node.input) == 3}
    assert types == {TensorProto.UINT8 if dropped else TensorProto.INT8}
    assert np.array_equal(run(model)[0], before[0])


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([*pair("x", "y"), ("DequantizeLinear", ["x.q", "scale", "zero"], ["z"])], ["y", "z"]),
        ([*pair("x", "y"), ("Abs", ["x.q"], ["z"])], ["y"]),
        (pair("x", "y", back="other"), ["y"]),
        ([("QuantizeLinear", ["x", "scale", "zero"], ["q"]), ("DequantizeLinear", ["q", "scale"], ["y"])], ["y"]),
    ],
)
def test_values_that_others_read_or_that_have_no_one_zero_keep_their_sign(monkeypatch, nodes, outputs):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    model = make(nodes, {"x": (2, 8)}, outputs, ZEROS)
    before = model.SerializeToString()
    drop_signs(model)
    assert model.SerializeToString() == before
