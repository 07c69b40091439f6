"""The forward dynamic program within memory: labels that carry bytes, each of which is the end of one path.

Several labels of one key may be worth keeping: a cheaper one with more bytes, a dearer one with fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .bounds import BLOCK, CostToGo
from .bundle import Bundle
from .forward_dp import stretches
from .option_tables import OptionTables
from .space import Path

RIVALS = 32
"""Cheaper labels that a label is compared with, at most, to find one that is better in everything."""


class Labels(NamedTuple):
    """S labels of one cut, each the end of one path; labels are the last axis of every array."""

    keys: np.ndarray  # int array (W, S)
    cost: np.ndarray  # float array (S,). Seconds.
    load: np.ndarray  # float array (R, S). Bytes on every rank.
    # `origin` and `option`: int array (S,). The label that each comes from, and the number of its last option.
    origin: np.ndarray
    option: np.ndarray

    def take(self, which: np.ndarray | slice) -> Labels:
        """Only some of the labels."""
        return Labels(*(array[..., which] for array in self))


@dataclass(frozen=True, slots=True, eq=False)
class LagrangianBound:
    """A lower bound on the seconds of paths that fit into memory.

    Every rank's bytes cost `rates` (R,) seconds each, and its capacity is worth as much. So a path that fits costs no
    less than its seconds, plus its bytes at these rates, less all capacity at these rates.
    """

    rates: np.ndarray
    to_go: CostToGo

    @classmethod
    def of(cls, tables: OptionTables, rates: np.ndarray, count: int) -> LagrangianBound:
        """The bound at some rates whose cost to go knows `count` values."""
        return cls(rates, CostToGo.of(tables.charged(rates), count))

    def over(self, tables: OptionTables, load: np.ndarray) -> np.ndarray:
        """Price (S,) of loads (R, S) less that of the capacities."""
        price: np.ndarray = (load.T - tables.space.capacity) @ self.rates
        return price

    def at(self, tables: OptionTables, cut: int, labels: Labels) -> np.ndarray:
        """Least seconds (S,) of the paths that labels of a cut can be part of."""
        to_go = self.to_go.at(tables, cut, tables.digits(cut, labels.keys))
        return labels.cost + self.over(tables, labels.load) + to_go

    def behind(self, tables: OptionTables, bundle: Bundle, digits: np.ndarray, load: np.ndarray) -> np.ndarray:
        """What to add (M, S) to the seconds of labels behind each option of a bundle, for the same bound."""
        to_go = self.to_go.behind(bundle, digits)
        return to_go + self.over(tables, load) + (bundle.weights @ self.rates)[:, None]


def fewest_bytes(tables: OptionTables) -> np.ndarray:
    """Fewest bytes (n + 1, R) that any way from a cut to the end puts on each rank."""
    space = tables.space
    fewest = np.full((space.cuts + 1, len(space.capacity)), np.inf)
    fewest[-1] = 0
    for bundle in tables.backwards():
        np.minimum(fewest[bundle.cut], (bundle.weights + fewest[bundle.end]).min(axis=0), out=fewest[bundle.cut])
    return fewest


def memory_dp(
    tables: OptionTables, top: int, limit: int, upper: float, bounds: Sequence[LagrangianBound]
) -> tuple[tuple[Path, ...], float, int]:
    """The `top` cheapest paths within memory, as far as labels were kept: at a cut the `limit` of the least bounds.

    Labels that can only be part of paths dearer than `upper` seconds are left out. Returns the paths, the best first;
    seconds that no path costs less than which was left out for want of room; and the number of labels.
    """
    space, fewest, dropped = tables.space, fewest_bytes(tables), np.inf
    nowhere = np.full(1, -1)
    start = Labels(tables.start, np.zeros(1), np.zeros((len(space.capacity), 1)), nowhere, nowhere)
    waiting: list[list[Labels]] = [[start], *([] for _ in range(space.cuts))]
    fronts = []
    for cut in range(space.cuts + 1):
        # a cut that nothing leads to has none of the start's labels
        arrived = waiting[cut] or [start.take(slice(0))]
        front = _undominated(Labels(*(np.concatenate(arrays, axis=-1) for arrays in zip(*arrived, strict=True))), top)
        waiting[cut] = []
        if len(front.cost) > limit:
            score = np.max([bound.at(tables, cut, front) for bound in bounds], axis=0)
            order = np.argsort(score, kind="stable")
            front, dropped = front.take(np.sort(order[:limit])), min(dropped, float(score[order[limit]]))
        fronts.append(front)
        for bundle in tables.bundles[cut] if cut < space.cuts and len(front.cost) else ():
            for end, labels in _spread(tables, bundle, front, upper, fewest, bounds):
                waiting[end].append(labels)
    return _paths(tables, fronts, top), dropped, sum(len(front.cost) for front in fronts)


def _undominated(labels: Labels, top: int) -> Labels:
    """Labels without those for which `top` others of the same key are as good in everything."""
    labels = labels.take(np.lexsort((labels.cost, *labels.keys)))
    beaten = np.zeros(len(labels.cost), dtype=np.int64)
    for back in range(1, min(RIVALS, len(beaten) - 1) + 1):
        is_alike = (labels.keys[:, back:] == labels.keys[:, :-back]).all(axis=0)
        if not is_alike.any():
            break
        beaten[back:] += is_alike & (labels.load[:, :-back] <= labels.load[:, back:]).all(axis=0)
    return labels.take(np.flatnonzero(beaten < top))


def _spread(
    tables: OptionTables,
    bundle: Bundle,
    front: Labels,
    upper: float,
    fewest: np.ndarray,
    bounds: Sequence[LagrangianBound],
) -> Iterator[tuple[int, Labels]]:
    """Labels behind the options of a bundle, by the cuts where those end: only those that may yet fit and be news."""
    digits = tables.digits(bundle.cut, front.keys)
    room = (tables.space.capacity - fewest[bundle.end] - bundle.weights).T
    step = max(1, BLOCK // len(bundle.end))
    for begin in range(0, len(front.cost), step):
        part = slice(begin, begin + step)
        load = front.load[:, part]
        total = bundle.price(digits[:, part]) + front.cost[part]
        usable = np.ones(total.shape, dtype=bool)
        for rank_load, rank_room in zip(load, room, strict=True):
            usable &= rank_load <= rank_room[:, None]
        for bound in bounds:
            usable &= total + bound.behind(tables, bundle, digits[:, part], load) <= min(upper, np.finfo(float).max)
        option, label = np.nonzero(usable)
        labels = Labels(
            tables.lead(bundle, option, digits[:, begin + label]),
            total[option, label],
            load[:, label] + bundle.weights[option].T,
            begin + label,
            bundle.number[option],
        )
        for end, rows in stretches(bundle.end[option]):
            yield end, labels.take(rows)


def _paths(tables: OptionTables, fronts: Sequence[Labels], top: int) -> tuple[Path, ...]:
    """The paths of the `top` cheapest labels of the last cut."""
    last = fronts[-1]
    cost = last.cost + tables.exit(tables.digits(len(fronts) - 1, last.keys))
    return tuple(_path(tables, fronts, label) for label in np.argsort(cost, kind="stable")[:top].tolist())


def _path(tables: OptionTables, fronts: Sequence[Labels], label: int) -> Path:
    """The one path of a label of the last cut."""
    cut, path = len(fronts) - 1, []
    while cut:
        bundle, row = tables.option(int(fronts[cut].option[label]))
        path.append((bundle.cut, cut, int(bundle.layout[row])))
        label, cut = int(fronts[cut].origin[label]), bundle.cut
    return tuple(reversed(path))
