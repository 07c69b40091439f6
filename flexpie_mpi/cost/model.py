"""The questions that a cost model answers: how long each of these takes, and how it knows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from .origins import DeviceFactor, Origin


class CostModel(Protocol):
    """Prices rows of numbers (:mod:`flexpie_mpi.cost.rows`), many at a time, in seconds on the reference device.

    A cost model inherits from this class and gives the three prices. The rest has a default: that of a model which
    nobody has measured anything for.
    """

    provenance: Mapping[str, Any] = MappingProxyType({})  # what the model was made from and with
    models: tuple[str, ...] = ()  # names of the models in which anything was measured
    devices: tuple[DeviceFactor, ...] = ()  # kinds of devices that have measured

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of fused groups, float array (n,).

        Parameters
        ----------
        work : array (n,) of `WORK`
        active : float array (n,)
            Ranks that compute at once on the same host, over its cores; at least 1 where there are cores to spare.
        """
        ...

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of session calls without their groups, float array (n,), for an array (n,) of `CALL`."""
        ...

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        """Seconds of exchanges, float array (n,), for an array (n,) of `TRANSFER`."""
        ...

    def seconds(self, table: str, rows: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds (n,) of the rows of one table: ``compute``, ``call`` or ``exchange``."""
        if table == "exchange":
            return self.exchange_s(rows)
        return self.compute_s(rows, active) if table == "compute" else self.call_s(rows, active)

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """Which of `rows` (n,), of `WORK`, `CALL` or `TRANSFER`, are priced by extrapolation: bool array (n,)."""
        return np.ones(len(rows), bool)

    def device_factor(self, origin: Origin) -> float | None:
        """How much longer an origin takes than the reference device; None when nobody like it has measured."""
        return None
