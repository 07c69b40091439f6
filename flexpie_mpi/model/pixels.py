"""Models that take the pixels of pictures, one byte each, and make numbers of them: what is sent to all ranks is less.

The nodes do in float64 what :class:`..files.images.Normalisation` does, operation by operation, so that the numbers are
the same bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

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


def pixel_plan(model: Model, plan: Plan) -> Plan | None:
    """A plan of a model's file as one for the model: what takes pixels normalises them in the segment that reads them.

    None where the plan is for another file, or several segments read the numbers, which would travel between them.
    """
    if model.plain is None:
        return plan
    if plan.model != model.plain.graph.digest:
        return None
    nodes, known = model.graph.nodes, model.plain.graph.position
    ahead: dict[str, list[str]] = {}  # by node of the file, those that were put right before it
    waiting: list[str] = []
    for node in nodes:
        waiting.append(node.name)
        if node.name in known:
            ahead[node.name], waiting = waiting, []
    segments = tuple(
        replace(segment, nodes=tuple(chain.from_iterable(ahead.get(node, [node]) for node in segment.nodes)))
        for segment in plan.segments
    )
    place = {node: index for index, segment in enumerate(segments) for node in segment.nodes}
    made = {name: node.name for node in nodes if node.name not in known for name in node.writes}
    reads = ((made[name], node.name) for node in nodes for name in node.reads if name in made)
    if any(place.get(writer) != place.get(reader) for writer, reader in reads):
        return None
    return replace(plan, segments=segments, model=model.graph.digest)
