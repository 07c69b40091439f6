"""Two small networks in the forms that quantisation gives models: seeded, built in code, run by onnxruntime's CPU.

``forms()`` names them; ``write(form, folder)`` makes the file of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from flexpie_mpi.model.zoo import encoders, published
from flexpie_mpi.model.zoo.builder import Builder
from flexpie_mpi.model.zoo.drawn import write_weights

_BLOCK = 32
"""Weights that share a scale in the form of 4 bits."""

_NETWORKS: dict[str, Callable[[Builder], None]] = {
    "bert": partial(
        encoders.bert, layers=4, hidden=64, heads=4, intermediate=256, tokens=24, vocabulary=256, positions=32
    ),
    "resnet": partial(published.resnet, block=published.bottleneck, depths=(1, 2, 1), width=8, size=48, classes=10),
}


def _static(source: Path, target: Path, shape: QuantFormat, *, per_channel: bool, signed: bool = False) -> None:
    quantize_static(
        source,
        target,
        _Calibration(source),
        quant_format=shape,
        per_channel=per_channel,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _dynamic(source: Path, target: Path, *, per_channel: bool) -> None:
    quantize_dynamic(
        source, target, per_channel=per_channel, weight_type=QuantType.QInt8 if per_channel else QuantType.QUInt8
    )


def _float16(source: Path, target: Path) -> None:
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=False), target)


def _bfloat16(source: Path, target: Path) -> None:
    """Operands of every product as a mixed-precision exporter leaves them: rounded to bfloat16 and cast back."""
    proto = onnx.load(source)
    nodes = []
    for node in proto.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Conv"):
            for place in (0, 1):
                name = f"{node.name}.operand{place}"
                nodes.append(helper.make_node("Cast", [node.input[place]], [f"{name}.low"], to=TensorProto.BFLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}.low"], [name], to=TensorProto.FLOAT))
                node.input[place] = name
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, target)


def _four_bits(source: Path, target: Path, accuracy: int) -> None:
    """Every product with a constant matrix as a MatMulNBits with one scale per block, as exporters of Llama do.

    At accuracy level 4 it sums in 8 bits, at 0 in float32.
    """
    proto = onnx.load(source)
    for node, weight in _products(proto):
        matrix = numpy_helper.to_array(weight)
        levels, scales = _blocks(matrix)
        packed = levels[..., ::2] | levels[..., 1::2] << 4
        arrays = {f"{weight.name}.bits": packed, f"{weight.name}.scales": scales.reshape(-1)}
        _replace(proto.graph, weight, arrays)
        sizes = {"K": matrix.shape[0], "N": matrix.shape[1], "bits": 4, "block_size": _BLOCK}
        inputs = [node.input[0], *arrays]
        made = helper.make_node(
            "MatMulNBits", inputs, node.output, node.name, domain="com.microsoft", accuracy_level=accuracy, **sizes
        )
        node.CopyFrom(made)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(proto, target)


def _four_bits_qdq(source: Path, target: Path) -> None:
    """The same in the operators of ONNX: a blocked DequantizeLinear of the weights before the product."""
    proto = onnx.version_converter.convert_version(onnx.load(source), 21)
    for node, weight in _products(proto):
        levels, scales = _blocks(numpy_helper.to_array(weight))
        columns = levels.reshape(len(levels), -1).T
        arrays = {f"{weight.name}.scales": np.ascontiguousarray(scales.T)}
        _replace(proto.graph, weight, arrays)
        bits = helper.make_tensor(
            f"{weight.name}.bits", TensorProto.INT4, columns.shape, (columns.astype(int) - 8).reshape(-1).tolist()
        )
        proto.graph.initializer.append(bits)
        inputs = [bits.name, *arrays]
        name = f"{weight.name}.floats"
        made = helper.make_node("DequantizeLinear", inputs, [name], name, axis=0, block_size=_BLOCK)
        proto.graph.node.insert(list(proto.graph.node).index(node), made)
        node.input[1] = name
    onnx.save(proto, target)


def _products(proto: onnx.ModelProto) -> list[tuple[onnx.NodeProto, TensorProto]]:
    """Matrix products with their constant right operands."""
    weights = {item.name: item for item in proto.graph.initializer}
    return [
        (node, weights[node.input[1]])
        for node in proto.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights
    ]


def _replace(graph: onnx.GraphProto, old: TensorProto, arrays: dict[str, np.ndarray]) -> None:
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    graph.initializer.remove(old)


def _blocks(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A (K, N) matrix in 4 bits around 8: (N, K / block, block) of them, and (N, K / block) scales."""
    parts = matrix.T.reshape(matrix.shape[1], -1, _BLOCK)
    scales = np.abs(parts).max(-1) / 7
    return (np.rint(parts / scales[..., None]) + 8).astype(np.uint8), scales.astype(np.float32)


