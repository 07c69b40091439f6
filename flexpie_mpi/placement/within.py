"""What is possible within a bottleneck, as sets of cuts (bit c of an integer is cut c), and bounds that cut it down.

The bounds are labels: what the rest of a placement takes at least when boards may be used again, though not twice in
three stages. Without the ban on coming back a chain would run to and fro over the fastest link. It costs two labels
instead of one: the best way on, and the best whose next group is another than that of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .bounds import within_boards
from .grouped import ROOT, GroupedInstance, TeamStage

MOST_LABELLED = 300
"""Groups up to which there are labels: they take a step for every two groups at every cut."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Least bottlenecks from a cut to the end; true lower bounds in seconds, infinite where there is no way on."""

    # `best_s` and `other_s`: array (m + 1, K), of group k beginning a stage at cut c: by the best way on, and by the
    # best that goes on with another group
    best_s: np.ndarray
    other_s: np.ndarray
    next: np.ndarray  # int array (m + 1, K). The group that the best way goes on with, -1 where the stage is the last.
    # Array (K, m + 1, m + 1), of a group's stage from one cut to another, and the best way on from there
    through_s: np.ndarray
    start_s: float  # of the whole


def labels(grouped: GroupedInstance) -> Labels | None:
    """Labels of all cuts and groups, from the last cut to the first; None where links do not count, or groups are many.

    State (cut, group), transition a stage and the link to the next group, objective the maximum of all on the way;
    O(K m^2 + K^2 m) for K groups and m units.
    """
    m, count, cross, link = grouped.instance.units, len(grouped.table), grouped.crossing, grouped.hand_over_s
    if grouped.teams or len(link) == 1 or count > MOST_LABELLED:
        return None
    spans = grouped.table_s[grouped.table]
    shape = (m + 1, count)
    best, other, following = np.full(shape, np.inf), np.full(shape, np.inf), np.full(shape, -1)
    after, detour, towards = np.full(shape, np.inf), np.full(shape, np.inf), np.full(shape, -1)
    after[m] = detour[m] = cross[m] * grouped.last_s
    group = np.arange(count)
    can_return = np.isfinite(np.diagonal(link))  # groups that a placement can have twice
    with np.errstate(invalid="ignore"):
        for cut in range(m - 1, -1, -1):
            is_end = np.flatnonzero(np.isfinite(spans[:, cut, cut + 1 :]).any(axis=0)) + cut + 1
            if not len(is_end):
                continue
            direct = np.maximum(spans[:, cut, is_end].T, after[is_end])
            first = direct.argmin(axis=0)
            best[cut], following[cut] = direct[first, group], towards[is_end][first, group]
            around = np.maximum(spans[:, cut, is_end].T, detour[is_end])
            other[cut] = np.where(towards[is_end] != following[cut], direct, around).min(axis=0)
            if cut == 0:
                break
            onward = np.maximum(np.where(np.isinf(link), np.inf, cross[cut] * link), best[cut][None, :])
            back, there = following[cut], group
            keep = (back >= 0) & ~can_return[back]
            back, there = back[keep], there[keep]
            onward[back, there] = np.maximum(onward[back, there], other[cut][there])
            towards[cut] = onward.argmin(axis=1)
            after[cut] = onward[group, towards[cut]]
            onward[group, towards[cut]] = np.inf
            detour[cut] = onward.min(axis=1)
    start = float(np.maximum(best[0], cross[0] * grouped.first_s).min())
    return Labels(best, other, following, np.maximum(spans, after.T[:, None, :]), start)


