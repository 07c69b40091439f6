"""When two results count as equal: tensors, sequences of values, mappings to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ..core.region import Region
from .read import read_source

TOLERANCE = 1e-4
"""Largest difference between floats, as a part of the value's largest magnitude. A type that is coarser than this
(float16) may be off by one unit in its last place instead. Everything else must be equal."""

MOST = 0.1
"""The largest part of a value's magnitude that may count as rounding, however much rounding changes it."""


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


@dataclass(frozen=True, slots=True)
class Check:
    """A value compared with the reference."""

    value: str
    # Largest difference; infinite where no difference can be taken (another shape, a NaN on one side, text)
    largest: float = 0.0
    allowed: float = 0.0
    # The smallest box that holds every element that differs by more than is allowed; None when none does, or when the
    # two are not of one shape
    region: Region | None = None
    problem: str = ""  # what is wrong, for the end of a sentence; empty when the two agree
    # The part of the largest magnitude that is allowed on top of the tolerance, since rounding changes as much
    rounding: float = 0.0
    # Where `rounding` was seen: "levels" or "nudges" (:mod:`..measure.compare`); empty where none was needed
    rule: str = ""


def compare(
    name: str, actual: Any, expected: Any, rounding: float = 0.0, rule: str = "", *, tolerance: float = TOLERANCE
) -> Check:
    """A value, of arrays, sequences or mappings, against its reference.

    `rounding`, seen as `rule` says, is the part of the largest magnitude that is allowed on top of the `tolerance`; it
    counts up to :data:`MOST`.
    """
    rounding = min(rounding, MOST)
    check = _compare(name, actual, expected, tolerance, rounding)
    return replace(check, rounding=rounding, rule=rule)


def apart(actual: Any, expected: Any) -> float:
    """Largest finite difference between two results as a part of the largest magnitude of each tensor in them."""
    if isinstance(expected, Mapping):
        pairs = [(actual[key], value) for key, value in expected.items() if key in actual]
        return max((apart(*pair) for pair in pairs), default=0.0)
    if _is_sequence(expected):
        return max((apart(*pair) for pair in zip(actual, expected, strict=False)), default=0.0)
    one, other = np.asarray(actual), np.asarray(expected)
    if one.shape != other.shape or not other.size or other.dtype.kind not in "fciu":
        return 0.0
    difference, magnitude = _difference(one, other), _magnitude(other)
    return float(difference[np.isfinite(difference)].max(initial=0.0)) / magnitude if magnitude else 0.0


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _compare(name: str, actual: Any, expected: Any, tolerance: float, rounding: float) -> Check:
    if isinstance(expected, Mapping):
        keys = list(expected)
        if not isinstance(actual, Mapping) or list(actual) != keys:
            return Check(name, np.inf, problem=f"its keys are not the {len(keys)} expected")
        return _worst(name, [_compare(name, actual[key], expected[key], tolerance, rounding) for key in keys])
    if _is_sequence(expected):
        if not isinstance(actual, Sequence) or len(actual) != len(expected):
            return Check(name, np.inf, problem=f"it is not a sequence of {len(expected)}")
        pairs = zip(actual, expected, strict=True)
        return _worst(name, [_compare(name, *pair, tolerance, rounding) for pair in pairs])
    return _compare_arrays(name, np.asarray(actual), np.asarray(expected), tolerance, rounding)


def _worst(name: str, checks: Sequence[Check]) -> Check:
    bad = [check for check in checks if check.problem]
    worst = max(bad or checks, key=lambda check: check.largest, default=Check(name))
    return replace(worst, region=None)


def _compare_arrays(name: str, actual: np.ndarray, expected: np.ndarray, tolerance: float, rounding: float) -> Check:
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        what = f"{actual.dtype.name} of shape {actual.shape}, not {expected.dtype.name} of shape {expected.shape}"
        return Check(name, np.inf, problem=f"it is {what}")
    if expected.size == 0:
        return Check(name)
    allowed = _allowed(expected, tolerance, rounding)
    difference = _difference(actual, expected)
    largest, wrong = float(difference.max()), difference > allowed
    if not wrong.any():
        return Check(name, largest, allowed)
    problem = (
        f"{int(wrong.sum())} of {wrong.size} elements differ, by up to {largest:.3g} where {allowed:.3g} is allowed"
    )
    return Check(name, largest, allowed, _box(wrong), problem)


def _allowed(expected: np.ndarray, tolerance: float, rounding: float) -> float:
    """Largest difference that counts as equal; True and False, and text, are the same or not."""
    if expected.dtype.kind not in "fciu":
        return 0.0
    of_floats = max(tolerance, float(np.finfo(expected.dtype).eps)) if expected.dtype.kind in "fc" else 0.0
    return (of_floats + rounding) * _magnitude(expected)


def _magnitude(expected: np.ndarray) -> float:
    wide = expected.astype(np.complex128 if expected.dtype.kind == "c" else np.float64)  # no -128 in int8
    finite = np.abs(wide[np.isfinite(wide)])
    return float(finite.max()) if finite.size else 0.0


def _difference(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Elementwise distance in float64: 0 where both are the same, NaN or infinity included."""
    if expected.dtype.kind in "biu":
        apart = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        return np.maximum(apart, actual != expected)  # float64 takes neighbouring large integers for equal
    if expected.dtype.kind not in "fc":
        return np.where(actual == expected, 0.0, np.inf)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(actual.astype(np.complex128) - expected.astype(np.complex128))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def _box(wrong: np.ndarray) -> Region:
    """The smallest region that holds every true element."""
    indices = np.argwhere(wrong)
    if not wrong.ndim:
        return Region(())
    return Region(tuple((int(lo), int(hi) + 1) for lo, hi in zip(indices.min(0), indices.max(0), strict=True)))


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
