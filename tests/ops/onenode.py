"""Models of one node, for the tests of operator rules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper


def _newest() -> int:
    """The newest opset, of those that rules are written for, that the installed onnxruntime takes."""
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    for opset in range(26, 0, -1):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        with suppress(Exception):  # onnxruntime's classes share no base
            onnxruntime.InferenceSession(model.SerializeToString())
            return opset
    raise AssertionError("onnxruntime takes no opset at all")


NEWEST = _newest()

OPSETS = (7, 11, 13, 17, 21, NEWEST)

Operand = tuple[int, ...] | tuple[tuple[int, ...], str] | np.ndarray | None
"""A shape is a float input of the graph, (shape, dtype) an input of another type, an array a constant."""


def one_node(
    op: str,
    operands: Sequence[Operand],
    *,
    opset: int = 17,
    outputs: int | Sequence[bool] = 1,
    shapes: Sequence[tuple[int, ...]] = (),
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """A model that is one node.

    `outputs` is their number, or for each whether it is there at all; `shapes` are those of the outputs that are
    there, for operators and opsets whose shape inference does not find them. That of other domains is onnxruntime's.
    """
    inputs, weights, names = [], [], []
    for place, operand in enumerate(operands):
        name = "" if operand is None else f"x{place}"
        names.append(name)
        if isinstance(operand, np.ndarray):
            weights.append(numpy_helper.from_array(operand, name))
        elif operand is not None:
            nested = len(operand) == 2 and isinstance(operand[0], tuple)
            shape, dtype = operand if nested else (operand, "float32")
            inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))
    present = [True] * outputs if isinstance(outputs, int) else outputs
    results = [f"y{place}" if there else "" for place, there in enumerate(present)]
    node = helper.make_node(op, names, results, name="node", domain=domain, **attributes)
    typeless = [onnx.ValueInfoProto(name=name) for name in results if name]
    graph = helper.make_graph([node], "one node", inputs, typeless, weights)
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    if not domain:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    for output, shape in zip(model.graph.output, shapes, strict=False):
        element = output.type.tensor_type.elem_type or onnx.TensorProto.FLOAT
        output.CopyFrom(helper.make_tensor_value_info(output.name, element, shape))
    return model


def ints(*values: int) -> np.ndarray:
    """A constant with one axis of 64-bit integers: axes, a shape, bounds."""
    return np.array(values, np.int64)


def axes_below(ndim: int, *, without: Sequence[int] = ()) -> set[int]:
    """The axes of a value with `ndim` axes, but for those in `without`."""
    return set(range(ndim)) - {axis % ndim for axis in without}
