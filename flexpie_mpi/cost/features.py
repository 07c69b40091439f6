"""Features: what the learned factor on an analytic price may depend on, one column each.

A feature is one row of a table below: its sign, and the function that gives its column. Columns are ratios or
logarithms wherever possible: a tree knows nothing beyond the range it was shown, but a new channel count has seldom a
new waste, a new balance, and a new intensity as well. A column's sign says how the factor may change with it when all
else stays: +1, it never falls. Three kinds of column have one:

- waste: the last block of channels is computed in full, however few of its channels exist. (Blocks of 4 have no sign:
  channels that do not even fill those take another path altogether.)
- working set: what no longer fits a cache is fetched more slowly.
- crowd: ranks on the same cores evict each other's caches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .prior import AnalyticCost, elements, kernel_s, kind_numbers, touched_bytes, waste


@dataclass(frozen=True)
class Described:
    """Rows of one table, and what several features of them are made of."""

    rows: np.ndarray  # array (n,) of `WORK`, `CALL` or `TRANSFER`
    active: np.ndarray  # float array (n,)
    prior: AnalyticCost
    ops: tuple[str, ...]  # labels of operators that were trained on, sorted; any other has no category

    def __getitem__(self, name: str) -> np.ndarray:
        return self.rows[name]

    @cached_property
    def constants(self) -> np.ndarray:
        """Constants (n, 7) of each group's operator."""
        return self.prior.constants_of(self["op"])

    @cached_property
    def touched(self) -> np.ndarray:
        """Bytes (n,) that each group reads and writes once."""
        return touched_bytes(self.rows)

    @cached_property
    def moved(self) -> np.ndarray:
        """Bytes (n,) that enter and leave each call."""
        moved: np.ndarray = self["in_bytes"] + self["out_bytes"]
        return moved

    @cached_property
    def exchange_s(self) -> np.ndarray:
        """Analytic seconds (n,) of exchanges."""
        return self.prior.exchange_s(self.rows)


class Feature(NamedTuple):
    """How the factor may change with a column (+1: it never falls; 0: either way), and what the column is, (n,)."""

    sign: int
    of: Callable[[Described], np.ndarray]


def _log(values: np.ndarray) -> np.ndarray:
    return np.log2(np.maximum(values, 1.0))


def _log_of(name: str) -> Callable[[Described], np.ndarray]:
    return lambda d: _log(d[name])


def _waste(name: str, block: int) -> Callable[[Described], np.ndarray]:
    return lambda d: waste(d[name], block)


def _stepped(values: np.ndarray) -> np.ndarray:
    """Values in eighths: a search asks for hundreds of thousands of calls, and few of them differ much."""
    return np.round(values * 8) / 8


def _category(labels: np.ndarray, known: tuple[str, ...]) -> np.ndarray:
    """The place of each label among the known ones; -1, which trees take for missing, where there is none."""
    names = np.array([name.encode() for name in known], "S24")
    if not len(names):
        return np.full(len(labels), -1.0)
    nearest = np.minimum(np.searchsorted(names, labels), len(names) - 1)
    return np.where(names[nearest] == labels, nearest, -1.0)


def _overlap(d: Described) -> np.ndarray:
    """Input pixels for each output pixel, strides set aside: more where windows overlap or halos are fetched."""
    return _log(d["in_rows"] * d["in_columns"]) - _log(d["out_rows"] * d["out_columns"] * d["stride"] ** 2)


