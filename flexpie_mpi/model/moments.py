"""Normalisations over space as :mod:`flexpie_mpi.ops.moments` has them: their moments, then the rest.

Instance normalisations, and group normalisations as PyTorch writes them, with each group as an instance::

    (N, C, H, W) -> Reshape (N, groups, -1) -> InstanceNormalization by 1 and 0 -> Reshape back -> Mul (C, 1, 1) -> Add

ONNX's own GroupNormalization is written like that first: onnxruntime has no kernel for it, and makes two dozen nodes of
it. Small images stay as they are: nobody would cut them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from ..core.graph import BoundNode, Graph, Value
from ..ops.base import OWN
from ..ops.moments import MOMENTS
from .canonicalise import canonicalise
from .model import convert
from .walks import fresh, is_onnx, opset_of, replace, taken_names
from .written import InPlace

LEAST_PIXELS = 256
"""Pixels of an image from which on its moments are made apart."""
_LEAST_OPSET = 9
"""Before it there is no ConstantOfShape."""

_GROUPED = ("Reshape", "InstanceNormalization", "Reshape", "Mul", "Add")
"""What PyTorch writes for a group normalisation."""


@dataclass(frozen=True, slots=True)
class _Normalisation:
    """A normalisation in a graph."""

    nodes: tuple[BoundNode, ...]  # in order
    op: str
    parameters: tuple[str, ...]  # scale and shift

    @property
    def instance(self) -> BoundNode:
        """The node that normalises."""
        return self.nodes[1 if len(self.nodes) > 1 else 0]


def with_moments(proto: onnx.ModelProto) -> None:
    """Make every normalisation over space two nodes, in a model in canonical form with types; `proto` is changed."""
    if not any(node.op_type == "InstanceNormalization" for node in proto.graph.node):
        return
    graph = convert(proto)
    found = list(_found(graph)) if graph.opset >= _LEAST_OPSET else []
    if not found:
        return
    begins = {each.nodes[0].node.name: each for each in found}
    replaced = {node.node.name for each in found for node in each.nodes}
    taken, nodes = taken_names(proto), list[onnx.NodeProto]()
    for node in proto.graph.node:
        if node.name in begins:
            nodes += _pair(proto.graph, begins[node.name], taken)
        elif node.name not in replaced:
            nodes.append(node)
    replace(proto.graph.node, nodes)
    canonicalise(proto)
    written = {name for node in proto.graph.node for name in node.output}
    replace(proto.graph.value_info, [value for value in proto.graph.value_info if value.name in written])


def by_instances(proto: onnx.ModelProto) -> None:
    """Write group normalisations of float32 data with so many axes as PyTorch does; `proto`, not canonical, is changed.

    Before opset 21 they have parameters by group, which is known to be by channel where the number of channels is.
    """
    if not any(is_onnx(node, "GroupNormalization") for node in proto.graph.node):
        return
    shapes, taken, nodes = _float_shapes(proto), taken_names(proto), list[onnx.NodeProto]()
    opset = opset_of(proto)
    for node in proto.graph.node:
        shape = shapes.get(node.input[0], ()) if is_onnx(node, "GroupNormalization") else ()
        channels = shape[1] if len(shape) > 1 else 0
        if len(shape) > 2 and (opset >= 21 or channels):
            nodes += _instances(proto.graph, node, len(shape), 0 if opset >= 21 else channels, taken)
        else:
            nodes.append(node)
    replace(proto.graph.node, nodes)


def _float_shapes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Sizes of the axes of float32 values, 0 where they are not known, of those whose number of axes is."""
    try:
        graph = shape_inference.infer_shapes(proto).graph
    except Exception:  # inference raises several unrelated classes on models that onnxruntime takes
        return {}
    tensors = ((value.name, value.type.tensor_type) for value in (*graph.input, *graph.value_info, *graph.output))
    return {
        name: tuple(dim.dim_value for dim in tensor.shape.dim)
        for name, tensor in tensors
        if tensor.elem_type == TensorProto.FLOAT and tensor.HasField("shape")
    }


