"""The question a planner asks of a cost model: how long each of these takes."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class CostModel(Protocol):
    """Prices rows of numbers (:mod:`flexpie_mpi.cost.rows`), many at a time; seconds on the reference device."""

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of kernels.

        Parameters
        ----------
        work : array (n,) of `WORK`
        active : array (n,)
            Ranks that compute at once on the same host, over its cores; at least 1 where there are cores to spare.
        """

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of session calls, without their kernels, for an array (n,) of `CALL`."""

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        """Seconds of exchanges, for an array (n,) of `TRANSFER`."""
