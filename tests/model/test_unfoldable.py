"""Holding weights out of pre-optimising changes nothing about its outcome."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from flexpie_mpi.model import zoo
from flexpie_mpi.model.canonicalise import canonicalise, drop_constant_inputs
from flexpie_mpi.model.inputs import Asked, bind_inputs
from flexpie_mpi.model.preoptimise import misused, preoptimise, unfoldable
from flexpie_mpi.model.read import Source, read_source

from .build import classifier, make, noise, save

EVERYTHING_LARGE, NOTHING_LARGE = 128, 1 << 30
"""The first still spares shapes, which onnxruntime must see."""


def read(path: Path, threshold: int) -> Source:
    source = read_source(path, threshold)
    drop_constant_inputs(source.proto)
    bind_inputs(source.proto, Asked())
    return source


def optimised(source: Source, folder: Path) -> onnx.GraphProto:
    folder.mkdir()
    proto = preoptimise(source, folder).proto
    canonicalise(proto)
    return proto.graph


def signature(graph: onnx.GraphProto) -> tuple[list, list]:
    """Nodes without the names of constants, of which equal ones are merged under either name; and constants."""
    constants = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    nodes = [
        (node.op_type, [constants.get(name, name) for name in node.input], list(node.output), list(node.attribute))
        for node in sorted(graph.node, key=lambda node: node.output[0])
    ]
    return nodes, sorted(constants.values())


@pytest.mark.parametrize("name", ["classifier", *(name for name in zoo.names() if name.startswith("tiny_"))])
def test_outcome_is_that_of_the_ordinary_way(name, tmp_path):
    if name == "classifier":
        path = Path(save(classifier(), tmp_path / "m.onnx"))
    else:
        path = zoo.materialise(name, tmp_path)
    thin, full = read(path, EVERYTHING_LARGE), read(path, NOTHING_LARGE)
    assert unfoldable(thin.proto.graph, thin.large()) or name in ("tiny_resnet", "tiny_mobilenet")
    one, other = optimised(thin, tmp_path / "thin"), optimised(full, tmp_path / "full")
    assert signature(one) == signature(other)


def test_weights_that_are_folded_into_are_not_held_out(tmp_path):
    source = read(Path(save(classifier(), tmp_path / "m.onnx")), EVERYTHING_LARGE)
    assert unfoldable(source.proto.graph, source.large()) == {"w3", "g", "k"}


@pytest.mark.parametrize(
    ("nodes", "held"),
    [
        ([("MatMul", ["x", "w"], ["y"])], True),
        ([("MatMul", ["w", "x"], ["y"])], True),
        ([("MatMul", ["w", "w"], ["c"]), ("MatMul", ["x", "c"], ["y"])], False),
        ([("Transpose", ["w"], ["t"]), ("MatMul", ["x", "t"], ["y"])], False),
        ([("MatMul", ["x", "w"], ["h"]), ("Add", ["h", "w"], ["y"])], False),
        ([("Shape", ["x"], ["s"]), ("Gather", ["w", "s"], ["g"]), ("Add", ["x", "g"], ["y"])], False),
        (
            [
                ("MatMul", ["x", "w"], ["h"]),
                ("Transpose", ["h"], ["t"]),
                ("BatchNormalization", ["t", "s", "s", "s", "s"], ["y"]),
            ],
            False,
        ),
    ],
)
def test_what_can_be_held_out(nodes, held):
    weights = {"w": noise(4, 4), "s": noise(4)}
    proto = make(nodes, {"x": (4, 4)}, ["y"], weights)
    assert unfoldable(proto.graph, {"w"}) == ({"w"} if held else set())


def test_a_weight_that_is_an_output_or_captured_is_not_held_out():
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["t"])], "b", [], [helper.make_tensor_value_info("t", 1, None)]
    )
    choose = helper.make_node("If", ["p"], ["z"], then_branch=branch, else_branch=branch)
    product = ("MatMul", ["x", "w"], ["y"])
    weights = {"w": noise(4, 4)}
    captured = make([product, choose], {"x": (4, 4), "p": ()}, ["y", "z"], weights, dtypes={"p": onnx.TensorProto.BOOL})
    assert unfoldable(captured.graph, {"w"}) == set()
    assert unfoldable(make([product], {"x": (4, 4)}, ["y", "w"], weights).graph, {"w"}) == set()


def test_a_weight_that_an_optimiser_wraps_is_noticed():
    proto = make([("Transpose", ["w"], ["t"]), ("MatMul", ["x", "t"], ["y"])], {"x": (4, 4), "w": (4, 4)}, ["y"])
    assert misused(proto.graph, {"w"}) == {"w"}
