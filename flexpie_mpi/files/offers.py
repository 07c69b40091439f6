"""Offers: what files say of their arrays before the numbers are read, so that only what is wanted ever takes memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np


@dataclass(frozen=True, slots=True)
class Offer:
    """An array that has not been read.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Of texts, one without a length.
    load : callable
        Reads it; raises a DataError where that fails.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> Offer:
        """One that has been read already."""
        return cls(array.shape, array.dtype, lambda: array)

    @property
    def nbytes(self) -> int:
        """What it takes in memory; of texts, what their places take."""
        return prod(self.shape) * max(self.dtype.itemsize, 1)