def _instances(
    graph: onnx.GraphProto, node: onnx.NodeProto, ndim: int, channels: int, taken: set[str]
) -> list[onnx.NodeProto]:
    """The nodes of a group normalisation; `channels` is 0 where it has parameters by channel."""
    place, (data, *parameters) = InPlace(graph, node, taken), node.input
    groups = next(item.i for item in node.attribute if item.name == "num_groups")
    grouped = place.add("Reshape", data, np.array([0, groups, -1]))
    result = place.add("InstanceNormalization", grouped, np.ones(groups, np.float32), np.zeros(groups, np.float32))
    place.nodes[-1].attribute.extend(item for item in node.attribute if item.name == "epsilon")
    result = place.add("Reshape", result, place.add("Shape", data))
    for op, each, output in zip(("Mul", "Add"), parameters, ("", node.output[0]), strict=True):
        name = each
        if channels:
            name = place.add("Reshape", name, np.array([groups, 1]))
            name = place.add("Expand", name, np.array([groups, channels // groups]))
        by_channel = place.add("Reshape", name, np.array([-1, *(1,) * (ndim - 2)]))
        result = place.add(op, result, by_channel, output=output)
    return place.nodes


def _pair(graph: onnx.GraphProto, each: _Normalisation, taken: set[str]) -> list[onnx.NodeProto]:
    """The two nodes of a normalisation."""
    first, last, groups = each.nodes[0], each.nodes[-1].node, each.instance.in_shape()[1]
    data, moments = first.node.inputs[0], fresh(f"{last.outputs[0]}/moments", taken)
    shape = (first.in_shape()[0], groups, 1, 2)
    graph.value_info.append(helper.make_tensor_value_info(moments, TensorProto.DOUBLE, shape))
    epsilon = each.instance.attribute("epsilon", 1e-5)
    pair = [
        helper.make_node(MOMENTS, [data], [moments], fresh(f"{last.name}/moments", taken)),
        helper.make_node(each.op, [data, moments, *each.parameters], last.outputs, last.name, epsilon=epsilon),
    ]
    for node in pair:
        node.domain = OWN
        node.attribute.append(helper.make_attribute("num_groups", groups))
    return pair


def _found(graph: Graph) -> Iterator[_Normalisation]:
    """Normalisations of large images."""
    readers: dict[str, list[int]] = {name: [len(graph.nodes)] for name in graph.outputs}
    for index, each in enumerate(graph.nodes):
        for name in each.reads:
            readers.setdefault(name, []).append(index)
    grouped = set[str]()
    for node in graph.bound:
        if not node.inputs or not _is_large(node.inputs[0]) or node.node.name in grouped:
            continue
        run = _run(graph, node, readers)
        parameters = _grouped_by(run)
        if parameters is not None:
            grouped.update(part.node.name for part in run)
            yield _Normalisation(run, "GroupNormalization", parameters)
        elif node.operator == "InstanceNormalization":
            yield _Normalisation((node,), node.op, node.node.inputs[1:])


def _is_large(value: Value | None) -> bool:
    return value is not None and value.dtype == "float32" and prod((value.shape or ())[2:]) >= LEAST_PIXELS


def _run(graph: Graph, node: BoundNode, readers: Mapping[str, Sequence[int]]) -> tuple[BoundNode, ...]:
    """A node and those behind it that alone read what the one before writes, as long as they are a group's."""
    run = [node]
    while len(run) < len(_GROUPED) and run[-1].operator == _GROUPED[len(run) - 1]:
        behind = readers.get(run[-1].node.outputs[0], ())
        if len(behind) != 1 or behind[0] == len(graph.nodes):
            break
        run.append(graph.bound[behind[0]])
    return tuple(run)


def _grouped_by(run: Sequence[BoundNode]) -> tuple[str, ...] | None:
    """Scale and shift of every channel where nodes are a group normalisation, else None."""
    values = [value for node in run for value in (*node.inputs, *node.outputs)]
    if tuple(node.operator for node in run) != _GROUPED or any(value is None or value.is_opaque for value in values):
        return None
    data, (batch, groups, *flat), back = run[0].in_shape(), run[1].in_shape(), run[2].out_shape()
    plain = run[1].constant(1), run[1].constant(2)
    is_group = back == data and batch == data[0] and len(flat) == 1 and data[1] % groups == 0
    by_channel = (data[1], *(1,) * (len(data) - 2))
    constants = [value for node in run[3:] for value in node.inputs if value is not None and value.is_constant]
    if not is_group or plain != ((1.0,) * groups, (0.0,) * groups) or [v.shape for v in constants] != [by_channel] * 2:
        return None
    return tuple(value.name for value in constants)
