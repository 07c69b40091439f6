"""The one form of every model: constants are initializers, nodes are sorted, alive and uniquely named.

All functions change the message they are given.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..core.budget import Budget
from ..core.errors import ModelError
from ..core.graph import ONNX_DOMAINS
from .walks import fresh, is_onnx, nodes_inside, opset_of, reads, rename_reads, replace, taken_names
from .weights import check_shape, elements

_CONSTANTS = {
    "value": ("t", onnx.AttributeProto.TENSOR),
    "sparse_value": ("sparse_tensor", onnx.AttributeProto.SPARSE_TENSOR),
    "value_string": ("s", onnx.AttributeProto.STRING),
    "value_strings": ("strings", onnx.AttributeProto.STRINGS),
    "value_float": ("f", onnx.AttributeProto.FLOAT),
    "value_floats": ("floats", onnx.AttributeProto.FLOATS),
    "value_int": ("i", onnx.AttributeProto.INT),
    "value_ints": ("ints", onnx.AttributeProto.INTS),
}
"""The attributes of Constant: the field that holds the value, and the type."""


def lift_constants(graph: onnx.GraphProto, budget: Budget | None = None) -> None:
    """Turn Constant nodes and sparse initializers into initializers.

    Of those that share a name the last counts, as in onnxruntime.

    Raises ModelError when a Constant node is none by ONNX's rules, a sparse tensor is damaged, or one would take
    more memory with its zeros than the budget has (that of this machine when none is given).
    """
    budget = budget or Budget.of_machine()
    for sparse in graph.sparse_initializer:
        graph.initializer.append(_dense(sparse, sparse.values.name, budget))
    graph.ClearField("sparse_initializer")
    others = []
    for node in graph.node:
        if is_onnx(node, "Constant"):
            graph.initializer.append(_constant(node, budget))
        else:
            others.append(node)
    if len(others) < len(graph.node):
        replace(graph.node, others)
    last = {tensor.name: index for index, tensor in enumerate(graph.initializer)}
    _drop(graph.initializer, lambda index, tensor: last[tensor.name] != index)


def _constant(node: onnx.NodeProto, budget: Budget) -> onnx.TensorProto:
    attribute = node.attribute[0] if len(node.attribute) == 1 else onnx.AttributeProto()
    field, kind = _CONSTANTS.get(attribute.name, ("", None))
    is_typed = bool(field) and attribute.type in (kind, onnx.AttributeProto.UNDEFINED)  # old files have no types
    if not is_typed or len(node.output) != 1 or not node.output[0]:
        wrote = f"'{node.output[0]}'" if node.output else "nothing"
        raise ModelError(
            f"A Constant node that writes {wrote} is none: it must have one output, and one attribute of "
            f"{', '.join(_CONSTANTS)}, of its type."
        )
    name, value = node.output[0], getattr(attribute, field)
    if field == "t":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = name
        return tensor
    if field == "sparse_tensor":
        return _dense(value, name, budget)
    if kind in (onnx.AttributeProto.STRING, onnx.AttributeProto.STRINGS):
        strings = [value] if field == "s" else list(value)
        shape = () if field == "s" else (len(strings),)
        return onnx.TensorProto(name=name, data_type=onnx.TensorProto.STRING, dims=shape, string_data=strings)
    return numpy_helper.from_array(np.array(value, np.float32 if field in ("f", "floats") else np.int64), name)


def _dense(sparse: onnx.SparseTensorProto, name: str, budget: Budget) -> onnx.TensorProto:
    """A sparse tensor with its zeros; indices are flat, or one row of coordinates per element."""
    what, shape = f"Sparse tensor '{name}'", tuple(sparse.dims)
    values, indices = elements(sparse.values, what), elements(sparse.indices, f"The indices of sparse tensor '{name}'")
    check_shape(shape, what)
    budget.admit(prod(shape) * values.itemsize, what, ModelError)
    if values.dtype == object or indices.dtype != np.int64:
        raise ModelError(f"{what} must hold numbers, and its indices int64.")
    flat = indices.shape == values.shape
    if values.ndim != 1 or not (flat or (shape and indices.shape == (values.size, len(shape)))):
        raise ModelError(
            f"{what} of shape {list(shape)} has values of shape {list(values.shape)}, and indices of "
            f"{list(indices.shape)}."
        )
    limits = prod(shape) if flat else np.array(shape, np.int64)
    if np.any((indices < 0) | (indices >= limits)):
        raise ModelError(f"{what} of shape {list(shape)} has an index outside of it.")
    dense = np.zeros(shape, values.dtype)
    if flat:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return numpy_helper.from_array(dense, name)


def drop_constant_inputs(proto: onnx.ModelProto) -> None:
    """Initializers that are also listed as inputs, as IR versions before 4 demand, are only constants."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    replace(proto.graph.input, [value for value in proto.graph.input if value.name not in constants])
    proto.ir_version = max(proto.ir_version, 4)


