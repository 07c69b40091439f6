"""Random constants for models in tests."""

from __future__ import annotations

import numpy as np


def weights(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """A seeded array of small numbers."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    low, high = (0, 100) if np.dtype(dtype).kind == "u" else (-50, 50)
    return rng.integers(low, high, shape).astype(dtype)
