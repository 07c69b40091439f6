"""Positions that a decoder counts from how much it holds become an input where they are numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from flexpie_mpi.model.counted import take_positions

from .build import make, noise

TO_FLOAT = {"to": onnx.TensorProto.FLOAT}


def decoder(*nodes):
    """One that holds `past` (1, held, 4) and numbers the tokens of `x` (1, 3, 4) behind it."""
    counted = [
        ("Shape", ["past"], ["sizes"]),
        ("Gather", ["sizes", "one"], ["held"]),
        ("Add", ["held", "three"], ["end"]),
        ("Range", ["held", "end", "one"], ["places"]),
        ("Unsqueeze", ["places", "front"], ["row"]),
    ]
    constants = {"one": np.array(1), "three": np.array(3), "front": np.array([0]), "table": noise(40)}
    outputs = [node.output[0] if isinstance(node, onnx.NodeProto) else node[2][0] for node in nodes]
    dtypes = {"seen": onnx.TensorProto.BOOL}
    return make([*counted, *nodes], {"x": [1, 3, 4], "past": [1, "held", 4]}, outputs, constants, dtypes=dtypes)


def results(proto, **more):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"x": np.zeros((1, 3, 4), np.float32), "past": np.zeros((1, 5, 4), np.float32), **more}
    return session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})


NUMBERS = [
    helper.make_node("Cast", ["row"], ["float"], **TO_FLOAT),
    helper.make_node("Gather", ["table", "row"], ["found"]),
    helper.make_node("Cast", ["held"], ["first"], **TO_FLOAT),
]


def test_what_computes_with_positions_is_told_them_and_what_compares_places_counts_on():
    proto = decoder(*NUMBERS, ("LessOrEqual", ["row", "three"], ["seen"]))
    before = results(proto)
    assert take_positions(proto, {"past"}, 3) == "position_ids"
    for counted, told in zip(before, results(proto, position_ids=np.array([[5, 6, 7]])), strict=True):
        np.testing.assert_array_equal(told, counted)  # as many as it holds
    row, found, first, seen = results(proto, position_ids=np.array([[0, 1, 2]]))
    assert row.tolist() == [[0, 1, 2]] and found.tolist() == [noise(40)[:3].tolist()] and first == 0
    assert seen.tolist() == before[3].tolist() == [[False] * 3]


@pytest.mark.parametrize("states", [{"past"}, {"x"}])
def test_a_model_without_such_numbers_stays_as_it_is(states):
    proto = decoder(*(NUMBERS if states == {"x"} else ()), ("LessOrEqual", ["row", "three"], ["seen"]))
    before = proto.SerializeToString()
    assert take_positions(proto, states, 3) == "" and proto.SerializeToString() == before
