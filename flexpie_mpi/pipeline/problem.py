"""From a graph, a testbed and a cost model to a placement problem (:mod:`flexpie_mpi.placement`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np

from ..core.graph import Graph
from ..core.plan import BUSY
from ..cost.model import CostModel
from ..lower.memory import SLOTS_PER_TURN
from ..placement import MOST_PERIOD, Instance, Span, Team, TeamSpan
from ..planner.units import Units, units
from ..testbed import Testbed
from .single_device import SingleDeviceCosts, single_device_costs
from .teams import TeamOption, TeamPlanner, TeamSegments, team_candidates

MOST_LEVELS = 12
"""Levels that are looked at, at most: each is a search of its own. Of more, neighbours are taken together."""


@dataclass(frozen=True, slots=True)
class ContentionLevel:
    """Some number of boards that compute, more than at the level before."""

    most: int  # so many at most
    active: tuple[float, ...]  # how much each board is slowed down then at least, as of :meth:`Testbed.active`


@dataclass(frozen=True, eq=False)
class PlacementProblem:
    """A placement problem with what its numbers stand for."""

    units: Units
    testbed: Testbed
    cost: CostModel
    root: int
    single_device: SingleDeviceCosts  # while all boards compute
    team_options: tuple[TeamOption, ...]  # teams
    # Tuple of (ContentionLevel, float array (n, m + 1, m + 1)). Seconds of spans while fewer compute, where boards
    # share a host.
    lighter: tuple[tuple[ContentionLevel, np.ndarray], ...] = ()

    @property
    def graph(self) -> Graph:
        return self.units.graph

    @cached_property
    def team_segments(self) -> TeamSegments:
        """Segments by team and span."""
        return {(option.boards, option.span): option.segments for option in self.team_options}

    def by_contention(self, most_boards: int | None = None) -> Iterator[tuple[PlacementProblem, int | None]]:
        """The problem for few boards that compute, for more, and for all allowed, each with how many may compute.

        No placement is priced too high in the first that allows it so many boards as it has. Where no host is shared
        there is but one.
        """
        limit = self.testbed.ranks if most_boards is None else most_boards
        for number, (level, compute_s) in enumerate(self.lighter):
            lighter = replace(
                self,
                single_device=replace(self.single_device, compute_s=compute_s),
                team_options=tuple(option.at_level(number) for option in self.team_options),
                lighter=(),
            )
            yield lighter, min(limit, level.most)
            if limit <= level.most:
                return
        yield self, most_boards

    @property
    def is_kept(self) -> bool:
        """Whether the root may have something already that `crossing` counts."""
        return bool(self.single_device.kept.any())

    def instance(
        self,
        most_boards: int | None = None,
        slots: int = SLOTS_PER_TURN,
        replicas: int = MOST_PERIOD,
        *,
        is_least: bool = False,
    ) -> Instance:
        """The bare numbers.

        At most `most_boards` boards compute, each has room for `slots` requests at once, and at most `replicas` take
        turns in one stage. With `is_least`, what the root may have already is never sent: no plan sends less.
        """
        testbed, single_device = self.testbed, self.single_device
        return Instance(
            crossing=single_device.crossing - single_device.kept if is_least else single_device.crossing,
            compute_s=self._within_root(slots),
            need_bytes=single_device.need_bytes(slots),
            capacity=capacities(testbed),
            routes=tuple(tuple(() if way is None else way.resources for way in row) for row in testbed.routes),
            resource_s=np.array([1 / resource.bandwidth for resource in testbed.resources]),
            root=self.root,
            replicas=min(replicas, testbed.ranks),
            teams=_teams([option for option in self.team_options if option.in_flight >= slots], is_least),
            most_boards=most_boards,
        )

    def _within_root(self, slots: int) -> np.ndarray:
        """Seconds of spans, infinite on a root whose requests under way leave them too little memory."""
        compute_s, limit = self.single_device.compute_s.copy(), self.testbed.devices[self.root].memory_bytes
        if limit is not None:
            # Requests under way on the root while each board has so many
            in_flight = slots if slots < SLOTS_PER_TURN else BUSY * self.testbed.ranks + 1
            compute_s[self.root][self.single_device.root_bytes(in_flight) > limit] = np.inf
        return compute_s


def placement_problem(graph: Graph, testbed: Testbed, cost: CostModel, root: int = 0) -> PlacementProblem:
    """The problem of placing a graph on a testbed.

    Units are cut where planners may cut; what boards of one host take is looked at by how many of them compute.
    """
    cut = units(graph)
    *fewer, _ = contention_levels(testbed)
    costs = single_device_costs(cut, testbed, cost, root)
    lighter_s = (single_device_costs(cut, testbed, cost, root, level.active).compute_s for level in fewer)
    lighter = tuple(
        (level, np.minimum(costs.compute_s, seconds)) for level, seconds in zip(fewer, lighter_s, strict=True)
    )
    problem = PlacementProblem(cut, testbed, cost, root, costs, (), lighter)
    planner = TeamPlanner(cut, testbed, cost, root, tuple(level.active for level in fewer))
    fits = problem.instance().fits
    candidates = team_candidates(testbed, root, fits, costs.compute_s[root], costs.weight_bytes)
    options = (planner.option(boards, span) for boards, span in candidates)
    return replace(problem, team_options=tuple(option for option in options if option is not None))


def capacities(testbed: Testbed) -> np.ndarray:
    """Bytes of memory of every board, float array (n,)."""
    limits = (device.memory_bytes for device in testbed.devices)
    return np.array([np.inf if limit is None else limit for limit in limits], float)


def _teams(team_options: Sequence[TeamOption], is_least: bool) -> tuple[Team, ...]:
    spans_of: dict[tuple[int, ...], dict[Span, TeamSpan]] = {}
    for option in team_options:
        spans_of.setdefault(option.boards, {})[option.span] = option.least if is_least else option.asks
    return tuple(Team(boards, spans) for boards, spans in spans_of.items())


# How much boards that share a host slow each other down, by how many of them compute. How long a span takes depends on
# who computes beside it, which is known of a whole placement only. So a problem with shared hosts is solved for few
# boards that compute, then for more: each time with prices that are not above those of any placement of so many boards,
# so that the least bound of all is a bound of everything.


def contention_levels(testbed: Testbed) -> tuple[ContentionLevel, ...]:
    """From one board that computes to all of them; a single level where no host is shared.

    >>> from flexpie_mpi.testbed import one_host
    >>> [(level.most, level.active[0]) for level in contention_levels(one_host(ranks=4, cores=2))]
    [(2, 1.0), (3, 1.5), (4, 2.0)]
    """
    everyone = testbed.active(range(testbed.ranks))
    if everyone == _least(testbed, 1):
        return (ContentionLevel(testbed.ranks, everyone),)
    each = [ContentionLevel(count, _least(testbed, count)) for count in range(1, testbed.ranks + 1)]
    runs = [list(run) for _, run in groupby(each, key=lambda level: level.active)]
    size = -(-(len(runs) - 1) // (MOST_LEVELS - 1))
    parts = [runs[first : min(first + size, len(runs) - 1)] for first in range(0, len(runs) - 1, size)]
    return tuple(ContentionLevel(part[-1][-1].most, part[0][0].active) for part in [*parts, runs[-1:]])


def _least(testbed: Testbed, count: int) -> tuple[float, ...]:
    """How much each board is slowed down at least when it is one of so many that compute.

    The others are on other hosts as far as possible; of its own host the boards that keep the fewest cores busy come
    first.
    """
    devices, hosts = testbed.devices, dict[str, list[int]]()
    for rank in sorted(range(testbed.ranks), key=lambda rank: devices[rank].busy_cores):
        hosts.setdefault(devices[rank].host, []).append(rank)
    least = []
    for rank, device in enumerate(devices):
        near = [other for other in hosts[device.host] if other != rank] if device.host else []
        beside = max(0, count - testbed.ranks + len(near))
        least.append(testbed.active([rank, *near[:beside]])[0])
    return tuple(least)
