"""Segments whose inputs and outputs stay in onnxruntime's blocked layout, NCHWc.

onnxruntime turns convolutional parts of a model into kernels on blocks of channels, and puts a ReorderInput where they
begin and a ReorderOutput where they end. To have neither at the border of a segment, the segment is optimised with a
*marker* at every blocked input and output: a 1 x 1 convolution that changes nothing, which onnxruntime takes into the
blocked part. From the model that it then writes, with the weights laid out anew, the markers and their reorders are
taken off; what is left is loaded as it is. Where onnxruntime did something else with a marker, the segment runs between
reorders of its own instead: slower, and as right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..core.blocks import nominal_shape
from ..core.region import Region
from ..lower.forms import fits
from .blocked_crops import UNMARKED, Crop, in_blocks

DOMAIN = "com.microsoft.nchwc"
_IN, _OUT = "flexpie::in::", "flexpie::out::"
"""How names begin of what goes into the marker of an input, and of what comes out of that of an output."""


class UnmarkableError(Exception):
    """onnxruntime has not taken, or would not take, a marker into a blocked part."""


def probe() -> bytes:
    """A model that lays an input [1, 4, 1, 1] out in blocks: its output has as many channels as a block."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 1, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("ReorderInput", ["x"], ["y"], domain=DOMAIN)], "probe", [x], [y])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def marked(model: bytes, blocked: Mapping[str, int], crops: Iterable[tuple[int, Crop]] = ()) -> bytes:
    """A model with markers at the inputs and outputs in `blocked`, which has their channels to a block, and at crops.

    Behind its marker an input or a crop is an output as well: what has two readers is fused with neither.

    Raises UnmarkableError where onnxruntime would not read in blocks.
    """
    copy = onnx.ModelProto.FromString(model)
    graph = copy.graph
    outputs = [value for value in graph.output if value.name in blocked]
    for place, crop in sorted(crops, key=itemgetter(0), reverse=True):
        _mark_crop(graph, place, crop, max(blocked.values()))
    for value in [value for value in graph.input if value.name in blocked]:
        name = value.name
        graph.output.add().CopyFrom(value)
        value.name = _IN + name
        graph.node.insert(0, _marker(graph, value, (value.name, name), blocked[name]))
    for value in outputs:
        name = value.name
        value.name = _OUT + name
        graph.node.append(_marker(graph, value, (name, value.name), blocked[name]))
    return copy.SerializeToString()


def _mark_crop(graph: onnx.GraphProto, place: int, crop: Crop, block: int) -> None:
    made = helper.make_tensor_value_info(crop.name, TensorProto.FLOAT, crop.made)
    if all(value.name != crop.name for value in graph.output):
        graph.output.append(made)
    graph.node[place].output[0] = UNMARKED + crop.name
    graph.node.insert(place + 1, _marker(graph, made, (UNMARKED + crop.name, crop.name), block))


def _marker(graph: onnx.GraphProto, value: onnx.ValueInfoProto, ends: tuple[str, str], block: int) -> onnx.NodeProto:
    """A convolution that changes nothing, of as few weights as it can have; `ends` are its source and its target."""
    channels = value.type.tensor_type.shape.dim[1].dim_value
    if not fits(0, channels, block):
        raise UnmarkableError
    group = 1 if channels % block else channels
    name = f"flexpie::same::{channels}"
    if all(tensor.name != name for tensor in graph.initializer):
        weight = np.eye(channels, dtype=np.float32) if group == 1 else np.ones((channels, 1), np.float32)
        graph.initializer.append(numpy_helper.from_array(weight[:, :, None, None], name))
    return helper.make_node("Conv", [ends[0], name], [ends[1]], name=f"{ends[1]}::marker", group=group)


def unmarked(
    optimised: Path, model: bytes, blocked: Mapping[str, int], crops: Iterable[tuple[int, Crop]] = ()
) -> bytes:
    """The model of a file, which onnxruntime made of a marked `model`, without the markers.

    Its inputs and outputs are those of `model` in their order; names of blocked ones are others.

    Raises UnmarkableError when a marker has not become what it was to.
    """
    made, graph = onnx.load(optimised, load_external_data=False), onnx.ModelProto.FromString(model).graph
    nodes = _Nodes(made.graph.node)
    for _, crop in crops:
        made.graph.initializer.extend(nodes.unmark_crop(crop, max(blocked.values())))
    inputs = [
        _end(value, nodes.unmark_input(value.name), blocked[value.name]) if value.name in blocked else value
        for value in graph.input
    ]
    names = {value.name for value in inputs}
    outputs = [
        _end(value, nodes.unmark_output(value.name, names), blocked[value.name]) if value.name in blocked else value
        for value in graph.output
    ]
    nodes.prune({value.name for value in outputs})
    return _with_ends(made, graph.name, nodes.nodes, inputs, outputs)


