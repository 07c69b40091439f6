"""From a graph, a testbed and a cost model to a placement problem (:mod:`flexpie_mpi.placement`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..core.graph import Graph
from ..core.plan import BUSY
from ..cost.model import CostModel
from ..lower.memory import SLOTS_PER_TURN
from ..placement import MOST_PERIOD, Instance, Span, Team, TeamSpan
from ..planner.units import Units, units
from ..testbed import Testbed
from .contention import ContentionLevel, contention_levels
from .single_device import SingleDeviceCosts, single_device_costs
from .stages import TeamSegments
from .teams import TeamOption, TeamPlanner, team_candidates


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

        Parameters
        ----------
        most_boards : int, optional
            Boards that may compute.
        slots : int
            Requests that each board must have room for at once.
        replicas : int
            Boards that may take turns in one stage.
        is_least : bool
            Whether what the root may have already is never sent: no plan sends less.
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
        found, limit = self.single_device.compute_s.copy(), self.testbed.devices[self.root].memory_bytes
        if limit is not None:
            found[self.root][self.single_device.root_bytes(root_slots(slots, self.testbed.ranks)) > limit] = np.inf
        return found


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


def root_slots(slots: int, boards: int) -> int:
    """Requests under way on the root while each board has so many."""
    return slots if slots < SLOTS_PER_TURN else BUSY * boards + 1


def _teams(team_options: Sequence[TeamOption], is_least: bool) -> tuple[Team, ...]:
    found: dict[tuple[int, ...], dict[Span, TeamSpan]] = {}
    for option in team_options:
        found.setdefault(option.boards, {})[option.span] = option.least if is_least else option.asks
    return tuple(Team(boards, spans) for boards, spans in found.items())
