"""ONNX models of segments: a rank's nodes in their local form, with crops and this rank's slices of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..core.graph import BoundNode, Value
from ..core.program import NodeBlock
from ..core.region import Region
from ..lower.facts import slice_bytes
from ..lower.shards import Held
from ..ops import Const, LocalNode, crop, rule_for, whole
from ..ops.base import OWN
from .model import Model
from .walks import PRODUCTS, fresh

FEW_ROWS = 4
"""Up to this many rows, a matrix product takes as long as reading its weights once."""
_PRODUCTS = (*PRODUCTS, "FusedMatMul")
_NEED_PACKING = ("MatMulNBits", "DequantizeLinear")
"""Operators that sum in another type when their weights are not packed, as does what onnxruntime makes of them."""

Slice = tuple[str, Region | None]
"""A region of a constant; None for a constant without one."""


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """Slices of constants as files of raw bytes in one folder, which onnxruntime maps into memory."""

    folder: Path
    names: Mapping[Slice, str]


@dataclass(frozen=True, slots=True)
class SegmentModel:
    """An ONNX model of one segment on one rank."""

    # Initializers that are small carry their data; those that `weights` names are declared without
    proto: onnx.ModelProto
    # Dict of str to (constant, region). The slice of a constant that each of the other initializers is.
    weights: dict[str, Slice]
    # Whether most of the weights are those of matrix products with few rows, which are bound by reading them
    reads_weights_once: bool
    # Channels to a block of the inputs and outputs that are blocked; the model itself is row-major
    blocked: Mapping[str, int] = field(default_factory=dict)

    def serialise(self, files: Mapping[str, Mapping[str, str]]) -> bytes:
        """The model's bytes; `files` says of every initializer in `weights`, in entries, where its data are."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            if tensor.name in self.weights:
                tensor.data_location = onnx.TensorProto.EXTERNAL
                for key, value in files[tensor.name].items():
                    tensor.external_data.add(key=key, value=value)
        return proto.SerializeToString()

    @property
    def ends(self) -> tuple[list[str], list[str]]:
        """Names of the inputs and of the outputs."""
        inputs = (value.name for value in self.proto.graph.input)
        return [name for name in inputs if name not in self.weights], [value.name for value in self.proto.graph.output]


def build(
    model: Model,
    name: str,
    blocks: Sequence[NodeBlock],
    inputs: Held,
    outputs: Held,
    blocked: Mapping[str, int] = MappingProxyType({}),
) -> SegmentModel:
    """The model that computes `outputs` from `inputs` by running `blocks`, in topological order.

    Of the model the skeleton is enough: weights are named, not read. `inputs` are the values and regions that are held
    before, `outputs` those wanted after; values keep their names. `blocked` says which of them are blocked.
    """
    builder = _Builder(model, dict(inputs))
    for block in blocks:
        builder.add(block)
    for value, region in outputs:
        builder.finish(value, region)
    graph = helper.make_graph(
        builder.nodes,
        name,
        [*(builder.describe(value, region) for value, region in inputs), *builder.tables()],
        [builder.describe(value, region) for value, region in outputs],
        initializer=builder.initializers,
    )
    proto = helper.make_model(graph, opset_imports=model.proto.opset_import, ir_version=model.proto.ir_version)
    return SegmentModel(proto, builder.weights, _reads_weights_once(model, blocks, builder.weights), blocked)


