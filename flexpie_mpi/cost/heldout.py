"""Held-out errors: how far predictions are off for combinations that training has not seen.

Rows are left out in whole groups (:mod:`flexpie_mpi.cost.samples`), never one by one: a neighbour of the same channels
would give the answer away. Constants and devices are fitted anew for every fold, from what the fold leaves in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .samples import DeviceFactor, Samples

LENGTHS = {"from 10 us": 1e-5, "from 100 us": 1e-4, "from 1 ms": 1e-3}
"""Bounds, in seconds, of what is told apart by its length; each reaches to the next."""

_LABELS = {"compute": "op", "exchange": "kind"}


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors over some rows.

    Attributes
    ----------
    rows : int
    median, p90 : float
        Of the absolute error, as a share of what was measured.
    total : float
        Sum of the predictions over that of the measurements, less one: what is left when errors cancel in a plan.
    rank : float
        Spearman's correlation; 0 when all are equal.
    """

    rows: int
    median: float
    p90: float
    total: float
    rank: float

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Errors:
        """Errors of seconds (n,) predicted against seconds measured, n >= 1."""
        share = np.abs(predicted / measured - 1)
        median, p90 = np.percentile(share, (50, 90))
        total = predicted.sum() / measured.sum() - 1
        return cls(len(share), float(median), float(p90), float(total), spearman(predicted, measured))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Errors of one table.

    Attributes
    ----------
    combinations : int
        Groups, every one of which was left out once.
    overall : Errors
    by_label : mapping of str to Errors
        By operator, or by kind of exchange; empty for calls.
    by_device : mapping of str to Errors
        By the label of a kind of device.
    by_length : mapping of str to Errors
        By `LENGTHS`: what is short is disturbed most, and what is long makes up a plan.
    """

    combinations: int
    overall: Errors
    by_label: Mapping[str, Errors]
    by_device: Mapping[str, Errors]
    by_length: Mapping[str, Errors]


def held_out(table: str, samples: Samples, predicted: np.ndarray, devices: Sequence[DeviceFactor]) -> HeldOut:
    """Errors of predictions (n,) for the rows of a table.

    Parameters
    ----------
    table : str
    samples : Samples
    predicted : float array (n,)
        Seconds on the device that measured the row, without knowledge of the row's group.
    devices : sequence of DeviceFactor
        As the samples number them.
    """
    column = _LABELS.get(table)
    labels = samples.rows[column].astype("U24") if column else np.zeros(0, str)
    length = np.searchsorted(list(LENGTHS.values()), samples.seconds, side="right")
    names = ("shorter", *LENGTHS)
    return HeldOut(
        combinations=len(np.unique(samples.group)),
        overall=Errors.of(predicted, samples.seconds),
        by_label={str(name): _part(samples, predicted, labels == name) for name in np.unique(labels)},
        by_device={
            devices[kind].label: _part(samples, predicted, samples.device == kind) for kind in np.unique(samples.device)
        },
        by_length={names[place]: _part(samples, predicted, length == place) for place in np.unique(length)},
    )


def _part(samples: Samples, predicted: np.ndarray, rows: np.ndarray) -> Errors:
    return Errors.of(predicted[rows], samples.seconds[rows])


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
