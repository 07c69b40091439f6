"""The best placement, and the proof that none is better: a search for the bottleneck, and for placements within it.

Every search within a bottleneck ends in a placement, whose own bottleneck is the next to beat; in the proof that there
is none, which raises the lower bound; or undecided, as it kept too few states. So searches begin narrow, close in on
the best bottleneck they can find, and widen until the proof just below it succeeds or time is up.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite, sqrt
from typing import Protocol

from .answer import Answer, Clock
from .frontier import Frontier
from .ground import Ground
from .instance import Instance
from .loads import Placement, loads
from .outcome import Outcome
from .passages import passages, without_shares
from .walk import Walk

WIDTHS = (8, 64, 1024, 16384, 1 << 18)
"""States of equally many boards that a search by tables keeps, one search after the other."""

STEPS = (2_000, 50_000, 1_000_000, 1 << 62)
"""Steps that a search by paths takes."""

PART = 0.3
"""Part of the time left that the simpler instance may take."""

HUGE = 1e300
"""Seconds that every placement stays below."""

CLOSE = 2e-3
"""Part of the best bottleneck: once what is left to search is smaller, the proof is tried."""

PROVED = 1e-9
"""Part of a bottleneck by which another has to be better to count."""


def exact(instance: Instance, time_limit_s: float | None = None, start: Placement | None = None) -> Outcome:
    """The placement with the least bottleneck, with proof; or the best found in time, with a proved lower bound.

    Exact over all that :func:`~.loads.problems` accepts: boards in any order and any number, replicas, teams. Of
    placements that are equally good one with few boards is preferred; without teams and shared resources, where the
    proof was quick, none that is as good has fewer.

    Parameters
    ----------
    instance : Instance
    time_limit_s : float, optional
        Seconds after which the search ends with what it has, shortly after; None to go on until the proof, or until
        it would take more memory than there is reason to. The same instance without a limit gives the same outcome.
    start : Placement, optional
        One to begin with.

    Returns
    -------
    Outcome
        With `is_optimal`, or with the gap that is left. Without a placement `lower_bound_s` is infinite when it is
        proved that there is none.

    Raises
    ------
    PlacementError
        When `start` is no placement of the instance.
    """
    clock = Clock.start(time_limit_s)
    search = _Search(instance, clock)
    if start is not None:
        search.offer(start)
    if instance.teams or passages(instance).shared:
        _prepare(search)
        search.run(Walk.of(instance), STEPS)
    else:
        search.run(Frontier.of(Ground.of(instance)), WIDTHS)
    return search.outcome()


def _prepare(search: _Search) -> None:
    """Bounds and placements from a simpler instance: no teams, or no sharing of what is shared."""
    instance, clock = search.instance, search.clock.part(PART)
    if instance.teams:
        search.offer(exact(replace(instance, teams=()), clock.limit_s - clock.elapsed_s).placement)
        return
    simpler = _Search(without_shares(instance), clock)
    simpler.run(Frontier.of(Ground.of(simpler.instance)), WIDTHS[:4])
    search.offer(simpler.placement)
    search.lower_s = simpler.lower_s


class Finder(Protocol):
    """A search within a bottleneck."""

    @property
    def start_s(self) -> float:
        """A lower bound, known before any search; infinite when there is no placement."""
        ...

    def find(self, seconds: float, effort: int, clock: Clock) -> Answer:
        """A placement within `seconds`, or the proof that there is none, or neither."""
        ...


class _Search:
    """The best placement so far, and the bound."""

    def __init__(self, instance: Instance, clock: Clock) -> None:
        self.instance, self.clock = instance, clock
        self.placement: Placement | None = None
        self.best_s, self.lower_s = inf, 0.0
        self.explored = 0

    def outcome(self) -> Outcome:
        lower = min(self.lower_s, self.best_s)
        return Outcome(self.placement, self.best_s, lower, self.clock.elapsed_s, self.explored)

    def offer(self, placement: Placement | None) -> None:
        """Take a placement if it is better than the best."""
        if placement is not None:
            seconds = loads(self.instance, placement).seconds
            if seconds < self.best_s:
                self.placement, self.best_s = placement, seconds

    def run(self, finder: Finder, efforts: tuple[int, ...]) -> None:
        """Search with more and more effort until the best is proved or time is up."""
        self.lower_s = max(self.lower_s, finder.start_s)
        for effort in efforts:
            if self.is_closed or (self.clock.is_over and self.placement is not None):
                break
            close = CLOSE if effort == efforts[0] else inf
            self._improve(finder, effort, close)
            if not self.is_closed and (isfinite(self.clock.limit_s) or effort == efforts[-1]):
                self._raise(finder, effort)

    @property
    def is_closed(self) -> bool:
        return self.lower_s == inf or self.best_s * (1 - PROVED) <= self.lower_s

    def _ask(self, finder: Finder, seconds: float, effort: int) -> bool | None:
        """Whether there is a placement within `seconds`, None when undecided; what is found or proved is kept."""
        is_first = self.placement is None  # something has to be there, however short the time
        answer = finder.find(seconds, effort, Clock.start(None) if is_first else self.clock)
        self.explored += answer.explored
        self.offer(answer.placement)
        if answer.is_sure:
            self.lower_s = max(self.lower_s, seconds if seconds < HUGE else inf)
        return True if answer.placement is not None else False if answer.is_sure else None

    def _improve(self, finder: Finder, effort: int, close: float) -> None:
        """Halve what is left between the bound, or what was undecided, and the best; then prove the best, or beat it."""
        if self.placement is None and not self._ask(finder, HUGE, effort):
            return
        floor = self.lower_s
        while not self.is_closed and not self.clock.is_over:
            is_last = self.best_s - floor <= close * self.best_s
            seconds = self.best_s * (1 - PROVED) if is_last else middle(floor, self.best_s)
            found = self._ask(finder, seconds, effort)
            if is_last and found is False:
                self.lower_s = self.best_s
            if is_last and not found:
                return
            if is_last:
                close = min(close, CLOSE) / 4  # what was taken for the best was not: look closer
            elif not found:
                floor = seconds

    def _raise(self, finder: Finder, effort: int) -> None:
        """Prove as high a bound as this effort can."""
        undecided = self.best_s
        while undecided - self.lower_s > CLOSE * undecided and isfinite(undecided) and not self.clock.is_over:
            seconds = middle(self.lower_s, undecided)
            if self._ask(finder, seconds, effort) is not False:
                undecided = min(seconds, self.best_s)


def middle(low: float, high: float) -> float:
    """A number between two, nearer to the lower one when they are far apart."""
    return sqrt(low * high) if 0 < 2 * low < high else (low + high) / 2
