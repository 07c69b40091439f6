r"""Positions that a decoder counts itself, from how much it holds, as an input.

Some exports number a request's tokens by the size of a state::

    past ---- Shape --> Gather --> Range --- Unsqueeze --> Cast --> MatMul    rotations, or rows of a table: numbers
                                         \-- Unsqueeze --> LessOrEqual      who may look at whom: places in memory

With room for positions to come that size says how much room there is. What works with positions as numbers is told them
then; what compares places in memory goes on counting those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import onnx
from onnx import NodeProto, TensorProto, helper

from .outputs import constant
from .walks import fresh, is_onnx, replace, taken_names

PLACES = "position_ids"

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_LENGTHS = ("Gather", "Slice")
_SAME = ("Unsqueeze", "Squeeze", "Reshape", "Expand", "Identity")


def take_positions(proto: onnx.ModelProto, states: Collection[str], step: int) -> str:
    """Let a model be told the positions of a request's tokens, of which there are `step`; the input's name.

    `states` are the inputs whose sizes say how much the model holds. The name is empty, and the model as it was, where
    none of them becomes a number that is computed with.
    """
    nodes = proto.graph.node
    shapes = [node.output[0] for node in nodes if is_onnx(node, "Shape") and node.input[0] in states]
    lengths = _made_of(nodes, shapes, lambda node: node.op_type in _LENGTHS or _is_same(node))
    counted = [node.output[0] for node in nodes if is_onnx(node, "Range") and node.input[0] in lengths]
    positions = _made_of(nodes, [*lengths.difference(shapes), *counted], _is_same)
    uses = [(node, index) for node in nodes for index in _numbers(node) if node.input[index] in positions]
    if not uses:
        return ""
    telling = _Telling(proto, positions, step)
    for node, index in uses:
        node.input[index] = telling.told(node.input[index])
    telling.finish()
    return telling.places


class _Telling:
    """What a model computes of positions, from an input beside what it computes from its states."""

    def __init__(self, proto: onnx.ModelProto, positions: Collection[str], step: int) -> None:
        self._proto, self._taken = proto, taken_names(proto)
        self._makers = {name: node for node in proto.graph.node for name in node.output if name in positions}
        self._made: dict[str, str] = {}
        self._behind: dict[str, list[NodeProto]] = {}  # nodes by the value whose maker they stand behind
        self.places = fresh(PLACES, self._taken)
        proto.graph.input.append(helper.make_tensor_value_info(self.places, TensorProto.INT64, (1, step)))
        self._all = self._name("all")
        self._first = self._name("first")
        self._ahead = [
            helper.make_node("Reshape", [self.places, self._constant("flat", [-1])], [self._all], name=self._all),
            helper.make_node("Gather", [self._all, self._constant("zero", 0)], [self._first], name=self._first),
        ]

    def told(self, value: str) -> str:
        """The name of a value as the input says it."""
        maker = self._makers[value]
        if is_onnx(maker, "Range"):
            return self._all
        if value not in self._made:
            name = self._made[value] = fresh(f"{value}::told", self._taken)
            self._behind[value] = list(self._nodes(maker, value, name))
        return self._made[value]

    def _nodes(self, maker: NodeProto, value: str, name: str) -> Iterator[NodeProto]:
        """What makes a value as told, like its maker; of the length of a state the first position."""
        if maker.input[0] not in self._makers:
            shape = fresh(f"{name}::shape", self._taken)
            yield helper.make_node("Shape", [value], [shape], name=shape)
            yield helper.make_node("Expand", [self._first, shape], [name], name=name)
            return
        copy = NodeProto()
        copy.CopyFrom(maker)
        copy.input[0] = self.told(copy.input[0])
        copy.name = copy.output[0] = name
        yield copy

    def finish(self) -> None:
        """Put all new nodes where what they read is there."""
        graph = self._proto.graph
        behind = ((node, *(new for name in node.output for new in self._behind.get(name, ()))) for node in graph.node)
        replace(graph.node, [*self._ahead, *(node for some in behind for node in some)])

    def _name(self, what: str) -> str:
        return fresh(f"{self.places}::{what}", self._taken)

    def _constant(self, what: str, data: int | list[int]) -> str:
        return constant(self._proto, f"{self.places}::{what}", data, self._taken)


def _is_same(node: NodeProto) -> bool:
    """Whether a node passes its first input's integers on."""
    return node.op_type in _SAME or (is_onnx(node, "Cast") and _target(node) == TensorProto.INT64)


def _numbers(node: NodeProto) -> tuple[int, ...]:
    """Inputs of a node that it takes for numbers, not for places: what becomes a float, and rows of a table."""
    if is_onnx(node, "Cast"):
        return (0,) if _target(node) in _FLOATS else ()
    return (1,) if is_onnx(node, "Gather") else ()


def _target(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "to"), 0)


def _made_of(nodes: Iterable[NodeProto], values: Collection[str], follows: Callable[[NodeProto], bool]) -> set[str]:
    """Some values, and what nodes that `follows` holds for make of them as their first inputs."""
    found = set(values)
    for node in nodes:
        if node.input and node.input[0] in found and follows(node):
            found.update(node.output)
    return found
