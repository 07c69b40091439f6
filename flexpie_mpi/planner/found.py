"""What a search has found, and what it has proved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from .replay import replay
from .space import Path, Space

SLACK = 1e-9
"""Relative difference of prices that tells no more than in which order they were summed."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """The rank whose memory is tightest: bytes of constants that any path puts there at least, and what it may hold.

    Where `needed` is no more than `capacity`, every rank alone could be served, but not all at once.
    """

    rank: int
    needed: float
    capacity: float


@dataclass(frozen=True, slots=True)
class Found:
    """Paths, and what is proved of them.

    Attributes
    ----------
    paths : tuple of Path
        The best first, all different. Fewer than asked for where there are no more; none where none was found.
    seconds : tuple of float
        Their prices.
    lower_bound : float
        No path costs less.
    is_optimal : bool
        Whether the first path is proved to be the cheapest; without paths, whether it is proved that there is none.
    labels : int
        Labels of the last sweep over the cuts.
    shortage : Shortage, optional
        The tightest rank, where paths exist but none was found that fits into memory.
    """

    paths: tuple[Path, ...]
    seconds: tuple[float, ...]
    lower_bound: float
    is_optimal: bool
    labels: int
    shortage: Shortage | None = None


@dataclass
class Record:
    """The `top` best paths met so far, and the best bound."""

    space: Space
    top: int
    bound: float = -np.inf
    labels: int = 0
    _best: dict[Path, float] = field(default_factory=dict)

    @property
    def upper(self) -> float:
        """Only paths cheaper than this are news; a little more than that, for the sake of rounding."""
        worst = max(self._best.values(), default=np.inf) if len(self._best) == self.top else np.inf
        return float(worst + SLACK * abs(worst))

    def add(self, paths: Iterable[Path]) -> None:
        """Enter paths, and let the dearest go."""
        self._best.update((path, replay(self.space, path).seconds) for path in paths)
        kept = sorted(self._best.items(), key=lambda item: (item[1], item[0]))[: self.top]
        self._best = dict(kept)

    def raise_bound(self, least: float) -> None:
        """Take note that a path that is not in the record costs `least` at least, or more than one that is."""
        self.bound = max(self.bound, min(least, *self._best.values(), np.inf))

    def found(self, shortage: Shortage | None = None) -> Found:
        """What can be said now."""
        seconds = tuple(self._best.values())
        proved = self.bound >= seconds[0] * (1 - SLACK) if seconds else self.bound == np.inf
        bound = seconds[0] if seconds and proved else self.bound
        return Found(tuple(self._best), seconds, float(bound), bool(proved), self.labels, shortage)
