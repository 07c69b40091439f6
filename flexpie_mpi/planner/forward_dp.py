"""The forward dynamic program: all labels of a cut at once, with the cheapest ways to each of them kept.

A label's cost is the least over all paths to it. So the labels of the last cut hold the answer, and the costs are
perfect bounds for walking back to the cheapest paths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count, islice, pairwise

import numpy as np

from .bounds import BLOCK, CostToGo
from .bundle import Bundle
from .option_tables import OptionTables
from .space import Path


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """S labels of one cut, and the E ways into them, those of one label side by side and cheapest first."""

    keys: np.ndarray  # int array (W, S)
    cost: np.ndarray  # float array (S,). Seconds of the cheapest path to each.
    edges: np.ndarray  # int array (S + 1,). Ways ``edges[s]`` to ``edges[s + 1]`` lead to label s.
    edge_cost: np.ndarray  # float array (E,)
    edge_option: np.ndarray  # int array (E,). Number of the option that each way ends with.

    def take(self, labels: np.ndarray) -> Front:
        """Only some of the labels."""
        sizes = np.diff(self.edges)[labels]
        edges = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.repeat(self.edges[labels] - edges[:-1], sizes) + np.arange(edges[-1])
        return Front(self.keys[:, labels], self.cost[labels], edges, self.edge_cost[rows], self.edge_option[rows])


@dataclass(frozen=True, slots=True, eq=False)
class ForwardPass:
    """Fronts of all cuts; the costs of the last one include the exit exchange."""

    fronts: tuple[Front, ...]
    dropped: float  # no path that was left out for want of room costs less

    @property
    def labels(self) -> int:
        """Number of labels of all cuts."""
        return sum(len(front.cost) for front in self.fronts)


Ways = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Keys (W, N) of the labels that ways lead to, costs (N,), numbers of the options they end with (N,)."""


def forward_dp(
    tables: OptionTables,
    top: int,
    limit: int,
    to_go: CostToGo | None = None,
    upper: float = np.inf,
    is_proof: bool = False,
) -> ForwardPass | None:
    """Labels of every cut that may be part of the `top` cheapest paths.

    State: the alive values' states at a cut. Transition: an option of the cut. Objective: seconds. Complexity: the sum
    over cuts of labels times options.

    `top` ways are kept into each label, and `limit` labels at a cut: those of the least cost plus `to_go`, the bounds
    of what follows, which are needed wherever there may be more labels. Labels that can only be part of paths dearer
    than `upper` seconds are left out. With `is_proof` it gives up, and returns None, where it has to drop a label that
    a path below `upper` may use.
    """
    cuts = tables.space.cuts
    waiting: list[list[Ways]] = [[] for _ in range(cuts + 1)]
    waiting[0].append((tables.start, np.zeros(1), np.full(1, -1)))
    fronts, dropped = [], np.inf
    for cut in range(cuts + 1):
        front = _merge(tables, waiting[cut], top)
        waiting[cut] = []
        digits = tables.digits(cut, front.keys)
        if cut == cuts:
            fronts.append(_finish(front, tables.exit(digits), upper))
            break
        if to_go is not None and len(front.cost) > limit:
            score = front.cost + to_go.at(tables, cut, digits)
            order = np.argsort(score, kind="stable")
            front, dropped = front.take(np.sort(order[:limit])), min(dropped, float(score[order[limit]]))
            digits = tables.digits(cut, front.keys)
            if is_proof and score[order[limit]] < upper:
                return None
        fronts.append(front)
        for bundle in tables.bundles[cut] if len(front.cost) else ():
            for end, ways in _spread(tables, bundle, front, digits, to_go, upper):
                waiting[end].append(ways)
    return ForwardPass(tuple(fronts), dropped)


def _merge(tables: OptionTables, ways: list[Ways], top: int) -> Front:
    """Labels of the ways that lead to a cut, the `top` cheapest ways to each kept."""
    if not ways:
        nothing, ints = np.zeros(0), np.zeros(0, dtype=np.int64)
        return Front(np.zeros((len(tables.words), 0), dtype=np.int64), nothing, np.zeros(1, int), nothing, ints)
    keys, cost, option = (np.concatenate(arrays, axis=-1) for arrays in zip(*ways, strict=True))
    order = np.lexsort((cost, *keys))
    keys, cost, option = keys[:, order], cost[order], option[order]
    new = np.ones(len(cost), dtype=bool)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    starts = np.flatnonzero(new)
    rank = np.arange(len(cost)) - starts[np.cumsum(new) - 1]
    kept = rank < top
    edges = np.concatenate([np.flatnonzero(rank[kept] == 0), [np.count_nonzero(kept)]])
    return Front(keys[:, starts], cost[starts], edges, cost[kept], option[kept])


def _finish(front: Front, exit_s: np.ndarray, upper: float) -> Front:
    """The labels of the last cut with the exit exchange paid."""
    edge_cost = front.edge_cost + np.repeat(exit_s, np.diff(front.edges))
    paid = replace(front, cost=front.cost + exit_s, edge_cost=edge_cost)
    return paid.take(np.flatnonzero(paid.cost <= upper)) if np.isfinite(upper) else paid


