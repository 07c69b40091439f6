"""ReplicaGroups: the boards, by class, that a stage may have, and what they take for every span.

All that a crew of g replicas does is shared among them: each computes, receives and sends for one request of g. Which
of them come after which matters only for the links between two crews.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import lcm

import numpy as np

from .classes import Classes
from .instance import MOST_TURNS, Instance

MOST_GROUPS = 2100
"""ReplicaGroups that are told apart. Where more exist, only those of boards of like speed are looked at."""

MOST_ALIKE = 300
"""ReplicaGroups of several boards of like speed that are looked at, about."""

Members = tuple[int, ...]
"""The classes of a crew's boards, in the order of their turns."""


@dataclass(frozen=True, eq=False)
class ReplicaGroups:
    """K crews of one board, or of several that take turns.

    Attributes
    ----------
    members : tuple of Members
    counts : array (K, k)
        Boards of each class.
    is_complete : bool
        Whether these are all crews there are, but for the order of turns where it makes no difference.
    """

    members: tuple[Members, ...]
    counts: np.ndarray
    is_complete: bool

    @cached_property
    def size(self) -> np.ndarray:
        """Boards of each crew: array (K,)."""
        found: np.ndarray = self.counts.sum(axis=1)
        return found

    @cached_property
    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """The classes of each crew and how many boards of each, filled up with none of class 0: int arrays (K, p)."""
        rows = [sorted(Counter(members).items()) for members in self.members]
        width = max(len(row) for row in rows)
        padded = np.array([row + [(0, 0)] * (width - len(row)) for row in rows])
        return padded[..., 0], padded[..., 1]

    @cached_property
    def has_cycles(self) -> bool:
        """Whether crews exist whose turns together take too long to begin anew."""
        return lcm(*set(self.size.tolist())) > MOST_TURNS


def most_boards(instance: Instance) -> int:
    """Boards that a placement may use."""
    return instance.boards if instance.most_boards is None else min(instance.boards, instance.most_boards)


def most_replicas(instance: Instance) -> int:
    """Boards that may take turns in one stage."""
    return min(instance.replicas, most_boards(instance))


def replica_groups(instance: Instance, kinds: Classes, *, in_order: bool) -> ReplicaGroups:
    """All crews of an instance; `in_order` tells apart crews of the same boards in different orders."""
    limit = most_replicas(instance)
    every = _sequences(kinds, limit) if in_order and limit > 1 else _multisets(kinds, limit)
    found = list(islice(every, MOST_GROUPS + 1))
    is_complete = len(found) <= MOST_GROUPS
    if not is_complete:
        found = _alike(instance, kinds, limit)
    counts = np.zeros((len(found), kinds.count), int)
    for row, members in zip(counts, found, strict=True):
        np.add.at(row, list(members), 1)
    return ReplicaGroups(tuple(found), counts, is_complete)


def _multisets(kinds: Classes, limit: int) -> Iterator[Members]:
    """Members in order of their classes, smaller crews first."""

    def longer(size: int, first: int, left: Sequence[int]) -> Iterator[Members]:
        if size == 0:
            yield ()
            return
        for kind in range(first, kinds.count):
            if left[kind]:
                rest = [*left[:kind], left[kind] - 1, *left[kind + 1 :]]
                yield from ((kind, *members) for members in longer(size - 1, kind, rest))

    for size in range(1, limit + 1):
        yield from longer(size, 0, kinds.size.tolist())


def _sequences(kinds: Classes, limit: int) -> Iterator[Members]:
    """Members in every order, smaller crews first."""

    def longer(size: int, left: Sequence[int]) -> Iterator[Members]:
        if size == 0:
            yield ()
            return
        for kind in range(kinds.count):
            if left[kind]:
                rest = [*left[:kind], left[kind] - 1, *left[kind + 1 :]]
                yield from ((kind, *members) for members in longer(size - 1, rest))

    for size in range(1, limit + 1):
        yield from longer(size, kinds.size.tolist())


def _alike(instance: Instance, kinds: Classes, limit: int) -> list[Members]:
    """Every board by itself, and neighbours in order of speed together, as many as there is room for."""
    row = np.arange(instance.units)
    unit = kinds.compute_s[:, row, row + 1]
    speed = np.where(np.isfinite(unit), unit, 0.0).sum(axis=1)
    order = [kind for kind in np.lexsort((speed, np.isinf(unit).sum(axis=1))).tolist() for _ in range(kinds.size[kind])]
    found: dict[Members, None] = {(kind,): None for kind in range(kinds.count)}
    stride = max(1, len(order) * (limit - 1) // MOST_ALIKE)
    for size in range(2, limit + 1):
        for start in range(0, len(order) - size + 1, stride):
            found[tuple(sorted(order[start : start + size]))] = None
    return list(found)


@dataclass(frozen=True, eq=False)
class StageTimes:
    """What one board of each class takes for every span, by itself or as a replica.

    Attributes
    ----------
    instance : Instance
    kinds : Classes
    alone_s : array (k, m + 1, m + 1)
        By class, without replicas: the slowest of computing and the board's own ports; infinite where it cannot.
    """

    instance: Instance
    kinds: Classes
    alone_s: np.ndarray

    @classmethod
    def of(cls, instance: Instance, kinds: Classes) -> StageTimes:
        """Price all spans, for the root as a crew of its own."""
        alone = kinds.compute_s.copy()
        for kind in range(kinds.count):
            if kind != kinds.root:
                np.maximum(alone[kind], _ports_s(instance, kinds, kind, 1), out=alone[kind])
        spans = cls(instance, kinds, alone)
        if kinds.root >= 0:
            alone[kinds.root] = spans.member_s(kinds.root, 1)
        return spans

    def member_s(self, kind: int, size: int) -> np.ndarray:
        """What a board takes for every span as one of `size` replicas: array (m + 1, m + 1)."""
        if kind != self.kinds.root:
            return self.alone_s[kind] / size
        compute = self.kinds.compute_s[kind] / size
        return np.maximum(compute, _ports_s(self.instance, self.kinds, kind, size))

    @property
    def idle_s(self) -> float:
        """What the root's ports take when it is in no stage: the inputs and the outputs."""
        kinds, cross = self.kinds, self.instance.crossing
        if kinds.root < 0:
            return 0.0
        out, into, both = (float(port[kinds.root]) for port in (kinds.out_s, kinds.in_s, kinds.both_s))
        return max(out * float(cross[0]), into * float(cross[-1]), both * float(cross[0] + cross[-1]))


def _ports_s(instance: Instance, kinds: Classes, kind: int, size: int) -> np.ndarray:
    """Seconds of the slowest port of one of `size` replicas, by span; those of the root carry all that it has to."""
    cross = np.asarray(instance.crossing, float)
    into, out = cross / size, cross / size
    if kinds.root < 0:
        into[0] = out[-1] = 0.0
    elif kind == kinds.root:
        into[0] = out[-1] = 0.0
        brought = np.full(len(cross), cross[-1])  # the outputs, unless it made them itself
        brought[-1] *= (size - 1) / size
        given = np.full(len(cross), cross[0])
        given[0] *= (size - 1) / size
        into, out = into[:, None] + brought[None, :], out[None, :] + given[:, None]
        return np.maximum.reduce([kinds.in_s[kind] * into, kinds.out_s[kind] * out, kinds.both_s[kind] * (into + out)])
    row = [kinds.in_s[kind] * into[:, None], kinds.out_s[kind] * out[None, :]]
    return np.maximum(np.maximum(*row), kinds.both_s[kind] * (into[:, None] + out[None, :]))
