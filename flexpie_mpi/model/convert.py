"""A prepared ModelProto as a Graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from onnx import numpy_helper

from ..core.graph import ITEM_BYTES, Attribute, Graph, Node, Value
from .tidy import captures
from .weights import dtype_name

CARRIED_ELEMENTS = 64
"""Constants of up to this many elements are part of the graph: shapes, axes, pads, scales."""

_KINDS = {"sequence_type": "sequence", "optional_type": "optional", "map_type": "map", "sparse_tensor_type": "sparse"}


def convert(proto: onnx.ModelProto) -> Graph:
    """The graph that a skeleton describes; the same on every rank that has the same skeleton."""
    graph = proto.graph
    values = {value.name: value for value in _values(graph)}
    return Graph(
        name=graph.name,
        nodes=tuple(_node(node) for node in graph.node),
        values=values,
        inputs=tuple(value.name for value in graph.input),
        outputs=tuple(value.name for value in graph.output),
        opset=next(item.version for item in proto.opset_import if item.domain == ""),
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