def _spread(
    tables: OptionTables, bundle: Bundle, front: Front, digits: np.ndarray, to_go: CostToGo | None, upper: float
) -> Iterator[tuple[int, Ways]]:
    """Ways from the labels of a front through the options of a bundle, by the cuts where those end."""
    if to_go is not None and np.isfinite(upper):
        usable = np.flatnonzero(front.cost.min() + bundle.seconds + to_go.least[bundle.end] <= upper)
        if not len(usable):
            return
        bundle = bundle.take(usable)
    order, new = _alike(tables, bundle, digits)
    cost, digits = front.cost[order], digits[:, order]
    step = max(1, BLOCK // len(bundle.end))
    for begin in range(0, len(cost), step):
        part = slice(begin, begin + step)
        starts = np.flatnonzero(new[part])
        if not len(starts) or starts[0]:
            starts = np.concatenate([[0], starts])
        total = bundle.price(digits[:, part]) + cost[part]
        if len(starts) < total.shape[1]:
            total = np.minimum.reduceat(total, starts, axis=1)
        kinds = digits[:, part][:, starts]
        bound = total if to_go is None else total + to_go.behind(bundle, kinds)
        option, label = np.nonzero(bound <= min(upper, np.finfo(float).max))
        keys, seconds, number = (
            tables.lead(bundle, option, kinds[:, label]),
            total[option, label],
            bundle.number[option],
        )
        for end, rows in stretches(bundle.end[option]):
            yield end, (keys[:, rows], seconds[rows], number[rows])


def _alike(tables: OptionTables, bundle: Bundle, digits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order of the labels in which those that differ in nothing carried stand together; where each set begins."""
    new = np.ones(digits.shape[1], dtype=bool)
    rows = bundle.lasting
    if len(rows) == len(digits):
        return np.arange(len(new)), new
    carried = [bundle.alive[row] for row in rows]
    keys = np.stack([code.strides[bundle.cut, carried] @ digits[rows] for code in tables.words])
    order = np.lexsort(tuple(keys))
    new[1:] = (keys[:, order[1:]] != keys[:, order[:-1]]).any(axis=0)
    return order, new


def stretches(numbers: np.ndarray) -> Iterator[tuple[int, slice]]:
    """The distinct numbers in a sorted array, and where each stands."""
    bounds = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
    for begin, stop in pairwise(bounds):
        if begin < stop:
            yield int(numbers[begin]), slice(begin, stop)


def descend(tables: OptionTables, to_go: CostToGo) -> Iterator[Path]:
    """A path on which every step is the best by a bound of what follows, if there is one."""
    cut, keys, path = 0, tables.start, list[tuple[int, int, int]]()
    while cut < tables.space.cuts:
        digits = tables.digits(cut, keys)
        bounds = [(bundle.price(digits) + to_go.behind(bundle, digits))[:, 0] for bundle in tables.bundles[cut]]
        best = min(range(len(bounds)), key=lambda number: bounds[number].min(), default=None)
        if best is None or not np.isfinite(bounds[best].min()):
            return
        bundle, row = tables.bundles[cut][best], int(bounds[best].argmin())
        path.append((cut, int(bundle.end[row]), int(bundle.layout[row])))
        cut, keys = path[-1][1], tables.lead(bundle, np.array([row]), digits)
    yield tuple(path)


# The walk back

Step = tuple[float, int, int, int]
"""Seconds of the cheapest path that ends with this step, the cut and the label it begins at, and its option."""


def best_paths(tables: OptionTables, forward: ForwardPass, top: int) -> tuple[Path, ...]:
    """The `top` cheapest distinct paths of a pass that kept as many ways into each label, best first."""
    return tuple(islice(_paths(tables, forward, top), top))


def _paths(tables: OptionTables, forward: ForwardPass, top: int) -> Iterator[Path]:
    """Paths by price: of all half-walked ones, that with the least total is walked on.

    No more than `top` go on from one label, the cheapest: many may cost the same.
    """
    order, steps, visits = count(), {}, Counter[tuple[int, int]]()
    last = len(forward.fronts) - 1
    heap: list[tuple[float, int, int, int, Path]] = []
    for label, cost in enumerate(forward.fronts[last].cost.tolist()):
        heappush(heap, (cost, next(order), last, label, ()))
    while heap:
        total, _, cut, label, path = heappop(heap)
        if cut == 0:
            yield path
            continue
        visits[cut, label] += 1
        if visits[cut, label] > top:
            continue
        if (cut, label) not in steps:
            steps[cut, label] = _steps(tables, forward, cut, label, top)
        for seconds, before, origin, option in steps[cut, label]:
            bundle, row = tables.option(option)
            step = (before, int(bundle.end[row]), int(bundle.layout[row]))
            longer = seconds - float(forward.fronts[cut].cost[label])
            heappush(heap, (total + longer, next(order), before, origin, (step, *path)))


def _steps(tables: OptionTables, forward: ForwardPass, cut: int, label: int, top: int) -> list[Step]:
    """The `top` cheapest last steps of paths to a label."""
    front = forward.fronts[cut]
    ways = front.edge_option[front.edges[label] : front.edges[label + 1]].tolist()
    numbers = dict.fromkeys(ways)  # an option comes twice when states that differ become one
    steps = [step for number in numbers for step in _origins(tables, forward, number, front.keys[:, label], top)]
    paid = float(front.cost[label]) - min(steps)[0]  # the exit exchange, at the last cut
    return [(seconds + paid, before, origin, number) for seconds, before, origin, number in sorted(steps)[:top]]


def _origins(tables: OptionTables, forward: ForwardPass, number: int, key: np.ndarray, top: int) -> Iterator[Step]:
    """The `top` cheapest labels from which an option leads to the label of a key (W,)."""
    bundle, row = tables.option(number)
    front = forward.fronts[bundle.cut]
    digits = tables.digits(bundle.cut, front.keys)
    reached = tables.lead(bundle, np.full(len(front.cost), row), digits)
    labels = np.flatnonzero((reached == key[:, None]).all(axis=0))
    seconds = bundle.take(np.array([row])).price(digits[:, labels])[0] + front.cost[labels]
    for which in np.argsort(seconds, kind="stable")[:top].tolist():
        yield float(seconds[which]), bundle.cut, int(labels[which]), number