_FORMS: dict[str, Callable[[Path, Path], object]] = {
    "QDQ, per tensor": partial(_static, shape=QuantFormat.QDQ, per_channel=False),
    "QDQ, per channel": partial(_static, shape=QuantFormat.QDQ, per_channel=True),
    "QDQ, signed": partial(_static, shape=QuantFormat.QDQ, per_channel=True, signed=True),
    "QOperator, per tensor": partial(_static, shape=QuantFormat.QOperator, per_channel=False),
    "QOperator, per channel": partial(_static, shape=QuantFormat.QOperator, per_channel=True),
    "dynamic, per tensor": partial(_dynamic, per_channel=False),
    "dynamic, per channel": partial(_dynamic, per_channel=True),
    "4 bits, float sums": partial(_four_bits, accuracy=0),
    "4 bits, 8-bit sums": partial(_four_bits, accuracy=4),
    "4 bits, QDQ": _four_bits_qdq,
    "float16": _float16,
    "bfloat16": _bfloat16,
}


def forms() -> tuple[str, ...]:
    """Names of all: network, then form. The convolutional one has no product that is stored in 4 bits."""
    every = (f"{network}: {form}" for network in _NETWORKS for form in ("float32", *_FORMS))
    return tuple(name for name in every if not name.startswith("resnet: 4 bits"))


def write(name: str, folder: Path) -> Path:
    """The file of a form, in `folder`."""
    network, form = name.split(": ")
    source = _network(network, folder)
    if form == "float32":
        return source
    target = folder / f"{network}-{form.replace(', ', '-').replace(' ', '-')}.onnx"
    quiet = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser says through the root's logger what one might do before
    try:
        _FORMS[form](source, target)
    finally:
        logging.getLogger().setLevel(quiet)
    return target


def inputs(path: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs of one request, in the types that the file asks for."""
    rng = np.random.default_rng(seed)
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: dict[str, np.ndarray] = {}
    for value in session.get_inputs():
        shape = [extent if isinstance(extent, int) else 1 for extent in value.shape]
        if value.type in kinds:
            found[value.name] = rng.standard_normal(shape).astype(kinds[value.type])
        else:
            high = {"attention_mask": 2, "token_type_ids": 2}.get(value.name, 256)
            found[value.name] = rng.integers(0, high, shape)
    return found


def _network(name: str, folder: Path) -> Path:
    """The network in float32, with its weights inside, for one request."""
    builder = Builder(name)
    _NETWORKS[name](builder)
    model = builder.finish()
    path = folder / f"{name}.onnx"
    for value in (*model.proto.graph.input, *model.proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    path.write_bytes(model.proto.SerializeToString())
    with (folder / f"{name}.weights").open("wb") as file:
        write_weights(model.external, file)
    onnx.save(onnx.load(path), path)
    return path


class _Calibration(CalibrationDataReader):
    """Four requests."""

    def __init__(self, path: Path) -> None:
        self._requests: Iterator[dict[str, Any]] = iter([inputs(path, seed) for seed in range(4)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._requests, None)
