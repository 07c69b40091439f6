"""The questions that a cost model answers: how long each of these takes, and how it knows.

It knows from rows of traces, in which every device that measured, an *origin*, has a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import inf
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from ..core.document import shown


@dataclass(frozen=True, slots=True)
class Origin:
    """Who measured: one rank of one run.

    Raises TypeError, ValueError when a field has another type, or no such device can be: a file could not hold it,
    which would show when everything is measured.
    """

    job: str  # random, the same for all ranks of the run and for no other run
    rank: int
    host: str = ""
    cpu: str = ""  # name of the processor's model
    cores: int = 1  # of the host, as its ranks may use them
    threads: int = 1  # of the rank's sessions
    slowdown: float = 1.0  # by which the rank was paced; 1 when it was not
    # `onnxruntime`, `python` and `package`: versions
    onnxruntime: str = ""
    python: str = ""
    package: str = ""
    block: int = 0  # channels to a block between its segments; 0 where values were row-major

    def __post_init__(self) -> None:
        if type(self.slowdown) is int:
            object.__setattr__(self, "slowdown", float(self.slowdown))
        for column in fields(self):
            value = getattr(self, column.name)
            if type(value).__name__ != column.type:
                raise TypeError(f"'{column.name}' of an origin is {shown(value)}, which is no {column.type}")
        if not (0 < self.slowdown < inf and min(self.cores, self.threads) >= 1 and self.block >= 0):
            raise ValueError(
                f"an origin cannot be {self.slowdown} times slower, with {self.threads} threads on {self.cores} cores"
            )


@dataclass(frozen=True, slots=True, order=True)
class DeviceFactor:
    """How much longer than on the fastest device everything takes on devices of one kind."""

    cpu: str
    threads: int
    onnxruntime: str
    slowdown: float
    factor: float = 1.0  # 1 for the fastest

    @property
    def label(self) -> str:
        """All of it but the factor, for people; no two kinds have the same.

        >>> DeviceFactor("Cortex-A72", 1, "1.20", 2.0).label
        'Cortex-A72, threads 1, onnxruntime 1.20, slowdown 2'
        """
        return f"{self.cpu}, threads {self.threads}, onnxruntime {self.onnxruntime}, slowdown {self.slowdown:g}"

    @classmethod
    def of(cls, origin: Origin) -> DeviceFactor:
        """The kind of device that an origin is, with factor 1."""
        return cls(origin.cpu, origin.threads, origin.onnxruntime, origin.slowdown)

    def is_of(self, origin: Origin) -> bool:
        """Whether an origin is a device of this kind."""
        return replace(self, factor=1.0) == DeviceFactor.of(origin)


def devices_of(origins: tuple[Origin, ...]) -> tuple[DeviceFactor, ...]:
    """The kinds of devices among origins, in order, all with factor 1."""
    return tuple(sorted({DeviceFactor.of(origin) for origin in origins}))


class CostModel(Protocol):
    """Prices rows of numbers (:mod:`flexpie_mpi.cost.rows`), many at a time, in seconds on the reference device.

    A cost model inherits from this class and gives the three prices, or `seconds`, which has them all. The rest has a
    default: that of a model which nobody has measured anything for.
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
        return self.seconds("compute", work, active)

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Seconds of session calls without their groups, float array (n,), for an array (n,) of `CALL`."""
        return self.seconds("call", calls, active)

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        """Seconds of exchanges, float array (n,), for an array (n,) of `TRANSFER`."""
        return self.seconds("exchange", transfers, np.ones(len(transfers)))

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
