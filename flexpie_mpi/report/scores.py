"""The best of a score vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

TOP = 5


def is_score_vector(value: Any) -> bool:
    """Whether an output is a row of at least `TOP` numbers, ``(K,)`` or ``(1, K)`` or ``(1, K, 1, 1)``."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        return False
    leading = value.shape[:-1] if value.ndim < 2 else (value.shape[0], *value.shape[2:])
    return value.ndim > 0 and value.size >= TOP and all(extent == 1 for extent in leading) and value.ndim != 3


def top(outputs: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """(index, score) of the `TOP` highest scores, best first, of every output that is a score vector."""
    return {name: _top(value) for name, value in outputs.items() if is_score_vector(value)}


def _top(value: np.ndarray) -> list[tuple[int, float]]:
    scores = value.reshape(-1).astype(np.float64)
    order = np.argsort(-scores, kind="stable")[:TOP]
    return [(int(index), float(scores[index])) for index in order]