class _Builder:
    """Collects nodes and initializers; remembers which region each named tensor holds."""

    def __init__(self, model: Model, held: dict[str, Region | None]) -> None:
        self.model = model
        self.held = held
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.weights: dict[str, Slice] = {}
        self._weights: dict[Slice, str] = {}
        self._crops: dict[tuple[str, Region], str] = {}
        self._inner: dict[tuple[str, str], str] = {}
        self._constants: dict[bytes, str] = {}
        self._made: set[str] = set()

    def add(self, block: NodeBlock) -> None:
        """Append a block in its local form, or the node as it is when this rank computes all of it."""
        bound = self.model.graph.bound[self.model.graph.position[block.node]]
        inputs = [self._input(value, region) for value, region in zip(bound.inputs, block.inputs, strict=True)]
        for capture in bound.node.captures:
            self._input(self.model.graph.value(capture), whole(self.model.graph.value(capture)))
        for output, region in zip(bound.node.outputs, block.outputs, strict=True):
            self.held[output] = region
        if _is_whole(bound, block):
            self.nodes.append(self.model.node_proto(block.node))
            return
        rule = rule_for(bound)
        form = rule.part(bound, block.inputs) if block.is_part else rule.local(bound, block.outputs, block.inputs)
        for number, local in enumerate(form):
            self.nodes.append(self._local(bound, local, inputs, number))

    def finish(self, value: str, region: Region | None) -> None:
        """Check that a wanted output holds what is wanted of it."""
        if self.held.get(value) != region:
            raise ValueError(f"output '{value}' holds {self.held.get(value)}, not {region}")

    def tables(self) -> Iterator[onnx.ValueInfoProto]:
        """Weights of products from which slabs are gathered as well, as inputs that nobody gives.

        Those onnxruntime does not lay out anew, so that one copy serves both.
        """
        gathered = {node.input[0] for node in self.nodes if node.op_type == "Gather"}
        factors = {node.input[1] for node in self.nodes if node.op_type in _PRODUCTS}
        for tensor in self.initializers:
            if tensor.name in self.weights and tensor.name in gathered & factors:
                yield helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)

    def describe(self, name: str, region: Region | None) -> onnx.ValueInfoProto:
        """Type and local shape of an input or output."""
        if region is None:
            return helper.make_value_info(name, self.model.type_proto(name))
        return helper.make_tensor_value_info(name, self.model.element_type(name), region.shape)

    def _input(self, value: Value | None, region: Region | None) -> str:
        """Name of a tensor that holds exactly `region` of a value; "" where nothing is read."""
        if value is None or (region is None and not value.is_opaque):
            return ""
        if value.is_constant:
            return self._weight(value, region)
        held = self.held[value.name]
        if region is None or held is None or held == region:
            return value.name
        return self._crop(value.name, held, region)

    def _weight(self, value: Value, region: Region | None) -> str:
        full = region is None or region.is_full(value.shape or ())
        part = (value.name, None if full else region)
        if part in self._weights:
            return self._weights[part]
        name = self._weights[part] = value.name if full else self._fresh(f"{value.name}{region}")
        if self.model.is_stored(value.name):
            self.weights[name] = (value.name, region)
            shape = value.shape if region is None else region.shape
            tensor = onnx.TensorProto(name=name, data_type=self.model.element_type(value.name), dims=shape)
        elif full:
            tensor = self.model.tensor_proto(value.name)
        else:
            array = self.model.array(value.name)
            cut = array[region.slices(Region.full(array.shape))] if region is not None else array
            tensor = numpy_helper.from_array(np.ascontiguousarray(cut), name)
        self.initializers.append(tensor)
        return name

    def _crop(self, name: str, held: Region, region: Region) -> str:
        target = self._crops.get((name, region))
        if target is None:
            target = self._crops[name, region] = self._fresh(f"{name}{region}")
            node = crop(self.model.graph.opset, name, target, held, region)
            inputs = [self._const(item) if isinstance(item, Const) else name for item in node.inputs]
            self.nodes.append(self._make(node, inputs, [target], target))
        return target

    def _local(self, bound: BoundNode, local: LocalNode, inputs: list[str], number: int) -> onnx.NodeProto:
        """One node of a local form, its references resolved to names."""

        def resolve(item: int | str | Const, names: Sequence[str]) -> str:
            if isinstance(item, Const):
                return self._const(item)
            if isinstance(item, int):
                return names[item]
            return self._inner_name(bound.node.name, item) if item else ""

        return self._make(
            local,
            [resolve(item, inputs) for item in local.inputs],
            [resolve(item, bound.node.outputs) for item in local.outputs],
            bound.node.name if number == 0 else self._fresh(f"{bound.node.name}::{number}"),
            self.model.node_proto(bound.node.name) if local.inherit else None,
        )

    def _make(
        self, local: LocalNode, inputs: list[str], outputs: list[str], name: str, base: onnx.NodeProto | None = None
    ) -> onnx.NodeProto:
        node = helper.make_node(local.op, inputs, outputs, name=name, domain=local.domain)
        attributes = (helper.make_attribute(key, value) for key, value in local.attributes if value is not None)
        node.attribute.extend(attributes)
        replaced = {key for key, _ in local.attributes}
        node.attribute.extend(item for item in (base.attribute if base else ()) if item.name not in replaced)
        return node

    def _const(self, const: Const) -> str:
        shape = (len(const.data),) if const.shape is None else const.shape
        tensor = numpy_helper.from_array(np.array(const.data, dtype=const.dtype).reshape(shape))
        content = tensor.SerializeToString()  # 0 and -0 are equal, and not the same
        if content not in self._constants:
            self._constants[content] = tensor.name = self._fresh(f"const::{len(self._constants)}")
            self.initializers.append(tensor)
        return self._constants[content]

    def _inner_name(self, node: str, item: str) -> str:
        """Name of a value within the local form of a node."""
        if (node, item) not in self._inner:
            self._inner[node, item] = self._fresh(f"{node}::{item}")
        return self._inner[node, item]

    def _fresh(self, wanted: str) -> str:
        """A name that neither the model nor this segment has."""
        return fresh(wanted, self._made, self.model.names)


def _reads_weights_once(model: Model, blocks: Sequence[NodeBlock], weights: Mapping[str, Slice]) -> bool:
    """Whether matrix products of at most `FEW_ROWS` rows hold more than half of the weights."""
    total = slice_bytes(model.graph, weights.values())
    few = 0
    for block in blocks:
        node = model.graph.bound[model.graph.position[block.node]]
        out = block.outputs[0]
        if node.op in _NEED_PACKING:
            return False
        if node.op in _PRODUCTS and out is not None and out.size <= FEW_ROWS * max(out.shape[-1:], default=1):
            parts = zip(node.inputs, block.inputs, strict=True)
            few += slice_bytes(
                model.graph, ((v.name, region) for v, region in parts if v is not None and v.is_constant)
            )
    return few * 2 > total


def _is_whole(bound: BoundNode, block: NodeBlock) -> bool:
    """Whether a block reads every input whole and leaves none of its regions cut, so that the node runs as it is.

    Nodes of this package's own never do: onnxruntime does not know them.
    """
    if bound.node.domain == OWN:
        return False
    reads = all(_covers(value, region) for value, region in zip(bound.inputs, block.inputs, strict=True))
    writes = zip(bound.outputs, block.outputs, strict=True)
    return reads and all(region is None or _covers(value, region) for value, region in writes)


def _covers(value: Value | None, region: Region | None) -> bool:
    if value is None or value.is_opaque:
        return True
    return region is not None and region.is_full(value.shape or ())
