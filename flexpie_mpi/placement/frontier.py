"""Whether a placement within a bottleneck exists, by tables: all sets of boards at once, the smaller ones first.

State: the boards used, by class, the last crew where links count, and when turns begin anew; of each state the set of
cuts that can be reached. A step puts one more crew behind every state. With a narrow frontier only the most promising
states of each number of boards are kept, and not finding a placement proves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .answer import Answer, Clock
from .bits import unions, unpack
from .bounds import ROUNDING, Work, least_possible, relaxed_s
from .crews import most_boards
from .ground import Ground
from .instance import MOST_TURNS
from .labels import Labels, labels
from .limits import Limits
from .states import Fields, States, best_states, merged
from .trace import Goal, trace

BLOCK = 1 << 18
"""Words of sets worked on at once: few enough to stay in the cache."""


@dataclass(frozen=True, eq=False)
class Frontier:
    """The search by tables on one ground."""

    ground: Ground
    rest: Labels
    work: Work

    @classmethod
    def of(cls, ground: Ground) -> Frontier:
        return cls(ground, labels(ground), Work.of(ground.instance, ground.spans))

    def find(self, seconds: float, width: int, clock: Clock) -> Answer:
        """Search for a placement within `seconds`: one with the fewest boards, if the frontier is wide enough.

        Parameters
        ----------
        seconds : float
        width : int
            States kept for each number of boards.
        clock : Clock
            The search gives up when it is over.
        """
        limits = Limits.of(self.ground, self.rest, self.work, seconds)
        if not (self.work.able(limits.most) * (1 + ROUNDING) + ROUNDING >= self.work.rest[:, 0]).all():
            return Answer(None, True, 0)
        sweep = _Sweep(self, limits, width)
        goal = sweep.run(clock)
        if goal is None:
            return Answer(None, not sweep.is_cut and self.ground.crews.is_complete, sweep.explored)
        return Answer(trace(self.ground, sweep.limits, self.codes, sweep.layers, goal), False, sweep.explored)

    @cached_property
    def start_s(self) -> float:
        """A lower bound that needs no search."""
        if self.ground.crews.is_complete:
            return least_possible(self.work, self.rest.start_s)
        return relaxed_s(self.ground.instance, self.ground.spans, self.work)

    @cached_property
    def fields(self) -> Fields:
        """How states count boards."""
        return Fields.of(self.ground.kinds.size)

    @cached_property
    def codes(self) -> np.ndarray:
        """What a crew adds to the bit fields of used boards: int array (K, u)."""
        return self.fields.codes(self.ground.crews.counts)


class _Sweep:
    """One search: states by how many boards they use."""

    def __init__(self, frontier: Frontier, limits: Limits, width: int) -> None:
        self.ground, self.work = frontier.ground, frontier.work
        self.fields, self.codes = frontier.fields, frontier.codes
        self.limits, self.width = limits, width
        self.most = most_boards(self.ground.instance)
        self.needs = limits.most @ self.ground.crews.counts.T  # work that a crew's boards could take on, (w, K)
        self.layers: dict[int, States] = {}
        self.waiting: dict[int, list[States]] = defaultdict(list)
        self.explored, self.is_cut = 0, False
        self.goal: Goal | None = None

    def run(self, clock: Clock) -> Goal | None:
        self._place(0, self._start(), [self._first()])
        for total in range(1, self.most):
            if self.goal is not None and self.goal.total <= total + 1:
                break
            parts = self.waiting.pop(total, None)
            if parts is None:
                continue
            states = merged(parts)
            kept = best_states(states, self.work.rest, self.width)
            self.is_cut |= len(kept) < len(states)
            self.explored += len(kept)
            self.layers[total] = kept
            self._place(total, kept, self._handed_over(kept, clock))
        return self.goal

    def _start(self) -> States:
        """The state before any stage."""
        cut = self.limits.from_cut
        room = self.work.able(self.limits.most)
        first = cut[:1] & ~cut[1:2]
        zero = np.zeros(1, int)
        return States(np.zeros((1, self.codes.shape[1]), np.int64), room[None], zero, zero + 1, first)

    def _bounded(self, room: np.ndarray, boards: int | np.ndarray) -> np.ndarray:
        """Work that boards left can take on, when only so many of them may be used."""
        return np.minimum(room, self.limits.most.max(axis=1) * np.asarray(boards)[..., None])

    def _first(self) -> tuple[np.ndarray, np.ndarray]:
        first = self.limits.from_cut[:1] & ~self.limits.from_cut[1:2]
        return np.zeros(1, int), np.where(self.limits.first[None, :, None], first[None], np.uint64(0))

    def _handed_over(self, states: States, clock: Clock) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """States that stand for those with the same boards, and the cuts at which each crew may go on from them."""
        starts = states.groups()
        bounds = np.append(starts, len(states))
        crews, words = self.limits.onward.shape[1:]
        block = max(1, BLOCK // (crews * words))
        begin = 0
        while begin < len(starts) and not self._is_over(clock):
            end = max(begin + 1, int(np.searchsorted(bounds, bounds[begin] + block, side="right")) - 1)
            rows = slice(int(bounds[begin]), int(bounds[end]))
            onward = self.limits.onward[states.last[rows]]
            sets = (states.sets[rows, None, :] & onward).reshape(-1, crews * words)
            found = unions(sets, starts[begin:end] - bounds[begin])
            yield starts[begin:end], found.reshape(-1, crews, words)
            begin = end

    def _is_over(self, clock: Clock) -> bool:
        self.is_cut |= clock.is_over
        return clock.is_over

    def _place(self, total: int, states: States, parts: Iterator | list) -> None:
        """Put every crew behind every state, and keep what comes of it."""
        for parents, sets in parts:
            can = sets.any(axis=-1) & self._has_boards(states.used[parents])
            row, crew = np.nonzero(can)
            cycle = states.cycle[parents[row]]
            if self.ground.crews.has_cycles:
                cycle = np.lcm(cycle, self.ground.crews.size[crew])
                keep = cycle <= MOST_TURNS
                row, crew, cycle = row[keep], crew[keep], cycle[keep]
            if len(row):
                self._keep(total, states, parents[row], crew, cycle, sets[row, crew])

    def _has_boards(self, used: np.ndarray) -> np.ndarray:
        """Whether there are boards enough left for each crew: bool array (S, K)."""
        left, (kinds, boards) = self.fields.left(used), self.ground.crews.parts
        found = left[:, kinds[:, 0]] >= boards[:, 0]
        for place in range(1, kinds.shape[1]):
            found &= left[:, kinds[:, place]] >= boards[:, place]
        return found

    def _keep(
        self, total: int, states: States, parent: np.ndarray, crew: np.ndarray, cycle: np.ndarray, sets: np.ndarray
    ) -> None:
        limits, crews = self.limits, self.ground.crews
        after = total + crews.size[crew]
        room = self._bounded(states.room[parent] - self.needs.T[crew], self.most - after)
        sets = self._ended(sets, crew) & limits.enough[self.most - after] & self._within(room)
        used = states.used[parent] + self.codes[crew]
        if limits.needs_root:
            is_idle = self.fields.left(used)[:, self.ground.kinds.root] > 0
            sets[is_idle] &= ~limits.from_cut[-2]
        keep = sets.any(axis=1)
        last = crew if self.ground.is_linked else np.zeros_like(crew)
        found = States(used, room, last, cycle, sets)
        goal = np.flatnonzero((sets & limits.from_cut[-2]).any(axis=1))
        if len(goal):
            row = goal[np.argmin(after[goal])]
            if self.goal is None or after[row] < self.goal.total:
                self.goal = Goal(int(after[row]), found.used[row], int(crew[row]), int(cycle[row]))
        for count in np.unique(after[keep]).tolist():
            self.waiting[count].append(found.rows(keep & (after == count)))

    def _ended(self, sets: np.ndarray, crew: np.ndarray) -> np.ndarray:
        """Cuts where stages can end that begin at one of a set."""
        row, cut = np.nonzero(unpack(sets))
        ends = self.limits.ends[self.limits.row[crew][row], cut]
        return unions(ends, np.flatnonzero(np.diff(row, prepend=-1)))

    def _within(self, room: np.ndarray) -> np.ndarray:
        """Cuts from which the rest of the work is within what boards left can take on."""
        found = np.full((len(room), self.limits.from_cut.shape[1]), ~np.uint64(0))
        for measure, rest in enumerate(self.work.rest):
            able = room[:, measure] * (1 + ROUNDING) + ROUNDING
            found &= self.limits.from_cut[np.searchsorted(-rest, -able, side="left")]
        return found
