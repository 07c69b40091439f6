"""Whether a placement within a bottleneck exists: all sets of boards, the smaller ones first.

State: the boards left, by class, the boards of teams used, what matters of the last option, when turns begin anew, and
the loads of shared resources so far; of each state the *set of cuts* that can be reached, as the bits of an integer. A
step puts one more option behind a state, at all its cuts at once. With a narrow search only the most promising states
of each number of boards are kept, and not finding a placement proves nothing.

One search serves every instance. Measured on the cells of bench/placement (two cores that were busy otherwise, seconds
of CPU, the search for the best with its proof): every one of 534 instances proved; median 0.04 s and largest 0.4 s on
the paper's networks on 50 boards, largest 1.3 s of all, for random chains on 12 boards. A second search, of states in
numpy arrays, for instances without teams and shared resources took 0.034, 0.25 and 0.29 s and 500 lines.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import lcm

import numpy as np

from .bounds import ROUNDING, TeamTimes, Work, least_possible, relaxed_s
from .grouped import ROOT, GroupedInstance, TeamStage
from .groups import Shares
from .instance import MOST_PERIOD, Instance
from .loads import PlacedStage, Placement
from .outcome import Answer, Deadline
from .within import Labels, Within, cuts_of, labels

SLACK = 1e-12
"""By how much a load may exceed a bottleneck, as a part of it: sums in another order round differently."""

POWER = 4
"""Of the mean of loads by several measures: between that of an average and that of the largest alone."""

SPARE = 8
"""How many times the states that are kept are compared with each other."""

Loads = tuple[float, ...]
State = tuple[int, int, int, int, Loads]
"""Boards left as bit fields, boards of teams used as bits, the last option or the first that hands over alike, requests
after which turns begin anew, and the loads of shared resources."""

States = dict[State, int]
"""The cuts that each state has reached, as bits."""


@dataclass(frozen=True, eq=False)
class Search:
    """The search on one instance."""

    grouped: GroupedInstance
    labels: Labels | None
    work: Work

    @classmethod
    def of(cls, instance: Instance) -> Search:
        grouped = GroupedInstance.of(instance)
        return cls(grouped, labels(grouped), Work.of(instance, grouped.times, _team_times(grouped.teams)))

    def find(self, seconds: float, width: int, deadline: Deadline) -> Answer:
        """Search for a placement within `seconds`: one with the fewest boards, if the search is wide enough.

        So many states are kept for each number of boards. The search gives up when its time is over.
        """
        within = seconds * (1 + SLACK)
        if not self.work.is_possible(within):
            return Answer(None, True, 0)
        sweep = _Sweep(self, within, width)
        sweep.run(deadline)
        if sweep.goal is None:
            return Answer(None, not sweep.is_cut and self.grouped.groups.is_complete, sweep.explored)
        return Answer(sweep.placement(), False, sweep.explored)

    @cached_property
    def start_s(self) -> float:
        """A lower bound that needs no search."""
        lower = relaxed_s(self.grouped.instance, self.grouped.times, self.work)
        if self.labels is None or not self.grouped.groups.is_complete:
            return lower
        return max(lower, least_possible(self.work, self.labels.start_s))

    @cached_property
    def fields(self) -> tuple[list[int], int, int, int]:
        """Bit fields that count boards by class, each with a guard bit above it.

        What each option takes, all guards, all boards, and the root's board (0 without a root).
        """
        classes = self.grouped.classes
        shifts = np.cumsum([0, *(boards.bit_length() + 1 for boards in classes.size.tolist())]).tolist()

        def code(counts: Sequence[int]) -> int:
            return sum(boards << shift for boards, shift in zip(counts, shifts[:-1], strict=True))

        codes = [code(row) for row in self.grouped.counts.tolist()]
        guards = sum(1 << shift - 1 for shift in shifts[1:])
        return codes, guards, code(classes.size.tolist()), 1 << shifts[classes.root] if classes.root >= 0 else 0


def _team_times(options: Sequence[TeamStage]) -> list[TeamTimes]:
    """What teams take at least, by team."""
    teams: dict[tuple[int, ...], list[TeamStage]] = defaultdict(list)
    for option in options:
        teams[option.boards].append(option)
    return [
        TeamTimes(
            spans[0].members,
            np.array([span.begin for span in spans]),
            np.array([span.end for span in spans]),
            np.array([span.load[0] for span in spans]),
        )
        for spans in teams.values()
    ]


class _Sweep:
    """One search: states by how many boards they use."""

    def __init__(self, search: Search, seconds: float, width: int) -> None:
        self.grouped, self.work, self.width = search.grouped, search.work, width
        self.seconds, self.within = seconds, Within(search.grouped, search.labels, seconds)
        self.codes, self.guards, every, self.root_bit = search.fields
        self.limit, self.goal_bit = self.grouped.instance.board_limit, 1 << self.grouped.instance.units
        self.sizes = self.grouped.counts.sum(axis=1).tolist()
        most = self.work.most(seconds)
        self.most, self.needs = most.max(axis=1).tolist(), (self.grouped.counts @ most.T).tolist()
        self.rest = (-self.work.rest).tolist()
        self.room: dict[int, list[float]] = {every: self.work.able(most).tolist()}
        self.allowed: dict[int, int] = {}
        self.layers: dict[int, States] = {}
        self.waiting: dict[int, States] = {0: {(every, 0, ROOT, 1, (0.0,) * len(self.grouped.classes.shared)): 1}}
        self.explored, self.is_cut = 0, False
        # When all units are done: boards used, the state then, and the last option
        self.goal: tuple[int, State, int] | None = None

    def run(self, deadline: Deadline) -> None:
        """Put options behind states, those of the fewest boards first, until all units are done."""
        for used in range(self.limit):
            if self.goal is not None and self.goal[0] <= used + 1:
                break
            states = self._best(self.waiting.pop(used, {}), SPARE * self.width)
            self.layers[used] = states = self._best(undominated(states), self.width)
            self.explored += len(states) if used else 0
            available: dict[tuple[int, int], list[int]] = {}
            for state, cuts in states.items():
                if used and deadline.is_over:
                    self.is_cut = True
                    return
                options = available.get(state[:2])
                if options is None:
                    options = available[state[:2]] = self._available(used, state)
                self._go_on(used, state, cuts, options)

    def _available(self, used: int, state: State) -> list[int]:
        """Options for which there are boards enough left."""
        free, guards, most, sizes = state[0] | self.guards, self.guards, self.limit - used, self.sizes
        options = [k for k, code in enumerate(self.codes) if (free - code) & guards == guards and sizes[k] <= most]
        return [k for k in options if not state[1] & self.grouped.team_boards[k]] if self.grouped.teams else options

    def _go_on(self, used: int, state: State, cuts: int, options: Sequence[int]) -> None:
        onward = self.within.onward(state[2])
        for option in options:
            begins = cuts & onward[option]
            if begins:
                for after, ends, _ in self._steps(used, state, begins, option):
                    self._reach(used + self.sizes[option], after, ends, option)

    def _reach(self, used: int, state: State, cuts: int, option: int) -> None:
        if cuts & self.goal_bit:
            cuts ^= self.goal_bit
            if (self.goal is None or used < self.goal[0]) and self._is_done(state, option):
                self.goal = used, state, option
        if cuts:
            waiting = self.waiting.setdefault(used, {})
            waiting[state] = waiting.get(state, 0) | cuts

    def _is_done(self, state: State, option: int) -> bool:
        """Whether the outputs can be handed to the root."""
        slowest, shares = self.grouped.load(option, ROOT, self.grouped.instance.units)
        return slowest <= self.seconds and self._loaded(state[4], shares) is not None

    def _steps(self, used: int, state: State, begins: int, option: int) -> Iterator[tuple[State, int, int]]:
        """States after a stage of an option, the cuts at which it may end, and those at which it may begin then."""
        free, teams, last, cycle, loads = state
        if self.grouped.groups.has_cycles and option < len(self.grouped.table):
            cycle = lcm(cycle, self.sizes[option])
            if cycle > MOST_PERIOD:
                return
        left, alike = free - self.codes[option], self.grouped.alike[option]
        teams |= self.grouped.team_boards[option]
        is_same = not (loads and self.grouped.added(last, option, 0))
        for some in (begins,) if is_same else [1 << cut for cut in cuts_of(begins)]:
            ends = self.within.ends(option, some)
            if ends:
                allowed = self.allowed.get(left)
                if allowed is None:
                    allowed = self._allow(used + self.sizes[option], free, left, option)
                ends &= allowed
            if ends:
                more = (
                    loads if is_same else self._loaded(loads, self.grouped.added(last, option, some.bit_length() - 1))
                )
                if more is not None:
                    yield (left, teams, alike, cycle, more), ends, some

    def _allow(self, used: int, free: int, left: int, option: int) -> int:
        """Cuts from which the boards left may be enough, by their number and by the work they can take on."""
        room = self.room[left] = [have - need for have, need in zip(self.room[free], self.needs[option], strict=True)]
        boards, first = self.limit - used, 0
        for able, most, rest in zip(room, self.most, self.rest, strict=True):
            able = min(able, most * boards)
            if rest[first] < -able * (1 + ROUNDING) - ROUNDING:
                first = bisect_left(rest, -able * (1 + ROUNDING) - ROUNDING, first)
        cuts = self.within.enough[boards] >> first << first
        if self.within.needs_root and left & self.root_bit:
            cuts &= ~self.goal_bit
        self.allowed[left] = cuts
        return cuts

    def _loaded(self, loads: Loads, shares: Shares) -> Loads | None:
        """Loads of shared resources with some more; None when that is too much."""
        if not shares:
            return loads
        total = list(loads)
        for index, seconds in shares:
            total[index] += seconds
            if total[index] > self.seconds:
                return None
        return tuple(total)

    def _best(self, states: States, width: int) -> States:
        """The `width` states that leave the most room for the work that is left.

        Half of them are the best of all, the others the best by their last options, so that these stay different.
        """
        if len(states) <= width:
            return states
        self.is_cut = True

        def load(state: State) -> tuple[float, int, int]:
            furthest = states[state].bit_length() - 1
            rooms = zip(self.rest, self.room[state[0]], strict=True)
            total = sum((-rest[furthest] / max(room, 1e-300)) ** POWER for rest, room in rooms)
            return total, -furthest, -states[state].bit_count()

        order = sorted(states, key=load)
        best, others = order[: width // 2], order[width // 2 :]
        before: Counter[int] = Counter()
        rank = {}
        for state in others:
            rank[state] = before[state[2]]
            before[state[2]] += 1
        others.sort(key=rank.__getitem__)
        return {state: states[state] for state in (*best, *others[: width - len(best)])}

    def placement(self) -> Placement:
        """A placement that leads to the goal, from the last stage to the first, any that the sets allow."""
        assert self.goal is not None, "there is a placement only with a goal"
        used, state, last = self.goal
        options, end = [last], self.grouped.instance.units
        stages: list[tuple[int, int, int]] = []
        while used:
            option, before, begin = next(self._before(used, state, options, end))
            stages.append((begin, end, option))
            used, state, end = used - self.sizes[option], before, begin
            options = [other for other, alike in enumerate(self.grouped.alike) if alike == state[2]]
        return settle(self.grouped, stages[::-1])

    def _before(self, used: int, state: State, options: Sequence[int], end: int) -> Iterator[tuple[int, State, int]]:
        """(option, state before it, where its stage begins) for all ways to reach a cut in a state."""
        for option in options:
            total, free = used - self.sizes[option], state[0] + self.codes[option]
            for before, cuts in self.layers.get(total, {}).items():
                if before[0] == free:
                    begins = cuts & self.within.onward(before[2])[option]
                    for after, ends, some in self._steps(total, before, begins, option):
                        if after == state and ends >> end & 1:
                            yield (
                                option,
                                before,
                                next(c for c in cuts_of(some) if self.within.ends(option, 1 << c) >> end & 1),
                            )


def undominated(states: States) -> States:
    """States without the cuts that another state reaches with smaller loads, all else equal."""
    if not any(state[4] for state in states):
        return states
    alike: dict[tuple[int, int, int, int], list[State]] = defaultdict(list)
    for state in states:
        alike[state[:4]].append(state)
    if len(alike) == len(states):
        return states
    best: States = {}
    for group in alike.values():
        kept: list[State] = []
        for state in sorted(group, key=lambda each: each[4]):
            cuts = states[state]
            for other in kept:
                if cuts & best[other] and all(a <= b for a, b in zip(other[4], state[4], strict=True)):
                    cuts &= ~best[other]
            if cuts:
                best[state] = cuts
                kept.append(state)
    return best


def settle(grouped: GroupedInstance, stages: Sequence[tuple[int, int, int]]) -> Placement:
    """Boards for the classes of (begin, end, option): in each class those that are in no team, the first ones first."""
    options = [(begin, end, grouped.options[option]) for begin, end, option in stages]
    taken = {board for *_, option in options if isinstance(option, TeamStage) for board in option.boards}
    pools = [iter([board for board in boards if board not in taken]) for boards in grouped.classes.groups]
    placed = []
    for begin, end, option in options:
        if isinstance(option, TeamStage):
            placed.append(PlacedStage(begin, end, option.boards, together=True))
        else:
            placed.append(PlacedStage(begin, end, tuple(next(pools[kind]) for kind in option)))
    return Placement(tuple(placed))
