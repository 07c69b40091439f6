"""Pools that round up: declared sizes are those onnxruntime computes, so that every plan runs."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, save

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.cache import Cache


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("opset", [10, 13, 19, 22])
@pytest.mark.parametrize(
    "extent, kernel, stride, pads",
    [(7, 3, 2, (1, 1)), (6, 1, 2, (0, 0)), (5, 2, 3, (0, 1)), (6, 2, 3, (1, 1)), (8, 3, 2, (0, 0)), (12, 2, 4, (0, 1))],
)
def test_sizes_are_those_of_onnxruntime(op, opset, extent, kernel, stride, pads, tmp_path):
    begin, end = pads
    pool = helper.make_node(
        op,
        ["x"],
        ["pooled"],
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[begin] * 2 + [end] * 2,
        ceil_mode=1,
    )
    graph = helper.make_graph(
        [pool, helper.make_node("Relu", ["pooled"], ["y"])],
        "pools",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, extent, extent))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
    )
    path = tmp_path / "pools.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    x = np.random.default_rng(0).standard_normal((1, 2, extent, extent), dtype=np.float32)
    (expected,) = onnxruntime.InferenceSession(str(path)).run(None, {"x": x})
    cache = Cache(tmp_path / "cache")
    model = load(str(path), cache=cache)
    assert model.graph.value("pooled").shape == model.graph.value("y").shape == expected.shape
    for preset in ("rows", "channels"):
        plan = layout_plan(model.graph, 2, preset, fusion="none")
        outputs = run_ranks(2, lambda t, plan=plan: dict(Engine(t, model, plan, cache=cache).run({"x": x})))[0]
        np.testing.assert_allclose(outputs["y"], expected, rtol=1e-6, atol=1e-6)
