"""Weights laid out so that what a rank has of them is one box.

- onnxruntime's Attention makes queries, keys and values by one matrix, of which the columns of some heads are three
  boxes: it becomes three matrices.
- The gates of an LSTM or GRU get an axis of their own. That is done where there is one step only: of more each needs
  all hidden units of the one before, so that ranks would exchange as often.
- Scales and zero points of matrices of few bits get an axis for the blocks.

The first two then are operators of this package's own, and their rules' local forms what they were.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from ..core.graph import BoundNode
from ..ops.base import OWN
from .canonicalise import canonicalise
from .model import Model
from .preoptimise import STORED_BYTES
from .walks import replace, taken_names
from .weights import Source, WeightStore, moved
from .written import InPlace

_OPSET_WITHOUT_SUMMAND = 11
"""From here on a product of rows needs no summand."""

Read = Callable[[str], np.ndarray]
"""The elements of a constant."""
Inputs = list[str | np.ndarray]


def in_pieces(source: Source, file: Path) -> Source:
    """A model in canonical form, with types, whose weights are laid out so; the proto of `source` is changed.

    Large weights that are made are written at the end of `file`.
    """
    proto, graph = source.proto, source.proto.graph
    model, taken, old = Model.from_proto(proto, WeightStore(source.large())), taken_names(proto), len(graph.initializer)
    nodes = list[onnx.NodeProto]()
    for node, bound in zip(graph.node, model.graph.bound, strict=True):
        place, write = InPlace(graph, node, taken), _WRITERS.get(bound.operator)
        if write is not None and not model.graph.is_dynamic(bound.node):
            write(place, bound, model.array)
        nodes += place.nodes or [node]
    large = [tensor for tensor in graph.initializer[old:] if len(tensor.raw_data) > STORED_BYTES]
    stored = {tensor.name: moved(tensor, tensor.raw_data, file) for tensor in large}
    replace(graph.node, nodes)
    canonicalise(proto)
    return Source(proto, {**source.stored, **stored})


def _attention(place: InPlace, node: BoundNode, read: Read) -> None:
    """The inputs are data, three matrices and three biases; behind those mask, past and what is added to scores."""
    has_more = any(node.attribute(name, 0) for name in ("do_rotary", "past_present_share_buffer"))
    if has_more or node.has_input(6) or not _are_constant(node, 1, 2):
        return
    sizes = node.attribute("qkv_hidden_sizes") or (node.in_shape(1)[1] // 3,) * 3
    data, *constants, mask, past, added = (*node.node.inputs, "", "", "", "")[:6]
    matrix, bias = (np.split(read(name), np.cumsum(sizes)[:2], axis=-1) if name else [""] * 3 for name in constants)
    place.rewrite([data, *matrix, *bias, mask, past, added], node.node.outputs, OWN)


def _are_constant(node: BoundNode, *indices: int) -> bool:
    """Whether each of these inputs is absent or a constant."""
    return all(value is None or value.is_constant for index in indices for value in node.inputs[index : index + 1])


_STATES = {"LSTM": 2, "GRU": 1}
_USUAL = {
    "LSTM": {"activations": ("Sigmoid", "Tanh", "Tanh"), "input_forget": 0, "layout": 0},
    "GRU": {"activations": ("Sigmoid", "Tanh"), "linear_before_reset": 1, "layout": 0},
}
"""Attributes as the rule has them, where a node has them at all."""


def _recurrent(place: InPlace, node: BoundNode, read: Read) -> None:
    """The inputs stay in their order; the outputs are the states alone, of which the first is the sequence as well."""
    if not _is_usual_step(node):
        return
    data, *constants = node.node.inputs[:4]
    sequence, *states = (*node.node.outputs, "", "")[: 1 + _STATES[node.op]]
    _, rows, hidden = node.in_shape(2)
    shapes = (*[(1, rows // hidden, hidden, -1)] * 2, (1, 2, rows // hidden, hidden))
    weights = [read(name).reshape(shape) if name else "" for name, shape in zip(constants, shapes, strict=True)]
    if sequence:
        states[0] = states[0] or place.value(node.in_shape(5))
    place.rewrite([data, *weights, *node.node.inputs[4:]], states, OWN)
    if sequence:
        place.add("Reshape", states[0], np.array(node.out_shape()), output=sequence)


def _is_usual_step(node: BoundNode) -> bool:
    """Whether it is one step in one direction, from states that are given, and nothing unusual."""
    given = [pair for pair in node.node.attributes if pair[0] not in ("direction", "hidden_size")]
    return (
        node.opset >= _OPSET_WITHOUT_SUMMAND
        and node.in_shape()[0] == node.in_shape(1)[0] == 1
        and [node.has_input(index) for index in range(4, 8)] == [False, True, node.op == "LSTM", False]
        and all(_USUAL[node.op].get(name) == value for name, value in given)
        and (node.op == "LSTM" or bool(node.attribute("linear_before_reset", 0)))
        and _are_constant(node, 1, 2, 3)
    )


def _few_bits(place: InPlace, node: BoundNode, read: Read) -> None:
    flat = [index for index in (2, 3) if node.has_input(index) and len(node.in_shape(index)) == 1]
    if flat and _are_constant(node, *flat):
        inputs: Inputs = list(node.node.inputs)
        for index in flat:
            inputs[index] = read(node.node.inputs[index]).reshape(node.attribute("N"), -1)
        place.rewrite(inputs, node.node.outputs, node.node.domain)


_WRITERS: dict[str, Callable[[InPlace, BoundNode, Read], None]] = {
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "com.microsoft.Attention": _attention,
    "com.microsoft.MatMulNBits": _few_bits,
}
"""By operator what writes another node in the place of one; nothing where it is to stay."""
