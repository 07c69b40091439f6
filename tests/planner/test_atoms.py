"""Atoms: a quantised operator is one, and so is what makes an input wider with the node that reads it."""

from __future__ import annotations

from flexpie_mpi.core.graph import Value
from flexpie_mpi.planner.units import atoms
from tests.graphs import GraphBuilder


class Quantised(GraphBuilder):
    def __init__(self):
        super().__init__((1, 4, 8))
        self.scale = self.weight(())

    def quantise(self, x):
        return self.node("QuantizeLinear", (x, self.scale), self.values[x].shape, "uint8")

    def dequantise(self, x):
        return self.node("DequantizeLinear", (x, self.scale), self.values[x].shape)

    def matmul(self, x):
        weight = self.node("DequantizeLinear", (self.weight((8, 8)), self.scale), (8, 8))
        return self.node("MatMul", (x, weight), self.values[x].shape)


def spans(graph):
    return [[node.op for node in graph.nodes[atom.first : atom.end]] for atom in atoms(graph)]


def test_a_quantised_operator_is_never_cut():
    b = Quantised()
    x = b.quantise("x")
    y = b.quantise(b.matmul(b.dequantise(x)))
    z = b.quantise(b.relu(b.dequantise(y)))
    assert spans(b.graph(z)) == [
        ["QuantizeLinear"],
        ["DequantizeLinear", "DequantizeLinear", "MatMul", "QuantizeLinear"],
        ["DequantizeLinear", "Relu", "QuantizeLinear"],
    ]


def test_what_others_read_too_may_be_sent_to_them():
    b = Quantised()
    y = b.dequantise(b.quantise("x"))
    z = b.relu(y)
    quantised = b.quantise(z)
    graph = b.graph(b.add(y, b.dequantise(quantised)), b.add(z, z))
    assert spans(graph) == [
        ["QuantizeLinear"],
        ["DequantizeLinear"],
        ["Relu"],
        ["QuantizeLinear"],
        ["DequantizeLinear", "Add"],
        ["Add"],
    ]


def test_an_input_is_made_wider_where_it_is_read():
    b = GraphBuilder()
    b.values["x"] = Value("x", (1, 4, 12, 10), "uint8")
    shape = b.values["x"].shape
    wide = b.node("Mul", (b.node("Cast", ("x",), shape, "float64"), b.weight(())), shape, "float64")
    made = b.conv(b.relu(b.node("Cast", (wide,), shape)))
    as_wide = b.node("Cast", (b.relu(made),), shape, "uint8")
    graph = b.graph(b.node("Cast", (as_wide,), shape))
    assert spans(graph) == [["Cast", "Mul", "Cast", "Relu", "Conv"], ["Relu"], ["Cast"], ["Cast"]]
    assert spans(GraphBuilder().graph("x")) == []
