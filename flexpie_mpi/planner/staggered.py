"""Unequal shares of a plan's last segment, so that ranks are done one after the other and outputs travel meanwhile.

Outputs of all ranks come to the root through its one port. With equal shares they all travel when nobody computes any
more; with less work for others than for the root, each comes while the next ones compute::

    rank 0  |-- compute -----------|           |-- compute --------------|
    rank 1  |-- compute -----------|-- 1 --|   |-- compute ----------|-1-|
    rank 2  |-- compute -----------|-- 2 --|   |-- compute ------|-2-|
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..core.layout import KINDS, Layout
from ..core.plan import Plan
from ..lower.shards import segment_problems
from .latency import Search, Task, lacking, price_ends
from .rules import grid_weights

LEAST = 0.02
"""Share of a plan's seconds that the outputs must travel for, for it to be worth a look."""

GAIN = 0.01
"""What it must be predicted to gain, as a share of the plan's seconds."""

SPREADS = (0.02, 0.04, 0.08, 0.12, 0.2, 0.28, 0.4)
"""How much more the root does than its share; and the last rank less, or all others together."""


def staggered(search: Search, task: Task) -> Search:
    """A search whose first plan has its last segment shared out anew, where that is predicted to be faster."""
    first = search.plans[0]
    if first.exit_s < LEAST * first.seconds:
        return search
    layouts = tuple(_candidates(first.plan, search, task))
    priced = price_ends(first.plan, layouts, task.graph, task.testbed, task.cost) if layouts else []
    best = min(priced, key=lambda each: each.seconds, default=first)
    if best.seconds > (1 - GAIN) * first.seconds or lacking(best.plan, task.graph, task.testbed):
        return search
    bound_s = min(search.lower_bound_s, best.seconds)
    return replace(search, plans=(best, *search.plans[1:]), lower_bound_s=bound_s, even=first)


def _candidates(plan: Plan, search: Search, task: Task) -> Iterator[Layout]:
    """Layouts of the same ranks as the last segment's, with more for the root."""
    assert search.problem is not None, "what was searched is known"
    last, begin, end = plan.spans[-1]
    for layout in search.problem.shards.layouts:
        if set(layout.ranks) == set(last.layout.ranks) and not segment_problems(
            task.graph, begin, end, layout, task.root
        ):
            yield from _spread(layout, task.root)


def _spread(layout: Layout, root: int) -> Iterator[Layout]:
    """The layout with more for the root: the less for another rank the later it comes, or the same for all others."""
    count = len(layout.ranks)
    if root not in layout.ranks or count < 2 or layout.in_parts or not KINDS[layout.kind].cuts:
        return
    order = sorted(range(count), key=lambda index: layout.ranks[index] != root)
    for spread in SPREADS:
        for less in (np.linspace(1, -1, count), np.array([1.0, *[-1 / (count - 1)] * (count - 1)])):
            shares = _shares(layout)
            shares[order] *= 1 + spread * less
            yield replace(layout, weights=_weights(layout, shares))


def _shares(layout: Layout) -> np.ndarray:
    """The share of each rank, float array (ranks,)."""
    if not layout.grid:
        return np.array(layout.weights or [1.0] * len(layout.ranks))
    rows, columns = layout.grid
    weights = np.array(layout.weights or [1.0] * (rows + columns))
    return np.outer(weights[:rows], weights[rows:]).ravel()


def _weights(layout: Layout, shares: np.ndarray) -> tuple[float, ...]:
    """Weights of a layout of the same ranks with these shares, or as close as a grid can come."""
    if layout.grid:
        return grid_weights(shares.tolist(), (layout.grid[0], layout.grid[1]))
    return tuple(round(share, 3) for share in shares.tolist())
