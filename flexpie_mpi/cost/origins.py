"""Who measured a row of a trace, and the numbers by which rows name them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import inf

import numpy as np

from ..core.document import from_json as documented
from ..core.document import shown

NUMBERED = ("origin", "source", "target")
"""Columns of traces that hold the number of an origin."""


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

    def __post_init__(self) -> None:
        if type(self.slowdown) is int:
            object.__setattr__(self, "slowdown", float(self.slowdown))
        for column in fields(self):
            value = getattr(self, column.name)
            if type(value).__name__ != column.type:
                raise TypeError(f"'{column.name}' of an origin is {shown(value)}, which is no {column.type}")
        if not (0 < self.slowdown < inf and min(self.cores, self.threads) >= 1):
            raise ValueError(
                f"an origin cannot be {self.slowdown} times slower, with {self.threads} threads on {self.cores} cores"
            )


def to_json(origins: Sequence[Origin]) -> str:
    """Origins as a JSON list."""
    return json.dumps([asdict(origin) for origin in origins])


def from_json(text: str) -> tuple[Origin, ...]:
    """Origins out of :func:`to_json`.

    Raises DocumentError, TypeError, ValueError when the text is something else.
    """
    records = documented(text)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("origins are a list of tables")
    return tuple(Origin(**record) for record in records)


def places(origins: Sequence[Origin], order: Sequence[Origin]) -> np.ndarray:
    """The place in `order` of each origin, int array (len(origins),)."""
    number_of = {origin: number for number, origin in enumerate(order)}
    return np.array([number_of[origin] for origin in origins], np.int32)


def renumbered(rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """A copy of the rows of a table, in which the number n of an origin has become ``numbers[n]``."""
    rows = rows.copy()
    for column in numbered_columns(rows.dtype):
        rows[column] = numbers[rows[column]]
    return rows


def numbered_columns(dtype: np.dtype) -> list[str]:
    """Those of `NUMBERED` that a record type has."""
    return [column for column in NUMBERED if column in (dtype.names or ())]


@dataclass(frozen=True, slots=True)
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

    def is_of(self, origin: Origin) -> bool:
        """Whether an origin is a device of this kind."""
        return kind_of(origin) == (self.cpu, self.threads, self.onnxruntime, self.slowdown)


def devices_of(origins: tuple[Origin, ...]) -> tuple[DeviceFactor, ...]:
    """The kinds of devices among origins, in order, all with factor 1."""
    return tuple(DeviceFactor(*kind) for kind in sorted({kind_of(origin) for origin in origins}))


def kind_of(origin: Origin) -> tuple[str, int, str, float]:
    """What makes an origin a device of one kind: the first four fields of :class:`DeviceFactor`."""
    return origin.cpu, origin.threads, origin.onnxruntime, origin.slowdown
