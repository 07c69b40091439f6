"""What one search within a bottleneck says, and the time it may take."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from time import perf_counter

from .loads import Placement


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether there is a placement within a bottleneck.

    Attributes
    ----------
    placement : Placement or None
    is_sure : bool
        Without a placement: whether it is proved that there is none.
    explored : int
        States looked at.
    """

    placement: Placement | None
    is_sure: bool
    explored: int


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds since a beginning, and when to stop."""

    began: float
    limit_s: float

    @classmethod
    def start(cls, limit_s: float | None) -> Clock:
        return cls(perf_counter(), inf if limit_s is None else limit_s)

    @property
    def elapsed_s(self) -> float:
        return perf_counter() - self.began

    @property
    def is_over(self) -> bool:
        return self.elapsed_s >= self.limit_s

    def part(self, share: float) -> Clock:
        """A clock that stops after a part of the time that is left."""
        left = max(0.0, self.limit_s - self.elapsed_s)
        return Clock(perf_counter(), left * share)
