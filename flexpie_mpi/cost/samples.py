"""Samples: rows of traces made ready for learning. Repeated measurements become one; every row knows its group.

A *group* is what a held-out test leaves out together: for work (operator, input channels, output channels), so that a
test always asks for channels that training has not seen; for exchanges (kind, ranks, bytes to the power of two).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .model import DeviceFactor, Origin, devices_of
from .rows import PRICED, TIMING

_LENGTH, _LENGTHS = 0.5, (0.2, 6.0)
"""Power by which longer rows count more, and the bounds of what comes of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Distinct rows of one table, ready to be learned from."""

    rows: np.ndarray  # array (n,) of `WORK`, `CALL` or `TRANSFER`
    active: np.ndarray  # float array (n,)
    seconds: np.ndarray  # float array (n,). Median over equal rows of the same device.
    device: np.ndarray  # int array (n,). Number of the kind of device.
    group: np.ndarray  # int array (n,)
    count: np.ndarray  # int array (n,). Equal rows that became one.
    weights: np.ndarray  # float array (n,). Mean 1.

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, kept: np.ndarray) -> Samples:
        """Some of the rows, weighed anew."""
        rows, seconds, count = self.rows[kept], self.seconds[kept], self.count[kept]
        weights = _weights(rows, seconds, count)
        return Samples(rows, self.active[kept], seconds, self.device[kept], self.group[kept], count, weights)

    def scaled(self, factors: np.ndarray) -> Samples:
        """As if measured on the reference device, for the factor (D,) of each kind of device."""
        return replace(self, seconds=self.seconds / factors[self.device])


def samples(table: str, traces: np.ndarray, origins: tuple[Origin, ...]) -> Samples:
    """Samples of the rows of a table, one of `PRICED`; those that were not measured properly are left out."""
    traces = traces[usable(traces)]
    devices = devices_of(origins)
    numbers = np.array([devices.index(DeviceFactor.of(origin)) for origin in origins], np.int64)
    rows = np.zeros(len(traces), PRICED[table])
    for name in PRICED[table].names or ():
        rows[name] = traces[name]
    active = np.maximum(traces["active"], 1.0)
    device = numbers[traces["origin"]] if len(traces) else np.zeros(0, np.int64)
    first, same = distinct(rows, active, device)
    seconds, count = _medians(traces["seconds"], same), np.bincount(same)
    rows = rows[first]
    weights = _weights(rows, seconds, count)
    return Samples(rows, active[first], seconds, device[first], _groups(table, rows), count, weights)


def usable(traces: np.ndarray) -> np.ndarray:
    """Rows with a positive time and finite numbers throughout, bool array (n,)."""
    good = np.isfinite(traces["seconds"]) & (traces["seconds"] > 0)
    measured = {name for name, *_ in TIMING}
    for name in traces.dtype.names or ():
        if traces.dtype[name].kind == "f" and (name not in measured or name == "active"):
            good &= np.isfinite(traces[name]) & (traces[name] >= 0)
    return good


def folds(group: np.ndarray, count: int) -> np.ndarray:
    """Fold of each row, int array (n,): groups stay whole, folds are of about equal size, the same on every run."""
    names, inverse, sizes = np.unique(group, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load, fold = np.zeros(count), np.zeros(len(names), np.int64)
    for name in order:
        fold[name] = load.argmin()
        load[fold[name]] += sizes[name]
    return fold[inverse]


def distinct(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct row of columns (n,) first occurs, in that order, and the number of each row among them."""
    numbers: dict[tuple, int] = {}
    rows = zip(*(column.tolist() for column in columns), strict=True)
    same = np.array([numbers.setdefault(row, len(numbers)) for row in rows], np.int64)
    return np.unique(same, return_index=True)[1], same


def _groups(table: str, rows: np.ndarray) -> np.ndarray:
    if table == "exchange":
        size = np.round(np.log2(np.maximum(rows["port_bytes"], 1.0)))
        return distinct(rows["kind"], rows["ranks"], size)[1]
    names = ("op", "in_channels", "out_channels") if table == "compute" else ("in_bytes", "out_bytes", "kernels")
    return distinct(*(rows[name] for name in names))[1]


def _medians(values: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Median of the values of each number in `same`."""
    order = np.lexsort((values, same))
    counts = np.bincount(same)
    first = np.cumsum(counts) - counts
    ordered = values[order]
    return (ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]) / 2


def _weights(rows: np.ndarray, seconds: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Weights (n,) of mean 1.

    A row of a rare label counts more, though all rows of that label count less. So does a long one, whose error is one
    of a whole plan, and one that was measured often, which is less likely to be a mishap.
    """
    if not len(rows):
        return np.zeros(0)
    label = next((rows[name] for name in ("op", "kind") if name in (rows.dtype.names or ())), np.zeros(len(rows)))
    _, inverse, alike = np.unique(label, return_inverse=True, return_counts=True)
    length = np.clip((seconds / np.median(seconds)) ** _LENGTH, *_LENGTHS)
    weights = length * count / (count + 1) / np.sqrt(alike[inverse.reshape(-1)])
    return weights / weights.mean()
