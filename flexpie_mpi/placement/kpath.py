"""The paper's placement: cuts in classes of size, the largest class first, each run of cuts on the fastest path left.

Kept as published, weaknesses and all, but for what made it fail or differ from run to run: the number of boards limits
the partition while it is searched; the largest size belongs to the last class; any k different colors count
(:mod:`flexpie_mpi.placement.color_coding`); colors come from a seed; a stage goes only to a board that may run it. A
run of more than `LONGEST` boards is laid in pieces, since color coding takes time exponential in its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from math import inf
from time import perf_counter

import numpy as np

from .baselines import chain, min_sum, outcome
from .color_coding import find_path
from .instance import Instance
from .loads import Placement, loads
from .outcome import Outcome

CLASSES = 20
"""Classes into which the sizes of cuts are sorted; the paper's headline figures are for so many."""

LONGEST = 7
"""Boards on one path, at most."""


def kpath(instance: Instance, seed: int = 0, time_limit_s: float | None = None, classes: int = CLASSES) -> Outcome:
    """Paper, section on k-path matching: partition by the least sum of bytes, for the smallest memory of any board.

    When time runs out, what is left is laid on the paths found so far, or on any.
    """
    began = perf_counter()
    cuts = min_sum(instance, range(instance.boards), float(instance.capacity.min()))
    if cuts is None:
        return outcome(instance, None, began, 0)
    search = _Search(instance, seed, inf if time_limit_s is None else began + time_limit_s)
    placement = search.place(cuts, classes)
    return outcome(instance, placement, began, search.tests)


def size_classes(instance: Instance, cuts: Sequence[int], classes: int) -> list[int]:
    """Class of each inner cut, 1 .. `classes`: bins of equal width over the bytes of all cuts that may be chosen."""
    inner = np.ones(instance.units + 1, bool) if instance.cuttable is None else np.array(instance.cuttable, bool)
    inner[[0, -1]] = False
    sizes = instance.crossing[inner]
    if not len(cuts[1:-1]):
        return []
    edges = np.linspace(sizes.min(), sizes.max(), classes + 1)
    numbers = np.digitize(instance.crossing[list(cuts[1:-1])], edges)
    return [int(number) for number in np.clip(numbers, 1, classes)]


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """(first, end) of maximal runs of equal numbers: the highest number first, of one number the longest first.

    >>> runs([2, 3, 3, 1, 3])
    [(1, 3), (4, 5), (0, 1), (3, 4)]
    """
    groups = [[index for index, _ in group] for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1])]
    return sorted(
        ((group[0], group[-1] + 1) for group in groups), key=lambda run: (-numbers[run[0]], run[0] - run[1], run[0])
    )


def pieces(first: int, end: int) -> Iterator[tuple[int, int]]:
    """(first, end) of a run of cuts in pieces for which a path needs at most `LONGEST` boards."""
    for start in range(first, end, LONGEST - 1):
        yield start, min(start + LONGEST - 1, end)


class _Search:
    """Boards of the stages of one partition, filled in run by run."""

    def __init__(self, instance: Instance, seed: int, deadline: float) -> None:
        self.instance = instance
        self.generator = np.random.default_rng(seed)
        self.deadline = deadline
        self.tests = 0

    def place(self, cuts: Sequence[int], classes: int) -> Placement | None:
        """A board for every stage; None where some run finds none."""
        may_run = [_bits(self.instance.fits[(slice(None), *span)]) for span in pairwise(cuts)]
        placed: list[int | None] = [None] * len(may_run)
        if len(may_run) == 1:
            return self._alone(cuts)
        for run in runs(size_classes(self.instance, cuts, classes)):
            for first, end in pieces(*run):
                stages = range(first, end + 1)  # cut t is between the stages t and t + 1
                path = self._fastest([self._choice(placed, may_run, stage) for stage in stages])
                if path is None:
                    return None
                placed[first : end + 1] = path
        return chain(cuts, [board for board in placed if board is not None])

    def _alone(self, cuts: Sequence[int]) -> Placement | None:
        """One stage: the paper asks for no board in particular, so it is the one on which it is fastest."""
        boards = np.flatnonzero(self.instance.fits[:, 0, -1]).tolist()
        placements = [chain(cuts, [board]) for board in boards]
        return min(placements, key=lambda placement: loads(self.instance, placement).seconds, default=None)

    def _choice(self, placed: Sequence[int | None], may_run: Sequence[int], stage: int) -> int:
        """Boards, as bits, for a stage: the one it has, or any that is free and may run it."""
        board = placed[stage]
        if board is not None:
            return 1 << board
        used = sum(1 << other for other in placed if other is not None)
        return may_run[stage] & ~used

    def _fastest(self, allowed: Sequence[int]) -> tuple[int, ...] | None:
        """A path over links as fast as can be, by binary search over the speeds there are."""
        levels = np.unique(self.instance.pair_s)
        low, high = 0, len(levels) - 1
        best = self._path(float(levels[high]), allowed)
        while best is not None and low < high and perf_counter() < self.deadline:
            middle = (low + high) // 2
            path = self._path(float(levels[middle]), allowed)
            if path is None:
                low = middle + 1
            else:
                best, high = path, middle
        return best

    def _path(self, level: float, allowed: Sequence[int]) -> tuple[int, ...] | None:
        """A path over links on which a byte takes no longer than `level`."""
        self.tests += 1
        is_linked = self.instance.pair_s <= level
        np.fill_diagonal(is_linked, False)
        return find_path([_bits(row) for row in is_linked], allowed, self.generator)


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")
