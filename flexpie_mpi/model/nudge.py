"""A model's constants off by one unit in their last place: what that changes, another order of sums changes too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from .read import read_source

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_ARITHMETIC = frozenset(
    (
        "Add", "Sub", "Mul", "Div", "Conv", "ConvTranspose", "Gemm", "BatchNormalization", "InstanceNormalization",
        "GroupNormalization", "LayerNormalization", "QuantizeLinear", "DequantizeLinear", "QLinearConv",
        "QLinearMatMul", "QLinearAdd", "QLinearMul", "QLinearSoftmax", "QLinearGlobalAveragePool", "QGemm",
        "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits", "SkipLayerNormalization", "BiasGelu",
    )
)  # fmt: skip
"""Operators whose constants are terms and factors; those of others are sizes, limits or places."""


def factors(path: Path) -> dict[str, np.ndarray]:
    """Biases, scales and factors of a model file that has been read before, by name.

    Only constants that lie in the file itself, have one axis at most, and go into arithmetic.
    """
    graph = read_source(path).proto.graph
    readers = {name: node.op_type for node in graph.node for name in node.input}
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type in _FLOATS
        and tensor.data_location != onnx.TensorProto.EXTERNAL
        and len(tensor.dims) < 2
        and readers.get(tensor.name) in _ARITHMETIC
    }


def nudged(constants: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Constants of the same types and shapes, each element the next number above or below it, by chance.

    Whole numbers stay: a factor of 2 is not rounded by any machine.
    """
    rng = np.random.default_rng(seed)
    return {name: _nudge(array, rng) for name, array in constants.items()}


def _nudge(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    towards = np.where(rng.integers(0, 2, array.shape), np.inf, -np.inf).astype(array.dtype)
    return np.asarray(np.where(array == np.rint(array), array, np.nextafter(array, towards)), array.dtype)
