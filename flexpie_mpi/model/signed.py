"""Signed quantised values as onnxruntime runs them: without the sign where one DequantizeLinear reads them.

Which integer kernel stands for a quantised operator, if any, depends on the types around it, and on most processors
onnxruntime changes those by looking at the whole model. Done here, once, they are the same in each of its segments.
"""

from __future__ import annotations

import platform
from collections import Counter

import onnx
from onnx import TensorProto, helper, numpy_helper

from .tidy import fresh, reads, taken_names

_ARM = ("arm", "aarch64")
"""Processors for which onnxruntime has kernels for signed values, and leaves them as they are."""
_ZERO_POINT = 2
_SHIFT = 128


def drop_signs(proto: onnx.ModelProto) -> None:
    """Make int8 values uint8 between a QuantizeLinear and its only reader, a DequantizeLinear: all are 128 more.

    Nothing changes where others read the values, where the zero point is not one constant, and on ARM.
    """
    if platform.machine().lower().startswith(_ARM):
        return
    graph, taken = proto.graph, taken_names(proto)
    found = _signed(graph)
    for writer, reader, zero in found:
        name = fresh(f"{writer.output[0]}::zero", taken)
        taken.add(name)
        graph.initializer.append(helper.make_tensor(name, TensorProto.UINT8, (), [zero + _SHIFT]))
        writer.input[_ZERO_POINT] = reader.input[_ZERO_POINT] = name
    changed = {writer.output[0] for writer, _, _ in found}
    for value in [value for value in graph.value_info if value.name in changed]:
        graph.value_info.remove(value)


def _signed(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, onnx.NodeProto, int]]:
    """Each QuantizeLinear to int8 with the only node behind, if a DequantizeLinear, and their zero point."""
    zeros = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT8}
    times_read = Counter(name for node in graph.node for name in reads(node))
    times_read.update(value.name for value in graph.output)
    writers = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    found = []
    for reader in graph.node:
        writer = writers.get(reader.input[0]) if reader.op_type == "DequantizeLinear" else None
        if writer is None or times_read[writer.output[0]] != 1:
            continue
        zero = _zero_point(writer, zeros)
        if zero is not None and zero == _zero_point(reader, zeros):
            found.append((writer, reader, zero))
    return found


def _zero_point(node: onnx.NodeProto, zeros: dict[str, TensorProto]) -> int | None:
    """The zero point of a node if it is one int8 constant, and alone says the type."""
    tensor = zeros.get(node.input[_ZERO_POINT]) if len(node.input) > _ZERO_POINT else None
    is_one = tensor is not None and tensor.data_location != TensorProto.EXTERNAL and list(tensor.dims) in ([], [1])
    if tensor is None or not is_one or any(item.name == "output_dtype" and item.i for item in node.attribute):
        return None
    return int(numpy_helper.to_array(tensor).item())
