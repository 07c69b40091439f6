"""From a graph, a testbed and a cost model to a placement problem (:mod:`flexpie_mpi.placement`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..core.graph import Graph
from ..core.plan import BUSY, Segment
from ..cost.model import CostModel
from ..lower.slots import SLOTS_PER_TURN
from ..placement import MOST_PERIOD, Instance, Span, Team, TeamSpan
from ..planner.units import Units, units
from ..testbed import Testbed
from .crowding import Crowd, crowds
from .landmarks import asks
from .solo import Solo, solo
from .stages import Crews
from .teams import Offer, Recruiter


@dataclass(frozen=True, eq=False)
class Problem:
    """A placement problem with what its numbers stand for.

    Attributes
    ----------
    units : Units
    testbed : Testbed
    cost : CostModel
    root : int
    solo : Solo
        While all boards compute.
    offers : tuple of Offer
        Teams.
    lighter : tuple of (Crowd, float array (n, m + 1, m + 1))
        Seconds of spans while fewer compute, where boards share a host.
    """

    units: Units
    testbed: Testbed
    cost: CostModel
    root: int
    solo: Solo
    offers: tuple[Offer, ...]
    lighter: tuple[tuple[Crowd, np.ndarray], ...] = ()

    @property
    def graph(self) -> Graph:
        return self.units.graph

    @cached_property
    def crews(self) -> Crews:
        """Segments by team and span."""
        found: dict[tuple[tuple[int, ...], tuple[int, int]], tuple[Segment, ...]] = {}
        for offer in self.offers:
            found[offer.boards, offer.span] = offer.segments
        return found

    def crowded(self, most_boards: int | None = None) -> Iterator[tuple[Problem, int | None]]:
        """The problem for few boards that compute, for more, and for all allowed, each with how many may compute.

        No placement is priced too high in the first that allows it so many boards as it has. Where no host is shared
        there is but one.
        """
        limit = self.testbed.ranks if most_boards is None else most_boards
        for number, (crowd, compute_s) in enumerate(self.lighter):
            offers = tuple(offer.crowded(number) for offer in self.offers)
            lighter = replace(self, solo=replace(self.solo, compute_s=compute_s), offers=offers, lighter=())
            yield lighter, min(limit, crowd.most)
            if limit <= crowd.most:
                return
        yield self, most_boards

    @property
    def is_kept(self) -> bool:
        """Whether the root may have something already that `crossing` counts."""
        return bool(self.solo.kept.any())

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
        offers = [offer for offer in self.offers if offer.in_flight >= slots]
        testbed, capacity = self.testbed, capacities(self.testbed)
        return Instance(
            crossing=self.solo.crossing - self.solo.kept if is_least else self.solo.crossing,
            compute_s=self._within_root(slots),
            need_bytes=self.solo.need_bytes(slots),
            capacity=capacity,
            routes=tuple(tuple(() if way is None else way.resources for way in row) for row in testbed.routes),
            resource_s=np.array([1 / resource.bandwidth for resource in testbed.resources]),
            root=self.root,
            replicas=min(replicas, testbed.ranks),
            teams=_teams(offers, is_least),
            most_boards=most_boards,
        )

    def _within_root(self, slots: int) -> np.ndarray:
        """Seconds of spans, infinite on a root whose requests under way leave them too little memory."""
        found, limit = self.solo.compute_s.copy(), self.testbed.devices[self.root].memory_bytes
        if limit is not None:
            found[self.root][self.solo.root_bytes(root_slots(slots, self.testbed.ranks)) > limit] = np.inf
        return found


def pose(graph: Graph, testbed: Testbed, cost: CostModel, root: int = 0) -> Problem:
    """The problem of placing a graph on a testbed.

    Units are cut where planners may cut; what boards of one host take is looked at by how many of them compute.
    """
    cut = units(graph)
    *fewer, _ = crowds(testbed)
    whole = solo(cut, testbed, cost, root)
    prices = (np.minimum(whole.compute_s, solo(cut, testbed, cost, root, crowd.active).compute_s) for crowd in fewer)
    problem = Problem(cut, testbed, cost, root, whole, (), tuple(zip(fewer, prices, strict=True)))
    bare = problem.instance()
    recruiter = Recruiter(cut, testbed, cost, root, tuple(crowd.active for crowd in fewer))
    wanted = asks(testbed, root, bare.fits, problem.solo.compute_s[root], problem.solo.weight_bytes)
    offers = (recruiter.offer(boards, span) for boards, span in wanted)
    return replace(problem, offers=tuple(offer for offer in offers if offer is not None))


def capacities(testbed: Testbed) -> np.ndarray:
    """Bytes of memory of every board, float array (n,)."""
    limits = (device.memory_bytes for device in testbed.devices)
    return np.array([np.inf if limit is None else limit for limit in limits], float)


def root_slots(slots: int, boards: int) -> int:
    """Requests under way on the root while each board has so many."""
    return slots if slots < SLOTS_PER_TURN else BUSY * boards + 1


def _teams(offers: Sequence[Offer], is_least: bool) -> tuple[Team, ...]:
    found: dict[tuple[int, ...], dict[Span, TeamSpan]] = {}
    for offer in offers:
        found.setdefault(offer.boards, {})[offer.span] = offer.least if is_least else offer.asks
    return tuple(Team(boards, spans) for boards, spans in found.items())