class _Nodes:
    """The nodes of an optimised model, from which markers are taken."""

    def __init__(self, nodes: Iterable[onnx.NodeProto]) -> None:
        self.nodes = list(nodes)

    def unmark_input(self, name: str) -> str:
        """Take off what lays an input out in blocks, and its marker; the name of what the marker made."""
        entry = _only(self._readers(_IN + name), "ReorderInput")
        marker = _only(self._readers(entry.output[0]), "Conv")
        back = _only(self._writers(name), "ReorderOutput")
        if back.input[0] != marker.output[0]:
            raise UnmarkableError
        self._drop(entry, marker, *([] if self._readers(name) else [back]))
        return str(marker.output[0])

    def unmark_output(self, name: str, taken: set[str]) -> str:
        """Take off an output's marker, and what lays its result out in rows; the name of what the marker read.

        `taken` are names that no output can have; the name is added to them.
        """
        back = _only(self._writers(_OUT + name), "ReorderOutput")
        marker = _only(self._writers(back.input[0]), "Conv")
        self._drop(marker, back)
        blocked = str(marker.input[0])
        if blocked in taken:
            self.nodes.append(helper.make_node("Identity", [blocked], [_OUT + name]))
            blocked = _OUT + name
        taken.add(blocked)
        return blocked

    def unmark_crop(self, crop: Crop, block: int) -> list[onnx.TensorProto]:
        """Take off the marker behind a crop, which is made in blocks if it reads such; constants that it needs."""
        marker = _only(self._writers(_only(self._writers(crop.name), "ReorderOutput").input[0]), "Conv")
        entry = _only(self._writers(marker.input[0]), "ReorderInput")
        back, (cut,) = self._writers(crop.name)[0], self._writers(entry.input[0])
        if cut.op_type != "Slice" or len(self._readers(entry.output[0])) > 1:
            raise UnmarkableError
        source, target = self._writers(cut.input[0]), marker.output[0]
        if not source or (source[0].op_type, source[0].domain) != ("ReorderOutput", DOMAIN):
            entry.output[0] = target
            self._drop(marker)
            return []
        nodes, constants = in_blocks(crop, cut, (source[0].input[0], target), block)
        place = next(n for n, node in enumerate(self.nodes) if node is marker)
        self.nodes[place:place] = nodes
        self._drop(marker, entry, cut, *([] if self._readers(crop.name) else [back]))
        return constants

    def prune(self, outputs: set[str]) -> None:
        """Take off what lays out in rows what nobody reads so."""
        self._drop(
            *(
                node
                for node in self.nodes
                if node.op_type == "ReorderOutput"
                and node.output[0] not in outputs
                and not self._readers(node.output[0])
            )
        )

    def _readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if name in node.input]

    def _writers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if name in node.output]

    def _drop(self, *nodes: onnx.NodeProto) -> None:
        self.nodes = [node for node in self.nodes if all(node is not other for other in nodes)]


def _only(nodes: Sequence[onnx.NodeProto], op: str) -> onnx.NodeProto:
    """The one node, which must be of this operator of the blocked layout, with nothing fused into it."""
    if len(nodes) != 1 or (nodes[0].op_type, nodes[0].domain) != (op, DOMAIN):
        raise UnmarkableError
    if len(nodes[0].input) != (2 if op == "Conv" else 1) or any(a.name == "activation" for a in nodes[0].attribute):
        raise UnmarkableError
    return nodes[0]


def between_reorders(model: bytes, blocked: Mapping[str, int]) -> bytes:
    """The model as it is behind a reorder of every input in `blocked`, and before one of every output.

    Its inputs and outputs are those of `model` in their order; names of blocked ones are others.
    """
    proto = onnx.ModelProto.FromString(model)
    inputs, outputs, nodes = list(proto.graph.input), list(proto.graph.output), list(proto.graph.node)
    for number, value in enumerate(inputs):
        if value.name in blocked:
            channels = value.type.tensor_type.shape.dim[1].dim_value
            inputs[number] = _end(value, _IN + value.name, blocked[value.name])
            ends = [_IN + value.name], [value.name]
            nodes.insert(0, helper.make_node("ReorderOutput", *ends, domain=DOMAIN, channels=channels))
    for number, value in enumerate(outputs):
        if value.name in blocked:
            outputs[number] = _end(value, _OUT + value.name, blocked[value.name])
            nodes.append(helper.make_node("ReorderInput", [value.name], [_OUT + value.name], domain=DOMAIN))
    return _with_ends(proto, proto.graph.name, nodes, inputs, outputs)


def _end(value: onnx.ValueInfoProto, name: str, block: int) -> onnx.ValueInfoProto:
    """An input or output of another name whose channels are padded to whole blocks."""
    shape = nominal_shape(Region.full([dim.dim_value for dim in value.type.tensor_type.shape.dim]), block)
    return helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, shape)


def _with_ends(
    model: onnx.ModelProto,
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> bytes:
    """A model of these nodes, with those constants of another one that they read, and its operator sets."""
    read = {item for node in nodes for item in node.input} | {value.name for value in outputs}
    has_subgraphs = any(attribute.HasField("g") or attribute.graphs for node in nodes for attribute in node.attribute)
    kept = [tensor for tensor in model.graph.initializer if has_subgraphs or tensor.name in read]
    opsets = {item.domain: item.version for item in model.opset_import} | {DOMAIN: 1}
    return helper.make_model(
        helper.make_graph(nodes, name, inputs, outputs, initializer=kept),
        opset_imports=[helper.make_opsetid(*item) for item in opsets.items()],
        ir_version=model.ir_version,
    ).SerializeToString()
