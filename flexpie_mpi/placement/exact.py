"""The best placement, and the proof that none is better: a search for the bottleneck, and for placements within it.

Every search within a bottleneck ends in a placement, whose own bottleneck is the next to beat; in the proof that there
is none, which raises the lower bound; or undecided, as it kept too few states. So searches begin narrow, close in on
the best bottleneck they can find, and widen until the proof just below it succeeds or time is up.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite, sqrt

from .groups import without_shares
from .instance import Instance
from .loads import Placement, loads
from .outcome import Deadline, Outcome
from .search import Search

WIDTHS = (8, 64, 1024, 16384, 1 << 17)
"""States of equally many boards that are kept, one search after the other."""

SOME = 3
"""How many of the widths the simpler instance is worth."""

PART = 0.3
"""Part of the time left that the simpler instance may take."""

HUGE = 1e300
"""Seconds that every placement stays below."""

HALVINGS = 20
"""Steps in which the bound is raised with one width."""

CLOSE = 2e-3
"""Part of the best bottleneck: once what is left to search is smaller, the proof is tried."""

QUICK = 20_000
"""States of a proof after which a placement of fewer boards is looked for as well."""

TRIMMED = 256
"""Effort of that, at least."""

PROVED = 1e-9
"""Part of a bottleneck by which another has to be better to count."""


def exact(instance: Instance, time_limit_s: float | None = None, start: Placement | None = None) -> Outcome:
    """The placement with the least bottleneck, with proof; or the best found in time, with a proved lower bound.

    Exact over all that :func:`~.loads.problems` accepts: boards in any order and any number, replicas, teams. Of
    placements that are equally good one with fewer boards is preferred where that is quick to find; this is no promise.

    Parameters
    ----------
    instance : Instance
    time_limit_s : float, optional
        Seconds after which the search ends with what it has, or soon after when it has nothing yet. None to go on
        until the proof, or until `WIDTHS` are used up; the same instance has the same outcome then.
    start : Placement, optional
        One to begin with; raises PlacementError when it is none of the instance.
    """
    search = _Bisection(instance, Deadline.start(time_limit_s))
    if start is not None:
        search.offer(start)
    finder = Search.of(instance)
    if finder.grouped.adds_up:
        _prepare(search)
    search.run(finder, WIDTHS)
    if not finder.grouped.adds_up:
        search.trim(finder)
    return search.outcome()


def _prepare(search: _Bisection) -> None:
    """A placement, and bounds, from a simpler instance: without teams, or with nothing shared."""
    instance = search.instance
    easier = replace(instance, teams=()) if instance.teams else without_shares(instance)
    simpler = _Bisection(easier, search.deadline.part(PART))
    simpler.run(Search.of(easier), WIDTHS[:SOME])
    search.offer(simpler.placement)
    search.explored = simpler.explored
    if not instance.teams:
        search.lower_s = simpler.lower_s


class _Bisection:
    """The best placement so far, and the bound."""

    def __init__(self, instance: Instance, deadline: Deadline) -> None:
        self.instance, self.deadline = instance, deadline
        self.placement: Placement | None = None
        self.best_s, self.lower_s = inf, 0.0
        self.explored = self.width = self.last_explored = 0

    def outcome(self) -> Outcome:
        lower = self.best_s if self.is_closed else self.lower_s
        return Outcome(self.placement, self.best_s, lower, self.deadline.elapsed_s, self.explored)

    def offer(self, placement: Placement | None) -> float:
        """Take a placement if it is better than the best; its bottleneck, infinite for none."""
        if placement is None:
            return inf
        seconds = loads(self.instance, placement).seconds
        if seconds < self.best_s:
            self.placement, self.best_s = placement, seconds
        return seconds

    def run(self, finder: Search, widths: tuple[int, ...]) -> None:
        """Search with more and more width until the best is proved or time is up."""
        self.lower_s = max(self.lower_s, finder.start_s)
        for width in widths:
            if self.is_closed or (self.deadline.is_over and width != widths[0]):
                break
            self.width = width
            close = CLOSE if width == widths[0] else inf
            self._improve(finder, width, close)
            if not self.is_closed and (isfinite(self.deadline.limit_s) or width == widths[-1]):
                self._raise(finder, width)

    def trim(self, finder: Search) -> None:
        """Take a placement of fewer boards that is as good as the proved best, if the proof was quick."""
        if self.placement is None or not self.is_closed or self.deadline.is_over or self.last_explored > QUICK:
            return
        answer = finder.find(self.best_s, max(self.width, TRIMMED), self.deadline)
        self.explored += answer.explored
        if answer.placement is not None and len(answer.placement.boards) < len(self.placement.boards):
            self.placement = answer.placement
            self.best_s = self.lower_s = loads(self.instance, answer.placement).seconds

    @property
    def is_closed(self) -> bool:
        return self.lower_s == inf or self.best_s * (1 - PROVED) <= self.lower_s

    def _ask(self, finder: Search, seconds: float, width: int) -> bool | None:
        """Whether there is a placement within `seconds`, None when undecided; what is found or proved is kept."""
        is_first = self.explored == 0 and self.placement is None  # something has to be there, however short the time
        answer = finder.find(seconds, width, Deadline.start(None) if is_first else self.deadline)
        self.explored += answer.explored
        self.last_explored = answer.explored
        found_s = self.offer(answer.placement)
        if answer.is_sure:
            self.lower_s = max(self.lower_s, seconds if seconds < HUGE else inf)
        if found_s <= seconds * (1 + PROVED):
            return True
        return False if answer.is_sure else None

    def _improve(self, finder: Search, width: int, close: float) -> None:
        """Halve what is left between the bound, or what was undecided, and the best; then prove the best, or beat it.

        The proof is tried early once, after the first of a smaller bottleneck: often there is nothing in between.
        """
        if self.placement is None and not self._ask(finder, HUGE, width):
            return
        floor, is_hasty = self.lower_s, True
        while not self.is_closed and not self.deadline.is_over:
            is_early = is_hasty and self.lower_s == floor > finder.start_s
            is_last = self.best_s - floor <= close * self.best_s
            seconds = self.best_s * (1 - PROVED) if is_early or is_last else middle(floor, self.best_s)
            answer = self._ask(finder, seconds, width)
            if (is_early or is_last) and answer is False:
                self.lower_s = self.best_s
            elif is_last and answer is None:
                return
            elif is_last:
                close = min(close, CLOSE) / 4  # what was taken for the best was not: look closer
            elif not is_early and not answer:
                floor = seconds
            is_hasty &= not is_early

    def _raise(self, finder: Search, width: int) -> None:
        """Prove as high a bound as this width can."""
        undecided = self.best_s
        for _ in range(HALVINGS if isfinite(undecided) else 0):
            if undecided - self.lower_s <= CLOSE * undecided or self.deadline.is_over:
                break
            seconds = middle(self.lower_s, undecided)
            if self._ask(finder, seconds, width) is not False:
                undecided = min(seconds, self.best_s)


def middle(low: float, high: float) -> float:
    """A number between two, nearer to the lower one when they are far apart."""
    return sqrt(low * high) if 0 < 2 * low < high else (low + high) / 2
