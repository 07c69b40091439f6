"""A model as every rank has it: the graph, and a skeleton of the ONNX model without its large weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from ..core.errors import ModelError
from ..core.graph import ITEM_BYTES, Attribute, Graph, Node, Value
from .states import declared
from .walks import captures, opset_of, taken_names
from .weights import WeightStore, digest_bytes, dtype_name, raw_bytes, stub_entries

if TYPE_CHECKING:
    from ..files.images import Normalisation

CARRIED_ELEMENTS = 64
"""Constants of up to this many elements are part of the graph: shapes, axes, pads, scales."""

_KINDS = {"sequence_type": "sequence", "optional_type": "optional", "map_type": "map", "sparse_tensor_type": "sparse"}


@dataclass(frozen=True, eq=False)
class Model:
    """A graph and the ONNX messages it came from."""

    name: str
    graph: Graph
    # The skeleton: pre-optimised, with static shapes in ``value_info``. Constants over 1 KiB are stubs: their
    # ``data_location`` is EXTERNAL and their entry "digest" identifies the content.
    proto: onnx.ModelProto
    store: WeightStore | None = None  # the data of the stubs, on the rank that loaded the model
    source: Path | None = None  # the file the model was loaded from, on that rank
    # On that rank, where the model takes pixels (:func:`.pixels.with_pixels`):
    plain: Model | None = None  # the model that takes numbers, as its file does
    pixels: Mapping[str, Normalisation] = field(default_factory=dict)  # how they become numbers, by input

    @classmethod
    def from_proto(cls, proto: onnx.ModelProto, store: WeightStore | None = None, source: Path | None = None) -> Model:
        """The model that a skeleton describes."""
        return cls(proto.graph.name, convert(proto), proto, store, source)

    @classmethod
    def from_skeleton(cls, data: bytes) -> Model:
        """The model that another rank's :meth:`skeleton` describes: same graph, no weights."""
        return cls.from_proto(onnx.ModelProto.FromString(data))

    @property
    def file_digest(self) -> str:
        """Digest of the graph as its file has it, whether or not this one takes pixels."""
        return (self.plain or self).graph.digest

    def file_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of this model as its file takes them: numbers in place of pixels."""
        return {**inputs, **{name: each.applied(inputs[name]) for name, each in self.pixels.items()}}

    @cached_property
    def state_outputs(self) -> Mapping[str, str]:
        """The output of the model's file that belongs to each state that requests change, by the state's input."""
        return declared(self.proto)[2]

    def skeleton(self) -> bytes:
        """What the other ranks need to know the model."""
        return self.proto.SerializeToString()

    def weight_digest(self, constant: str) -> str:
        """Content digest (blake2b, hex) of a constant's type, shape and bytes; known on every rank."""
        tensor = self._initializers[constant]
        if _is_stub(tensor):
            return stub_entries(tensor)["digest"]
        return digest_bytes(tensor.data_type, tensor.dims, raw_bytes(tensor))

    def array(self, constant: str) -> np.ndarray:
        """The elements of a constant.

        Raises ModelError when the constant is a stub and this rank did not load the model, or its file cannot
        be read.
        """
        tensor = self._initializers[constant]
        if not _is_stub(tensor):
            return numpy_helper.to_array(tensor)
        if self.store is None:
            raise ModelError(f"The data of weight '{constant}' is only on the rank that loaded model '{self.name}'.")
        return self.store.read(constant)

    def tensor_proto(self, constant: str) -> onnx.TensorProto:
        """The message of a constant; without data when it is stored."""
        return self._initializers[constant]

    def is_stored(self, constant: str) -> bool:
        """Whether the data of a constant is in the store rather than in the skeleton."""
        return _is_stub(self._initializers[constant])

    def node_proto(self, name: str) -> onnx.NodeProto:
        """The message of a node of the graph."""
        return self.proto.graph.node[self.graph.position[name]]

    def type_proto(self, value: str) -> onnx.TypeProto:
        """The ONNX type of a computed value, with its shape where that is static."""
        return self._types[value]

    def type_name(self, value: str) -> str:
        """What onnxruntime calls the type of a computed value, such as ``seq(tensor(float))``."""
        return _type_name(self._types[value])

    def element_type(self, value: str) -> int:
        """The element type of a tensor, computed or constant, as in ``onnx.TensorProto``."""
        if value in self._initializers:
            return self._initializers[value].data_type
        return self._types[value].tensor_type.elem_type

    @cached_property
    def names(self) -> frozenset[str]:
        """Names that nodes and values have, in subgraphs as well, so that no other may be given them."""
        return frozenset(taken_names(self.proto))

    @cached_property
    def _initializers(self) -> Mapping[str, onnx.TensorProto]:
        return {tensor.name: tensor for tensor in self.proto.graph.initializer}

    @cached_property
    def _types(self) -> Mapping[str, onnx.TypeProto]:
        graph = self.proto.graph
        return {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}


