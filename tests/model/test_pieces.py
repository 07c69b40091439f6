"""Which weights are laid out anew; jobs with them are in `tests/test_states.py` and `test_branches.py`."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from .build import make, noise
from .test_sizes import check

HIDDEN = 6


def step(op: str, steps: int = 1, states: tuple[str, ...] = ("h", "c"), opset: int = 17, **attributes):
    """A recurrent network that nobody but its sequence is read of."""
    gates = (4 if op == "LSTM" else 3) * HIDDEN
    names = ["x", "w", "r", "", "", *states[: 2 if op == "LSTM" else 1]]
    node = helper.make_node(op, names, ["y"], hidden_size=HIDDEN, **attributes)
    inputs = {"x": [steps, 2, 5]} | {name: [1, 2, HIDDEN] for name in states if name in names}
    return make([node], inputs, ["y"], {"w": noise(1, gates, 5), "r": noise(1, gates, HIDDEN)}, opset=opset)


@pytest.mark.parametrize(
    ("proto", "operator"),
    [
        (step("LSTM"), "flexpie_mpi.LSTM"),
        (step("LSTM", activations=["Sigmoid", "Tanh", "Tanh"]), "flexpie_mpi.LSTM"),
        (step("GRU", linear_before_reset=1), "flexpie_mpi.GRU"),
        (step("GRU"), "GRU"),  # its new gate reads what all units have forgotten
        (step("LSTM", steps=3), "LSTM"),
        (step("LSTM", states=()), "LSTM"),
        (step("LSTM", activations=["Sigmoid", "Tanh", "Relu"]), "LSTM"),
        (step("LSTM", opset=9), "LSTM"),
    ],
)
def test_gates_of_one_step_have_an_axis(proto, operator, tmp_path):
    inputs = {
        item.name: noise(*(dim.dim_value for dim in item.type.tensor_type.shape.dim)) for item in proto.graph.input
    }
    model, _ = check(proto, inputs, tmp_path)
    assert model.graph.bound[0].operator == operator
    assert len(model.graph.bound[0].in_shape(1)) == (4 if "." in operator else 3)


def test_few_bits_have_an_axis_for_the_blocks(tmp_path):
    sizes = {"K": 96, "N": 10, "bits": 4, "block_size": 32}
    node = helper.make_node("MatMulNBits", ["x", "w", "s", "z"], ["y"], domain="com.microsoft", **sizes)
    chance = np.random.default_rng(0)
    weights = {
        "w": chance.integers(0, 256, (10, 3, 16)).astype(np.uint8),
        "s": noise(30),
        "z": chance.integers(0, 256, 20).astype(np.uint8),
    }
    model, _ = check(
        make([node], {"x": [2, 96]}, ["y"], weights, domains=["com.microsoft"]), {"x": noise(2, 96)}, tmp_path
    )
    assert [model.graph.bound[0].in_shape(index) for index in (2, 3)] == [(10, 3), (10, 2)]
