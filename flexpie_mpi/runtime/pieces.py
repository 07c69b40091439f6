"""Objects and arrays as bytes, in pieces of a size that MPI can count and that may be in memory twice."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np

PIECE_BYTES = 4 << 20


def pieces(memory: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive parts of bytes (uint8, one axis)."""
    return (memory[begin : begin + PIECE_BYTES] for begin in range(0, memory.size, PIECE_BYTES))


def bytes_of(array: np.ndarray) -> np.ndarray:
    """The memory of a contiguous array."""
    if not array.flags.c_contiguous:
        raise ValueError(f"only contiguous arrays travel, not one of shape {array.shape} with strides {array.strides}")
    return array.reshape(-1).view(np.uint8)


def pickled(item: Any) -> np.ndarray:
    """An object for another rank of this job."""
    return np.frombuffer(bytearray(pickle.dumps(item)), np.uint8)


def unpickled(memory: np.ndarray) -> Any:
    """An object from another rank of this job."""
    return pickle.loads(memory.tobytes())  # noqa: S301 (from a rank of this job)
