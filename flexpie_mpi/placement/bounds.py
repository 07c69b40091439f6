"""What boards can do at most within a bottleneck: work they can take on, and how few of them are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from .groups import StageTimes
from .instance import Instance

TINY = 1e-30
"""Seconds below any bottleneck that matters."""

HALVINGS = 40
"""Steps in which a bound is narrowed down."""

MOST_MEASURES = 8
"""Measures of work that are looked at."""

HEAVY = (0.6, 0.8, 0.9)
"""Parts of the units that are lighter than those that some measures count alone."""

ROUNDING = 1e-9
"""By how much sums of work may be off."""


@dataclass(frozen=True, eq=False)
class TeamTimes:
    """Spans that boards of these classes run together, and what each takes them at least; arrays by span."""

    members: tuple[int, ...]
    begin: np.ndarray
    end: np.ndarray
    seconds: np.ndarray


@dataclass(frozen=True, eq=False)
class Work:
    """Measures of work that add up over units, and how much of each a board can take on within a bottleneck.

    Whatever the measure, a stage of g replicas within the bottleneck holds at most the most that any of its boards can
    hold as one of g; so its boards hold at most a g-th of that each, and all boards together have to hold all the work.
    """

    rest: np.ndarray  # array (w, m + 1). Work from each cut to the end, by measure; all of it is 1.
    times: StageTimes
    teams: tuple[TeamTimes, ...]
    row: np.ndarray  # int array (k,). Where in the two arrays below a class is: classes that are as fast share theirs.
    # `_seconds` and `_most`: arrays (r, p), (r, w, p). Bottlenecks in ascending order, and the most work within each of
    # them, by one board alone.
    _seconds: np.ndarray
    _most: np.ndarray

    @classmethod
    def of(cls, instance: Instance, times: StageTimes, teams: Sequence[TeamTimes] = ()) -> Work:
        """Choose measures and sort all spans."""
        done = _measures(instance)
        begin, end = np.triu_indices(instance.units + 1, 1)
        held = done[:, end] - done[:, begin]
        numbers: dict[bytes, int] = {}
        row = np.array([numbers.setdefault(alone.tobytes(), len(numbers)) for alone in times.alone_s])
        first = np.unique(row, return_index=True)[1]
        seconds = times.alone_s[first][:, begin, end]
        order = np.argsort(seconds, axis=1, kind="stable")
        most = np.maximum.accumulate(held[:, order].transpose(1, 0, 2), axis=2)
        seconds = np.take_along_axis(seconds, order, axis=1)
        return cls(done[:, -1:] - done, times, tuple(teams), row, seconds, most)

    def most(self, seconds: float) -> np.ndarray:
        """The work that a board of each class can take on within a bottleneck: array (w, k)."""
        sizes = range(1, self.times.instance.replica_limit + 1)
        by_row = np.zeros((len(self.rest), len(self._seconds)))
        for row, least in enumerate(self._seconds):
            for size in sizes:
                count = int(np.searchsorted(least, seconds * size, side="right"))
                if count:
                    np.maximum(by_row[:, row], self._most[row, :, count - 1] / size, out=by_row[:, row])
        most = by_row[:, self.row]
        root = self.times.classes.root
        if root >= 0:
            shares = [self._held(root, size, seconds) / size for size in sizes]
            most[:, root] = np.max(shares, axis=0)
        for team in self.teams:
            is_within = team.seconds <= seconds
            held = (self.rest[:, team.begin] - self.rest[:, team.end])[:, is_within].max(axis=1, initial=0.0)
            for kind in team.members:
                np.maximum(most[:, kind], held / len(team.members), out=most[:, kind])
        return most

    def able(self, most: np.ndarray) -> np.ndarray:
        """The work that all boards can take on together, when each can take on so much: array (w,)."""
        classes, limit = self.times.classes, self.times.instance.board_limit
        order = np.argsort(-most, axis=1, kind="stable")
        boards = np.minimum(np.cumsum(classes.size[order], axis=1), limit)
        counted = np.diff(boards, axis=1, prepend=0)
        able: np.ndarray = (counted * np.take_along_axis(most, order, axis=1)).sum(axis=1)
        return able

    def is_possible(self, seconds: float) -> bool:
        """Whether all boards together can take on all the work within a bottleneck."""
        return bool((self.able(self.most(seconds)) * (1 + ROUNDING) + ROUNDING >= self.rest[:, 0]).all())

    def _held(self, kind: int, size: int, seconds: float) -> np.ndarray:
        begin, end = np.nonzero(self.times.member_s(kind, size) <= seconds)
        held = self.rest[:, begin] - self.rest[:, end]
        return held.max(axis=1, initial=0.0)


def _measures(instance: Instance) -> np.ndarray:
    """Work before each cut by up to `MOST_MEASURES` measures, array (w, m + 1).

    Computing on average and for the fastest and the slowest class, memory; and of computing and memory the heaviest
    units alone, which only few boards may be able to run.
    """
    row = np.arange(instance.units)
    compute = np.where(np.isfinite(instance.compute_s), instance.compute_s, 0.0)[:, row, row + 1]
    total = compute.sum(axis=1)
    mean = (compute / np.where(total > 0, total, 1.0)[:, None]).sum(axis=0)
    memory = np.maximum(instance.need_bytes[row, row + 1], 0.0)
    rows = [mean, memory]
    rows += [np.where(amount >= np.quantile(amount, share), amount, 0.0) for amount in rows for share in HEAVY]
    rows += [compute[int(total.argmin())], compute[int(total.argmax())]]
    measures: dict[bytes, np.ndarray] = {}
    for weights in rows:
        if np.isfinite(weights).all() and weights.sum() > 0:
            done = np.concatenate([[0.0], np.cumsum(weights / weights.sum())])
            measures.setdefault(np.round(done, 12).tobytes(), done)
    return np.stack(list(measures.values())[:MOST_MEASURES]) if measures else np.zeros((0, instance.units + 1))


def within_boards(by_size: Mapping[int, np.ndarray], limit: int) -> np.ndarray:
    """Cuts from which so many boards may be enough, up to a limit: bool array (limit + 1, m + 1).

    `by_size` has the spans that groups or teams of so many boards may run, whoever they are, bool arrays
    (m + 1, m + 1).
    """
    largest = max(by_size)
    last = len(by_size[largest]) - 1
    enough = np.zeros((limit + 1, last + 1), bool)
    enough[0, last] = True
    for boards in range(1, limit + 1):
        enough[boards] = enough[boards - 1]
        for size, spans in by_size.items():
            if size <= boards:
                enough[boards] |= (spans & enough[boards - size]).any(axis=1)
        if boards >= largest and (enough[boards] == enough[boards - largest]).all():
            enough[boards:] = enough[boards]
            break
    return enough


def relaxed_s(instance: Instance, times: StageTimes, work: Work) -> float:
    """A lower bound that knows no links, and lets every board come again, in groups of whatever boards are best."""
    m, classes = instance.units, times.classes
    sizes = range(1, instance.replica_limit + 1)
    stage = np.full((m + 1, m + 1), np.inf)
    for kind in range(classes.count):
        for size in sizes if kind == classes.root else sizes[-1:]:
            np.minimum(stage, times.member_s(kind, size), out=stage)
    for team in work.teams:
        stage[team.begin, team.end] = np.minimum(stage[team.begin, team.end], team.seconds)
    after = np.full(m + 1, np.inf)
    after[m] = 0.0
    for cut in range(m - 1, -1, -1):
        after[cut] = np.maximum(stage[cut, cut + 1 :], after[cut + 1 :]).min()
    return least_possible(work, float(after[0]))


def least_possible(work: Work, lower: float) -> float:
    """A lower bound raised to about the least bottleneck within which boards can take on all the work."""
    if not isfinite(lower) or work.is_possible(lower):
        return lower
    upper = max(lower, TINY)
    while not work.is_possible(upper):
        upper *= 2
        if upper > 1 / TINY:
            return inf
    for _ in range(HALVINGS):
        middle = (lower + upper) / 2
        lower, upper = (lower, middle) if work.is_possible(middle) else (middle, upper)
    return lower
