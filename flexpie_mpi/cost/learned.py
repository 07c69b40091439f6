"""The learned cost model: analytic prices, each times a factor that a forest predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .features import features_of
from .forest import Forest
from .model import CostModel, DeviceFactor, Origin
from .prior import AnalyticCost
from .rows import LABELS, distinct_rows
from .samples import Samples


@dataclass(frozen=True)
class LearnedCost(CostModel):
    """A cost model (:class:`flexpie_mpi.cost.model.CostModel`) fitted to traces."""

    prior: AnalyticCost
    ops: tuple[str, ...] = ()  # labels of operators it was trained on, sorted
    # ``compute``, ``call``, ``exchange``; a table without one is priced by the prior alone
    forests: Mapping[str, Forest] = field(default_factory=dict)
    # Of what it was trained on; the tables without rows are left out
    ranges: Mapping[str, Ranges] = field(default_factory=dict)
    devices: tuple[DeviceFactor, ...] = ()  # kinds of devices that measured
    models: tuple[str, ...] = ()  # names of the models that the traces cover
    provenance: Mapping[str, Any] = field(default_factory=dict)  # what it was made from and with
    # By table: errors on what training had not seen; empty where nobody asked
    held_out: Mapping[str, HeldOut] = field(default_factory=dict)

    def seconds(self, table: str, rows: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds (n,) on the fastest kind of device: those of the prior, times the factor of the table's forest."""
        prior_s = self.prior.seconds(table, rows, active)
        if table not in self.forests:
            return prior_s
        features = features_of(table, rows, active, self.prior, self.ops)
        if table != "call":
            return prior_s * np.exp(self.forests[table].predict(features))
        index, inverse = distinct_rows(features)  # most calls of a search are alike
        return prior_s * np.exp(self.forests[table].predict(features[index]))[inverse]

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """Which of `rows` (n,), of `WORK`, `CALL` or `TRANSFER`, are priced by extrapolation, bool array (n,)."""
        names = rows.dtype.names or ()
        table = next(table for table, label in LABELS.items() if label in names)
        ranges = self.ranges.get(table)
        return np.ones(len(rows), bool) if ranges is None else ranges.outside(rows)

    def device_factor(self, origin: Origin) -> float | None:
        """How much longer an origin takes than the fastest kind of device; None when nobody like it has measured."""
        return next((device.factor for device in self.devices if device.is_of(origin)), None)


# Training ranges: where a learned model interpolates, and where it only extrapolates

FAR = 2.0
"""A number that is beyond what was measured by more than this factor is outside."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Least and most of every column, by label."""

    label: str  # the column that holds labels
    columns: tuple[str, ...]
    # Mapping of str to (2, columns) tuples. Least and most.
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
        outside = np.ones(len(rows), bool)
        texts = _texts(rows[self.label])
        for text in set(texts.tolist()) & self.bounds.keys():
            mine = texts == text
            numbers = np.column_stack([rows[name][mine] for name in self.columns])
            least, most = map(np.array, self.bounds[text])
            outside[mine] = ((numbers > FAR * most) | (numbers < least / FAR)).any(axis=1)
        return outside


def _texts(labels: np.ndarray) -> np.ndarray:
    """Labels as text; numbers as whole ones."""
    return labels.astype("U24") if labels.dtype.kind == "S" else labels.astype(int).astype("U24")


# Held-out errors: how far predictions are off for combinations that training has not seen. Rows are left out in whole
# groups (:mod:`flexpie_mpi.cost.samples`), never one by one: a neighbour of the same channels would give the answer
# away. Constants and devices are fitted anew for every fold, from what the fold leaves in.

LENGTHS = {"from 10 us": 1e-5, "from 100 us": 1e-4, "from 1 ms": 1e-3}
"""Bounds, in seconds, of what is told apart by its length; each reaches to the next."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors over some rows."""

    rows: int
    # `median` and `p90`: of the absolute error, as a share of what was measured
    median: float
    p90: float
    # Sum of the predictions over that of the measurements, less one: what is left when errors cancel in a plan
    total: float
    rank: float  # spearman's correlation; 0 when all are equal

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Errors:
        """Errors of seconds (n,) predicted against seconds measured, n >= 1."""
        share = np.abs(predicted / measured - 1)
        median, p90 = np.percentile(share, (50, 90))
        total = predicted.sum() / measured.sum() - 1
        return cls(len(share), float(median), float(p90), float(total), spearman(predicted, measured))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Errors of one table."""

    combinations: int  # groups, every one of which was left out once
    overall: Errors
    by_label: Mapping[str, Errors]  # by operator, or by kind of exchange; empty for calls
    by_device: Mapping[str, Errors]  # by the label of a kind of device
    by_length: Mapping[str, Errors]  # by `LENGTHS`: what is short is disturbed most, and what is long makes up a plan


def held_out(table: str, samples: Samples, predicted: np.ndarray, devices: Sequence[DeviceFactor]) -> HeldOut:
    """Errors of predictions (n,) for the rows of a table, whose samples number the devices.

    What is predicted is seconds on the device that measured the row, without knowledge of the row's group.
    """

    def by(names: Sequence[str], number: np.ndarray) -> dict[str, Errors]:
        """Errors of the rows that have each number, under its name."""
        parts = {names[each]: number == each for each in np.unique(number)}
        return {name: Errors.of(predicted[part], samples.seconds[part]) for name, part in parts.items()}

    labels, label = np.unique(_texts(samples.rows[LABELS[table]]), return_inverse=True)
    length = np.searchsorted(list(LENGTHS.values()), samples.seconds, side="right")
    return HeldOut(
        combinations=len(np.unique(samples.group)),
        overall=Errors.of(predicted, samples.seconds),
        by_label={} if table == "call" else by(labels.tolist(), label),
        by_device=by([device.label for device in devices], samples.device),
        by_length=by(("shorter", *LENGTHS), length),
    )


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of two arrays (n,); equal values share their mean rank.

    >>> round(spearman(np.array([1.0, 2.0, 30.0]), np.array([2.0, 4.0, 5.0])), 9)
    1.0
    """
    ranks = [_ranks(values) for values in (one, other)]
    ranks = [each - each.mean() for each in ranks]
    size = np.sqrt(np.prod([each @ each for each in ranks]))
    return float(ranks[0] @ ranks[1] / size) if size > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
