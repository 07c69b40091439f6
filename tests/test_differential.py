"""A seeded part of the differential test; ``python -m tests.differential`` draws as many cases as one likes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from .differential.cases import Drawn, draw
from .differential.running import judge

SEED = 11
CASES = 20
"""Drawn in a part."""

PARTS = [("operators", 0), ("operators", 1), ("operators", 2), ("operators", 3), ("graphs", 0)]


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_random_models_are_equal_to_plain_onnxruntime(kind, part):
    numbers = range(part * CASES, (part + 1) * CASES)
    verdicts = [judge(draw(kind, SEED, number), number, (1, 3)) for number in numbers]
    failed = {verdict.number: verdict.failed for verdict in verdicts if verdict.failed}
    again = [f"python -m tests.differential --seed {SEED} --only {kind}/{number}" for number in failed]
    assert not failed, f"repeat with: {again}"
    assert sum(bool(verdict.op) for verdict in verdicts) > CASES // 2
    assert sum(verdict.sharded for verdict in verdicts) > CASES // 4


def test_an_output_listed_twice():
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 2, 6, 5)) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "twice", [x], [y, y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data = np.linspace(-1, 1, 60, dtype=np.float32).reshape(1, 2, 6, 5)
    verdict = judge(Drawn("twice", model, {"x": data}, {"y": np.maximum(data, 0)}, 0.0, 0.0, "Relu"), 0, (1, 2))
    assert verdict.failed == () and verdict.sharded
