"""The search within memory: the constants of all segments of a path must fit every rank.

A price on the bytes of every rank turns the problem into one without limits, whose cheapest path is a bound:
*Lagrangian* relaxation. Good prices are found first, by steps along the excess of the cheapest path; then labels that
carry bytes are swept, and those whose bound is too high are left out.

Sources: Handler and Zang, *A dual algorithm for the constrained shortest path problem*, 1980. Polyak, *Minimization of
unsmooth functionals*, 1969 (the length of a step).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .best import best_paths
from .bounds import Rest
from .found import Found, Record, Shortage
from .labels import Ground
from .space import Path, Space
from .sweep import sweep
from .weighed import Priced, fewest_bytes, sweep_weighed

ROUNDS = 12
"""Steps towards good prices of bytes."""

QUICK = 100
"""Labels at a cut of a first look."""


def fits(space: Space, path: Path) -> bool:
    """Whether a path keeps within the capacity of every rank."""
    return bool((_load(space, path) <= space.capacity).all())


def search_within(space: Space, free: Found, top: int, beam: int) -> Found:
    """The `top` cheapest paths that fit into memory, where those of the search without memory do not all.

    Parameters
    ----------
    space : Space
    free : Found
        The answer without regard to memory.
    top, beam : int
        Most paths to find, and most labels at a cut.
    """
    ranks = _binding(space)
    space = _of_ranks(space, ranks)
    ground = Ground.of(space)
    record = Record(space, top, free.lower_bound, free.labels)
    record.add(path for path in free.paths if fits(space, path))
    fewest = fewest_bytes(ground)[0]
    tightest = int(np.argmax(fewest - space.capacity))
    shortage = Shortage(int(ranks[tightest]), float(fewest[tightest]), float(space.capacity[tightest]))
    if (fewest > space.capacity).any():
        record.raise_bound(np.inf)
        return record.found(shortage)
    _search_labels(ground, record, beam)
    found = record.found()
    return found if found.paths else replace(found, shortage=shortage)


def _search_labels(ground: Ground, record: Record, beam: int) -> None:
    bounds = [Priced.of(ground, rates) for rates in (np.zeros(len(ground.space.capacity)), _rates(ground, record))]
    for limit in (min(QUICK, beam), beam):
        paths, dropped, record.labels = sweep_weighed(ground, record.top, limit, record.upper, bounds)
        record.add(paths)
        record.raise_bound(dropped)
        if dropped >= record.upper:
            break


def _rates(ground: Ground, record: Record) -> np.ndarray:
    """Good prices of bytes (R,), in seconds per byte: under them, the cheapest path costs almost as if it fitted.

    A price rises while the cheapest path puts too much on a rank, and falls while there is room. Fitting paths that are
    met on the way, and the bound of every step, are entered into the record.
    """
    space = ground.space
    scale = np.maximum(space.capacity, 1)  # shares of the capacity are numbers of one size
    share, best, kept = np.zeros(len(scale)), -np.inf, np.zeros(len(scale))
    for _ in range(ROUNDS):
        charged = ground.charged(share / scale)
        found = sweep(charged, 1, QUICK, Rest.of(charged, 1))
        if found is None or not len(found.fronts[-1].cost):
            break
        (path,) = best_paths(charged, found, 1)
        bound = min(float(found.fronts[-1].cost.min()), found.dropped) - float(share @ (space.capacity / scale))
        record.raise_bound(bound)
        if fits(space, path):
            record.add([path])
        if bound > best:
            best, kept = bound, share
        excess = (_load(space, path) - space.capacity) / scale
        excess[(share == 0) & (excess < 0)] = 0
        if not excess.any():
            break
        goal = record.upper if np.isfinite(record.upper) else best + abs(best) / 4
        share = np.maximum(share + excess * (max(goal - bound, abs(goal) / 1000) / (excess @ excess)), 0)
    return kept / scale


def _load(space: Space, path: Path) -> np.ndarray:
    """Bytes of constants (R,) that a path puts on every rank."""
    total = np.zeros(len(space.capacity))
    if len(total):
        for cut, end, layout in path:
            options = space.options[cut]
            total += options.weights[np.flatnonzero((options.end == end) & (options.layout == layout))[0]]
    return total


def _binding(space: Space) -> np.ndarray:
    """Ranks whose memory some path exceeds; of ranks that always hold the same, that with the least capacity."""
    most = np.full((space.cuts + 1, len(space.capacity)), -np.inf)
    most[-1] = 0
    for cut in range(space.cuts - 1, -1, -1):
        options = space.options[cut]
        most[cut] = (options.weights + most[options.end]).max(axis=0, initial=-np.inf)
    weights = np.concatenate([options.weights for options in space.options])
    tightest: dict[bytes, int] = {}
    for rank in np.argsort(-space.capacity, kind="stable").tolist():
        if most[0, rank] > space.capacity[rank]:
            tightest[weights[:, rank].tobytes()] = rank
    return np.array(sorted(tightest.values()), dtype=np.int64)


def _of_ranks(space: Space, ranks: np.ndarray) -> Space:
    """The space with the memory of some ranks only."""
    return replace(
        space,
        options=tuple(replace(options, weights=options.weights[:, ranks]) for options in space.options),
        capacity=space.capacity[ranks],
    )
