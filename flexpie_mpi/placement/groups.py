"""What the resources of an instance are, boards by class, and the replica groups that may run a stage.

A board takes part in one stage, so all its messages are those of that stage: what passes only its own port, or the
link of one pair, is known from the stage and its neighbours. What is left, such as the links of a forwarding ring,
adds up over the whole placement: it is *shared*.

Swapping two boards of a class changes no placement's bottleneck, so a *replica group*, boards that take turns in one
stage, is told by the classes of its boards. All that a group of g boards does is shared among them: each computes,
receives and sends for one request of g. Which of them come after which matters only for the links between two groups.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from math import lcm

import numpy as np

from .instance import MOST_PERIOD, Instance

MOST_GROUPS = 2100
"""Groups that are told apart. Where more exist, only those of boards of like speed are looked at."""

MOST_ALIKE = 300
"""Groups of several boards of like speed that are looked at, about."""

Members = tuple[int, ...]
"""The classes of a group's boards, in the order of their turns."""


# Resources


Shares = tuple[tuple[int, float], ...]
"""(index among the shared resources, seconds per byte) of the shared resources that a message passes."""


@dataclass(frozen=True, eq=False)
class Resources:
    """Seconds for which one byte occupies the slowest resource of each kind; 0 where there is none."""

    # `out_s`, `in_s` and `both_s`: array (n,). Ports that carry all that a board sends, all that it receives, and both.
    out_s: np.ndarray
    in_s: np.ndarray
    both_s: np.ndarray
    # Array (n, n). Resources that carry at most one message, ``[a, b]`` that from board a to board b.
    pair_s: np.ndarray
    shared: tuple[int, ...]  # all other resources, by number
    # Mapping of (a, b) to Shares. What a message from board a to board b does to them; pairs that pass none are left
    # out.
    shared_s: Mapping[tuple[int, int], Shares]


def resources(instance: Instance, *, plain: bool = False) -> Resources:
    """Sort the resources of an instance.

    Parameters
    ----------
    instance : Instance
    plain : bool
        Whether only the simplest cases count as ports and links: the ports of the root, which carry its inputs and
        outputs beside the messages of its stage, and ports for both ways, are counted as shared then.
    """
    n = instance.boards
    out_s, in_s, both_s, pair_s = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, n))
    shared: list[tuple[int, np.ndarray]] = []
    for number, users in _users(instance, pair_s):
        seconds = float(instance.resource_s[number])
        kind, owner = _kind(instance, users)
        if plain and (kind == "both" or (kind in ("out", "in") and owner == instance.root)):
            kind = "shared"
        if kind == "shared":
            shared.append((number, users))
        elif kind == "pair":
            a, b = users.T
            pair_s[a, b] = np.maximum(pair_s[a, b], seconds)
        else:
            port = {"out": out_s, "in": in_s, "both": both_s}[kind]
            port[owner] = max(port[owner], seconds)
    return Resources(out_s, in_s, both_s, pair_s, tuple(number for number, _ in shared), _shares(instance, shared))


