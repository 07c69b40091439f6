"""Which normalisations of a model are made two nodes, and that jobs give what one session of the file gives."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from .build import make, noise
from .test_sizes import check

IMAGE = [2, 6, 16, 17]


def instance(dims, *, opset: int = 17):
    return make(
        [helper.make_node("InstanceNormalization", ["x", "s", "b"], ["y"], epsilon=0.01)],
        {"x": dims},
        ["y"],
        {"s": noise(dims[1]), "b": noise(dims[1], seed=1)},
        opset=opset,
    )


def group(groups: int = 3, *, ones: float = 1.0, shape: tuple[int, ...] = (6, 1, 1), outputs: tuple[str, ...] = ("y",)):
    """A group normalisation as PyTorch writes it."""
    return make(
        [
            ("Reshape", ["x", "groups"], ["grouped"]),
            ("InstanceNormalization", ["grouped", "ones", "zeros"], ["normal"]),
            ("Reshape", ["normal", "image"], ["back"]),
            ("Mul", ["s", "back"], ["scaled"]),
            ("Add", ["scaled", "b"], ["y"]),
        ],
        {"x": IMAGE},
        outputs,
        {
            "groups": np.array([0, groups, -1]), "ones": np.full(groups, ones, np.float32), "image": np.array(IMAGE),
            "zeros": np.zeros(groups, np.float32), "s": noise(*shape), "b": noise(*shape, seed=1),
        },
    )  # fmt: skip


def native(opset: int, image: list[int] = IMAGE):
    """One by ONNX's own operator, with parameters by group before opset 21."""
    each = 6 if opset >= 21 else 3
    node = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=3, epsilon=0.01)
    return make([node], {"x": image}, ["y"], {"s": noise(each), "b": noise(each, seed=1)}, opset=opset)


def ops(model) -> list[str]:
    return [node.operator for node in model.graph.bound]


INSTANCE = ["flexpie_mpi.Moments", "flexpie_mpi.InstanceNormalization"]
GROUP = ["flexpie_mpi.Moments", "flexpie_mpi.GroupNormalization"]
GROUPED = ["Reshape", "InstanceNormalization", "Reshape", "Mul", "Add"]


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (instance(IMAGE), INSTANCE),
        (instance(IMAGE, opset=9), INSTANCE),
        (instance(IMAGE, opset=7), ["InstanceNormalization"]),
        (instance([1, 4, 300]), INSTANCE),
        (instance([1, 4, 15, 17]), ["InstanceNormalization"]),  # too small to be worth it
        (group(), GROUP),
        (group(1), GROUP),
        (group(ones=2.0), ["Reshape", *INSTANCE, "Reshape", "Mul", "Add"]),
        (group(shape=(1,)), ["Reshape", *INSTANCE, "Reshape", "Mul", "Add"]),
        (native(18), GROUP),
        (native(21), GROUP),
        (native(21, [1, 6, 4, 5]), GROUPED),
        (group(outputs=("normal", "y")), ["Reshape", *INSTANCE, "Reshape", "Mul", "Add"]),
    ],
)
def test_normalisations_over_space_get_their_moments(proto, expected, tmp_path):
    inputs = {"x": noise(*(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim), seed=3)}
    model, _ = check(proto, inputs, tmp_path)
    assert ops(model) == expected


def test_parameters_may_be_computed(tmp_path):
    """As where one image has the style of another."""
    proto = make(
        [
            helper.make_node("ReduceMax", ["style"], ["scale"], axes=[1], keepdims=0),
            helper.make_node("ReduceMin", ["style"], ["shift"], axes=[1], keepdims=0),
            ("InstanceNormalization", ["x", "scale", "shift"], ["y"]),
        ],
        {"x": IMAGE, "style": [6, 8]},
        ["y"],
    )
    model, _ = check(proto, {"x": noise(*IMAGE), "style": noise(6, 8, seed=1)}, tmp_path)
    assert ops(model)[2:] == INSTANCE
