"""The learned cost model: analytic prices, each times a factor that a forest predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .distinct import distinct_rows
from .features import call_features, compute_features, exchange_features
from .forest import Forest
from .heldout import HeldOut
from .origins import Origin
from .prior import AnalyticCost
from .ranges import LABELS, Ranges
from .samples import DeviceFactor


@dataclass(frozen=True)
class LearnedCost:
    """A cost model (:class:`flexpie_mpi.cost.model.CostModel`) fitted to traces.

    Attributes
    ----------
    prior : AnalyticCost
    ops : tuple of str
        Labels of operators it was trained on, sorted.
    forests : mapping of str to Forest
        ``compute``, ``call``, ``exchange``; a table without one is priced by the prior alone.
    ranges : mapping of str to Ranges
        Of what it was trained on; the tables without rows are left out.
    devices : tuple of DeviceFactor
        Kinds of devices that measured.
    models : tuple of str
        Names of the models that the traces cover.
    provenance : mapping of str to anything JSON can hold
        What it was made from and with.
    held_out : mapping of str to HeldOut
        By table: errors on what training had not seen; empty where nobody asked.
    """

    prior: AnalyticCost
    ops: tuple[str, ...] = ()
    forests: Mapping[str, Forest] = field(default_factory=dict)
    ranges: Mapping[str, Ranges] = field(default_factory=dict)
    devices: tuple[DeviceFactor, ...] = ()
    models: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    held_out: Mapping[str, HeldOut] = field(default_factory=dict)

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of kernels on the fastest kind of device; see :class:`flexpie_mpi.cost.model.CostModel`."""
        prior_s = self.prior.compute_s(work, active)
        if "compute" not in self.forests:
            return prior_s
        return prior_s * self._factor("compute", compute_features(work, active, self.prior, self.ops))

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of session calls on the fastest kind of device."""
        prior_s = self.prior.call_s(calls, active)
        if "call" not in self.forests:
            return prior_s
        features = call_features(calls, active, self.prior)
        index, inverse = distinct_rows(features)
        return prior_s * self._factor("call", features[index])[inverse]

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        """Seconds of exchanges."""
        prior_s = self.prior.exchange_s(transfers)
        if "exchange" not in self.forests:
            return prior_s
        return prior_s * self._factor("exchange", exchange_features(transfers, self.prior))

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """Which of `rows` are priced by extrapolation, bool array (n,).

        Parameters
        ----------
        rows : array (n,) of `WORK`, `CALL` or `TRANSFER`
        """
        names = rows.dtype.names or ()
        table = next(table for table, label in LABELS.items() if label in names)
        ranges = self.ranges.get(table)
        return np.ones(len(rows), bool) if ranges is None else ranges.outside(rows)

    def device_factor(self, origin: Origin) -> float | None:
        """How much longer an origin takes than the fastest kind of device; None when nobody like it has measured."""
        return next((device.factor for device in self.devices if device.is_of(origin)), None)

    def _factor(self, table: str, features: np.ndarray) -> np.ndarray:
        return np.exp(self.forests[table].predict(features))
