"""Sets of cuts as rows of 64-bit words: cut c is bit c % 64 of word c // 64."""

from __future__ import annotations

import numpy as np

WORD = 64


def pack(flags: np.ndarray) -> np.ndarray:
    """Sets from flags, bool array (..., cuts) to uint64 array (..., words)."""
    words = -(-flags.shape[-1] // WORD)
    packed = np.packbits(flags, axis=-1, bitorder="little")
    padded = np.zeros((*flags.shape[:-1], words * 8), np.uint8)
    padded[..., : packed.shape[-1]] = packed
    return padded.view(np.dtype("<u8")).astype(np.uint64, copy=False)


def unpack(sets: np.ndarray) -> np.ndarray:
    """Flags of sets, uint64 array (..., words) to bool array (..., 64 * words)."""
    little = np.ascontiguousarray(sets).astype(np.dtype("<u8"), copy=False)
    return np.unpackbits(little.view(np.uint8), axis=-1, bitorder="little").view(bool)


def unions(sets: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Unions of the rows from each start to the next: array (S, words)."""
    if len(starts) == len(sets):
        return sets
    found: np.ndarray = np.bitwise_or.reduceat(sets, starts, axis=0)
    return found
