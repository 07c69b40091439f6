"""Rows of numbers that a cost model prices and a trace records: the same columns for both.

Every kind of row is a numpy record type. What is asked of a cost model (`WORK`, `CALL`, `TRANSFER`) comes first; a row
of a trace has the same fields and then `TIMING`.
"""

from __future__ import annotations

import numpy as np

WORK = np.dtype(
    [
        ("op", "S24"),
        ("batch", "f8"),
        ("in_channels", "f8"),
        ("out_channels", "f8"),
        ("groups", "f8"),
        ("in_rows", "f8"),
        ("in_columns", "f8"),
        ("out_rows", "f8"),
        ("out_columns", "f8"),
        ("kernel_rows", "f8"),
        ("kernel_columns", "f8"),
        ("stride", "f8"),
        ("flops", "f8"),
        ("in_bytes", "f8"),
        ("weight_bytes", "f8"),
        ("out_bytes", "f8"),
        ("followers", "f8"),
        ("sums", "f8"),
    ]
)
"""What one kernel (:mod:`flexpie_mpi.cost.groups`) computes on one rank.

`in_channels` are those that one output element reads (of one group, or the summed axis of a product); `followers` the
operations per output element of the other nodes of the kernel; `sums` is 1 where it takes along the addition of another
tensor, a kernel of its own otherwise.
"""

CALL = np.dtype(
    [
        ("kernels", "f8"),
        ("inputs", "f8"),
        ("outputs", "f8"),
        ("in_bytes", "f8"),
        ("out_bytes", "f8"),
        ("blocked", "f8"),
    ]
)
"""One run of one segment's session, without its kernels: the call itself and the re-layout of what enters and leaves.

`in_bytes` and `out_bytes` are the sizes of the values that enter and leave, weights set aside; `blocked` is 1 when the
segment has a kernel that wants its data in blocks of channels (a convolution), 0 when not.
"""

TRANSFER = np.dtype(
    [
        ("kind", "S8"),
        ("ranks", "f8"),
        ("messages", "f8"),
        ("port_bytes", "f8"),
        ("total_bytes", "f8"),
        ("local_bytes", "f8"),
        ("runs", "f8"),
        ("latency_s", "f8"),
        ("wire_s", "f8"),
    ]
)
"""One exchange, as its slowest rank sees it.

`kind` is one of `KINDS`; `ranks` take part; `messages` is the most that any rank sends or receives; `port_bytes` the
most that any rank sends or receives; `total_bytes` what all send; `local_bytes` the most any rank copies within itself
(packing, unpacking, own shard), in at most `runs` contiguous runs of memory; `latency_s` and `wire_s` are the two terms
of the links' own price (:mod:`flexpie_mpi.cost.links`): the sum of latencies, and bytes over bandwidth at the busiest
port or link.
"""

KINDS = ("local", "halo", "scatter", "gather", "full")
"""Patterns of a transfer: none, messages between some pairs, from one rank, to one rank, between all pairs."""

TIMING = [
    ("active", "f8"),
    ("seconds", "f8"),
    ("spread_s", "f8"),
    ("repeats", "i4"),
    ("origin", "i4"),
    ("model", "S32"),
]
"""How a row was measured.

`active` is the number of ranks that computed at once on the rank's host, over its cores (1 when there were cores to
spare); `seconds` the median and `spread_s` the distance of the quartiles over `repeats`; `origin` the number of the
rank's provenance in the file; `model` the name of the model it was seen in.
"""

COMPUTE_TRACE = np.dtype(WORK.descr + TIMING)
CALL_TRACE = np.dtype(CALL.descr + TIMING)
EXCHANGE_TRACE = np.dtype(TRANSFER.descr + TIMING)

LINK_TRACE = np.dtype(
    [
        ("source", "i4"),
        ("target", "i4"),
        ("nbytes", "f8"),
        ("pairs", "f8"),
        ("seconds", "f8"),
        ("spread_s", "f8"),
        ("repeats", "i4"),
        ("origin", "i4"),
    ]
)
"""One way of a message between two ranks while `pairs` pairs exchange at once; `source` and `target` are origins."""

PLAN_TRACE = np.dtype(
    [
        ("model", "S32"),
        ("planner", "S32"),
        ("ranks", "f8"),
        ("segments", "f8"),
        ("compute_s", "f8"),
        ("exchange_s", "f8"),
        ("predicted_s", "f8"),
        ("seconds", "f8"),
        ("spread_s", "f8"),
        ("repeats", "i4"),
        ("origin", "i4"),
    ]
)
"""A whole plan's request: the sum over segments of the slowest rank's compute, the sum of exchanges, what was predicted
(NaN when nothing was), and the measured latency."""

TABLES = {
    "compute": COMPUTE_TRACE,
    "call": CALL_TRACE,
    "exchange": EXCHANGE_TRACE,
    "link": LINK_TRACE,
    "plan": PLAN_TRACE,
}
"""Record type of every table of a trace file."""


_WEIGHTS = np.random.default_rng(0).random(32) + np.arange(32) * 0.7071
"""One number per column: two different rows practically never have the same weighted sum."""


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each distinct row first occurs, and which of the distinct ones every row is.

    Much faster than sorting whole rows; each row counts by a weighted sum of its columns.

    Parameters
    ----------
    rows : float array (n, F)
        At most 32 columns.

    Examples
    --------
    >>> index, inverse = distinct_rows(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
    >>> sorted(index.tolist()), bool(inverse[0] == inverse[2] != inverse[1])
    ([0, 1], True)
    """
    _, index, inverse = np.unique(
        (rows * _WEIGHTS[: rows.shape[1]]).sum(axis=1), return_index=True, return_inverse=True
    )
    return index, inverse
