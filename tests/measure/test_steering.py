"""Which weights are real when plans are tried: those that numbers come from which are counted, compared or indices."""

from __future__ import annotations

import pytest

from flexpie_mpi.core.graph import Graph, Value
from flexpie_mpi.measure.weights import steering
from flexpie_mpi.model import load
from tests.graphs import GraphBuilder


def graph_of(*nodes, constants=()) -> Graph:  # type: ignore[no-untyped-def]
    """A graph of (operator, inputs, shape, type) in order, whose values are named v0, v1, ... after their nodes."""
    builder = GraphBuilder((4, 8))
    for name, dtype in {"w1": "float32", "w2": "float32", "table": "float32", **dict(constants)}.items():
        builder.values[name] = Value(name, (8, 8), dtype, is_constant=True)
    names: dict[str, str] = {}
    for place, (op, inputs, shape, dtype) in enumerate(nodes):
        names[f"v{place}"] = builder.node(op, [names.get(name, name) for name in inputs], shape, dtype)
    return builder.graph(names[f"v{len(nodes) - 1}"])


SCORES = ("MatMul", ("x", "w1"), (4, 8), "float32")
LAST = "float32"


@pytest.mark.parametrize(
    ("nodes", "steers"),
    [
        ([SCORES, ("MatMul", ("v0", "w2"), (4, 8), LAST)], set()),
        ([SCORES, ("NonZero", ("v0",), None, "int64"), ("Gather", ("table", "v1"), None, LAST)], {"w1", "table"}),
        ([SCORES, ("ArgMax", ("v0",), (4,), "int64"), ("Gather", ("table", "v1"), (4, 8), LAST)], {"w1"}),
        ([SCORES, ("Greater", ("v0", "x"), (4, 8), "bool"), ("If", ("v1",), (4, 8), LAST)], {"w1"}),
        ([SCORES, ("Loop", ("v0", "w2"), (4, 8), LAST), ("MatMul", ("v1", "table"), (4, 8), LAST)], {"w1", "w2"}),
        ([SCORES, ("ArgMax", ("v0",), (4,), "int64")], set()),
        ([SCORES, ("Cast", ("v0",), (4, 8), "int32"), ("Cast", ("v1",), (4, 8), LAST)], set()),
        ([SCORES, ("Cast", ("v0",), (4, 8), "int32"), ("Div", ("v1", "v1"), (4, 8), "int32")], {"w1"}),
        ([SCORES, ("Shape", ("v0",), (2,), "int64"), ("Reshape", ("x", "v1"), (8, 4), LAST)], set()),
        ([SCORES, ("QuantizeLinear", ("v0", "s"), (4, 8), "uint8"), ("QLinearAdd", ("v1",), (4, 8), "uint8")], set()),
    ],
)
def test_what_is_found_with_them_decides(nodes, steers) -> None:  # type: ignore[no-untyped-def]
    found = steering(graph_of(*nodes, constants={"s": "float32"}))
    assert found == steers


def test_whole_numbers_are_always_real_but_quantised_ones() -> None:
    types = {"i": "int64", "j": "int32", "b": "bool", "q": "int8", "u": "uint8", "n": "uint4", "h": "float16"}
    assert steering(graph_of(SCORES, constants=types)) == {"i", "j", "b"}


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_bert", "mobilenet_v2"])
def test_networks_without_such_operators_are_tried_without_their_weights(name: str) -> None:
    model = load(f"builtin:{name}")
    assert not any(model.is_stored(constant) for constant in steering(model.graph))
