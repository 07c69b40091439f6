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
from .bounds import WORK, Rest, work
from .found import SLACK, Found, Record, Shortage
from .labels import Ground
from .space import Path, Space
from .sweep import sweep
from .weighed import Priced, fewest_bytes, sweep_weighed

ROUNDS = 25
"""Steps towards good prices of bytes."""

FIRST_STEP = 0.02
"""How much the first of them is meant to raise the bound, relatively."""

MOST_STEPS = 50
"""Steps towards a proof that nothing fits."""

FEW = 30
"""Labels at a cut of a first look."""

BEAM = 500
"""Labels with bytes at a cut that are kept in the end: many differ in their bytes alone."""


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
    shortage, is_proved = _shortage(ground, ranks)
    if is_proved:
        record.raise_bound(np.inf)
        return record.found(shortage)
    _search_labels(ground, record, min(beam, BEAM))
    found = record.found()
    return found if found.paths else replace(found, shortage=shortage)


def _shortage(ground: Ground, ranks: np.ndarray) -> tuple[Shortage, bool]:
    """The rank that lacks most, and whether no path fits.

    No path fits if for some weights of the ranks even the least weighted sum of bytes is more than that of capacities.
    Weights are moved towards what the path of the least sum has too much.
    """
    capacity = ground.space.capacity
    fewest = fewest_bytes(ground)[0]
    tightest = int(np.argmax(fewest - capacity))
    shortage = Shortage(int(ranks[tightest]), float(fewest[tightest]), float(capacity[tightest]))
    if (fewest > capacity).any():
        return shortage, True
    scale = np.maximum(capacity, 1)
    weights = np.full(len(capacity), 1 / len(capacity))
    for _ in range(MOST_STEPS):
        excess = (_lightest(ground, weights / scale) - capacity) / scale
        if weights @ excess > SLACK:
            return shortage, True
        if (excess <= 0).all():
            break
        weights = weights * np.exp(excess / max(np.abs(excess).max(), SLACK) / 2)
        weights /= weights.sum()
    return shortage, False


def _search_labels(ground: Ground, record: Record, limit: int) -> None:
    """Sweeps of labels with bytes, after as many options as can be have been left out."""
    rates = _rates(ground, record)
    for keep in (min(FEW, limit), limit):
        ground = _without_dear(ground, record, rates)
        most = max(map(len, ground.space.alive))
        count = max(count for count in range(1, max(most, 1) + 1) if count == 1 or work(ground, count) <= WORK / 4)
        bounds = [Priced.of(ground, some, count) for some in (np.zeros(len(rates)), rates)]
        paths, dropped, record.labels = sweep_weighed(ground, record.top, keep, record.upper, bounds)
        record.add(paths)
        record.raise_bound(dropped)
        if dropped >= record.upper:
            break


def _without_dear(ground: Ground, record: Record, rates: np.ndarray) -> Ground:
    """The ground without options that are part of no news, by the bound at some rates."""
    if not np.isfinite(record.upper):
        return ground
    charged = ground.charged(rates)
    worth = float(rates @ ground.space.capacity)
    return Rest.of(charged, 1).without_dear(charged, record.upper + worth).charged(-rates)


def _rates(ground: Ground, record: Record) -> np.ndarray:
    """Good prices of bytes (R,), in seconds per byte: under them, the cheapest path costs almost as if it fitted.

    A price rises where the cheapest path puts too much on a rank, and falls where it leaves room. Steps grow while they
    raise its price, and are taken back and halved when they do not.
    """
    space = ground.space
    scale = np.maximum(space.capacity, 1)  # shares of the capacity are numbers of one size
    rates, best, step = np.zeros(len(scale)), -np.inf, FIRST_STEP
    tried, excess = rates, rates
    for _ in range(ROUNDS):
        value, path = _relaxed(ground, record, tried / scale)
        if value > best:
            rates, best, step = tried, value, step * 1.5
            excess = (_load(space, path) - space.capacity) / scale
            excess[(rates == 0) & (excess < 0)] = 0
        else:
            step /= 2
        if not excess.any():
            break
        tried = np.maximum(rates + excess * (step * abs(best) / (excess @ excess)), 0)
    return rates / scale


def _relaxed(ground: Ground, record: Record, rates: np.ndarray) -> tuple[float, Path]:
    """A path that is about the cheapest at some rates, and its seconds, with its bytes less the capacities at these.

    It goes into the record if it fits, and so does the bound that was proved.
    """
    charged = ground.charged(rates)
    found = sweep(charged, 1, FEW, Rest.of(charged, 1))
    assert found is not None  # only a proof is given up
    worth = float(rates @ ground.space.capacity)
    total = float(found.fronts[-1].cost.min())
    (path,) = best_paths(charged, found, 1)
    if fits(ground.space, path):
        record.add([path])
    record.raise_bound(min(total, found.dropped) - worth)
    return total - worth, path


def _lightest(ground: Ground, weights: np.ndarray) -> np.ndarray:
    """Bytes (R,) of the path of which the sum of bytes, weighted by (R,), is least."""
    cuts = ground.space.cuts
    least, load = np.full(cuts + 1, np.inf), np.zeros((cuts + 1, len(weights)))
    least[cuts] = 0
    for cut in range(cuts - 1, -1, -1):
        for bundle in ground.bundles[cut]:
            total = bundle.weights @ weights + least[bundle.end]
            best = int(np.argmin(total))
            if total[best] < least[cut]:
                least[cut], load[cut] = total[best], bundle.weights[best] + load[bundle.end[best]]
    return load[0]


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