def _type_name(kind: onnx.TypeProto) -> str:
    if kind.HasField("sequence_type"):
        return f"seq({_type_name(kind.sequence_type.elem_type)})"
    if kind.HasField("optional_type"):
        return f"optional({_type_name(kind.optional_type.elem_type)})"
    return f"tensor({onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()})"


def _is_stub(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def convert(proto: onnx.ModelProto) -> Graph:
    """The graph that a skeleton describes; the same on every rank that has the same skeleton."""
    graph = proto.graph
    values = {value.name: value for value in _values(graph)}
    states, growth, own = declared(proto)
    made = {*(state.input for state in states), *((growth.mask, growth.places) if growth else ())}
    return Graph(
        name=graph.name,
        nodes=tuple(_node(node) for node in graph.node),
        values=values,
        inputs=tuple(value.name for value in graph.input if value.name not in made),
        outputs=tuple(value.name for value in graph.output if value.name not in own.values()),
        opset=opset_of(proto),
        states=states,
        growth=growth,
    )


def _values(graph: onnx.GraphProto) -> Iterator[Value]:
    for tensor in graph.initializer:
        yield Value(tensor.name, tuple(tensor.dims), dtype_name(tensor.data_type), True, _elements(tensor))
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield _computed(value)


def _computed(value: onnx.ValueInfoProto) -> Value:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return Value(value.name, None, _KINDS.get(str(kind), "undefined"))
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    is_static = tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in dims)
    shape = tuple(dim.dim_value for dim in dims) if is_static else None
    return Value(value.name, shape, dtype_name(tensor.elem_type))


def _elements(tensor: onnx.TensorProto) -> tuple[Any, ...] | None:
    """The elements of a small constant as Python numbers."""
    dtype = dtype_name(tensor.data_type)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or dtype not in ITEM_BYTES:
        return None
    array = numpy_helper.to_array(tensor)
    return tuple(array.reshape(-1).tolist()) if array.size <= CARRIED_ELEMENTS else None


def _node(node: onnx.NodeProto) -> Node:
    attributes = [(item.name, _attribute(item)) for item in node.attribute]
    return Node(
        name=node.name,
        op=node.op_type,
        inputs=_without_trailing_gaps(node.input),
        outputs=_without_trailing_gaps(node.output),
        domain=node.domain,
        attributes=tuple((name, value) for name, value in attributes if value is not None),
        captures=tuple(captures(node)),
        has_opaque_attributes=any(value is None for _, value in attributes),
    )


def _attribute(attribute: onnx.AttributeProto) -> Attribute | None:
    """Numbers and strings, alone or in a tuple; None for tensors, graphs and types."""
    types = onnx.AttributeProto
    match attribute.type:
        case types.INT:
            return attribute.i
        case types.FLOAT:
            return attribute.f
        case types.STRING:
            return _text(attribute.s)
        case types.INTS:
            return tuple(attribute.ints)
        case types.FLOATS:
            return tuple(attribute.floats)
        case types.STRINGS:
            return tuple(_text(item) for item in attribute.strings)
    return None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _without_trailing_gaps(names: Iterable[str]) -> tuple[str, ...]:
    """Absent optional values at the end say nothing."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)
