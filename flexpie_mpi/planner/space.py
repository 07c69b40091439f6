"""The search problem as numbers: what a planner chooses from, with everything about models and boards left behind.

A plan is a path over *cuts* 0 .. n. Each step is a segment ``[i, j)`` in one layout. Values that are alive at a cut
(made before it, read behind it) have a *state*: how the ranks hold them. That is the layout they were made in, until a
segment fetches all of them. Entering a segment costs an exchange for every value that it reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Options:
    """The M segments that may begin at one cut, where K values are alive."""

    end: np.ndarray  # int array (M,). The cut each ends at.
    layout: np.ndarray  # int array (M,)
    seconds: np.ndarray  # float array (M,). Compute and session call of the slowest rank.
    # Int array (K, M). Column of each alive value's exchange tables; 0 where the segment does not read the value.
    needs: np.ndarray
    fetches: np.ndarray  # bool array (K, M). Whether all ranks of the segment's layout then hold all of the value.
    # Float array (M, R). Bytes of constants that each rank must hold for the segment; without columns where memory does
    # not count.
    weights: np.ndarray

    def take(self, rows: np.ndarray) -> Options:
        """Only some of the options."""
        return Options(
            self.end[rows],
            self.layout[rows],
            self.seconds[rows],
            self.needs[:, rows],
            self.fetches[:, rows],
            self.weights[rows],
        )

    def row(self, end: int, layout: int) -> int:
        """The option that ends at a cut in a layout.

        Raises KeyError when there is none.
        """
        rows = np.flatnonzero((self.end == end) & (self.layout == layout))
        if not rows.size:
            raise KeyError((end, layout))
        return int(rows[0])


@dataclass(frozen=True)
class Space:
    """A search problem with n cuts behind the first, H states, and V values.

    The price of a path is the sum over its segments of `seconds` and of the entry exchange, and the exit exchange. An
    exchange of several values costs the largest of their latencies and the sum of their volumes.
    """

    options: tuple[Options, ...]  # by cut, 0 .. n - 1.
    # Values alive at each cut, 0 .. n, in the order of the rows of `needs`. Those alive at a segment's end and not at
    # its beginning are made by it, and held in its layout.
    alive: tuple[tuple[int, ...], ...]
    start: tuple[int, ...]  # states of the values alive at cut 0
    # `latency` and `volume`: by value, float array (H, U). Seconds of fetching a value held in a state, by column of
    # `needs`; column 0 is zero.
    latency: tuple[np.ndarray, ...]
    volume: tuple[np.ndarray, ...]
    # `exit_latency` and `exit_volume`: by value, float array (H,). The same for bringing the outputs, those alive at
    # cut n, to the root.
    exit_latency: tuple[np.ndarray, ...]
    exit_volume: tuple[np.ndarray, ...]
    # Int array (H, L). State of a value held in a state, once all ranks of a layout have fetched all of it.
    upgrade: np.ndarray
    # Float array (R,). Most bytes of constants that each rank may hold over all segments; empty where memory does not
    # count.
    capacity: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def cuts(self) -> int:
        """Number of cuts behind the first."""
        return len(self.options)


Path = tuple[tuple[int, int, int], ...]
"""(cut, end cut, layout) of every segment of a plan."""


# The price of a path


@dataclass(frozen=True, slots=True)
class Replay:
    """What a path costs: seconds of exchange and of compute of every segment, and of the exit."""

    exchange_s: tuple[float, ...]
    compute_s: tuple[float, ...]
    exit_s: float

    @property
    def seconds(self) -> float:
        return sum(self.exchange_s) + sum(self.compute_s) + self.exit_s


def replay(space: Space, path: Path) -> Replay:
    """Follow a path and price every step, straight from the definition in :class:`Space`.

    Raises KeyError when a step of the path is no option of the space.
    """
    states = dict(zip(space.alive[0], space.start, strict=True))
    exchange_s, compute_s = [], []
    for cut, end, layout in path:
        options = space.options[cut]
        option = options.row(end, layout)
        needs = dict(zip(space.alive[cut], options.needs[:, option].tolist(), strict=True))
        fetched = dict(zip(space.alive[cut], options.fetches[:, option].tolist(), strict=True))
        fetches = [(space.latency[v][states[v], need], space.volume[v][states[v], need]) for v, need in needs.items()]
        exchange_s.append(_together(fetches))
        compute_s.append(float(options.seconds[option]))
        held = {v: int(space.upgrade[state, layout]) if fetched[v] else state for v, state in states.items()}
        states = {v: held.get(v, layout) for v in space.alive[end]}
    leaving = [(space.exit_latency[v][state], space.exit_volume[v][state]) for v, state in states.items()]
    return Replay(tuple(exchange_s), tuple(compute_s), _together(leaving))


def _together(terms: list[tuple[float, float]]) -> float:
    """Seconds of fetching several values in one exchange: the largest latency and all volumes."""
    return float(max((latency for latency, _ in terms), default=0.0) + sum(volume for _, volume in terms))


# The answer of a search


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
class SearchResult:
    """Paths, and what is proved of them."""

    # The best first, all different. Fewer than asked for where there are no more; none where none was found.
    paths: tuple[Path, ...]
    seconds: tuple[float, ...]  # their prices
    lower_bound: float  # no path costs less
    # Whether the first path is proved to be the cheapest; without paths, whether it is proved that there is none
    is_optimal: bool
    labels: int  # labels of the last pass over the cuts
    # Shortage, optional. The tightest rank, where paths exist but none was found that fits into memory.
    shortage: Shortage | None = None


@dataclass
class Incumbents:
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

    def result(self, shortage: Shortage | None = None) -> SearchResult:
        """What can be said now."""
        seconds = tuple(self._best.values())
        proved = self.bound >= seconds[0] * (1 - SLACK) if seconds else self.bound == np.inf
        bound = seconds[0] if seconds and proved else self.bound
        return SearchResult(tuple(self._best), seconds, float(bound), bool(proved), self.labels, shortage)
