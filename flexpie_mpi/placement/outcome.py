"""What a solver found, and what it proved."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

from .loads import Placement


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer of a solver.

    Attributes
    ----------
    placement : Placement or None
        None when there is none, or none was found.
    seconds : float
        Its bottleneck; infinite without one.
    lower_bound_s : float
        No placement of the instance has a smaller bottleneck: proved, with whatever means. Infinite when it is proved
        that there is none; 0 when nothing is proved.
    search_s : float
        What the search took.
    explored : int
        Steps of the search, in units of its own.
    """

    placement: Placement | None
    seconds: float
    lower_bound_s: float
    search_s: float
    explored: int = 0

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
