"""One plain onnxruntime session: what everything else is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-4
"""Largest difference between floats, as a part of the output's largest magnitude; what is no float must be equal."""

_COARSE = {"float16": 2e-3}


def run_plain(model: onnx.ModelProto, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any] | None:
    """Outputs of a session with default options; None where it refuses, or gives something else the second time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        first, second = (session.run(list(names), dict(feeds)) for _ in range(2))
    except Exception:  # whatever onnxruntime raises: the case does not count
        return None
    same = all(not difference(one, other, 0.0) for one, other in zip(first, second, strict=True))
    return list(first) if same else None


def difference(found: Any, expected: Any, tolerance: float = TOLERANCE) -> str:
    """What is different, in words; empty when nothing is."""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return f"kind: {type(found).__name__} where a list of {len(expected)} was expected"
        return next((text for pair in zip(found, expected, strict=True) if (text := difference(*pair, tolerance))), "")
    if expected is None or isinstance(expected, dict):
        return "" if found == expected else f"kind: {found} instead of {expected}"
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return f"shape: {found.shape} instead of {expected.shape}"
    if found.dtype != expected.dtype:
        return f"type: {found.dtype} instead of {expected.dtype}"
    return _apart(found, expected, tolerance)


def _apart(found: np.ndarray, expected: np.ndarray, tolerance: float) -> str:
    if expected.dtype.kind not in "fc":
        wrong = found != expected
        return f"value: {int(np.sum(wrong))} of {wrong.size} elements differ" if np.any(wrong) else ""
    wide, other = found.astype(np.complex128), expected.astype(np.complex128)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    finite = np.abs(other[np.isfinite(other)])
    allowed = max(tolerance, _COARSE.get(expected.dtype.name, 0.0) if tolerance else 0.0) * finite.max(initial=0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        far = ~same & ~(np.abs(wide - other) <= allowed)
        largest = np.abs(wide - other)[far].max(initial=0.0)
    return f"value: {int(far.sum())} of {far.size} elements differ, by up to {largest:.3g}" if far.any() else ""
