"""The search: the cheapest paths of a space, with a proof of it, or with how far off they can be.

Without memory limits the forward dynamic program (:mod:`.forward_dp`) answers. Where its paths do not fit the ranks'
memory, a price on the bytes of every rank turns the problem into one without limits, whose cheapest path is a bound:
*Lagrangian* relaxation. Good prices are found first, by steps along the excess of the cheapest path. Then the dynamic
program whose labels carry bytes (:mod:`.memory_dp`) runs, and leaves out the labels whose bound is too high.

Sources: Handler and Zang, *A dual algorithm for the constrained shortest path problem*, 1980. Polyak, *Minimization of
unsmooth functionals*, 1969 (the length of a step).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .bounds import WORK, CostToGo, work
from .forward_dp import best_paths, descend, forward_dp
from .memory_dp import LagrangianBound, fewest_bytes, memory_dp
from .option_tables import OptionTables
from .space import SLACK, Incumbents, Path, SearchResult, Shortage, Space, replay

FIRST = 10
"""Labels at a cut of a first look, which finds a good path."""

QUICK = 100
"""Labels at a cut of a second one, which finds a better path, and proves it where few values are alive."""

BEAM = 2000
"""Labels at a cut beyond which a sharper bound is tried before more labels are."""

ROUNDS, FIRST_STEP = 25, 0.02
"""Steps towards good prices of bytes, and how much the first of them is meant to raise the bound, relatively."""

MOST_STEPS = 50
"""Steps towards a proof that nothing fits."""

FEW, MEMORY_BEAM = 30, 500
"""Labels with bytes at a cut of a first look, and those kept in the end: many differ in their bytes alone."""

SHARES, QUICK_ROUNDS = (0.0, 0.1, 1.0), 10
"""What the bytes of the cheapest path's fullest rank cost when a long network is narrowed, of its seconds; and steps
towards good prices in what is left."""


def search(space: Space, *, top: int = 1, beam: int = BEAM, is_quick: bool = False) -> SearchResult:
    """The `top` cheapest paths of a space.

    A few labels give a good path at once. It is proved, or beaten, by passes that leave out every label whose bound is
    above it. The bounds know one, two, three ... values, until nothing need be dropped or bounds grow too dear.

    The space has at most one option from a cut to another in a layout; `beam` is the most labels kept at a cut. With
    `is_quick` there is one pass only, with a few labels, and a second one where they must fit into memory. The result
    has no paths where there is none, or none was found that fits into memory.
    """
    tables = OptionTables.of(space)
    incumbents = Incumbents(space, top)
    _search_free(tables, incumbents, beam, is_quick)
    free = incumbents.result()
    if all(fits(space, path) for path in free.paths):
        return free
    return search_within(space, free, top, FEW if is_quick else beam)


def _search_free(tables: OptionTables, incumbents: Incumbents, beam: int, is_quick: bool) -> None:
    """The search without regard to memory."""
    most = max(map(len, tables.alive))
    if tables.states**most <= min(beam, QUICK):
        _attempt(tables, incumbents, beam, None)
        return
    to_go = CostToGo.of(tables, 1)
    incumbents.add(descend(tables, to_go))
    tables = to_go.prune(tables, incumbents.upper)
    if _attempt(tables, incumbents, min(beam, FIRST), to_go) or is_quick:
        return
    for count in range(1, most + 1):
        tables = to_go.prune(tables, incumbents.upper)
        if count > 1:
            if work(tables, count) > WORK:
                break
            to_go = CostToGo.of(tables, count)
        if _attempt(tables, incumbents, min(beam, QUICK), to_go):
            return
        if _attempt(tables, incumbents, beam, to_go, is_proof=True):
            return
    _attempt(tables, incumbents, beam, to_go)


def _attempt(
    tables: OptionTables, incumbents: Incumbents, limit: int, to_go: CostToGo | None, is_proof: bool = False
) -> bool:
    """One pass with at most `limit` labels a cut, and whether there is nothing left to find.

    With `is_proof` it ends as soon as it has to drop a label that might have led to something better.
    """
    forward = forward_dp(tables, incumbents.top, limit, to_go, incumbents.upper, is_proof)
    if forward is None:
        return False
    incumbents.labels = forward.labels
    incumbents.add(best_paths(tables, forward, incumbents.top))
    incumbents.raise_bound(forward.dropped)
    return forward.dropped >= incumbents.upper


# Within memory


def narrowed(space: Space, top: int) -> Space:
    """The space with the options alone that its good paths have, whether bytes cost nothing, little, or much.

    A search within memory looks at all options dozens of times, and a long network has hundreds of thousands of them.
    What is proved of the paths that are left holds for those only.
    """
    tables, rates = OptionTables.of(space), np.zeros(len(space.capacity))
    good = [np.zeros(len(options.end), bool) for options in space.options]
    for share in SHARES:
        charged = tables.charged(rates * share)
        forward = forward_dp(charged, top, FIRST, CostToGo.of(charged, 1))
        assert forward is not None  # only a proof is given up
        for number in np.unique(np.concatenate([front.edge_option for front in forward.fronts[1:]])).tolist():
            bundle, row = tables.option(number)
            good[bundle.cut][space.options[bundle.cut].row(bundle.end[row], bundle.layout[row])] = True
        if not share:
            for path in best_paths(charged, forward, 1):  # none where there is no way through
                rates = np.isfinite(space.capacity) * replay(space, path).seconds / max(1.0, load(space, path).max())
    options = (options.take(np.flatnonzero(rows)) for options, rows in zip(space.options, good, strict=True))
    return replace(space, options=tuple(options))


def fits(space: Space, path: Path) -> bool:
    """Whether a path keeps within the capacity of every rank."""
    return bool((load(space, path) <= space.capacity).all())


def search_within(space: Space, free: SearchResult, top: int, beam: int) -> SearchResult:
    """The `top` cheapest paths that fit into memory, where not all of `free`, the answer without memory, do."""
    ranks = _binding(space)
    space = replace(
        space,
        options=tuple(replace(options, weights=options.weights[:, ranks]) for options in space.options),
        capacity=space.capacity[ranks],
    )
    tables = OptionTables.of(space)
    incumbents = Incumbents(space, top, free.lower_bound, free.labels)
    incumbents.add(path for path in free.paths if fits(space, path))
    shortage, is_proved = _shortage(tables, ranks)
    if is_proved:
        incumbents.raise_bound(np.inf)
        return incumbents.result(shortage)
    _search_labels(tables, incumbents, min(beam, MEMORY_BEAM))
    result = incumbents.result()
    return result if result.paths else replace(result, shortage=shortage)


def _shortage(tables: OptionTables, ranks: np.ndarray) -> tuple[Shortage, bool]:
    """The rank that lacks most, and whether it is proved that no path fits.

    No path fits if for some weights of the ranks even the least weighted sum of bytes is more than that of capacities.
    Weights are moved towards what the path of the least sum has too much.
    """
    capacity = tables.space.capacity
    fewest = fewest_bytes(tables)[0]
    tightest = int(np.argmax(fewest - capacity))
    shortage = Shortage(int(ranks[tightest]), float(fewest[tightest]), float(capacity[tightest]))
    if (fewest > capacity).any():
        return shortage, True
    scale = np.maximum(capacity, 1)
    weights = np.full(len(capacity), 1 / len(capacity))
    for _ in range(MOST_STEPS):
        excess = (_lightest(tables, weights / scale) - capacity) / scale
        if weights @ excess > SLACK:
            return shortage, True
        if (excess <= 0).all():
            break
        weights = weights * np.exp(excess / max(np.abs(excess).max(), SLACK) / 2)
        weights /= weights.sum()
    return shortage, False


def _search_labels(tables: OptionTables, incumbents: Incumbents, limit: int) -> None:
    """Passes with labels that carry bytes, after as many options as can be have been left out."""
    rates = _rates(tables, incumbents, QUICK_ROUNDS if limit <= FEW else ROUNDS)
    most = max(1, *map(len, tables.alive))
    for keep in sorted({min(FEW, limit), limit}):
        if np.isfinite(incumbents.upper):  # options that are part of nothing better are left out
            charged = tables.charged(rates)
            upper = incumbents.upper + float(rates @ tables.space.capacity)
            tables = CostToGo.of(charged, 1).prune(charged, upper).charged(-rates)
        count = max(count for count in range(1, most + 1) if count == 1 or work(tables, count) <= WORK / 4)
        bounds = [LagrangianBound.of(tables, some, count) for some in (np.zeros(len(rates)), rates)]
        paths, dropped, incumbents.labels = memory_dp(tables, incumbents.top, keep, incumbents.upper, bounds)
        incumbents.add(paths)
        incumbents.raise_bound(dropped)
        if dropped >= incumbents.upper:
            break


def _rates(tables: OptionTables, incumbents: Incumbents, rounds: int) -> np.ndarray:
    """Good prices of bytes (R,), in seconds per byte: under them, the cheapest path costs almost as if it fitted.

    A price rises where the cheapest path puts too much on a rank, and falls where it leaves room. Steps grow while they
    raise its price, and are taken back and halved when they do not.
    """
    space = tables.space
    scale = np.maximum(space.capacity, 1)  # shares of the capacity are numbers of one size
    rates, best, step = np.zeros(len(scale)), -np.inf, FIRST_STEP
    tried, excess = rates, rates
    for _ in range(rounds):
        value, path = _relaxed(tables, incumbents, tried / scale)
        if value > best:
            rates, best, step = tried, value, step * 1.5
            excess = (load(space, path) - space.capacity) / scale
            excess[(rates == 0) & (excess < 0)] = 0
        else:
            step /= 2
        if not excess.any():
            break
        tried = np.maximum(rates + excess * (step * abs(best) / (excess @ excess)), 0)
    return rates / scale


def _relaxed(tables: OptionTables, incumbents: Incumbents, rates: np.ndarray) -> tuple[float, Path]:
    """About the cheapest path at some rates, and its seconds, with its bytes less the capacities at these rates.

    It becomes an incumbent if it fits, and the bound that was proved is noted.
    """
    charged = tables.charged(rates)
    forward = forward_dp(charged, 1, FEW, CostToGo.of(charged, 1))
    assert forward is not None  # only a proof is given up
    worth = float(rates @ tables.space.capacity)
    total = float(forward.fronts[-1].cost.min())
    (path,) = best_paths(charged, forward, 1)
    if fits(tables.space, path):
        incumbents.add([path])
    incumbents.raise_bound(min(total, forward.dropped) - worth)
    return total - worth, path


def _lightest(tables: OptionTables, weights: np.ndarray) -> np.ndarray:
    """Bytes (R,) of the path whose sum of bytes, weighted by (R,), is least."""
    cuts = tables.space.cuts
    least, nbytes = np.full(cuts + 1, np.inf), np.zeros((cuts + 1, len(weights)))
    least[cuts] = 0
    for bundle in tables.backwards():
        total = bundle.weights @ weights + least[bundle.end]
        best = int(np.argmin(total))
        if total[best] < least[bundle.cut]:
            least[bundle.cut], nbytes[bundle.cut] = total[best], bundle.weights[best] + nbytes[bundle.end[best]]
    return nbytes[0]


def load(space: Space, path: Path) -> np.ndarray:
    """Bytes of constants (R,) that a path puts on every rank."""
    total = np.zeros(len(space.capacity))
    for cut, end, layout in path if len(total) else ():
        total += space.options[cut].weights[space.options[cut].row(end, layout)]
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
