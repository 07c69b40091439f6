"""What the rest of a placement takes at least, when boards may be used again, though not twice in three stages.

Without the ban on coming back a chain would run to and fro over the fastest link. It costs two labels instead of one:
the best way on, and the best whose next crew is another than that of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ground import Ground

MOST_LINKED = 300
"""Crews up to which links count in labels, which takes a step for every two crews at every cut."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Least bottlenecks from a cut to the end; true lower bounds in seconds, infinite where there is no way on.

    Attributes
    ----------
    best_s, other_s : array (m + 1, K)
        Of crew k beginning a stage at cut c: by the best way on, and by the best that goes on with another crew.
    next : int array (m + 1, K)
        The crew that the best way goes on with, -1 where the stage is the last.
    row : int array (K,)
        Where in `through_s` a crew is.
    through_s : array (r, m + 1, m + 1)
        Of a stage from one cut to another, and the best way on from there.
    start_s : float
        Of the whole.
    """

    best_s: np.ndarray
    other_s: np.ndarray
    next: np.ndarray
    row: np.ndarray
    through_s: np.ndarray
    start_s: float


def labels(ground: Ground) -> Labels:
    """Labels of all cuts and crews, from the last cut to the first.

    State (cut, crew), transition a stage and the link to the next crew, objective the maximum of all on the way;
    O(K m^2 + K^2 m) for K crews and m units, the second only while K is at most `MOST_LINKED`.
    """
    count = len(ground.crews.members)
    is_linked = ground.is_linked and count <= MOST_LINKED
    found = _linked(ground) if is_linked else _free(ground)
    best, other, following, after = found
    start = float(np.maximum(best[0], ground.crossing[0] * ground.first_s).min())
    row = np.arange(count) if is_linked else ground.table
    spans = ground.table_s[ground.table] if is_linked else ground.table_s
    return Labels(best, other, following, row, np.maximum(spans, after.T[:, None, :]), start)


def _free(ground: Ground) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Links left out: whoever is next, it is the best crew at that cut."""
    m, tables = ground.instance.units, len(ground.table_s)
    best, after = np.full((m + 1, tables), np.inf), np.full((m + 1, 1), np.inf)
    after[m] = 0.0
    for cut in range(m - 1, -1, -1):
        best[cut] = np.maximum(ground.table_s[:, cut, cut + 1 :], after[None, cut + 1 :, 0]).min(axis=1)
        after[cut] = best[cut].min()
    by_crew = best[:, ground.table]
    return by_crew, by_crew, np.full(by_crew.shape, -1), after


def _linked(ground: Ground) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    m, count, cross, link = ground.instance.units, len(ground.crews.members), ground.crossing, ground.link_s
    spans = ground.table_s[ground.table]
    shape = (m + 1, count)
    best, other, following = np.full(shape, np.inf), np.full(shape, np.inf), np.full(shape, -1)
    after, detour, towards = np.full(shape, np.inf), np.full(shape, np.inf), np.full(shape, -1)
    after[m] = detour[m] = cross[m] * ground.last_s
    crew = np.arange(count)
    returns = np.flatnonzero(np.isinf(np.diagonal(link)))  # crews that a placement cannot have twice
    can_return = np.ones(count, bool)
    can_return[returns] = False
    with np.errstate(invalid="ignore"):
        for cut in range(m - 1, -1, -1):
            is_end = np.flatnonzero(np.isfinite(spans[:, cut, cut + 1 :]).any(axis=0)) + cut + 1
            if not len(is_end):
                continue
            direct = np.maximum(spans[:, cut, is_end].T, after[is_end])
            first = direct.argmin(axis=0)
            best[cut], following[cut] = direct[first, crew], towards[is_end][first, crew]
            around = np.maximum(spans[:, cut, is_end].T, detour[is_end])
            other[cut] = np.where(towards[is_end] != following[cut], direct, around).min(axis=0)
            if cut == 0:
                break
            onward = np.maximum(np.where(np.isinf(link), np.inf, cross[cut] * link), best[cut][None, :])
            back, there = following[cut], crew
            keep = (back >= 0) & ~can_return[back]
            back, there = back[keep], there[keep]
            onward[back, there] = np.maximum(onward[back, there], other[cut][there])
            towards[cut] = onward.argmin(axis=1)
            after[cut] = onward[crew, towards[cut]]
            onward[crew, towards[cut]] = np.inf
            detour[cut] = onward.min(axis=1)
    return best, other, following, after
