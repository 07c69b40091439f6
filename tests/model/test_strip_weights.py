"""Slimming a model file: nothing but large payloads is lost, and each is where the slim model says it is."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flexpie_mpi.model.strip_weights import WireError, strip_weights

from .build import classifier, make, noise


def entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def large_everywhere() -> onnx.ModelProto:
    """Large tensors as raw data, as typed data, and in a Constant node; small ones beside them."""
    inner = numpy_helper.from_array(noise(40, seed=1), "inner")
    typed = {
        name: helper.make_tensor(name, kind, [40], noise(40, seed=2).astype(dtype).tolist())
        for name, kind, dtype in (("floats", 1, "f4"), ("doubles", 11, "f8"), ("ints", 7, "i8"))
    }
    model = make(
        [
            helper.make_node("Constant", [], ["c"], value=inner),
            ("Add", ["x", "c"], ["y"]),
            ("Add", ["y", "raw"], ["z"]),
        ],
        {"x": (40,)},
        ["z"],
        {"raw": noise(40), "small": noise(2)},
    )
    model.graph.initializer.extend(typed.values())
    model.graph.initializer[0].data_location = onnx.TensorProto.DEFAULT  # said, as by a file that was read and written
    return model


def test_with_nothing_large_the_model_is_unchanged():
    model = classifier()
    assert onnx.ModelProto.FromString(strip_weights(io.BytesIO(model.SerializeToString()), 1 << 30, "mark")) == model


def test_every_large_payload_is_at_its_place_in_the_file():
    model = large_everywhere()
    data = model.SerializeToString()
    thin = onnx.ModelProto.FromString(strip_weights(io.BytesIO(data), 100, "mark"))
    tensors = {tensor.name: tensor for tensor in (*thin.graph.initializer, thin.graph.node[0].attribute[0].t)}
    for name, seed, dtype in (("raw", 0, "f4"), ("inner", 1, "f4"), ("floats", 2, "f4"), ("doubles", 2, "f8")):
        place = entries(tensors[name])
        found = np.frombuffer(data[int(place["offset"]) :][: int(place["length"])], dtype)
        assert place["location"] == "mark"
        assert np.array_equal(found, noise(40, seed=seed).astype(dtype)), name
        assert tensors[name].data_location == onnx.TensorProto.EXTERNAL
    assert tensors["small"] == model.graph.initializer[1]
    assert list(tensors["ints"].int64_data) == list(model.graph.initializer[-1].int64_data)
    assert thin.graph.node[1:] == model.graph.node[1:]


@pytest.mark.parametrize("cut", [1, 50, 400, 800])
def test_truncated_bytes_are_refused(cut):
    data = large_everywhere().SerializeToString()
    with pytest.raises(WireError):
        strip_weights(io.BytesIO(data[:-cut]), 100, "mark")


@pytest.mark.parametrize("data", [b"\x0f", b"\xff" * 20, b"\x0a\x05ab", b"\x09abc"])
def test_bytes_that_are_no_message_are_refused(data):
    with pytest.raises(WireError):
        strip_weights(io.BytesIO(data), 100, "mark")
