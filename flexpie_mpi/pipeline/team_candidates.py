"""Which boards are asked which spans of units they would run together: few of the many there are.

A team takes as much computing as replicas of one board, and sends more; what it spares is memory. So all boards
together are always asked for the whole network, and others only where a board cannot hold all of it: around what no
board can hold alone, or else for either half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice, product

import numpy as np

from ..lower.memory import PROCESS_BYTES
from ..placement import Span
from ..testbed import Testbed

MOST = 12
"""Teams that are asked for less than everything: each is a search of its own."""

SIZES = (2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512)
"""Sizes of teams, next to all boards but one."""

TeamCandidate = tuple[tuple[int, ...], Span]


def team_candidates(
    testbed: Testbed, root: int, fits: np.ndarray, compute_s: np.ndarray, weight_bytes: np.ndarray
) -> list[TeamCandidate]:
    """Boards and spans to ask about, the whole network on all boards first.

    Parameters
    ----------
    testbed : Testbed
        With n boards.
    root : int
    fits : bool array (n, m + 1, m + 1)
        Whether each board can run units ``[i, j)`` by itself.
    compute_s : float array (m + 1, m + 1)
        Seconds of units ``[i, j)`` on the root.
    weight_bytes : float array (m + 1, m + 1)
    """
    if testbed.ranks == 1:
        return []
    units = len(weight_bytes) - 1
    found = [(tuple(range(testbed.ranks)), (0, units))]
    if fits[:, 0, units].all():
        return found
    wanted = product(_groups(testbed, root), _spans(fits, compute_s))
    able = ((boards, span) for boards, span in wanted if weight_bytes[span] <= _free(testbed, boards))
    return [*found, *islice(able, MOST)]


def _spans(fits: np.ndarray, compute_s: np.ndarray) -> list[Span]:
    """Spans around what no board can hold, the shortest first; halves where each board can hold every unit."""
    units = fits.shape[1] - 1
    heavy = [unit for unit in range(units) if not fits[:, : unit + 1, unit + 1 :].any()]
    if not heavy:
        half = int(np.searchsorted(compute_s[0, 1:units], compute_s[0, units] / 2)) + 1
        return [(0, half), (half, units)] if half < units else []
    runs = [[unit for _, unit in run] for _, run in groupby(enumerate(heavy), key=lambda item: item[1] - item[0])]
    edges = [(run[0], run[-1] + 1) for run in runs]
    first, last = edges[0][0], edges[-1][1]
    found = dict.fromkeys([*edges, (first, last), (first, units), (0, last)])
    return [span for span in found if span != (0, units)]


def _groups(testbed: Testbed, root: int) -> Iterator[tuple[int, ...]]:
    """Boards of some size, those with the most memory and the fastest first, without the root as long as it can be."""
    devices = testbed.devices

    def worth(rank: int) -> tuple[bool, float, float, int]:
        memory = devices[rank].memory_bytes
        return rank == root, -(float("inf") if memory is None else memory), devices[rank].slowdown, rank

    order = sorted(range(testbed.ranks), key=worth)
    sizes = {size for size in (*SIZES, testbed.ranks - 1) if 2 <= size < testbed.ranks}
    yield from (tuple(sorted(order[:size])) for size in sorted(sizes))


def _free(testbed: Testbed, boards: Sequence[int]) -> float:
    """Memory of boards beside their processes."""
    limits = (testbed.devices[board].memory_bytes for board in boards)
    return sum(float("inf") if limit is None else max(0.0, limit - PROCESS_BYTES) for limit in limits)
