"""What the rest of a placement takes at least, when boards may be used again, though not twice in three stages.

Without the ban on coming back a chain would run to and fro over the fastest link. It costs two labels instead of one:
the best way on, and the best whose next group is another than that of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grouped import GroupedInstance

MOST_GROUPS = 300
"""Groups up to which there are labels: they take a step for every two groups at every cut."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Least bottlenecks from a cut to the end; true lower bounds in seconds, infinite where there is no way on."""

    # `best_s` and `other_s`: array (m + 1, K), of group k beginning a stage at cut c: by the best way on, and by the
    # best that goes on with another group
    best_s: np.ndarray
    other_s: np.ndarray
    next: np.ndarray  # int array (m + 1, K). The group that the best way goes on with, -1 where the stage is the last.
    # Array (K, m + 1, m + 1), of a group's stage from one cut to another, and the best way on from there
    through_s: np.ndarray
    start_s: float  # of the whole


def labels(grouped: GroupedInstance) -> Labels | None:
    """Labels of all cuts and groups, from the last cut to the first; None where links do not count, or groups are many.

    State (cut, group), transition a stage and the link to the next group, objective the maximum of all on the way;
    O(K m^2 + K^2 m) for K groups and m units.
    """
    m, count, cross, link = grouped.instance.units, len(grouped.table), grouped.crossing, grouped.hand_over_s
    if grouped.teams or len(link) == 1 or count > MOST_GROUPS:
        return None
    spans = grouped.table_s[grouped.table]
    shape = (m + 1, count)
    best, other, following = np.full(shape, np.inf), np.full(shape, np.inf), np.full(shape, -1)
    after, detour, towards = np.full(shape, np.inf), np.full(shape, np.inf), np.full(shape, -1)
    after[m] = detour[m] = cross[m] * grouped.last_s
    group = np.arange(count)
    can_return = np.isfinite(np.diagonal(link))  # groups that a placement can have twice
    with np.errstate(invalid="ignore"):
        for cut in range(m - 1, -1, -1):
            is_end = np.flatnonzero(np.isfinite(spans[:, cut, cut + 1 :]).any(axis=0)) + cut + 1
            if not len(is_end):
                continue
            direct = np.maximum(spans[:, cut, is_end].T, after[is_end])
            first = direct.argmin(axis=0)
            best[cut], following[cut] = direct[first, group], towards[is_end][first, group]
            around = np.maximum(spans[:, cut, is_end].T, detour[is_end])
            other[cut] = np.where(towards[is_end] != following[cut], direct, around).min(axis=0)
            if cut == 0:
                break
            onward = np.maximum(np.where(np.isinf(link), np.inf, cross[cut] * link), best[cut][None, :])
            back, there = following[cut], group
            keep = (back >= 0) & ~can_return[back]
            back, there = back[keep], there[keep]
            onward[back, there] = np.maximum(onward[back, there], other[cut][there])
            towards[cut] = onward.argmin(axis=1)
            after[cut] = onward[group, towards[cut]]
            onward[group, towards[cut]] = np.inf
            detour[cut] = onward.min(axis=1)
    start = float(np.maximum(best[0], cross[0] * grouped.first_s).min())
    return Labels(best, other, following, np.maximum(spans, after.T[:, None, :]), start)