class Within:
    """Stages, and what hands over to what, within so many seconds.

    Where labels say that nothing can follow within the seconds, a stage does not end.
    """

    def __init__(self, grouped: GroupedInstance, labels: Labels | None, seconds: float) -> None:
        self.grouped, self.labels, self.seconds = grouped, labels, seconds
        self._groups = len(grouped.table)
        self._rows = list(range(self._groups)) if labels else grouped.table.tolist()
        self._is_span = (labels.through_s if labels else grouped.table_s) <= seconds
        self._ends: dict[int, list[int]] = {}
        self._unions: dict[tuple[int, int], int] = {}
        self._onward: dict[int, list[int]] = {}
        # Cuts from which so many boards may be enough, by number of boards
        self.enough = sets(within_boards(self._spans_by_size(), grouped.instance.board_limit))
        # Whether the root has to be in a stage, as its ports cannot carry all inputs and outputs
        self.needs_root = grouped.times.idle_s > seconds

    def _spans_by_size(self) -> dict[int, np.ndarray]:
        size, row = self.grouped.groups.size, np.array(self._rows)
        by_size = {count: self._is_span[np.unique(row[size == count])].any(axis=0) for count in set(size.tolist())}
        for team in self.grouped.teams:
            spans = by_size.setdefault(len(team.members), np.zeros(self._is_span.shape[1:], bool))
            spans[team.begin, team.end] |= team.load[0] <= self.seconds
        return by_size

    def ends(self, option: int, begins: int) -> int:
        """Cuts at which a stage may end that an option begins at one of several cuts."""
        if option >= self._groups:
            team = self.grouped.teams[option - self._groups]
            return 1 << team.end if begins >> team.begin & 1 and team.load[0] <= self.seconds else 0
        row = self._rows[option]
        union = self._unions.get((row, begins))
        if union is None:
            if row not in self._ends:
                self._ends[row] = sets(self._is_span[row])
            union = 0
            for cut in cuts_of(begins):
                union |= self._ends[row][cut]
            self._unions[row, begins] = union
        return union

    def onward(self, last: int) -> list[int]:
        """Cuts at which an option, or `ROOT` at first, may hand over to each option: a list by option."""
        if last not in self._onward:
            teams = enumerate(self.grouped.teams, self._groups)
            self._onward[last] = self._to_groups(last) + [self._to_team(last, team, number) for number, team in teams]
        return self._onward[last]

    def _to_groups(self, last: int) -> list[int]:
        grouped = self.grouped
        if last >= self._groups:
            team = grouped.teams[last - self._groups]
            seconds = (grouped.load(last, group, team.end)[0] for group in range(self._groups))
            return [
                self._begins[group] & 1 << team.end if each <= self.seconds else 0 for group, each in enumerate(seconds)
            ]
        per_byte = grouped.first_s if last == ROOT else grouped.hand_over_s[min(last, len(grouped.hand_over_s) - 1)]
        order, smallest = self._by_size
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            count = np.searchsorted(order, self.seconds / per_byte, side="right")
        count[np.isinf(per_byte)] = 0
        allowed = np.broadcast_to(count, len(self._begins)).tolist()
        allowed_cuts = [smallest[number] & begins for number, begins in zip(allowed, self._begins, strict=True)]
        for group, cut in self._only_back.get(last, ()):
            allowed_cuts[group] &= ~(1 << cut)
        return allowed_cuts

    def _to_team(self, last: int, team: TeamStage, number: int) -> int:
        is_first = last == ROOT
        if team.load[0] > self.seconds or is_first != (team.begin == 0) or (not is_first and last >= self._groups):
            return 0
        return 1 << team.begin if self.grouped.load(last, number, team.begin)[0] <= self.seconds else 0

    @cached_property
    def _by_size(self) -> tuple[np.ndarray, list[int]]:
        """Crossings in ascending order, and the sets of so many cuts of the smallest."""
        order = np.argsort(self.grouped.crossing, kind="stable").tolist()
        smallest = [0]
        for cut in order:
            smallest.append(smallest[-1] | 1 << cut)
        return self.grouped.crossing[order], smallest

    @cached_property
    def _begins(self) -> list[int]:
        """Cuts at which each group may begin a stage."""
        if self.labels:
            return sets((self.labels.best_s <= self.seconds).T)
        by_row = sets(np.array(self._is_span.any(axis=2)))
        return [by_row[row] for row in self._rows]

    @cached_property
    def _only_back(self) -> dict[int, list[tuple[int, int]]]:
        """For each group that cannot come again, the groups and cuts from which every way on leads back to it."""
        only_back: dict[int, list[tuple[int, int]]] = {}
        if self.labels:
            labels, returns = self.labels, np.isfinite(np.diagonal(self.grouped.hand_over_s))
            is_only = (labels.best_s <= self.seconds) & (labels.other_s > self.seconds) & (labels.next >= 0)
            for cut, group in np.argwhere(is_only).tolist():
                if not returns[labels.next[cut, group]]:
                    only_back.setdefault(int(labels.next[cut, group]), []).append((group, cut))
        return only_back


def sets(flags: np.ndarray) -> list[int]:
    """The cuts of every row of flags, bool array (N, m + 1)."""
    packed = np.packbits(flags, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def cuts_of(bits: int) -> list[int]:
    """The cuts of a set, ascending."""
    cuts = []
    while bits:
        low = bits & -bits
        cuts.append(low.bit_length() - 1)
        bits ^= low
    return cuts
