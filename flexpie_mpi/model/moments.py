"""Normalisations over space as :mod:`flexpie_mpi.ops.moments` has them: their moments, then the rest.

Instance normalisations, and group normalisations as PyTorch writes them, with each group as an instance::

    (N, C, H, W) -> Reshape (N, groups, -1) -> InstanceNormalization by 1 and 0 -> Reshape back -> Mul (C, 1, 1) -> Add

Small images stay as they are: nobody would cut them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx
from onnx import TensorProto, helper

from ..core.graph import BoundNode, Graph, Value
from ..ops.moments import DOMAIN, MOMENTS
from .canonicalise import canonicalise
from .model import convert
from .walks import fresh, replace, taken_names

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
        node.domain = DOMAIN
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
