"""From the cuts that a search by tables reached back to a placement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from .bits import unpack
from .crews import Members
from .ground import Ground
from .limits import Limits
from .loads import Placement, Stage
from .states import States


@dataclass(frozen=True, eq=False)
class Goal:
    """A state of all units done.

    Attributes
    ----------
    total : int
        Boards used.
    used : array (u,)
        The same by class, in bit fields.
    crew : int
        The last crew.
    cycle : int
        Requests after which turns begin anew; 1 where it does not matter.
    """

    total: int
    used: np.ndarray
    crew: int
    cycle: int


@dataclass(frozen=True, slots=True)
class Run:
    """Units ``[begin, end)``, and the classes of the boards that take turns in running them, or the team that does."""

    begin: int
    end: int
    members: Members = ()
    team: tuple[int, ...] = ()


def trace(ground: Ground, limits: Limits, codes: np.ndarray, layers: Mapping[int, States], goal: Goal) -> Placement:
    """A placement that leads to the goal: from the last stage to the first, any that the sets allow.

    Parameters
    ----------
    codes : int array (K, u)
        What each crew adds to the bit fields of used boards.
    layers : mapping of int to States
        The states that were gone on from, by how many boards they use.
    """
    walk = _Walk(ground, limits, codes, layers)
    runs: list[Run] = []
    end, crew = ground.instance.units, goal.crew
    while True:
        begin, before = walk.before(goal, crew, end)
        runs.append(Run(begin, end, ground.crews.members[crew]))
        if before is None:
            return settle(ground.kinds.groups, runs[::-1])
        goal, end = before, begin
        crew = before.crew if ground.is_linked else walk.last(before, end)


def settle(groups: Sequence[Sequence[int]], runs: Sequence[Run]) -> Placement:
    """Boards for classes: in each class those that are in no team, the first ones first."""
    taken = {board for run in runs for board in run.team}
    pools = [iter([board for board in group if board not in taken]) for group in groups]
    stages = []
    for run in runs:
        boards = run.team or tuple(next(pools[kind]) for kind in run.members)
        stages.append(Stage(run.begin, run.end, boards, together=bool(run.team)))
    return Placement(tuple(stages))


@dataclass(frozen=True, eq=False)
class _Walk:
    ground: Ground
    limits: Limits
    codes: np.ndarray
    layers: Mapping[int, States]

    def before(self, goal: Goal, crew: int, end: int) -> tuple[int, Goal | None]:
        """Where the last stage begins, and the state before it; None before the first."""
        found = self._before(goal, crew, end)
        if found is None:
            raise AssertionError("a state was reached from nowhere")
        return found

    def last(self, goal: Goal, end: int) -> int:
        """A crew whose stage may be the last of a state."""
        crews = range(len(self.codes))
        return next(crew for crew in crews if self._before(goal, crew, end) is not None)

    def _before(self, goal: Goal, crew: int, end: int) -> tuple[int, Goal | None] | None:
        size = int(self.ground.crews.size[crew])
        total, used = goal.total - size, goal.used - self.codes[crew]
        ends = unpack(self.limits.ends[self.limits.row[crew]])[:, end]
        if total == 0:
            return (0, None) if not used.any() and self.limits.first[crew] and ends[0] else None
        states = self.layers.get(total)
        if states is None:
            return None
        for row in np.flatnonzero((states.used == used).all(axis=1)).tolist():
            cycle, last = int(states.cycle[row]), int(states.last[row])
            if self.ground.crews.has_cycles and lcm(cycle, size) != goal.cycle:
                continue
            cuts = unpack(states.sets[row] & self.limits.onward[last, crew])[: len(ends)] & ends
            if cuts.any():
                return int(cuts.argmax()), Goal(total, used, last, cycle)
        return None