def canonicalise(proto: onnx.ModelProto) -> None:
    """Bring an optimised (or original) model into the form that a Graph has."""
    graph = proto.graph
    lift_constants(graph)
    drop_constant_inputs(proto)
    _strip(proto)
    replace(graph.output, {value.name: value for value in graph.output}.values())  # one listed twice is one
    _write_outputs(proto)
    constants = {tensor.name for tensor in graph.initializer}
    replace(graph.node, _late_constants(_sorted(_alive(graph)), constants))
    _name_nodes(graph)
    read = {name for node in graph.node for name in reads(node)}
    _drop(graph.initializer, lambda _, tensor: tensor.name not in read)
    _prune_opsets(proto)


def _strip(proto: onnx.ModelProto) -> None:
    """Drop prose, which every rank would receive otherwise."""
    for field in ("doc_string", "metadata_props", "training_info"):
        proto.ClearField(field)  # type: ignore[arg-type]
    for field in ("doc_string", "metadata_props", "quantization_annotation"):
        proto.graph.ClearField(field)  # type: ignore[arg-type]
    for node in nodes_inside(proto.graph.node):
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        node.domain = "" if node.domain in ONNX_DOMAINS else node.domain


def _write_outputs(proto: onnx.ModelProto) -> None:
    """Give every output that is a constant a node that writes it; the constant itself is renamed.

    An output that is an input stays as it is.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    wanted = [output.name for output in graph.output if output.name in constants]
    taken = taken_names(proto) if wanted else set()
    for name in wanted:
        inner = fresh(f"{name}_constant", taken)
        rename_reads(graph, name, inner)
        constants[name].name = inner
        graph.node.add(op_type="Identity", input=[inner], output=[name])


def _writers(nodes: Sequence[onnx.NodeProto]) -> dict[str, int]:
    """Number of the node that writes each value."""
    return {name: number for number, node in enumerate(nodes) for name in node.output if name}


def _alive(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that an output depends on, in the order they are in."""
    writers = _writers(graph.node)
    alive, waiting = set[int](), [value.name for value in graph.output]
    while waiting:
        number = writers.get(waiting.pop())
        if number is not None and number not in alive:
            alive.add(number)
            waiting += reads(graph.node[number])
    return [graph.node[number] for number in sorted(alive)]


def _sorted(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes in topological order, as near to the order given as that allows; none of those in a circle."""
    writers = _writers(nodes)
    needs = {number: [writers[name] for name in reads(node) if name in writers] for number, node in enumerate(nodes)}
    sorter = TopologicalSorter(needs)
    with suppress(CycleError):
        sorter.prepare()
    order, ready = [], sorted(sorter.get_ready())
    while ready:
        number = heapq.heappop(ready)
        order.append(nodes[number])
        sorter.done(number)
        for reader in sorter.get_ready():
            heapq.heappush(ready, reader)
    return order


def _late_constants(nodes: list[onnx.NodeProto], constants: set[str]) -> list[onnx.NodeProto]:
    """Sorted nodes, with those that read constants only moved to just before the first node that reads them.

    Such nodes (a weight's Cast or DequantizeLinear) belong to their reader: nothing should be sent in between. So does
    any other DequantizeLinear: what is sent in front of it is a quarter of what is sent behind.
    """
    known = set(constants)
    moves = []
    for node in nodes:
        of_constants = all(name in known for name in reads(node))
        moves.append(of_constants or node.op_type == "DequantizeLinear")
        known |= set(node.output) if of_constants else set()
    position = list(range(len(nodes)))
    first_reader: dict[str, int] = {}
    for number in reversed(range(len(nodes))):
        if moves[number]:
            position[number] = min((first_reader.get(name, number) for name in nodes[number].output), default=number)
        for name in reads(nodes[number]):
            first_reader[name] = min(first_reader.get(name, position[number]), position[number])
    return [nodes[number] for number in sorted(range(len(nodes)), key=lambda number: (position[number], number))]


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Name nodes that have no name, or one used before, by operator and number."""
    taken, seen = {node.name for node in graph.node}, set[str]()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            name = base = f"{node.op_type.lower()}_{number}"
            count = 1
            while name in taken:
                name, count = f"{base}_{count}", count + 1
            node.name = name
            taken.add(name)
        seen.add(node.name)


def _drop(tensors: Any, is_dropped: Callable[[int, onnx.TensorProto], bool]) -> None:
    """Delete tensors of a repeated field; the others, which may be large, are not copied."""
    for index in reversed(range(len(tensors))):
        if is_dropped(index, tensors[index]):
            del tensors[index]


def _prune_opsets(proto: onnx.ModelProto) -> None:
    """Keep the operator sets that nodes are from, each once, and always the default one."""
    versions = {item.domain: item.version for item in proto.opset_import} | {"": opset_of(proto)}
    used = {node.domain for node in nodes_inside(proto.graph.node)} | {""}
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(name, versions[name]) for name in sorted(used) if name in versions)
