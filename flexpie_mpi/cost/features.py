"""Features: what the learned factor on an analytic price may depend on, one column each.

Columns are ratios or logarithms wherever possible: a tree knows nothing beyond the range it was shown, but a new
channel count has seldom a new waste, a new balance, and a new intensity as well. A column's sign says how the factor
may change with it when all else stays: +1, it never falls.

+1  waste        the last block of channels is computed in full, however few of its channels exist (blocks of 4 have no
                 sign: channels that do not even fill those take another path altogether)
+1  working set  what no longer fits a cache is fetched more slowly
+1  crowd        ranks on the same cores evict each other's caches
"""

from __future__ import annotations

import numpy as np

from .prior import AnalyticCost, elements, kernel_s, kind_numbers, touched_bytes

COMPUTE = {
    "op": 0,
    "prior": 0,
    "balance": 0,
    "intensity": 0,
    "flops": 0,
    "in_channels": 0,
    "out_channels": 0,
    "in_waste_4": 0,
    "out_waste_4": 0,
    "in_waste_8": 1,
    "in_waste_16": 1,
    "out_waste_8": 1,
    "out_waste_16": 1,
    "batch": 0,
    "rows": 0,
    "columns": 0,
    "pixels": 0,
    "overlap": 0,
    "kernel_rows": 0,
    "kernel_columns": 0,
    "stride": 0,
    "groups": 0,
    "followers": 0,
    "sums": 0,
    "working_set": 1,
    "weight_share": 0,
    "row_bytes": 0,
    "crowd": 1,
}
"""Columns of :func:`compute_features` and their signs; the first is a category."""

CALL = {"blocked": 0, "prior": 0, "kernels": 0, "values": 0, "bytes": 0, "in_share": 0, "crowd": 1}
"""Columns of :func:`call_features`."""

EXCHANGE = {
    "kind": 0,
    "prior": 0,
    "ranks": 0,
    "messages": 0,
    "port_bytes": 0,
    "message_bytes": 0,
    "own_bytes": 0,
    "runs": 0,
    "spread": 0,
    "wire_share": 0,
    "latency_share": 0,
}
"""Columns of :func:`exchange_features`."""


def compute_features(work: np.ndarray, active: np.ndarray, prior: AnalyticCost, ops: tuple[str, ...]) -> np.ndarray:
    """Float array (n, F), one row per kernel.

    Parameters
    ----------
    work : array (n,) of `WORK`
    active : float array (n,)
    prior : AnalyticCost
    ops : tuple of str
        Labels that were trained on, sorted; any other has no category.
    """
    constants = prior.constants_of(work["op"])
    nbytes = touched_bytes(work)
    in_area, out_area = work["in_rows"] * work["in_columns"], work["out_rows"] * work["out_columns"]
    columns = {
        "op": _category(work["op"], ops),
        "prior": _log(kernel_s(constants, work) * 1e9),
        "balance": _log(work["flops"] / constants[:, 1] * 1e9) - _log(nbytes / constants[:, 2] * 1e9),
        "intensity": _log(work["flops"]) - _log(nbytes),
        "flops": _log(work["flops"]),
        "in_channels": _log(work["in_channels"]),
        "out_channels": _log(work["out_channels"]),
        "in_waste_4": _waste(work["in_channels"], 4),
        "out_waste_4": _waste(work["out_channels"], 4),
        "in_waste_8": _waste(work["in_channels"], 8),
        "in_waste_16": _waste(work["in_channels"], 16),
        "out_waste_8": _waste(work["out_channels"], 8),
        "out_waste_16": _waste(work["out_channels"], 16),
        "batch": _log(work["batch"]),
        "rows": _log(work["out_rows"]),
        "columns": _log(work["out_columns"]),
        "pixels": _log(out_area),
        "overlap": _log(in_area) - _log(out_area * work["stride"] ** 2),
        "kernel_rows": work["kernel_rows"],
        "kernel_columns": work["kernel_columns"],
        "stride": work["stride"],
        "groups": _log(work["groups"]),
        "followers": work["followers"],
        "sums": work["sums"],
        "working_set": _log(nbytes),
        "weight_share": work["weight_bytes"] / np.maximum(nbytes, 1),
        "row_bytes": _log(nbytes / np.maximum(elements(work) / np.maximum(work["out_columns"], 1), 1)),
        "crowd": active,
    }
    return np.column_stack([columns[name] for name in COMPUTE])


def call_features(calls: np.ndarray, active: np.ndarray, prior: AnalyticCost) -> np.ndarray:
    """Float array (n, F), one row of an array (n,) of `CALL` each."""
    nbytes = calls["in_bytes"] + calls["out_bytes"]
    columns = {
        "blocked": calls["blocked"],
        "prior": _steps(_log(prior.call_s(calls, np.ones(len(calls))) * 1e9), 8),
        "kernels": calls["kernels"],
        "values": calls["inputs"] + calls["outputs"],
        "bytes": _steps(_log(nbytes), 8),
        "in_share": _steps(calls["in_bytes"] / np.maximum(nbytes, 1), 8),
        "crowd": active,
    }
    return np.column_stack([columns[name] for name in CALL])


def exchange_features(transfers: np.ndarray, prior: AnalyticCost) -> np.ndarray:
    """Float array (n, F), one row of an array (n,) of `TRANSFER` each."""
    seconds = prior.exchange_s(transfers)
    columns = {
        "kind": kind_numbers(transfers),
        "prior": _log(seconds * 1e9),
        "ranks": transfers["ranks"],
        "messages": transfers["messages"],
        "port_bytes": _log(transfers["port_bytes"]),
        "message_bytes": _log(transfers["port_bytes"] / np.maximum(transfers["messages"], 1)),
        "own_bytes": _log(transfers["local_bytes"]),
        "runs": _log(transfers["runs"]),
        "spread": _log(transfers["total_bytes"]) - _log(transfers["port_bytes"]),
        "wire_share": transfers["wire_s"] / seconds,
        "latency_share": transfers["latency_s"] / seconds,
    }
    return np.column_stack([columns[name] for name in EXCHANGE])


def _steps(values: np.ndarray, steps: int) -> np.ndarray:
    """Values in so many steps to one: a search asks for hundreds of thousands of calls, and few of them differ much."""
    return np.round(values * steps) / steps


def _log(values: np.ndarray) -> np.ndarray:
    return np.log2(np.maximum(values, 1.0))


def _waste(channels: np.ndarray, block: int) -> np.ndarray:
    """How much larger channels become when their last block is filled; at least 1."""
    return np.ceil(np.maximum(channels, 1) / block) * block / np.maximum(channels, 1)


def _category(labels: np.ndarray, known: tuple[str, ...]) -> np.ndarray:
    """The place of each label among the known ones; -1, which trees take for missing, where there is none."""
    names = np.array([name.encode() for name in known], "S24")
    if not len(names):
        return np.full(len(labels), -1.0)
    places = np.minimum(np.searchsorted(names, labels), len(names) - 1)
    return np.where(names[places] == labels, places, -1.0)
