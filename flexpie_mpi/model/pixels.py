"""Models that take the pixels of pictures, one byte each, and make numbers of them: what is sent to all ranks is less.

The nodes do in float64 what :class:`..files.images.Normalisation` does, operation by operation, so that the numbers are
the same bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..core.plan import Plan
from ..files.images import Normalisation
from .model import Model
from .walks import fresh, reads, rename_reads
from .walks import replace as put


def with_pixels(model: Model, pixels: Mapping[str, Normalisation]) -> Model:
    """The model with inputs that are pixels, uint8, each normalised just before it is first read.

    Parameters
    ----------
    model : Model
        With its weights, as the rank has it that loaded it. It is not changed.
    pixels : mapping of str to Normalisation
        By float32 input. Where one of these is not read, or is an output as well, the result is `model` itself.
    """
    graph = model.graph
    read = {name for node in graph.nodes for name in node.reads} - {*graph.outputs}
    if not pixels or not read.issuperset(pixels):
        return model
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    taken = set(model.names)
    for name, normalisation in pixels.items():
        _normalise(proto.graph, name, normalisation, taken)
    made = Model.from_proto(proto, model.store, model.source)
    return replace(made, plain=model, pixels=dict(pixels))


def _normalise(graph: onnx.GraphProto, name: str, normalisation: Normalisation, taken: set[str]) -> None:
    """Put the nodes that normalise one input before the first that reads it."""
    first = next(place for place, node in enumerate(graph.node) if name in reads(node))
    tensor = next(value for value in graph.input if value.name == name).type.tensor_type
    tensor.elem_type = TensorProto.UINT8
    shape = [dim.dim_value for dim in tensor.shape.dim]
    nodes, source = [], name
    for op, operand, kind in _steps(normalisation):
        target = fresh(f"{name}::{op}", taken)
        node = helper.make_node(op, [source], [target], name=target)
        if operand is None:
            node.attribute.append(helper.make_attribute("to", kind))
        else:
            node.input.append(fresh(f"{target}::by", taken))
            graph.initializer.append(numpy_helper.from_array(operand, node.input[1]))
        graph.value_info.append(helper.make_tensor_value_info(target, kind, shape))
        nodes.append(node)
        source = target
    rename_reads(graph, name, source)
    put(graph.node, [*graph.node[:first], *nodes, *graph.node[first:]])


def _steps(normalisation: Normalisation) -> list[tuple[str, np.ndarray | None, int]]:
    """(operator, second operand, type of the result) of each node; a mean of 0 needs none."""
    centre = [("Sub", normalisation.mean, TensorProto.DOUBLE)] if normalisation.mean.any() else []
    scale = ("Mul", normalisation.scale, TensorProto.DOUBLE)
    return [("Cast", None, TensorProto.DOUBLE), *centre, scale, ("Cast", None, TensorProto.FLOAT)]


def file_plan(model: Model, plan: Plan) -> Plan:
    """A plan of a model as one for its file, which every run of that can use, whatever its inputs come from."""
    if model.plain is None:
        return plan
    nodes, values = model.plain.graph.position, {*model.plain.graph.inputs, *model.plain.graph.producer}
    segments = (
        replace(
            segment,
            nodes=tuple(node for node in segment.nodes if node in nodes),
            forwards=tuple(name for name in segment.forwards if name in values),
        )
        for segment in plan.segments
    )
    return replace(plan, segments=tuple(each for each in segments if each.nodes), model=model.plain.graph.digest)
