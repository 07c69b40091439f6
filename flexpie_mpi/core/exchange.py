"""The one algebra of all movement: from the regions ranks *have* to the regions they *need*.

Halo, scatter, gather, all-gather, change of layout, uneven shards, halos wider than the neighbour, empty shards: for
every pair of ranks, the overlap of what one has with what the other lacks. What comes out is then classified, so that
the runtime can use the MPI collective where the pattern is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

from .errors import ProgramError
from .region import Region

Transfer = tuple[int, int, Region]
"""(source rank, target rank, region)."""

Holder = tuple[int, Region]
"""A rank, and something it holds."""

Preference = tuple[int, int, int, int]
"""A sort key: the holder with the smallest one sends. See :func:`_preference`."""

Pattern = Mapping[tuple[int, int], object]
"""What each (source, target) pair of ranks exchanges; equal contents compare equal."""


def transfers(have: Mapping[int, Sequence[Region]], need: Mapping[int, Region]) -> list[Transfer]:
    """The regions that must travel so that every rank holds what it needs.

    Each missing element is sent to each rank that lacks it exactly once.

    Parameters
    ----------
    have : mapping of rank to regions
        What each rank holds; the same element may be held by several ranks.
    need : mapping of rank to region

    Raises
    ------
    ProgramError
        When something needed is held by nobody.

    Examples
    --------
    >>> have = {0: [Region(((0, 4),))], 1: [Region(((4, 8),))]}
    >>> transfers(have, {0: Region(((0, 5),)), 1: Region(((3, 8),))})
    [(1, 0, Region([4:5])), (0, 1, Region([3:4]))]
    """
    load = dict.fromkeys(have, 0)
    sent: list[Transfer] = []
    for target in sorted(need):
        missing = _outside(need[target], have.get(target, ()))
        holders = _holders(have, target, need[target]) if missing else []
        order = [(_preference(holder, missing, target, load), index) for index, holder in enumerate(holders)]
        heapify(order)
        while missing:
            source, region = _best_holder(order, holders, missing, target, load)
            pieces = [part for box in missing if not (part := box.intersect(region)).is_empty]
            sent += [(source, target, piece) for piece in pieces]
            load[source] += sum(piece.size for piece in pieces)
            missing = [rest for box in missing for rest in box.subtract(region)]
    return sent


def _outside(region: Region, held: Iterable[Region]) -> list[Region]:
    """The parts of `region` that no box of `held` has; an empty region has none."""
    missing = [] if region.is_empty else [region]
    for box in held:
        missing = [rest for part in missing for rest in part.subtract(box)]
    return missing


def _holders(have: Mapping[int, Sequence[Region]], target: int, need: Region) -> list[Holder]:
    return [
        (rank, region) for rank, regions in have.items() if rank != target for region in regions if region.meets(need)
    ]


def _best_holder(
    order: list[tuple[Preference, int]],
    holders: Sequence[Holder],
    missing: Sequence[Region],
    target: int,
    load: Mapping[int, int],
) -> Holder:
    """The preferred holder. Preferences only become worse after `order` is made, so the first is checked again."""
    while order:
        known, index = heappop(order)
        now = _preference(holders[index], missing, target, load)
        if now == known and now[0] < 0:
            return holders[index]
        if now[0] < 0:
            heappush(order, (now, index))
    raise ProgramError(f"rank {target} needs {missing[0]}, which no rank holds")


def _preference(holder: Holder, missing: Sequence[Region], target: int, load: Mapping[int, int]) -> Preference:
    """The owner rule: who has most of what is missing, then who has sent least, then the nearest rank."""
    rank, region = holder
    overlap = sum(region.intersect(box).size for box in missing)
    return -overlap, load[rank], abs(rank - target), rank


def classify(pattern: Pattern) -> str:
    """Kind of an exchange (see :data:`flexpie_mpi.core.program.KINDS`) from what every pair of ranks exchanges.

    Two ranks that talk to each other only are a ``halo``: point-to-point is then as good as any collective.

    >>> classify({(0, 1): "a", (0, 2): "a"}), classify({(0, 1): "a", (0, 2): "b"}), classify({(1, 0): "a", (2, 0): "b"})
    ('broadcast', 'scatter', 'gather')
    >>> classify({(0, 1): "a", (1, 0): "b", (1, 2): "c", (2, 1): "d"})
    'halo'
    >>> classify({(s, t): s for s in range(3) for t in range(3) if s != t})
    'allgather'
    >>> classify({(s, t): (s, t) for s in range(3) for t in range(3) if s != t})
    'alltoall'
    """
    sources, targets = {source for source, _ in pattern}, {target for _, target in pattern}
    ranks = len(sources | targets)
    is_full = len(pattern) == len(sources) * (ranks - 1)  # elsewhere contents do not matter
    is_alike = is_full and len({(source, content) for (source, _), content in pattern.items()}) == len(sources)
    return kind_of(ranks, len(sources) == 1, len(targets) == 1, is_full, len(sources) == ranks, is_alike)


def kind_of(ranks: int, from_one: bool, to_one: bool, is_full: bool, is_mutual: bool, is_alike: bool) -> str:
    """Kind of an exchange (see :data:`flexpie_mpi.core.program.KINDS`) from who exchanges anything with whom.

    Parameters
    ----------
    ranks : int
        How many take part; from 3 on the number does not matter.
    from_one, to_one : bool
        Whether one rank sends everything, and whether one receives everything.
    is_full : bool
        Whether each rank that sends does so to all others.
    is_mutual : bool
        Whether every rank sends.
    is_alike : bool
        Whether each rank that sends gives all its targets the same.
    """
    if ranks < 3:
        return "halo" if ranks else "local"
    if from_one:
        return "broadcast" if is_alike else "scatter"
    if to_one:
        return "gather"
    if is_full and is_alike:
        return "allgather"
    return "alltoall" if is_full and is_mutual else "halo"
