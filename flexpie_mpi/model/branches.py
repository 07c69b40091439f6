"""Products that are split apart: one for queries, keys and values, say, or for a gate and what it lets through.

A rank that has some heads reads three boxes of such a product's columns, and what is between them as well. So each
branch gets a product of its own, and all that stands before the split. The same is multiplied with the same, in as many
products as there are branches.
"""

from __future__ import annotations

import onnx

from .walks import PRODUCTS, fresh, reads, replace, taken_names

_PASSING = ("Add", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
"""Operators between a product and where it is split apart; they read constants beside what they pass on."""
_TAKING = ("Gather", "Slice")
"""Operators that take a part, where all readers of a value are such."""
_MOST = 3
"""Branches of a product: more, as the gates of a recurrent network, are small, and each call of a kernel costs."""


def branched(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """A model in canonical form with every branch of its products apart; None where there is none."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made if _Branches(made).split() else None


class _Branches:
    """What is copied in a model, and where."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._graph, self._taken = proto.graph, taken_names(proto)
        self._constants = {tensor.name for tensor in proto.graph.initializer}
        self._outputs = {value.name for value in proto.graph.output}
        self._types = {value.name: value.type for value in (*proto.graph.value_info, *proto.graph.output)}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in proto.graph.node:
            for name in reads(node):
                self._readers.setdefault(name, []).append(node)
        self._copies: dict[str, list[onnx.NodeProto]] = {}

    def split(self) -> bool:
        """Give every branch its own nodes; whether there is any."""
        for node in self._graph.node:
            if node.op_type in PRODUCTS and node.input[1] in self._constants:
                self._split(node)
        nodes = [each for node in self._graph.node for each in (node, *self._copies.get(node.name, ()))]
        replace(self._graph.node, nodes)
        return bool(self._copies)

    def _split(self, product: onnx.NodeProto) -> None:
        """Copy a product, and what passes its result on, for each branch but the first."""
        chain = [product]
        while len(readers := self._reading(chain[-1])) == 1 and self._takes(readers[0], chain[-1], _PASSING):
            chain.append(readers[0])
        if len(readers) == 1 and readers[0].op_type == "Split" and len(readers[0].output) <= _MOST:
            for number in range(1, len(readers[0].output)):
                taker = self._copy(readers[0], {}, number)
                self._branch(chain, taker)
        elif 1 < len(readers) <= _MOST and all(self._takes(reader, chain[-1], _TAKING) for reader in readers):
            for taker in readers[1:]:
                self._branch(chain, taker)

    def _reading(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Readers of a node's result; none of one that is an output of the model as well."""
        return [] if self._outputs.intersection(node.output) else self._readers.get(node.output[0], [])

    def _takes(self, node: onnx.NodeProto, source: onnx.NodeProto, ops: tuple[str, ...]) -> bool:
        """Whether a node is one of `ops` and reads nothing but the result of `source` and constants."""
        result = source.output[0]
        is_data = node.input[0] == result or node.op_type == "Add"
        others = {*node.input} - {"", result}
        return node.op_type in ops and not node.domain and is_data and others <= self._constants

    def _branch(self, chain: list[onnx.NodeProto], taker: onnx.NodeProto) -> None:
        """Copy a chain for a node that takes a part of what it makes."""
        names: dict[str, str] = {}
        for node in chain:
            names[node.output[0]] = self._copy(node, names).output[0]
        taker.input[0] = names[taker.input[0]]

    def _copy(self, node: onnx.NodeProto, names: dict[str, str], kept: int = -1) -> onnx.NodeProto:
        """A copy of a node that reads other values, by `names`, and writes new ones, but for output number `kept`."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = fresh(node.name, self._taken)
        copy.input[:] = [names.get(name, name) for name in node.input]
        for number, name in enumerate(node.output):
            if not name:
                continue
            new = copy.output[number] = fresh(name, self._taken)
            self._types[new] = self._types[name]
            self._graph.value_info.add(name=new, type=self._types[name])
        if kept >= 0:
            copy.output[kept], node.output[kept] = node.output[kept], copy.output[kept]
        self._copies.setdefault(node.name, []).append(copy)
        return copy
