"""What the search by tables stands on: crews, and in seconds their spans and the links between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import lcm

import numpy as np

from .classes import Classes, classes
from .crews import Crews, Spans, crews
from .instance import Instance
from .passages import passages


@dataclass(frozen=True, eq=False)
class Ground:
    """An instance without teams and without shared resources, by classes and crews.

    Attributes
    ----------
    instance : Instance
    kinds : Classes
    spans : Spans
    crews : Crews
    is_linked : bool
        Whether links of pairs count, so that it matters which crew came before.
    table : array (K,)
        Where in `table_s` the spans of each crew are.
    table_s : array (t, m + 1, m + 1)
        Seconds of a crew's slowest board or port, by span; infinite where it cannot.
    link_s : array (K, K), or (1, K) zeros where links do not count
        Seconds per byte alive at the cut, of the slowest link from one crew to the next; infinite where both cannot be.
    first_s, last_s : array (K,)
        The same from the root to a crew, and from a crew to the root.
    """

    instance: Instance
    kinds: Classes
    spans: Spans
    crews: Crews
    is_linked: bool
    table: np.ndarray
    table_s: np.ndarray
    link_s: np.ndarray
    first_s: np.ndarray
    last_s: np.ndarray

    @classmethod
    def of(cls, instance: Instance) -> Ground:
        """Sort boards into classes and crews."""
        kinds = classes(instance, passages(instance))
        pair_s = kinds.pair_s
        is_linked = bool(pair_s.any())
        found = crews(instance, kinds, in_order=is_linked)
        spans = Spans.of(instance, kinds)
        table, table_s = _tables(spans, found)
        link_s = _links(found, kinds, pair_s) if is_linked else np.zeros((1, len(found.members)))
        root = kinds.root
        first_s, last_s = np.zeros(len(found.members)), np.zeros(len(found.members))
        for number, members in enumerate(found.members if root >= 0 else ()):
            others = [kind for kind in members if kind != root]
            first_s[number] = max((pair_s[root, kind] for kind in others), default=0.0) / len(members)
            last_s[number] = max((pair_s[kind, root] for kind in others), default=0.0) / len(members)
        return cls(instance, kinds, spans, found, is_linked, table, table_s, link_s, first_s, last_s)

    @cached_property
    def crossing(self) -> np.ndarray:
        return np.asarray(self.instance.crossing, float)


def _tables(spans: Spans, found: Crews) -> tuple[np.ndarray, np.ndarray]:
    """Spans by crew: crews of the same size and the same classes share theirs."""
    numbers: dict[tuple[frozenset[int], int], int] = {}
    table = [numbers.setdefault((frozenset(members), len(members)), len(numbers)) for members in found.members]
    rows = [np.maximum.reduce([spans.member_s(kind, size) for kind in sorted(support)]) for support, size in numbers]
    return np.array(table), np.stack(rows)


def _links(found: Crews, kinds: Classes, pair_s: np.ndarray) -> np.ndarray:
    """Seconds per byte of the slowest link between every two crews, whose boards meet as their turns do."""
    count = len(found.members)
    link_s = np.zeros((count, count))
    rows = {size: np.flatnonzero(found.size == size) for size in sorted(set(found.size.tolist()))}
    members = {size: np.array([found.members[row] for row in which.tolist()]) for size, which in rows.items()}
    for before, sources in members.items():
        for after, targets in members.items():
            turns = lcm(before, after)
            slowest = np.zeros((len(sources), len(targets)))
            for turn in range(turns):
                met = pair_s[sources[:, turn % before][:, None], targets[:, turn % after][None, :]]
                np.maximum(slowest, met, out=slowest)
            link_s[np.ix_(rows[before], rows[after])] = slowest / turns
    link_s[~_fit_together(found, kinds)] = np.inf
    return link_s


def _fit_together(found: Crews, kinds: Classes) -> np.ndarray:
    """Whether there are enough boards for both of two crews: bool array (K, K)."""
    fits = np.ones((len(found.members),) * 2, bool)
    for kind, size in enumerate(kinds.size.tolist()):
        boards = found.counts[:, kind]
        fits &= boards[:, None] + boards[None, :] <= size
    return fits
