"""What is possible within a bottleneck, as sets of cuts: stages, links, and what is left to the boards left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bits import pack
from .bounds import Work, within_boards
from .crews import most_boards
from .ground import Ground
from .labels import Labels

SLACK = 1e-12
"""By how much a load may exceed a bottleneck, as a part of it: sums in another order round differently."""


@dataclass(frozen=True, eq=False)
class Limits:
    """Sets of cuts, each a row of words, for one bottleneck.

    Attributes
    ----------
    row : int array (K,)
        Where in `ends` a crew's spans are.
    ends : array (r, m + 1, words)
        Where a stage that begins at a cut may end, so that boards used again could finish from there.
    onward : array (K, K, words) or (1, K, words)
        Cuts at which a crew, or any, may hand over to the next.
    first : bool array (K,)
        Whether a crew may come first.
    enough : array (limit + 1, words)
        Cuts from which so many boards may be enough.
    from_cut : array (m + 2, words)
        All cuts from one on.
    most : array (w, k)
        Work that a board of each class can take on.
    needs_root : bool
        Whether the root must be in a stage, as its ports cannot carry inputs and outputs otherwise.
    """

    row: np.ndarray
    ends: np.ndarray
    onward: np.ndarray
    first: np.ndarray
    enough: np.ndarray
    from_cut: np.ndarray
    most: np.ndarray
    needs_root: bool

    @classmethod
    def of(cls, ground: Ground, rest: Labels, work: Work, seconds: float) -> Limits:
        """What a bottleneck of so many seconds leaves possible."""
        seconds *= 1 + SLACK
        m = ground.instance.units
        row = rest.row
        ends = rest.through_s <= seconds
        size = ground.crews.size
        by_size = {count: ends[np.unique(row[size == count])].any(axis=0) for count in sorted(set(size.tolist()))}
        enough = within_boards(by_size, most_boards(ground.instance))
        return cls(
            row,
            pack(ends),
            _onward(ground, rest, seconds),
            (ground.crossing[0] * ground.first_s <= seconds) & (rest.best_s[0] <= seconds),
            pack(enough),
            pack(np.arange(m + 1)[None, :] >= np.arange(m + 2)[:, None]),
            work.most(seconds),
            ground.spans.idle_s > seconds,
        )


def _onward(ground: Ground, rest: Labels, seconds: float) -> np.ndarray:
    """Cuts at which crew k may begin after crew p, and crew k may find a way on other than back to p."""
    cross, m = ground.crossing, ground.instance.units
    order = np.argsort(cross, kind="stable")
    place = np.empty(m + 1, int)
    place[order] = np.arange(m + 1)
    smallest = pack(place[None, :] < np.arange(m + 2)[:, None])  # by how many: that many cuts, the smallest crossings
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        count = np.searchsorted(cross[order], seconds / ground.link_s, side="right")
    count[np.isinf(ground.link_s)] = 0
    can_begin = rest.best_s <= seconds
    found = smallest[count] & pack(can_begin.T)[None, :, :]
    cut, crew = np.nonzero(can_begin & (rest.other_s > seconds) & (rest.next >= 0))
    back = rest.next[cut, crew]
    keep = np.isinf(ground.link_s[back, back]) if len(back) else np.zeros(0, bool)
    cut, crew, back = cut[keep], crew[keep], back[keep]
    bit = np.uint64(1) << (cut % 64).astype(np.uint64)
    np.bitwise_and.at(found, (back, crew, cut // 64), ~bit)
    return found
