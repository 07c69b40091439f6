"""Pools that round their output size up: shape inference before opset 22 gives some of them one row too many.

A window that would begin in the end pad is not computed by onnxruntime, whatever the opset. For inference only, such a
pool is written as one that rounds down and has the end pads that give the true size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
from onnx import helper

_POOLS = ("MaxPool", "AveragePool", "LpPool")

Shapes = Mapping[str, Sequence[int]]
"""Static shapes by value name; values without one are left out."""


def for_inference(proto: onnx.ModelProto, infer: Callable[[onnx.ModelProto], Shapes]) -> onnx.ModelProto:
    """A model with the same value names whose inferred shapes are those that onnxruntime computes.

    Parameters
    ----------
    proto : onnx.ModelProto
        Returned as it is when no pool rounds up.
    infer : callable
        Shapes that inference finds for a model. Called once for each pool that rounds up.
    """
    if not any(_rounds_up(node) for node in proto.graph.node):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    _forget_shapes(copy.graph)
    for node in copy.graph.node:
        if _rounds_up(node):
            shape = infer(copy).get(node.input[0])
            if shape is not None:
                _round_down(node, shape[2:])
    return copy


def _rounds_up(node: onnx.NodeProto) -> bool:
    given = _attributes(node)
    explicit = given.get("auto_pad", b"NOTSET") == b"NOTSET"
    return node.op_type in _POOLS and not node.domain and explicit and given.get("ceil_mode") == 1


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _forget_shapes(graph: onnx.GraphProto) -> None:
    """Drop sizes that an earlier inference wrote, right or wrong; the inputs' stay."""
    del graph.value_info[:]
    for value in graph.output:
        if value.type.WhichOneof("value") == "tensor_type":
            value.type.tensor_type.ClearField("shape")


def _round_down(node: onnx.NodeProto, extents: Sequence[int]) -> None:
    """Write the pool so that rounding down gives the size that onnxruntime computes by rounding up."""
    given = _attributes(node)
    ndim = len(extents)
    ones, pads = [1] * ndim, list(given.get("pads", [0] * 2 * ndim))
    windows = zip(given["kernel_shape"], given.get("strides", ones), given.get("dilations", ones), strict=True)
    for axis, (kernel, stride, dilation) in enumerate(windows):
        reach = dilation * (kernel - 1) + 1
        padded = extents[axis] + pads[axis] + pads[axis + ndim]
        size = output_size(extents[axis], pads[axis], padded, reach, stride)
        pads[axis + ndim] += max(0, (size - 1) * stride + reach - padded)
    kept = [item for item in node.attribute if item.name not in ("ceil_mode", "pads", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def output_size(extent: int, pad: int, padded: int, reach: int, stride: int) -> int:
    """Output size of a pool that rounds up: windows beginning in the end pad do not count.

    >>> output_size(6, 0, 6, 1, 2), output_size(7, 1, 9, 3, 2), output_size(112, 0, 112, 3, 2)
    (3, 4, 56)
    """
    size = -(-(padded - reach) // stride) + 1
    return size - 1 if (size - 1) * stride >= extent + pad else size
