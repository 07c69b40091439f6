"""What solvers and searches answer, and the time they may take."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from time import perf_counter

from .loads import Placement


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer of a solver."""

    placement: Placement | None  # None when there is none, or none was found
    seconds: float  # its bottleneck; infinite without one
    # No placement of the instance has a smaller bottleneck: proved, with whatever means. Infinite when it is proved
    # that there is none; 0 when nothing is proved.
    lower_bound_s: float
    search_s: float  # what the search took
    explored: int = 0  # steps of the search, in units of its own

    @property
    def gap(self) -> float:
        """By how much of the bottleneck it may be off, at most: 0 when it is proved to be the best, 1 when unknown."""
        if not isfinite(self.seconds):
            return 0.0 if self.lower_bound_s == inf else 1.0
        return max(0.0, 1.0 - self.lower_bound_s / self.seconds) if self.seconds > 0 else 0.0

    @property
    def is_optimal(self) -> bool:
        """Whether nothing better exists, up to a part in a billion; or nothing at all, when there is no placement."""
        return self.gap <= 1e-9


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether there is a placement within a bottleneck."""

    placement: Placement | None
    is_sure: bool  # without a placement: whether it is proved that there is none
    explored: int  # states looked at


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment at which to begin, and for how many seconds to go on."""

    began: float
    limit_s: float

    @classmethod
    def start(cls, limit_s: float | None = None) -> Deadline:
        """From now on; without an end when `limit_s` is None."""
        return cls(perf_counter(), inf if limit_s is None else limit_s)

    @property
    def elapsed_s(self) -> float:
        return perf_counter() - self.began

    @property
    def is_over(self) -> bool:
        return self.elapsed_s >= self.limit_s

    def part(self, share: float) -> Deadline:
        """A deadline after a part of the time that is left."""
        return Deadline.start(max(0.0, self.limit_s - self.elapsed_s) * share)
