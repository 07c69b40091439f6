"""Crops inside segments whose values are in blocks.

Where a rank computes halo rows, a shortcut past them is cropped by a Slice, and onnxruntime knows none for blocks: it
lays the value out in rows, crops, lays the rest out in blocks again, and fuses the addition behind it with no
convolution. Rows and columns of blocks can be cropped as they are, in their shape in memory, (N, C / B, H, W, B). So a
crop gets a marker behind it, as inputs do (:mod:`.blocked`), which brings onnxruntime to read it in blocks; then the
marker is taken off and the Slice is put where the blocks are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..core.blocks import nominal_shape, shape_of
from ..core.region import Region

UNMARKED = "flexpie::crop::"
"""How names begin of what a crop makes, which goes into its marker."""

_PIXELS = {2, 3}
"""Axes that may be cropped: rows and columns."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A Slice of rows or columns of a value."""

    name: str  # of what it makes
    shape: tuple[int, ...]  # of what it reads, (N, C, H, W)
    made: tuple[int, ...]  # of what it makes

    def shapes(self, block: int) -> tuple[onnx.TensorProto, onnx.TensorProto]:
        """The shape that it reads in blocks, and that which convolutions take what it makes for, as constants."""
        lying, nominal = shape_of(Region.full(self.shape), block), nominal_shape(Region.full(self.made), block)
        return tuple(  # type: ignore[return-value]
            numpy_helper.from_array(np.array(shape, np.int64), f"flexpie::{what}::{self.name}")
            for what, shape in (("lying", lying), ("nominal", nominal))
        )


def crops_of(model: bytes, block: int) -> Iterator[tuple[int, Crop]]:
    """The crops of a segment's model that can be made in blocks, each with the place of its node."""
    graph = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(model)).graph
    types = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.input, *graph.output)}
    known = {tensor.name: tensor for tensor in graph.initializer}
    for place, node in enumerate(graph.node):
        read, made = (types.get(name) for name in (node.input[0] if node.input else "", node.output[0]))
        if node.op_type != "Slice" or len(node.input) != 4 or not read or not made:
            continue
        axes = known.get(node.input[3])
        shape, left = (tuple(dim.dim_value for dim in item.shape.dim) for item in (read, made))
        is_whole = axes is not None and {*numpy_helper.to_array(axes).tolist()} <= _PIXELS
        if is_whole and read.elem_type == TensorProto.FLOAT and len(shape) == 4 and shape[1] >= block and all(left):
            yield place, Crop(node.output[0], shape, left)


def in_blocks(crop: Crop, node: onnx.NodeProto, ends: tuple[str, str], block: int) -> tuple[list, list]:
    """Nodes that do in blocks what the Slice `node` does in rows, between the values `ends`, and their constants."""
    lying, nominal = crop.shapes(block)
    source, cut = f"{UNMARKED}{crop.name}::lying", f"{UNMARKED}{crop.name}::cut"
    nodes = [
        helper.make_node("Reshape", [ends[0], lying.name], [source]),
        helper.make_node("Slice", [source, *node.input[1:]], [cut], name=node.name),
        helper.make_node("Reshape", [cut, nominal.name], [ends[1]]),
    ]
    return nodes, [lying, nominal]
