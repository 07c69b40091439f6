"""An instance as the exact search sees it: boards by class, the options that may run a stage, and what each takes.

An *option* is a replica group, boards given by class that take turns, or a team at one of its spans. Options are
numbered, groups first. What an option takes for its stage is known from the option and the two cuts; what handing over
takes from the option before, the option after and the cut between them. Only *shared* resources add up over stages.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm

import numpy as np

from .groups import Classes, Members, ReplicaGroups, Shares, StageTimes, classes_of, replica_groups, resources
from .instance import Instance, Span, TeamSpan
from .loads import parts

Load = tuple[float, Shares]
"""Seconds of the slowest resource that a stage or one handing over has for itself, and seconds of shared resources."""

ROOT = -1
"""The number of the root among the options: before the first stage, and after the last."""


@dataclass(frozen=True, eq=False)
class TeamStage:
    """A team at one span."""

    boards: tuple[int, ...]
    begin: int
    end: int
    span: TeamSpan
    members: Members  # the class of each of its boards
    load: Load  # what it takes by itself: computing, and what its boards send each other


Option = Members | TeamStage


@dataclass(frozen=True, eq=False)
class GroupedInstance:
    """An instance by classes of boards and options.

    Without teams and shared resources, the ports of boards are counted in `table_s`, with the cuts at both ends of a
    stage. Else they are counted where stages hand over, and those of the root are shared resources.
    """

    instance: Instance
    adds_up: bool  # whether there are teams or shared resources
    classes: Classes
    times: StageTimes
    groups: ReplicaGroups  # K of them
    teams: tuple[TeamStage, ...]
    table: np.ndarray  # int array (K,). Where in `table_s` the spans of each group are.
    # Array (t, m + 1, m + 1). Seconds of the slowest board of a group, by span; infinite where it cannot run the span.
    table_s: np.ndarray
    # Array (K, K), or (1, K) zeros where it makes no difference which group came before. Seconds per byte alive at the
    # cut, of the slowest link or port from one group to the next; infinite where there are not enough boards for both.
    hand_over_s: np.ndarray
    # `first_s` and `last_s`: array (K,). The same from the root to a group, and from a group to the root.
    first_s: np.ndarray
    last_s: np.ndarray

    @classmethod
    def of(cls, instance: Instance) -> GroupedInstance:
        """Sort boards into classes, and list the options."""
        ways = resources(instance)
        adds_up = bool(instance.teams or ways.shared)
        classes = classes_of(instance, resources(instance, plain=True) if adds_up else ways)
        groups = replica_groups(instance, classes, in_order=bool(classes.pair_s.any()) or not _is_even(classes))
        zero = np.zeros(classes.count)
        without_ports = replace(classes, out_s=zero, in_s=zero, both_s=zero)
        times = StageTimes.of(instance, without_ports if adds_up else classes)
        ports = classes if adds_up else without_ports
        table, table_s = _tables(times, groups)
        return cls(
            instance,
            adds_up,
            classes,
            times,
            groups,
            tuple(_team_options(instance, classes)),
            table,
            table_s,
            _hand_over_s(groups, ports) if adds_up or classes.pair_s.any() else np.zeros((1, len(groups.members))),
            _root_s(groups, classes.root, ports.pair_s[classes.root], ports.in_s),
            _root_s(groups, classes.root, ports.pair_s[:, classes.root], ports.out_s),
        )

    @cached_property
    def crossing(self) -> np.ndarray:
        return np.asarray(self.instance.crossing, float)

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """Groups, then teams."""
        return (*self.groups.members, *self.teams)

    @cached_property
    def counts(self) -> np.ndarray:
        """Boards of each class in each option: int array (K + teams, k)."""
        rows = [[Counter(team.members)[kind] for kind in range(self.classes.count)] for team in self.teams]
        return np.concatenate([self.groups.counts, np.array(rows, int).reshape(-1, self.classes.count)])

    @cached_property
    def alike(self) -> list[int]:
        """For each option the first that hands over alike."""
        if len(self.hand_over_s) == 1 and not self.teams:
            return [0] * len(self.options)
        first: dict[object, int] = {}
        is_even = _is_even(self.classes) and not self.classes.pair_s.any()
        marks = (self._mark(option) if is_even else number for number, option in enumerate(self.options))
        return [first.setdefault(mark, number) for number, mark in enumerate(marks)]

    @cached_property
    def team_boards(self) -> list[int]:
        """For each option the boards of its team as bits; none for groups."""
        return [0] * len(self.groups.members) + [sum(1 << board for board in team.boards) for team in self.teams]

    def _mark(self, option: Option) -> object:
        """What of an option matters for whoever comes next, where only ports do."""
        root = self.classes.root
        if isinstance(option, TeamStage):
            member = option.members.index(root) if root in option.members else -1
            ports = self.classes.out_s[list(option.members)]
            return option.end, option.span.exit_bytes.tobytes(), ports.tobytes(), member
        return len(option), max(float(self.classes.out_s[kind]) for kind in option), root in option

    @cached_property
    def _loads(self) -> dict[tuple[int, int], Load]:
        return {}

    def load(self, before: int, after: int, cut: int) -> Load:
        """What handing over at a cut takes, from one option or `ROOT` to the next."""
        if self.instance.root is None and ROOT in (before, after):
            return 0.0, ()
        ends = [self.options[number] if number != ROOT else (self.classes.root,) for number in (before, after)]
        has_team = any(isinstance(option, TeamStage) for option in ends)
        if (before, after) not in self._loads:
            nbytes = float(self.crossing[cut]) if has_team else 1.0
            self._loads[before, after] = _handed_over(self.classes, ends[0], ends[1], nbytes)
        slowest, shared = self._loads[before, after]
        size = 1.0 if has_team else float(self.crossing[cut])
        return slowest * size, tuple((index, seconds * size) for index, seconds in shared)

    def added(self, before: int, after: int, cut: int) -> Shares:
        """Seconds that handing over adds to shared resources, with what a team that comes after adds by itself."""
        option = self.options[after]
        shares = self.load(before, after, cut)[1]
        return (*shares, *option.load[1]) if isinstance(option, TeamStage) else shares


def _is_even(classes: Classes) -> bool:
    """Whether the only shared resources are ports of the root, which carry the same whoever is at the other end."""
    root, pairs = classes.root, classes.shared_s
    others = [kind for kind in range(classes.count) if kind != root]
    out = {pairs.get((root, kind)) for kind in others}
    into = {pairs.get((kind, root)) for kind in others}
    return all(root in pair for pair in pairs) and len(out) <= 1 and len(into) <= 1


def _tables(times: StageTimes, groups: ReplicaGroups) -> tuple[np.ndarray, np.ndarray]:
    """Spans by group: groups of the same size and the same classes share theirs."""
    numbers: dict[tuple[frozenset[int], int], int] = {}
    table = [numbers.setdefault((frozenset(members), len(members)), len(numbers)) for members in groups.members]
    rows = [np.maximum.reduce([times.member_s(kind, size) for kind in sorted(support)]) for support, size in numbers]
    return np.array(table), np.stack(rows)


def _hand_over_s(groups: ReplicaGroups, classes: Classes) -> np.ndarray:
    """Seconds per byte of the slowest link or port between every two groups, whose boards meet as their turns do."""
    count = len(groups.members)
    seconds = np.zeros((count, count))
    rows = {size: np.flatnonzero(groups.size == size) for size in sorted(set(groups.size.tolist()))}
    members = {size: np.array([groups.members[row] for row in which.tolist()]) for size, which in rows.items()}
    for before, sources in members.items() if classes.pair_s.any() else ():
        for after, targets in members.items():
            period = lcm(before, after)
            slowest = np.zeros((len(sources), len(targets)))
            for turn in range(period):
                met = classes.pair_s[sources[:, turn % before][:, None], targets[:, turn % after][None, :]]
                np.maximum(slowest, met, out=slowest)
            seconds[np.ix_(rows[before], rows[after])] = slowest / period
    ports = [
        np.array([max(port[list(row)]) / len(row) for row in groups.members]) for port in (classes.out_s, classes.in_s)
    ]
    np.maximum(seconds, np.maximum(ports[0][:, None], ports[1][None, :]), out=seconds)
    for kind, size in enumerate(classes.size.tolist() if classes.pair_s.any() else ()):
        boards = groups.counts[:, kind]
        seconds[boards[:, None] + boards[None, :] > size] = np.inf
    return seconds


def _root_s(groups: ReplicaGroups, root: int, pair_s: np.ndarray, port_s: np.ndarray) -> np.ndarray:
    """Seconds per byte of the slowest link or port between the root and each group, array (K,); 0 without a root."""
    if root < 0:
        return np.zeros(len(groups.members))
    slowest = np.maximum(pair_s, port_s)
    slowest[root] = 0.0
    return np.array([max(slowest[list(row)]) / len(row) for row in groups.members])


def _team_options(instance: Instance, classes: Classes) -> Iterator[TeamStage]:
    """Every span of every team."""
    for (boards, (begin, end)), span in instance.team_spans.items():
        load = _own_load(instance, classes, boards, (begin, end), span)
        if np.isfinite(load[0]):
            yield TeamStage(boards, begin, end, span, tuple(classes.of[board] for board in boards), load)


def _own_load(instance: Instance, classes: Classes, boards: tuple[int, ...], span: Span, costs: TeamSpan) -> Load:
    """Computing and inner messages, together with what its own ports bear of the messages at its two ends."""
    has_root = instance.root is not None
    out = np.array(costs.exit_bytes, float) * (has_root or span[1] < instance.units)
    into = np.array(costs.entry_bytes, float) * (has_root or span[0] > 0)
    members = [classes.of[board] for board in boards]
    links: dict[int, float] = defaultdict(float)
    shared: dict[int, float] = defaultdict(float)
    for (source, target), nbytes in costs.inner.items():
        out[source] += nbytes
        into[target] += nbytes
        for resource in instance.routes[boards[source]][boards[target]]:
            links[resource] += nbytes * float(instance.resource_s[resource])
        for index, seconds in classes.shared_s.get((members[source], members[target]), ()):
            shared[index] += nbytes * seconds
    ports = np.maximum(classes.out_s[members] * out, classes.in_s[members] * into)
    slowest = max(float(np.max(costs.compute_s)), float(ports.max()), max(links.values(), default=0.0))
    return slowest, tuple(sorted(shared.items()))


def _handed_over(classes: Classes, before: Option, after: Option, nbytes: float) -> Load:
    """What the messages between two options take, at a cut where so many bytes are alive.

    Of the ports only the root's, which are shared, carry anything else; so all others are known from here.
    """
    out: dict[int, float] = defaultdict(float)
    into: dict[int, float] = defaultdict(float)
    shared: dict[int, float] = defaultdict(float)
    slowest = 0.0
    sources, targets = _members(before), _members(after)
    entry = after.span.entry_bytes if isinstance(after, TeamStage) else None
    leaving = before.span.exit_bytes if isinstance(before, TeamStage) else None
    for a, b, part in parts(len(sources), len(targets), nbytes, entry, leaving):
        pair = sources[a], targets[b]
        if pair[0] == pair[1] == classes.root:
            continue
        out[a] += part
        into[b] += part
        slowest = max(slowest, part * float(classes.pair_s[pair]))
        for index, seconds in classes.shared_s.get(pair, ()):
            shared[index] += part * seconds
    for member, total in out.items():
        slowest = max(slowest, total * float(classes.out_s[sources[member]]))
    for member, total in into.items():
        slowest = max(slowest, total * float(classes.in_s[targets[member]]))
    return slowest, tuple(sorted(shared.items()))


def _members(option: Option) -> Sequence[int]:
    return option.members if isinstance(option, TeamStage) else option
