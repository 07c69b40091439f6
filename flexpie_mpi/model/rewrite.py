"""Rewritings that keep what a model computes: functions inlined, tables shared, signs dropped, shapes written in.

Functions. onnx has an inliner, which loses the defaults of attributes that a call does not set. They are written into
the calls before. What a call inside another function sets may be an attribute of that one, which is known only where
that one is called: so functions are inlined from the outside in.

Tables. A network may say words by the table that it looks them up in, turned. Folded, the turned table would be a
second constant; a product that turns it as it reads needs no other.

Signs. Which integer kernel stands for a quantised operator, if any, depends on the types around it, and on most
processors onnxruntime drops signs by looking at the whole model. Done here, once, the types are the same in each of the
model's segments.

Shapes. onnxruntime would work out what a ``Shape`` node says itself, by its rules of inference, where it knows the
shapes of a session's inputs; the constants are what a run has shown. ``Size``, which onnxruntime leaves to the run,
stays: as a constant it may decide an ``If``, and what is then put in its place is held to stricter rules than a branch.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, inliner, numpy_helper

from ..core.graph import ONNX_DOMAINS
from .canonicalise import lift_constants
from .walks import fresh, is_onnx, nodes_inside, reads, replace, taken_names

Shape = tuple[int, ...]

_Id = tuple[str, str]
"""Domain and name; the overloads of a function are inlined together."""
FUSED = "com.microsoft"
"""The domain of onnxruntime's own operators."""
_ARM = ("arm", "aarch64")
"""Processors for which onnxruntime has kernels for signed values, and leaves them as they are."""
_ZERO_POINT = 2
_SHIFT = 128


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with calls of its own functions replaced by their bodies; `proto` is changed.

    A function that has the name of an operator of ONNX is never called: onnxruntime takes the operator.
    """
    if not proto.functions:
        return proto
    replace(proto.functions, [item for item in proto.functions if not _is_operator(item)])
    while proto.functions:
        called = {name for item in proto.functions for name in _calls(item.node) if name != _id(item)}
        outermost = {_id(item) for item in proto.functions} - called
        if not outermost:  # overloads that call each other
            proto = inliner.inline_local_functions(proto)
            break
        _write_defaults(proto)
        proto = inliner.inline_selected_functions(proto, sorted(outermost))
        replace(proto.functions, [item for item in proto.functions if _id(item) not in outermost])
    lift_constants(proto.graph)
    return proto


def drop_functions(proto: onnx.ModelProto) -> None:
    """Drop functions that nothing calls, as after onnxruntime has inlined them."""
    called = set(_calls(proto.graph.node))
    replace(proto.functions, [item for item in proto.functions if _id(item) in called])


def _id(function: onnx.FunctionProto) -> _Id:
    return function.domain, function.name


def _is_operator(function: onnx.FunctionProto) -> bool:
    return function.domain in ONNX_DOMAINS and bool(defs.has(function.name, ""))


def _calls(nodes: Iterable[onnx.NodeProto]) -> list[_Id]:
    return [(node.domain, node.op_type) for node in nodes_inside(nodes)]


def _write_defaults(proto: onnx.ModelProto) -> None:
    """Give every call in the graph the defaults of attributes that it does not set."""
    functions = {(*_id(item), item.overload): item for item in proto.functions}
    for node in nodes_inside(proto.graph.node):
        function = functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            given = {item.name for item in node.attribute}
            node.attribute.extend(item for item in function.attribute_proto if item.name not in given)


# Tables


def share_tables(proto: onnx.ModelProto) -> None:
    """Let a product that reads a table turned read the one that a Gather reads as well."""
    graph = proto.graph
    tables = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    tables &= {node.input[0] for node in graph.node if is_onnx(node, "Gather") and not _given(node).get("axis")}
    turned = {
        node.output[0]: node.input[0]
        for node in graph.node
        if is_onnx(node, "Transpose") and node.input[0] in tables and _given(node).get("perm", [1, 0]) == [1, 0]
    }
    products = [node for node in graph.node if is_onnx(node, "MatMul") and node.input[1] in turned]
    for node in products:
        node.op_type, node.domain, node.input[1] = "FusedMatMul", FUSED, turned[node.input[1]]
        node.attribute.add(name="transB", type=onnx.AttributeProto.INT, i=1)
    if products and all(item.domain != FUSED for item in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(FUSED, 1))


def _given(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


# Signs


def drop_signs(proto: onnx.ModelProto) -> None:
    """Make int8 values uint8 between a QuantizeLinear and its only reader, a DequantizeLinear: all are 128 more.

    Nothing changes where others read the values, where the zero point is not one constant, and on ARM.
    """
    if platform.machine().lower().startswith(_ARM):
        return
    graph, taken = proto.graph, taken_names(proto)
    pairs = _signed(graph)
    for writer, reader, zero in pairs:
        name = fresh(f"{writer.output[0]}::zero", taken)
        graph.initializer.append(helper.make_tensor(name, TensorProto.UINT8, (), [zero + _SHIFT]))
        writer.input[_ZERO_POINT] = reader.input[_ZERO_POINT] = name
    changed = {writer.output[0] for writer, _, _ in pairs}
    replace(graph.value_info, [value for value in graph.value_info if value.name not in changed])


def _signed(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, onnx.NodeProto, int]]:
    """Each QuantizeLinear to int8 with the only node behind, if a DequantizeLinear, and their zero point."""
    zeros = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT8}
    times_read = Counter(name for node in graph.node for name in reads(node))
    times_read.update(value.name for value in graph.output)
    writers = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    pairs = []
    for reader in graph.node:
        writer = writers.get(reader.input[0]) if reader.op_type == "DequantizeLinear" else None
        if writer is None or times_read[writer.output[0]] != 1:
            continue
        zero = _zero_point(writer, zeros)
        if zero is not None and zero == _zero_point(reader, zeros):
            pairs.append((writer, reader, zero))
    return pairs


def _zero_point(node: onnx.NodeProto, zeros: dict[str, TensorProto]) -> int | None:
    """The zero point of a node if it is one int8 constant, and alone says the type."""
    tensor = zeros.get(node.input[_ZERO_POINT]) if len(node.input) > _ZERO_POINT else None
    is_one = tensor is not None and tensor.data_location != TensorProto.EXTERNAL and list(tensor.dims) in ([], [1])
    if tensor is None or not is_one or any(item.name == "output_dtype" and item.i for item in node.attribute):
        return None
    return int(numpy_helper.to_array(tensor).item())


# Shapes


def write_sizes(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> bool:
    """Replace the nodes that ask for the shape of a value in `shapes`, outputs of the graph set aside; whether any was.

    What only such a node has read is left in the graph.
    """
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        array = _known(node, shapes) if outputs.isdisjoint(node.output) else None
        if array is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    if len(kept) == len(graph.node):
        return False
    replace(graph.node, kept)
    return True


def drop_empty(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> bool:
    """Leave out of what Concat nodes join what has no elements, as the past of a first prompt; whether there was any.

    A value without elements cannot be exchanged, so that all around it would stay on one rank.
    """
    dropped = False
    for node in graph.node:
        kept = [name for name in node.input if 0 not in shapes.get(name, ())] if node.op_type == "Concat" else []
        if kept and len(kept) < len(node.input):
            node.input[:] = kept
            dropped = True
    return dropped


def _known(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> np.ndarray | None:
    """What a node says of the shape of a value, if it asks for that and the shape is known."""
    shape = shapes.get(node.input[0]) if node.op_type == "Shape" and not node.domain else None
    if shape is None:
        return None
    given = _given(node)
    return np.array(shape[given.get("start", 0) : given.get("end", len(shape))], np.int64)
