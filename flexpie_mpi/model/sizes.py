"""``Shape`` of values whose shape never changes, as constants.

onnxruntime would work it out itself, by its rules of inference, where it knows the shapes of a session's inputs; the
constants are what a run has shown. ``Size``, which onnxruntime leaves to the run, stays: as a constant it may decide an
``If``, and what is then put in its place is held to stricter rules than a branch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .measure import Shape
from .tidy import replace_nodes


def write_sizes(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> bool:
    """Replace the nodes that ask for the shape of a value in `shapes`, outputs of the graph set aside; whether any was.

    Parameters
    ----------
    graph : onnx.GraphProto
        Changed in place; what only such a node has read is left.
    shapes : mapping of str to tuple of int
    """
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        array = _known(node, shapes) if outputs.isdisjoint(node.output) else None
        if array is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
    found = len(kept) < len(graph.node)
    if found:
        replace_nodes(graph, kept)
    return found


def _known(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> np.ndarray | None:
    """What a node says of the shape of a value, if it asks for that and the shape is known."""
    shape = shapes.get(node.input[0]) if node.op_type == "Shape" and not node.domain else None
    if shape is None:
        return None
    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return np.array(shape[given.get("start", 0) : given.get("end", len(shape))], np.int64)
