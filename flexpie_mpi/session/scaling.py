"""Studies of scaling: one model on more and more boards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..core.plan import Plan
from ..core.timeline import KINDS, Timeline

HELPS = 0.01
"""Boards help that make a request faster by more than this share."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a board must hold, in bytes, and what it may; None without a limit."""

    board: str
    weight_bytes: int
    arena_bytes: int
    process_bytes: int
    limit_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        return self.weight_bytes + self.arena_bytes + self.process_bytes

    @property
    def lacking_bytes(self) -> int:
        """What is needed beyond what there is; 0 where all fits."""
        return 0 if self.limit_bytes is None else max(0, self.needed_bytes - self.limit_bytes)


@dataclass(frozen=True)
class SimulatedRun:
    """One request on so many boards.

    Attributes
    ----------
    plan : Plan
    made_by : str
        Who planned, in a word or two.
    planned_s : float or None
        What the planner predicts; None where nobody asked.
    timeline : Timeline
    memory : tuple of Memory
        By rank.
    sent_bytes, messages : int
        Of all ranks.
    """

    plan: Plan
    made_by: str
    planned_s: float | None
    timeline: Timeline
    memory: tuple[Memory, ...]
    sent_bytes: int
    messages: int

    @property
    def boards(self) -> int:
        return self.plan.ranks

    @cached_property
    def latency_s(self) -> float:
        return self.timeline.latency_s

    @cached_property
    def slowest(self) -> int:
        """The rank that ends last, the lowest of several."""
        return min((event.rank for event in self.timeline.events if event.end_s == self.latency_s), default=0)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """What the slowest rank's time goes to, by kind of event."""
        return {kind: self.timeline.total(kind, self.slowest) for kind in KINDS}

    @cached_property
    def fullest(self) -> Memory:
        """Of the board that lacks most memory, or else needs most."""
        return max(self.memory, key=lambda memory: (memory.lacking_bytes, memory.needed_bytes))


@dataclass(frozen=True)
class ScalingStudy:
    """One model on growing numbers of boards.

    Attributes
    ----------
    one : SimulatedRun
        On the first board alone: what speed-ups are measured against.
    counts : tuple of SimulatedRun
        The fewest boards first.
    change : str
        What is otherwise than the testbed says, in the user's words; empty for nothing.
    """

    one: SimulatedRun
    counts: tuple[SimulatedRun, ...]
    change: str = ""

    def speed_up(self, found: SimulatedRun) -> float:
        """How many times faster than one board."""
        return self.one.latency_s / found.latency_s if found.latency_s else 1.0

    @property
    def break_even(self) -> SimulatedRun | None:
        """The fewest boards that are faster than one; None when none are."""
        return next((found for found in self.counts if found.boards > 1 and self.speed_up(found) > 1), None)

    @property
    def enough(self) -> SimulatedRun:
        """The fewest boards that are as fast as any, but for `HELPS`."""
        best_s = min(found.latency_s for found in self.counts)
        return next(found for found in self.counts if found.latency_s <= best_s * (1 + HELPS))
