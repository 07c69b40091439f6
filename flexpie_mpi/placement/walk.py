"""Whether a placement within a bottleneck exists, path by path: for teams, and for resources that add up.

State: the cut, the boards used, by class and those of teams, the last crew, when turns begin anew, and the loads of the
shared resources so far. Depth first; a state that failed is kept, and with it every state of larger loads fails.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm

import numpy as np

from .answer import Answer, Clock
from .bounds import ROUNDING, TeamSpans, Work, relaxed_s, within_boards
from .classes import Classes, classes
from .crews import Crews, Spans, crews, most_boards
from .instance import MOST_TURNS, Instance
from .limits import SLACK
from .options import NOTHING, Load, Offer, Option, handed_over, offers
from .passages import passages
from .trace import Run, settle

START = -1
"""The place of the root among the options, before the first stage and after the last."""


@dataclass(frozen=True, eq=False)
class Walk:
    """The search by paths on one instance.

    Attributes
    ----------
    instance : Instance
    kinds : Classes
    crews : Crews
    offers : tuple of Offer
    work : Work
    compute_s : array (K, m + 1, m + 1)
        What computing a span takes the slowest of a crew, as its share.
    """

    instance: Instance
    kinds: Classes
    crews: Crews
    offers: tuple[Offer, ...]
    work: Work
    compute_s: np.ndarray

    @classmethod
    def of(cls, instance: Instance) -> Walk:
        """Sort boards and resources. All that a message occupies is counted when it is handed over, not with spans."""
        kinds = classes(instance, passages(instance, plain=True))
        in_order = bool(kinds.pair_s.any()) or not _is_even(kinds)
        found = crews(instance, kinds, in_order=in_order)
        zero = np.zeros(kinds.count)
        spans = Spans.of(instance, replace(kinds, out_s=zero, in_s=zero, both_s=zero))
        teams = tuple(offers(instance, kinds))
        tables = [np.maximum.reduce([spans.alone_s[kind] for kind in set(row)]) / len(row) for row in found.members]
        return cls(instance, kinds, found, teams, Work.of(instance, spans, _team_spans(teams)), np.stack(tables))

    @cached_property
    def start_s(self) -> float:
        """A lower bound that needs no search."""
        return relaxed_s(self.instance, self.work.spans, self.work)

    def find(self, seconds: float, steps: int, clock: Clock) -> Answer:
        """Search for a placement within `seconds` in so many steps."""
        if not self.work.is_possible(seconds * (1 + SLACK)):
            return Answer(None, True, 0)
        descent = _Descent(self, seconds * (1 + SLACK), steps, clock)
        try:
            runs = descent.start()
        except _GaveUp:
            return Answer(None, False, descent.steps)
        placement = settle(self.kinds.groups, runs) if runs is not None else None
        return Answer(placement, placement is None and self.crews.is_complete, descent.steps)

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """Crews, then offers."""
        return (*self.crews.members, *self.offers)

    @cached_property
    def counts(self) -> list[tuple[tuple[int, int], ...]]:
        """Boards of each option: (class, boards) where it has any."""
        members = [option.members if isinstance(option, Offer) else option for option in self.options]
        return [tuple(sorted(Counter(row).items())) for row in members]

    @cached_property
    def marks(self) -> list[int]:
        """Options by number, those that hand over alike with the same."""
        numbers: dict[object, int] = {}
        is_even = _is_even(self.kinds) and not self.kinds.pair_s.any()
        return [
            numbers.setdefault(self._mark(option) if is_even else place, len(numbers))
            for place, option in enumerate(self.options)
        ]

    def _mark(self, option: Option) -> object:
        """What of an option matters for whoever comes next, where only ports do."""
        root = self.kinds.root
        if isinstance(option, Offer):
            return option.span.exit_bytes.tobytes(), option.members.index(root) if root in option.members else -1
        return len(option), max(float(self.kinds.out_s[kind]) for kind in option), root in option

    @cached_property
    def _prices(self) -> dict[tuple[int, int], Load]:
        return {}

    def price(self, before: int, after: int, cut: int) -> Load:
        """What handing over at a cut takes; options by their places, or `START`."""
        if self.instance.root is None and START in (before, after):
            return NOTHING
        ends = [self.options[place] if place != START else (self.kinds.root,) for place in (before, after)]
        has_team = any(isinstance(option, Offer) for option in ends)
        if (before, after) not in self._prices:
            nbytes = float(self.instance.crossing[cut]) if has_team else 1.0
            self._prices[before, after] = handed_over(self.kinds, ends[0], ends[1], nbytes)
        slowest, shared = self._prices[before, after]
        size = 1.0 if has_team else float(self.instance.crossing[cut])
        return slowest * size, tuple((place, seconds * size) for place, seconds in shared)


def _team_spans(found: Sequence[Offer]) -> list[TeamSpans]:
    """What teams take at least, by team."""
    teams: dict[int, list[Offer]] = defaultdict(list)
    for offer in found:
        teams[id(offer.team)].append(offer)
    rows = [[(offer.begin, offer.end, offer.load[0]) for offer in team] for team in teams.values()]
    arrays = [np.array(row) for row in rows]
    return [
        TeamSpans(team[0].members, array[:, 0].astype(int), array[:, 1].astype(int), array[:, 2])
        for team, array in zip(teams.values(), arrays, strict=True)
    ]


def _is_even(kinds: Classes) -> bool:
    """Whether the only shared resources are ports of the root, which carry the same whoever is at the other end."""
    root, pairs = kinds.root, kinds.shared_s
    others = [kind for kind in range(kinds.count) if kind != root]
    out = {pairs.get((root, kind)) for kind in others}
    into = {pairs.get((kind, root)) for kind in others}
    return all(root in pair for pair in pairs) and len(out) <= 1 and len(into) <= 1


class _GaveUp(Exception):
    """Steps or time are over."""


class _Descent:
    """One search, depth first."""

    def __init__(self, walk: Walk, seconds: float, most: int, clock: Clock) -> None:
        self.walk, self.seconds, self.most, self.clock = walk, seconds, most, clock
        self.steps = 0
        self.units, self.limit = walk.instance.units, most_boards(walk.instance)
        share = walk.work.most(seconds)
        self.able = tuple(walk.work.able(share).tolist())
        members = [[kind for kind, n in row for _ in range(n)] for row in walk.counts]
        self.needs = [tuple(share[:, row].sum(axis=1).tolist()) for row in members]
        self.rest = walk.work.rest.T.tolist()
        self.size = [sum(n for _, n in row) for row in walk.counts]
        self.moves, self.enough = self._moves()
        self.failed: dict[tuple, list[tuple[float, ...]]] = defaultdict(list)
        self.priced: dict[tuple[int, int, int], Load | None] = {}

    def _moves(self) -> tuple[list[list[tuple[int, list[int]]]], list[set[int]]]:
        """Options from each cut with their ends, the furthest first; and, by boards left, cuts to be finished from."""
        walk, last = self.walk, self.units
        ends = walk.compute_s <= self.seconds
        good = [k for k, offer in enumerate(walk.offers) if offer.load[0] <= self.seconds]
        by_size: dict[int, np.ndarray] = {}
        for size in sorted(set(walk.crews.size.tolist())):
            by_size[size] = ends[walk.crews.size == size].any(axis=0)
        for k in good:
            offer = walk.offers[k]
            spans = by_size.setdefault(len(offer.members), np.zeros((last + 1, last + 1), bool))
            spans[offer.begin, offer.end] = True
        enough = within_boards(by_size, self.limit)
        moves: list[list[tuple[int, list[int]]]] = [[] for _ in range(last + 1)]
        row, cut = np.nonzero((ends & enough[-1]).any(axis=2))
        for option, begin in zip(row.tolist(), cut.tolist(), strict=True):
            reached = np.flatnonzero(ends[option, begin] & enough[-1])
            moves[begin].append((option, reached[::-1].tolist()))
        for k in good:
            offer = walk.offers[k]
            if enough[-1, offer.end]:
                moves[offer.begin].append((len(walk.crews.members) + k, [offer.end]))
        for found in moves:
            found.sort(key=lambda move: (-move[1][0], self.size[move[0]]))
        return moves, [set(np.flatnonzero(row).tolist()) for row in enough]

    def start(self) -> list[Run] | None:
        """Stages of a placement, None when there is none."""
        left = tuple(self.walk.kinds.size.tolist())
        shared = (0.0,) * self._shared_count()
        return self._extend(_State(0, left, 0, START, 1, shared, self.limit, self.able))

    def _shared_count(self) -> int:
        places = [place for shares in self.walk.kinds.shared_s.values() for place, _ in shares]
        return max(places, default=-1) + 1

    def _extend(self, state: _State) -> list[Run] | None:
        self._count()
        if state.cut == self.units:
            return [] if self._passed(state, START) is not None else None
        mark = self.walk.marks[state.last] if state.last != START else START
        key = (state.cut, state.left, state.teams, mark, state.cycle)
        failed = self.failed[key]
        if any(all(a <= b for a, b in zip(loads, state.shared, strict=True)) for loads in failed):
            return None
        for option, ends in self.moves[state.cut]:
            after = self._after(state, option)
            if after is None:
                continue
            for end in ends:
                if end not in self.enough[after.boards] or not self._is_able(after, end):
                    continue
                found = self._extend(replace(after, cut=end))
                if found is not None:
                    return [self._run(state.cut, end, option), *found]
        failed[:] = [loads for loads in failed if not all(a >= b for a, b in zip(loads, state.shared, strict=True))]
        failed.append(state.shared)
        return None

    def _count(self) -> None:
        self.steps += 1
        if self.steps > self.most or (self.steps % 256 == 0 and self.clock.is_over):
            raise _GaveUp

    def _run(self, begin: int, end: int, option: int) -> Run:
        found = self.walk.options[option]
        return Run(begin, end, team=found.team.boards) if isinstance(found, Offer) else Run(begin, end, found)

    def _is_able(self, state: _State, end: int) -> bool:
        """Whether the boards left can take on the work left."""
        return all(
            rest <= able * (1 + ROUNDING) + ROUNDING for rest, able in zip(self.rest[end], state.able, strict=True)
        )

    def _after(self, state: _State, option: int) -> _State | None:
        """The state with one more option, its stage's end still open; None when it is impossible."""
        left = list(state.left)
        for kind, boards in self.walk.counts[option]:
            left[kind] -= boards
            if left[kind] < 0:
                return None
        boards, teams, cycle = state.boards - self.size[option], state.teams, state.cycle
        found = self.walk.options[option]
        if isinstance(found, Offer):
            if teams & found.boards or (state.last != START and isinstance(self.walk.options[state.last], Offer)):
                return None
            teams |= found.boards
        elif self.walk.crews.has_cycles:
            cycle = lcm(cycle, self.size[option])
            if cycle > MOST_TURNS:
                return None
        shared = self._passed(state, option)
        if boards < 0 or shared is None:
            return None
        able = tuple(have - need for have, need in zip(state.able, self.needs[option], strict=True))
        return _State(state.cut, tuple(left), teams, option, cycle, shared, boards, able)

    def _passed(self, state: _State, option: int) -> tuple[float, ...] | None:
        """Loads of the shared resources after handing over to an option; None when anything is too slow."""
        key = (state.last, option, state.cut)
        if key not in self.priced:
            load = self.walk.price(*key[:2], state.cut)
            self.priced[key] = load if load[0] <= self.seconds else None
        found = self.priced[key]
        if found is None:
            return None
        after = self.walk.options[option] if option != START else None
        own = after.load[1] if isinstance(after, Offer) else ()
        if not found[1] and not own:
            return state.shared
        loads = list(state.shared)
        for place, seconds in (*found[1], *own):
            loads[place] += seconds
            if loads[place] > self.seconds:
                return None
        return tuple(loads)


@dataclass(frozen=True, slots=True)
class _State:
    """Where a path has come to.

    `teams` are the boards of teams as bits, `boards` and `able` what is left of boards and of work they can take on.
    """

    cut: int
    left: tuple[int, ...]
    teams: int
    last: int
    cycle: int
    shared: tuple[float, ...]
    boards: int
    able: tuple[float, ...]