def _users(instance: Instance, pair_s: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Resources and the (source, target) pairs they serve, but for links of one pair alone: these go into `pair_s`."""
    n, seconds = instance.boards, np.asarray(instance.resource_s, float)
    rows = [(a, b, q) for a, row in enumerate(instance.routes) for b, way in enumerate(row) if a != b for q in way]
    table = np.array(rows, int).reshape(-1, 3)
    table = table[np.argsort(table[:, 2], kind="stable")]
    numbers, starts, counts = np.unique(table[:, 2], return_index=True, return_counts=True)
    for count in (1, 2):
        which = np.flatnonzero((counts == count) & (n > 2))
        a, b, q = table[starts[which]].T
        if count == 1 and instance.teams:  # the root may send a team of its own both the inputs and its part
            is_link = (a != instance.root) & (b != instance.root)
            which, a, b, q = which[is_link], a[is_link], b[is_link], q[is_link]
        if count == 2:  # one link for both ways, of which a placement uses one, unless it is the root's
            back = table[starts[which] + 1]
            is_link = (back[:, 0] == b) & (back[:, 1] == a) & (a != instance.root) & (b != instance.root)
            which, a, b, q = which[is_link], a[is_link], b[is_link], q[is_link]
            np.maximum.at(pair_s, (b, a), seconds[q])
        np.maximum.at(pair_s, (a, b), seconds[q])
        numbers[which] = -1
    left = zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True)
    spans = [(number, start, count) for number, start, count in left if number >= 0]
    return [(number, table[start : start + count, :2]) for number, start, count in spans]


def _kind(instance: Instance, users: np.ndarray) -> tuple[str, int]:
    """What a resource is that serves these (source, target) pairs, and whose port where it is one."""
    n, count = instance.boards, len(users)
    (a, b), sources, targets = users[0].tolist(), users[:, 0], users[:, 1]
    if len({(x, y) for x, y in users.tolist()}) < count:
        return "shared", -1  # a route that passes it twice
    one_source, one_target = bool((sources == a).all()), bool((targets == b).all())
    if one_source and count == n - 1:
        return "out", a
    if one_target and count == n - 1:
        return "in", b
    for owner in (a, b):
        if count == 2 * (n - 1) and bool(((sources == owner) | (targets == owner)).all()):
            return "both", owner
    is_lone = instance.replicas == 1 and not instance.teams and (one_source or one_target)
    return ("pair" if is_lone and (a if one_source else b) != instance.root else "shared"), -1


def _shares(instance: Instance, shared: list[tuple[int, np.ndarray]]) -> dict[tuple[int, int], Shares]:
    by_pair: dict[tuple[int, int], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for index, (number, users) in enumerate(shared):
        for a, b in users.tolist():
            by_pair[a, b][index] += float(instance.resource_s[number])
    return {pair: tuple(sorted(shares.items())) for pair, shares in by_pair.items()}


def without_shares(instance: Instance) -> Instance:
    """The same without sharing: what several pairs share is a link of its own for each of them. Never slower."""
    ways = resources(instance)
    resource_s = list(np.asarray(instance.resource_s, float))
    routes = [[tuple(q for q in way if q not in ways.shared) for way in row] for row in instance.routes]
    for (a, b), shares in ways.shared_s.items():
        routes[a][b] += (len(resource_s),)
        resource_s.append(max(seconds for _, seconds in shares))
    return replace(instance, routes=tuple(tuple(row) for row in routes), resource_s=np.array(resource_s))


# Classes of boards


@dataclass(frozen=True, eq=False)
class Classes(Resources):
    """Boards by class, and what is the same for all of a class: of resources, too, by class instead of by board.

    Teams are left aside: a placement counts a team's boards with their classes, and says only at the end which boards
    of a class the other stages get.
    """

    groups: tuple[tuple[int, ...], ...]  # the boards of each class. The root is a class of its own.
    of: tuple[int, ...]  # the class of each board
    root: int  # the root's class; -1 without a root
    size: np.ndarray  # array (k,). Boards of each class.
    compute_s: np.ndarray  # array (k, m + 1, m + 1). Infinite where a board of the class cannot run the span by itself.

    @property
    def count(self) -> int:
        return len(self.groups)


def classes_of(instance: Instance, ways: Resources) -> Classes:
    """Group the boards of an instance.

    Two boards are alike when they compute alike, fit the same spans, have equal ports, and reach and are reached by
    every other board equally. What only spreads unequally over shared resources makes them different.
    """
    compute = np.where(instance.fits, instance.compute_s, np.inf)
    groups: dict[tuple, list[list[int]]] = {}
    for board in range(instance.boards):
        alike = groups.setdefault(_mark(instance, ways, compute, board), [])
        twins = next((group for group in alike if _can_swap(ways, compute, group[0], board)), None)
        if twins is None:
            alike.append([board])
        else:
            twins.append(board)
    ordered = sorted(tuple(group) for alike in groups.values() for group in alike)
    first = np.array([group[0] for group in ordered])
    twin = np.array([group[-1] for group in ordered])
    of = [0] * instance.boards
    for number, group in enumerate(ordered):
        for board in group:
            of[board] = number
    pair_s = ways.pair_s[np.ix_(first, first)]
    np.fill_diagonal(pair_s, ways.pair_s[first, twin])
    return Classes(
        ways.out_s[first],
        ways.in_s[first],
        ways.both_s[first],
        pair_s,
        ways.shared,
        _shares_of_classes(ways, ordered),
        tuple(ordered),
        tuple(of),
        of[instance.root] if instance.root is not None else -1,
        np.array([len(group) for group in ordered]),
        compute[first],
    )


def _mark(instance: Instance, ways: Resources, compute: np.ndarray, board: int) -> tuple:
    """What boards of a class have in common, and can be told without looking at others."""
    ports = (float(ways.out_s[board]), float(ways.in_s[board]), float(ways.both_s[board]))
    links = [np.delete(row, board) for row in (ways.pair_s[board], ways.pair_s[:, board])]
    return (board == instance.root, ports, compute[board, 0].tobytes(), *(np.sort(row).tobytes() for row in links))


def _can_swap(ways: Resources, compute: np.ndarray, a: int, b: int) -> bool:
    """Whether boards a and b compute alike, reach all others equally, and each other equally both ways."""
    if not np.array_equal(compute[a], compute[b]):
        return False
    others = np.ones(len(ways.out_s), bool)
    others[[a, b]] = False
    for matrix in (ways.pair_s, ways.pair_s.T):
        if not np.array_equal(matrix[a][others], matrix[b][others]) or matrix[a, b] != matrix[b, a]:
            return False
    if not ways.shared_s:
        return True
    reach = ways.shared_s.get
    return reach((a, b)) == reach((b, a)) and all(
        reach((a, other)) == reach((b, other)) and reach((other, a)) == reach((other, b))
        for other in np.flatnonzero(others).tolist()
    )


def _shares_of_classes(ways: Resources, groups: list[tuple[int, ...]]) -> dict[tuple[int, int], Shares]:
    shares = {}
    for a, sources in enumerate(groups if ways.shared_s else []):
        for b, targets in enumerate(groups):
            passed = ways.shared_s.get((sources[0], targets[-1]))
            if passed is not None:
                shares[a, b] = passed
    return shares


@dataclass(frozen=True, eq=False)
class ReplicaGroups:
    """K groups of one board, or of several that take turns."""

    members: tuple[Members, ...]
    counts: np.ndarray  # array (K, k). Boards of each class.
    is_complete: bool  # whether these are all groups there are, but for the order of turns where it makes no difference

    @cached_property
    def size(self) -> np.ndarray:
        """Boards of each group: array (K,)."""
        size: np.ndarray = self.counts.sum(axis=1)
        return size

    @cached_property
    def has_cycles(self) -> bool:
        """Whether groups exist whose turns together take too long to begin anew."""
        return lcm(*set(self.size.tolist())) > MOST_PERIOD


def replica_groups(instance: Instance, classes: Classes, *, in_order: bool) -> ReplicaGroups:
    """All groups of an instance; `in_order` tells apart groups of the same boards in different orders."""
    limit = instance.replica_limit
    groups = list(islice(_every(classes, limit, in_order=in_order), MOST_GROUPS + 1))
    is_complete = len(groups) <= MOST_GROUPS
    if not is_complete:
        groups = _alike(instance, classes, limit)
    counts = np.zeros((len(groups), classes.count), int)
    for row, members in zip(counts, groups, strict=True):
        np.add.at(row, list(members), 1)
    return ReplicaGroups(tuple(groups), counts, is_complete)


def _every(classes: Classes, limit: int, *, in_order: bool) -> Iterator[Members]:
    """Groups of up to so many boards, smaller ones first; each in order of classes only, or in every order."""

    def longer(size: int, first: int, left: Sequence[int]) -> Iterator[Members]:
        if size == 0:
            yield ()
            return
        for kind in range(first, classes.count):
            if left[kind]:
                rest = [*left[:kind], left[kind] - 1, *left[kind + 1 :]]
                yield from ((kind, *members) for members in longer(size - 1, 0 if in_order else kind, rest))

    for size in range(1, limit + 1):
        yield from longer(size, 0, classes.size.tolist())


def _alike(instance: Instance, classes: Classes, limit: int) -> list[Members]:
    """Every board by itself, and neighbours in order of speed together, as many as there is room for."""
    row = np.arange(instance.units)
    unit = classes.compute_s[:, row, row + 1]
    speed = np.where(np.isfinite(unit), unit, 0.0).sum(axis=1)
    fastest = np.lexsort((speed, np.isinf(unit).sum(axis=1))).tolist()
    order = [kind for kind in fastest for _ in range(classes.size[kind])]
    groups: dict[Members, None] = {(kind,): None for kind in range(classes.count)}
    stride = max(1, len(order) * (limit - 1) // MOST_ALIKE)
    for size in range(2, limit + 1):
        for start in range(0, len(order) - size + 1, stride):
            groups[tuple(sorted(order[start : start + size]))] = None
    return list(groups)


@dataclass(frozen=True, eq=False)
class StageTimes:
    """What one board of each class takes for every span, by itself or as a replica."""

    instance: Instance
    classes: Classes
    # Array (k, m + 1, m + 1), by class, without replicas: the slowest of computing and the board's own ports; infinite
    # where it cannot
    alone_s: np.ndarray

    @classmethod
    def of(cls, instance: Instance, classes: Classes) -> StageTimes:
        """Price all spans, for the root as a group of its own."""
        alone = classes.compute_s.copy()
        for kind in range(classes.count):
            if kind != classes.root:
                np.maximum(alone[kind], _ports_s(instance, classes, kind, 1), out=alone[kind])
        spans = cls(instance, classes, alone)
        if classes.root >= 0:
            alone[classes.root] = spans.member_s(classes.root, 1)
        return spans

    def member_s(self, kind: int, size: int) -> np.ndarray:
        """What a board takes for every span as one of `size` replicas: array (m + 1, m + 1)."""
        if kind != self.classes.root:
            return self.alone_s[kind] / size
        compute = self.classes.compute_s[kind] / size
        return np.maximum(compute, _ports_s(self.instance, self.classes, kind, size))

    @property
    def idle_s(self) -> float:
        """What the root's ports take when it is in no stage: the inputs and the outputs."""
        classes, cross = self.classes, self.instance.crossing
        if classes.root < 0:
            return 0.0
        out, into, both = (float(port[classes.root]) for port in (classes.out_s, classes.in_s, classes.both_s))
        return max(out * float(cross[0]), into * float(cross[-1]), both * float(cross[0] + cross[-1]))


def _ports_s(instance: Instance, classes: Classes, kind: int, size: int) -> np.ndarray:
    """Seconds of the slowest port of one of `size` replicas, by span; those of the root carry all that it has to."""
    cross = np.asarray(instance.crossing, float)
    into, out = cross / size, cross / size
    if kind == classes.root or classes.root < 0:
        into[0] = out[-1] = 0.0
    if kind == classes.root:
        brought = np.full(len(cross), cross[-1])  # the outputs, unless it made them itself
        brought[-1] *= (size - 1) / size
        given = np.full(len(cross), cross[0])
        given[0] *= (size - 1) / size
        into, out = into[:, None] + brought[None, :], out[None, :] + given[:, None]
    else:
        into, out = into[:, None], out[None, :]
    ports = (classes.in_s[kind] * into, classes.out_s[kind] * out, classes.both_s[kind] * (into + out))
    return np.maximum(np.maximum(ports[0], ports[1]), ports[2])
