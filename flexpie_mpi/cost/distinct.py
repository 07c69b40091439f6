"""Rows of numbers that occur again and again, found once: what is priced is seldom new."""

from __future__ import annotations

import numpy as np

_WEIGHTS = np.random.default_rng(0).random(32) + np.arange(32) * 0.7071
"""One number per column: two different rows practically never have the same weighted sum."""


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct row first occurs, and which of the distinct ones every row is.

    Much faster than sorting whole rows; each row counts by a weighted sum of its columns.

    Parameters
    ----------
    rows : float array (n, F)
        At most 32 columns.

    Examples
    --------
    >>> index, inverse = distinct_rows(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
    >>> sorted(index.tolist()), bool(inverse[0] == inverse[2] != inverse[1])
    ([0, 1], True)
    """
    _, index, inverse = np.unique(
        (rows * _WEIGHTS[: rows.shape[1]]).sum(axis=1), return_index=True, return_inverse=True
    )
    return index, inverse
