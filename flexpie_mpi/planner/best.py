"""The cheapest paths of a finished sweep: a walk back along labels whose costs are perfect bounds."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count, islice

import numpy as np

from .labels import Ground
from .space import Path
from .sweep import Sweep

Step = tuple[float, int, int, int]
"""Seconds of the cheapest path that ends with this step, the cut and the label it begins at, and its option."""


def best_paths(ground: Ground, found: Sweep, top: int) -> tuple[Path, ...]:
    """The `top` cheapest distinct paths of a sweep that kept as many ways into each label, best first."""
    return tuple(islice(_paths(ground, found, top), top))


def _paths(ground: Ground, found: Sweep, top: int) -> Iterator[Path]:
    """Paths by price: of all half-walked ones, that with the least total is walked on."""
    order, steps = count(), {}
    last = len(found.fronts) - 1
    heap: list[tuple[float, int, int, int, Path]] = []
    for label, cost in enumerate(found.fronts[last].cost.tolist()):
        heappush(heap, (cost, next(order), last, label, ()))
    while heap:
        total, _, cut, label, path = heappop(heap)
        if cut == 0:
            yield path
            continue
        if (cut, label) not in steps:
            steps[cut, label] = _steps(ground, found, cut, label, top)
        for seconds, before, origin, option in steps[cut, label]:
            bundle, row = ground.option(option)
            step = (before, int(bundle.end[row]), int(bundle.layout[row]))
            longer = seconds - float(found.fronts[cut].cost[label])
            heappush(heap, (total + longer, next(order), before, origin, (step, *path)))


def _steps(ground: Ground, found: Sweep, cut: int, label: int, top: int) -> list[Step]:
    """The `top` cheapest last steps of paths to a label."""
    front = found.fronts[cut]
    ways = front.edge_option[front.edges[label] : front.edges[label + 1]].tolist()
    numbers = dict.fromkeys(ways)  # an option comes twice when states that differ become one
    steps = [step for number in numbers for step in _origins(ground, found, number, front.keys[:, label], top)]
    paid = float(front.cost[label]) - min(steps)[0]  # the exit exchange, at the last cut
    return [(seconds + paid, before, origin, number) for seconds, before, origin, number in sorted(steps)[:top]]


def _origins(ground: Ground, found: Sweep, number: int, key: np.ndarray, top: int) -> Iterator[Step]:
    """The `top` cheapest labels from which an option leads to the label of a key (W,)."""
    bundle, row = ground.option(number)
    front = found.fronts[bundle.cut]
    digits = ground.digits(bundle.cut, front.keys)
    reached = ground.lead(bundle, np.full(len(front.cost), row), digits)
    labels = np.flatnonzero((reached == key[:, None]).all(axis=0))
    seconds = bundle.take(np.array([row])).price(digits[:, labels])[0] + front.cost[labels]
    for place in np.argsort(seconds, kind="stable")[:top].tolist():
        yield float(seconds[place]), bundle.cut, int(labels[place]), number
