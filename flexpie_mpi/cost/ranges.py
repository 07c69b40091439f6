"""Training ranges: where a learned model interpolates, and where it only extrapolates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FAR = 2.0
"""A number that is beyond what was measured by more than this factor is outside."""

LABELS = {"compute": "op", "call": "blocked", "exchange": "kind"}
"""Column by which the rows of a table are told apart."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Least and most of every column, by label.

    Attributes
    ----------
    label : str
        The column that holds labels.
    columns : tuple of str
    bounds : mapping of str to (2, columns) tuples
        Least and most.
    """

    label: str
    columns: tuple[str, ...]
    bounds: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    @classmethod
    def of(cls, table: str, rows: np.ndarray) -> Ranges:
        """Ranges of the rows that a model was trained on."""
        label = LABELS[table]
        columns = tuple(name for name in rows.dtype.names or () if name != label)
        numbers = np.column_stack([rows[name] for name in columns])
        texts = _texts(rows[label])
        bounds = {}
        for text in sorted(set(texts.tolist())):
            mine = numbers[texts == text]
            bounds[text] = (tuple(mine.min(axis=0).tolist()), tuple(mine.max(axis=0).tolist()))
        return cls(label, columns, bounds)

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """Rows with an unknown label, or with a number far beyond those that were seen with it; bool array (n,)."""
        found = np.ones(len(rows), bool)
        texts = _texts(rows[self.label])
        for text in set(texts.tolist()) & self.bounds.keys():
            mine = texts == text
            numbers = np.column_stack([rows[name][mine] for name in self.columns])
            least, most = map(np.array, self.bounds[text])
            found[mine] = ((numbers > FAR * most) | (numbers < least / FAR)).any(axis=1)
        return found


def _texts(labels: np.ndarray) -> np.ndarray:
    """Labels as text; numbers as whole ones."""
    return labels.astype("U24") if labels.dtype.kind == "S" else labels.astype(int).astype("U24")
