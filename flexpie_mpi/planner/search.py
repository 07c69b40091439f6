"""The search: the cheapest paths of a space, with proof of it, or with how far off they can be."""

from __future__ import annotations

from .best import best_paths
from .bounds import WORK, Rest, work
from .found import Found, Record
from .labels import Ground
from .memory import fits, search_within
from .space import Space
from .sweep import sweep

FIRST = 10
"""Labels at a cut of a first look, which finds a good path."""

QUICK = 100
"""Labels at a cut of a second one, which finds a better path, and proves it where few values are alive."""

BEAM = 2000
"""Labels at a cut beyond which a sharper bound is tried before more labels are."""


def search(space: Space, *, top: int = 1, beam: int = BEAM) -> Found:
    """The `top` cheapest paths of a space.

    A few labels give a good path at once. It is proved, or beaten, by sweeps that leave out every label whose bound is
    above it; the bounds know one, two, three ... values until nothing need be dropped, or bounds grow too dear.

    Parameters
    ----------
    space : Space
        With at most one option from a cut to another in a layout.
    top : int
        Most paths to find.
    beam : int
        Most labels kept at a cut.

    Returns
    -------
    Found
        Without paths where there is none, or none was found that fits into memory.
    """
    ground = Ground.of(space)
    record = Record(space, top)
    _search_free(ground, record, beam)
    found = record.found()
    if all(fits(space, path) for path in found.paths):
        return found
    return search_within(space, found, top, beam)


def _search_free(ground: Ground, record: Record, beam: int) -> None:
    """The search without regard to memory."""
    most = max(map(len, ground.space.alive))
    if ground.states**most <= min(beam, QUICK):
        _attempt(ground, record, beam, None)
        return
    rest = Rest.of(ground, 1)
    if _attempt(ground, record, min(beam, FIRST), rest):
        return
    for count in range(1, most + 1):
        ground = rest.without_dear(ground, record.upper)
        if count > 1:
            if work(ground, count) > WORK:
                break
            rest = Rest.of(ground, count)
        if _attempt(ground, record, min(beam, QUICK), rest) or _attempt(ground, record, beam, rest, is_proof=True):
            return
    _attempt(ground, record, beam, rest)


def _attempt(ground: Ground, record: Record, limit: int, rest: Rest | None, is_proof: bool = False) -> bool:
    """One sweep of at most `limit` labels a cut, and whether there is nothing left to find.

    With `is_proof` it ends as soon as it has to drop a label that might have led to something better.
    """
    found = sweep(ground, record.top, limit, rest, record.upper, is_proof)
    if found is None:
        return False
    record.labels = found.labels
    record.add(best_paths(ground, found, record.top))
    record.raise_bound(found.dropped)
    return found.dropped >= record.upper
