"""The one form that every model is brought into keeps what the model computes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flexpie_mpi.model.canonicalise import canonicalise
from flexpie_mpi.model.walks import captures, opset_of

from .build import make, noise, session


def same_results(before: onnx.ModelProto, after: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    for expected, found in zip(session(before).run(None, feeds), session(after).run(None, feeds), strict=True):
        assert np.array_equal(expected, found)


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    canonicalise(copy)
    return copy


def test_unsorted_nodes_are_sorted_and_sorted_ones_keep_their_order():
    nodes = [("Relu", ["x"], ["a"]), ("Neg", ["x"], ["b"]), ("Add", ["a", "b"], ["c"]), ("Exp", ["c"], ["y"])]
    straight = tidied(make(nodes, {"x": (3,)}, ["y"]))
    assert [node.op_type for node in straight.graph.node] == ["Relu", "Neg", "Add", "Exp"]
    shuffled = tidied(make([nodes[i] for i in (3, 2, 1, 0)], {"x": (3,)}, ["y"]))
    assert [node.op_type for node in shuffled.graph.node] == ["Neg", "Relu", "Add", "Exp"]
    same_results(straight, shuffled, {"x": noise(3)})


def test_nodes_that_read_constants_only_stand_before_their_first_reader():
    nodes = [
        ("Neg", ["w"], ["a"]),
        ("Exp", ["a"], ["b"]),
        ("Abs", ["w"], ["c"]),
        ("Relu", ["x"], ["r"]),
        ("Add", ["r", "a"], ["s"]),
        ("Sin", ["s"], ["t"]),
        ("Add", ["t", "b"], ["y"]),
    ]
    proto = make(nodes, {"x": (3,)}, ["y", "c"], {"w": noise(3)})
    after = tidied(proto)
    assert [node.op_type for node in after.graph.node] == ["Abs", "Relu", "Neg", "Add", "Sin", "Exp", "Add"]
    same_results(proto, after, {"x": noise(3, seed=1)})


def test_a_dequantisation_stands_before_its_reader():
    nodes = [
        ("QuantizeLinear", ["x", "scale"], ["q"]),
        ("DequantizeLinear", ["q", "scale"], ["a"]),
        ("Relu", ["x"], ["r"]),
        ("Exp", ["r"], ["s"]),
        ("Add", ["s", "a"], ["y"]),
    ]
    proto = make(nodes, {"x": (3,)}, ["y"], {"scale": np.float32(0.25)})
    after = tidied(proto)
    assert [node.op_type for node in after.graph.node] == ["QuantizeLinear", "Relu", "Exp", "DequantizeLinear", "Add"]
    same_results(proto, after, {"x": noise(3, seed=1)})


def test_nodes_get_unique_names_and_keep_good_ones():
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="mine"),
        helper.make_node("Relu", ["a"], ["b"], name="mine"),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"], name="relu_2"),
    ]
    names = [node.name for node in tidied(make(nodes, {"x": (3,)}, ["d"])).graph.node]
    assert names == ["mine", "relu_1", "relu_2_1", "relu_2"]


def test_dead_nodes_and_unread_constants_go():
    model = make([("Relu", ["x"], ["y"]), ("Add", ["x", "w"], ["dead"])], {"x": (3,)}, ["y"], {"w": noise(3)})
    graph = tidied(model).graph
    assert [node.op_type for node in graph.node] == ["Relu"]
    assert not graph.initializer


def test_constants_of_every_spelling_become_initializers():
    def constant(name, **attribute):
        return helper.make_node("Constant", [], [name], **attribute)

    sparse = helper.make_sparse_tensor(
        helper.make_tensor("", 1, [2], [5.0, 6.0]), helper.make_tensor("", 7, [2], [0, 2]), [3]
    )
    model = make(
        [
            constant("a", value=numpy_helper.from_array(noise(3))),
            constant("b", value_float=2.0),
            constant("c", value_floats=[1.0, 2.0, 3.0]),
            constant("d", sparse_value=sparse),
            constant("e", value_ints=[1]),
            ("Sum", ["x", "a", "b", "c", "d"], ["s"]),
            ("Expand", ["s", "e"], ["y"]),
        ],
        {"x": (3,)},
        ["y"],
    )
    after = tidied(model)
    assert {tensor.name for tensor in after.graph.initializer} == set("abcde")
    same_results(model, after, {"x": noise(3, seed=1)})


def test_every_output_is_written_by_a_node_or_an_input_and_keeps_its_name():
    model = make([("Add", ["x", "w"], ["y"])], {"x": (3,), "direct": (2,)}, ["w", "y", "direct", "y"], {"w": noise(3)})
    after = tidied(model)
    assert [value.name for value in after.graph.output] == ["w", "y", "direct"]
    written = {name for node in after.graph.node for name in node.output}
    assert {"w", "y"} <= written
    feeds = {"x": noise(3, seed=1), "direct": noise(2)}
    expected = session(model).run(["w", "y", "direct"], feeds)
    for one, other in zip(expected, session(after).run(None, feeds), strict=True):
        assert np.array_equal(one, other)


def test_renaming_a_constant_output_reaches_into_subgraphs():
    branch = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, None)]
    )
    choose = helper.make_node("If", ["p"], ["y"], then_branch=branch, else_branch=other)
    model = make([choose], {"p": (), "x": (3,)}, ["y", "w"], {"w": noise(3)}, dtypes={"p": onnx.TensorProto.BOOL})
    after = tidied(model)
    assert captures(after.graph.node[0]) == ["x", "w_constant"]
    same_results(model, after, {"p": np.array(True), "x": noise(3, seed=1)})


def test_initializers_listed_as_inputs_are_constants_and_opsets_are_pruned():
    model = make([("Add", ["x", "w"], ["y"])], {"x": (3,), "w": (3,)}, ["y"], {"w": noise(3)}, domains=["ai.onnx.ml"])
    model.ir_version = 3
    after = tidied(model)
    assert [value.name for value in after.graph.input] == ["x"]
    assert [(item.domain, item.version) for item in after.opset_import] == [("", 17)]
    same_results(model, after, {"x": noise(3, seed=1)})


def test_a_model_has_one_opset_under_either_name_of_the_domain():
    model = make([("Relu", ["x"], ["y"])], {"x": (3,)}, ["y"])
    for items, version in (([("ai.onnx", 9)], 9), ([("", 9), ("ai.onnx", 13)], 13), ([("ai.onnx.ml", 3)], 17)):
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(*item) for item in items)
        assert opset_of(model) == version
        assert [(item.domain, item.version) for item in tidied(model).opset_import] == [("", version)]


def test_renaming_a_constant_output_leaves_subgraphs_alone_that_have_the_name_themselves():
    own = numpy_helper.from_array(noise(3, seed=5), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["t"])]
    branch = helper.make_graph(nodes, "then", [], [helper.make_tensor_value_info("t", 1, None)], [own])
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, None)]
    )
    choose = helper.make_node("If", ["p"], ["y"], then_branch=branch, else_branch=other)
    model = make([choose], {"p": (), "x": (3,)}, ["y", "w"], {"w": noise(3)}, dtypes={"p": onnx.TensorProto.BOOL})
    same_results(model, tidied(model), {"p": np.array(True), "x": noise(3, seed=1)})
