"""Lower bounds on the cost to go: the search backwards, which knows the states of a few values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .bundle import Bundle, Code
from .option_tables import OptionTables

WORK = 10**8
"""States times options that one bound may look at: about a second."""

BLOCK = 1 << 18
"""Prices worked on at once: few enough to stay in the cache."""


@dataclass(frozen=True, eq=False)
class CostToGo:
    """Least seconds from a cut to the end, exit included, by the states of the tracked values.

    The others are taken as held in whatever state is best, so the bound never says too much; it is exact where all
    alive values are tracked. A value is tracked from its making until it dies or newer ones take its place.
    """

    code: Code  # where the seconds of a label stand in `flat`
    flat: np.ndarray  # float array
    least: np.ndarray  # float array (n + 1,), by cut, the least over all states

    @classmethod
    def of(cls, tables: OptionTables, count: int) -> CostToGo:
        """Bounds that know at most `count` values at every cut."""
        cuts = tables.space.cuts
        tracked = _tracked(tables.alive, count)
        code, size = _code(tracked, tables.states, tables.owed + 1)
        to_go = cls(code, np.full(size, np.inf), np.full(cuts + 1, np.inf))
        for cut in range(cuts, -1, -1):
            digits = tables.grid(cut, tracked[cut])
            seconds = tables.exit(digits) if cut == cuts else to_go._before(tables, cut, digits)
            to_go.flat[code.of(tables.alive[cut], cut, digits)] = seconds
            to_go.least[cut] = seconds.min()
        return to_go

    def at(self, tables: OptionTables, cut: int, digits: np.ndarray) -> np.ndarray:
        """Bounds (S,) of labels of `digits` (K, S) at a cut."""
        return self.flat[self.code.of(tables.alive[cut], cut, digits)]

    def behind(self, bundle: Bundle, digits: np.ndarray) -> np.ndarray:
        """Bounds (M, S or 1) behind each option of a bundle, for labels of `digits` (K, S) before it."""
        return self.flat[self.code.behind(bundle, digits)]

    def prune(self, tables: OptionTables, upper: float) -> OptionTables:
        """The tables without options that are part of no path of at most `upper` seconds."""
        before = np.full(len(self.least), np.inf)
        before[0] = 0
        kept = []
        for here in tables.bundles:
            for bundle in here:
                np.minimum.at(before, bundle.end, before[bundle.cut] + bundle.least)
            through = (before[bundle.cut] + bundle.least + self._least_behind(bundle) for bundle in here)
            kept.append([np.flatnonzero(seconds <= upper) for seconds in through])
        return tables.only(kept)

    def _least_behind(self, bundle: Bundle) -> np.ndarray:
        """Bounds (M,) behind each option, whatever the states of the values that are carried over."""
        numbers = self.code.least_behind(bundle)
        carries = np.zeros(len(numbers), dtype=bool)
        for carry in bundle.carries:
            carries |= self.code.strides[bundle.end, bundle.alive[carry.row]] > 0
        return np.where(carries, self.least[bundle.end], self.flat[np.where(carries, 0, numbers)])

    def _before(self, tables: OptionTables, cut: int, digits: np.ndarray) -> np.ndarray:
        """Bounds (S,) of labels of `digits` (K, S) at a cut, from those of all later cuts."""
        seconds = np.full(digits.shape[1], np.inf)
        for bundle in tables.bundles[cut]:
            step = max(1, BLOCK // len(bundle.end))
            for begin in range(0, len(seconds), step):
                part = slice(begin, begin + step)
                total = bundle.price(digits[:, part]) + self.behind(bundle, digits[:, part])
                np.minimum(seconds[part], total.min(axis=0), out=seconds[part])
        return seconds


def work(tables: OptionTables, count: int) -> int:
    """States times options that bounds of `count` known values look at."""
    states = (tables.states ** min(count, len(values)) for values in tables.alive)
    options = (sum(len(bundle.end) for bundle in here) for here in tables.bundles)
    return sum(size * among for size, among in zip(states, options, strict=False))


def _tracked(alive: Sequence[Sequence[int]], count: int) -> list[tuple[int, ...]]:
    """By cut, the values whose state is known: the newest, then those that die soonest; once let go, never again.

    What is owed comes in again at the end, where it is all there is: nothing is then the least of what it was before.
    """
    death = {value: cut for cut, values in enumerate(alive) for value in values}
    tracked: list[tuple[int, ...]] = [tuple(alive[0])[:count]]
    for before, values in pairwise(alive):
        born = [value for value in values if value not in before]
        kept = sorted((value for value in tracked[-1] if value in values), key=death.__getitem__)
        tracked.append(tuple((born + kept)[:count]))
    tracked[-1] = tuple(alive[-1])[:count]
    return tracked


def _code(tracked: list[tuple[int, ...]], states: int, values: int) -> tuple[Code, int]:
    """Every cut's grid of tracked states, one behind the other, and the size of all."""
    strides = np.zeros((len(tracked), values), dtype=np.int64)
    origin = np.zeros(len(tracked), dtype=np.int64)
    size = 0
    for cut, known in enumerate(tracked):
        origin[cut] = size
        strides[cut, list(known)] = states ** np.arange(len(known))
        size += states ** len(known)
    return Code(strides, origin), size
