"""Crews and teams as the search by paths sees them, and what one hands over to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from .classes import Classes
from .instance import Instance, Team, TeamSpan
from .passages import Shares

Load = tuple[float, Shares]
"""Seconds of the slowest port or link of one stage's own, and seconds of the shared resources, by place."""

NOTHING: Load = (0.0, ())


@dataclass(frozen=True, eq=False)
class Offer:
    """A team's offer for one span.

    Attributes
    ----------
    team : Team
    begin, end : int
    span : TeamSpan
    members : tuple of int
        The class of each of its boards.
    load : Load
        What it takes by itself: computing, and what its boards send each other.
    """

    team: Team
    begin: int
    end: int
    span: TeamSpan
    members: tuple[int, ...]
    load: Load

    @property
    def boards(self) -> int:
        """The team's boards as a set of bits."""
        return sum(1 << board for board in self.team.boards)


Option = tuple[int, ...] | Offer
"""Who may run a stage: boards that take turns, by class; or a team."""


def offers(instance: Instance, kinds: Classes) -> Iterator[Offer]:
    """Every offer of every team; where two teams of the same boards offer the same span, the first counts."""
    seen: set[tuple] = set()
    for team in instance.teams:
        members = tuple(kinds.of[board] for board in team.boards)
        for (begin, end), span in team.spans.items():
            if (team.boards, begin, end) in seen:
                continue
            seen.add((team.boards, begin, end))
            load = _own_load(instance, kinds, team, (begin, end), span)
            if np.isfinite(load[0]):
                yield Offer(team, begin, end, span, members, load)


def _own_load(instance: Instance, kinds: Classes, team: Team, span: tuple[int, int], costs: TeamSpan) -> Load:
    """Computing and inner messages, together with what its own ports bear of the messages at its two ends."""
    has_root = instance.root is not None
    out = np.array(costs.exit_bytes, float) * (has_root or span[1] < instance.units)
    into = np.array(costs.entry_bytes, float) * (has_root or span[0] > 0)
    links: dict[int, float] = defaultdict(float)
    shared: dict[int, float] = defaultdict(float)
    for (source, target), nbytes in costs.inner.items():
        out[source] += nbytes
        into[target] += nbytes
        for resource in instance.routes[team.boards[source]][team.boards[target]]:
            links[resource] += nbytes * float(instance.resource_s[resource])
        for place, seconds in kinds.shared_s.get((kinds.of[team.boards[source]], kinds.of[team.boards[target]]), ()):
            shared[place] += nbytes * seconds
    members = [kinds.of[board] for board in team.boards]
    ports = np.maximum(kinds.out_s[members] * out, kinds.in_s[members] * into)
    slowest = max(float(np.max(costs.compute_s)), float(ports.max()), max(links.values(), default=0.0))
    return slowest, tuple(sorted(shared.items()))


def handed_over(kinds: Classes, before: Option, after: Option, nbytes: float) -> Load:
    """What the messages between two crews take, at a cut where so many bytes are alive.

    Of the ports only the root's, which are shared, carry anything else; so all others are known from here.
    """
    out: dict[int, float] = defaultdict(float)
    into: dict[int, float] = defaultdict(float)
    shared: dict[int, float] = defaultdict(float)
    slowest = 0.0
    sources, targets = _members(before), _members(after)
    for a, b, part in _messages(before, after, nbytes):
        pair = sources[a], targets[b]
        if pair[0] == pair[1] == kinds.root:
            continue
        out[a] += part
        into[b] += part
        slowest = max(slowest, part * float(kinds.pair_s[pair]))
        for place, seconds in kinds.shared_s.get(pair, ()):
            shared[place] += part * seconds
    for member, total in out.items():
        slowest = max(slowest, total * float(kinds.out_s[sources[member]]))
    for member, total in into.items():
        slowest = max(slowest, total * float(kinds.in_s[targets[member]]))
    return slowest, tuple(sorted(shared.items()))


def _members(option: Option) -> Sequence[int]:
    return option.members if isinstance(option, Offer) else option


def _messages(before: Option, after: Option, nbytes: float) -> Iterator[tuple[int, int, float]]:
    """(place in one crew, place in the next, bytes per request)."""
    p, q = len(_members(before)), len(_members(after))
    if isinstance(after, Offer):
        yield from ((a, b, float(after.span.entry_bytes[b]) / p) for a in range(p) for b in range(q))
    elif isinstance(before, Offer):
        yield from ((a, b, float(before.span.exit_bytes[a]) / q) for a in range(p) for b in range(q))
    else:
        turns = lcm(p, q)
        yield from ((turn % p, turn % q, nbytes / turns) for turn in range(turns))
