"""Rows of numbers that a cost model prices and a trace records: the same columns for both.

Every kind of row is a numpy record type. What is asked of a cost model (`WORK`, `CALL`, `TRANSFER`) comes first; a row
of a trace has the same fields and then `TIMING`.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ..core.document import shown


def _dtype(labels: dict[str, str], numbers: str) -> np.dtype:
    """A record type of some labels, by type, and then of numbers, all of 8 bytes."""
    return np.dtype([*labels.items(), *((name, "f8") for name in numbers.split())])


WORK = _dtype(
    {"op": "S24"},
    "batch in_channels out_channels groups in_rows in_columns out_rows out_columns kernel_rows kernel_columns stride "
    "flops in_bytes weight_bytes out_bytes followers sums",
)
"""What one fused group (:mod:`flexpie_mpi.cost.groups`) computes on one rank.

`in_channels` are those that one output element reads (of one group of a convolution, or the summed axis of a product);
`followers` the operations per output element of the epilogue, the nodes beside the main one; `sums` is 1 where it takes
along the addition of another tensor, which is a group of its own otherwise.
"""

CALL = _dtype({}, "kernels inputs outputs in_bytes out_bytes blocked laid_bytes")
"""One run of one segment's session, without its groups: the call itself and the re-layout of what enters and leaves.

`kernels` counts the groups; `in_bytes` and `out_bytes` are the sizes of the values that enter and leave, weights set
aside; `blocked` is 1 when the segment has a group that wants its data in blocks of channels (a convolution), else 0;
`laid_bytes` are those of `in_bytes` and `out_bytes` that come or go in blocks already, and need no re-layout.
"""

TRANSFER = _dtype({"kind": "S8"}, "ranks messages port_bytes total_bytes local_bytes runs latency_s wire_s")
"""One exchange, as its slowest rank sees it.

`kind` is one of `KINDS`; `ranks` take part; `messages` is the most that any rank sends or receives; `port_bytes` the
most that any rank sends or receives; `total_bytes` what all send; `local_bytes` the most any rank copies within itself
(packing, unpacking, own shard), in at most `runs` contiguous runs of memory; `latency_s` and `wire_s` are the two terms
of the links' own price (:mod:`flexpie_mpi.cost.links`): the sum of latencies, and bytes over bandwidth at the busiest
port or link.
"""

KINDS = ("local", "halo", "scatter", "gather", "full")
"""Patterns of a transfer: none, messages between some pairs, from one rank, to one rank, between all pairs."""

_TIMES = [("seconds", "f8"), ("spread_s", "f8"), ("repeats", "i4"), ("origin", "i4")]

TIMING = [("active", "f8"), *_TIMES, ("model", "S32")]
"""How a row was measured.

`active` is the number of ranks that computed at once on the rank's host, over its cores (1 when there were cores to
spare); `seconds` the median and `spread_s` the distance of the quartiles over `repeats`; `origin` the number of the
rank's provenance in the file; `model` the name of the model it was seen in.
"""

COMPUTE_TRACE = np.dtype(WORK.descr + TIMING)
CALL_TRACE = np.dtype(CALL.descr + TIMING)
EXCHANGE_TRACE = np.dtype(TRANSFER.descr + TIMING)

LINK_TRACE = np.dtype([("source", "i4"), ("target", "i4"), ("nbytes", "f8"), ("pairs", "f8"), *_TIMES])
"""One way of a message between two ranks while `pairs` pairs exchange at once; `source` and `target` are origins."""

PLAN_TRACE = np.dtype(
    _dtype({"model": "S32", "planner": "S32"}, "ranks segments compute_s exchange_s predicted_s").descr + _TIMES
)
"""A whole plan's request: the sum over segments of the slowest rank's compute, the sum of exchanges, what was predicted
(NaN when nothing was), and the measured latency."""

PRICED = {"compute": WORK, "call": CALL, "exchange": TRANSFER}
"""Record type of what a cost model is asked, by table."""

LABELS = {"compute": "op", "call": "blocked", "exchange": "kind"}
"""Column by which the rows of such a table are told apart."""

TABLES = {
    "compute": COMPUTE_TRACE,
    "call": CALL_TRACE,
    "exchange": EXCHANGE_TRACE,
    "link": LINK_TRACE,
    "plan": PLAN_TRACE,
}
"""Record type of every table of a trace file."""


def unlike(have: Collection[str], want: Collection[str]) -> str:
    """Which name of a column is missing, or else too much; empty when both have the same, in whatever order.

    >>> unlike(("op", "flops"), ("op", "bytes")), unlike(("op", "flops"), ("op",))
    ("no column 'bytes'", "an unknown column 'flops'")
    """
    for word, names in (("no column", {*want} - {*have}), ("an unknown column", {*have} - {*want})):
        if names:
            return f"{word} {shown(min(names))}"
    return ""


_WEIGHTS = np.random.default_rng(0).random(32) + np.arange(32) * 0.7071
"""One number per column: two different rows practically never have the same weighted sum."""


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct row first occurs, and which of the distinct ones every row is, for rows (n, F), F <= 32.

    Much faster than sorting whole rows; each row counts by a weighted sum of its columns.

    >>> index, inverse = distinct_rows(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
    >>> sorted(index.tolist()), bool(inverse[0] == inverse[2] != inverse[1])
    ([0, 1], True)
    """
    sums = sum(column * weight for column, weight in zip(rows.T, _WEIGHTS, strict=False))
    return np.unique(sums, return_index=True, return_inverse=True)[1:]