COMPUTE = {
    "op": Feature(0, lambda d: _category(d["op"], d.ops)),
    "prior": Feature(0, lambda d: _log(kernel_s(d.constants, d.rows) * 1e9)),
    "balance": Feature(
        0, lambda d: _log(d["flops"] / d.constants[:, 1] * 1e9) - _log(d.touched / d.constants[:, 2] * 1e9)
    ),
    "intensity": Feature(0, lambda d: _log(d["flops"]) - _log(d.touched)),
    "flops": Feature(0, _log_of("flops")),
    "in_channels": Feature(0, _log_of("in_channels")),
    "out_channels": Feature(0, _log_of("out_channels")),
    "in_waste_4": Feature(0, _waste("in_channels", 4)),
    "out_waste_4": Feature(0, _waste("out_channels", 4)),
    "in_waste_8": Feature(1, _waste("in_channels", 8)),
    "in_waste_16": Feature(1, _waste("in_channels", 16)),
    "out_waste_8": Feature(1, _waste("out_channels", 8)),
    "out_waste_16": Feature(1, _waste("out_channels", 16)),
    "out_waste_64": Feature(1, _waste("out_channels", 64)),
    "batch": Feature(0, _log_of("batch")),
    "rows": Feature(0, _log_of("out_rows")),
    "columns": Feature(0, _log_of("out_columns")),
    "pixels": Feature(0, lambda d: _log(d["out_rows"] * d["out_columns"])),
    "overlap": Feature(0, _overlap),
    "kernel_rows": Feature(0, lambda d: d["kernel_rows"]),
    "kernel_columns": Feature(0, lambda d: d["kernel_columns"]),
    "stride": Feature(0, lambda d: d["stride"]),
    "groups": Feature(0, _log_of("groups")),
    "followers": Feature(0, lambda d: d["followers"]),
    "sums": Feature(0, lambda d: d["sums"]),
    "working_set": Feature(1, lambda d: _log(d.touched)),
    "weight_share": Feature(0, lambda d: d["weight_bytes"] / np.maximum(d.touched, 1)),
    "row_bytes": Feature(
        0, lambda d: _log(d.touched / np.maximum(elements(d.rows) / np.maximum(d["out_columns"], 1), 1))
    ),
    "crowd": Feature(1, lambda d: d.active),
}
"""Features of a fused group; the first is a category."""

CALL = {
    "blocked": Feature(0, lambda d: d["blocked"]),
    "prior": Feature(0, lambda d: _stepped(_log(d.prior.call_s(d.rows, np.ones(len(d.rows))) * 1e9))),
    "kernels": Feature(0, lambda d: d["kernels"]),
    "values": Feature(0, lambda d: d["inputs"] + d["outputs"]),
    "bytes": Feature(0, lambda d: _stepped(_log(d.moved))),
    "in_share": Feature(0, lambda d: _stepped(d["in_bytes"] / np.maximum(d.moved, 1))),
    "laid_share": Feature(0, lambda d: _stepped(d["laid_bytes"] / np.maximum(d.moved, 1))),
    "crowd": Feature(0, lambda d: d.active),
}
"""Features of a session call; the first is a category."""

EXCHANGE = {
    "kind": Feature(0, lambda d: kind_numbers(d.rows)),
    "prior": Feature(0, lambda d: _log(d.exchange_s * 1e9)),
    "ranks": Feature(0, lambda d: d["ranks"]),
    "messages": Feature(0, lambda d: d["messages"]),
    "port_bytes": Feature(0, _log_of("port_bytes")),
    "message_bytes": Feature(0, lambda d: _log(d["port_bytes"] / np.maximum(d["messages"], 1))),
    "own_bytes": Feature(0, _log_of("local_bytes")),
    "runs": Feature(0, _log_of("runs")),
    "spread": Feature(0, lambda d: _log(d["total_bytes"]) - _log(d["port_bytes"])),
    "wire_share": Feature(0, lambda d: d["wire_s"] / d.exchange_s),
    "latency_share": Feature(0, lambda d: d["latency_s"] / d.exchange_s),
}
"""Features of an exchange; the first is a category."""

FEATURES: Mapping[str, dict[str, Feature]] = {"compute": COMPUTE, "call": CALL, "exchange": EXCHANGE}
"""Features by the table of the rows that they describe."""


def features_of(
    table: str, rows: np.ndarray, active: np.ndarray, prior: AnalyticCost, ops: tuple[str, ...] = ()
) -> np.ndarray:
    """Features of the rows of a table, float array (n, F); arguments as of :class:`Described`."""
    described = Described(rows, active, prior, ops)
    return np.column_stack([feature.of(described) for feature in FEATURES[table].values()])
