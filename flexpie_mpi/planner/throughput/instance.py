"""From a graph, a testbed and a cost model to a placement problem (:mod:`flexpie_mpi.placement`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...cost.model import CostModel
from ...graph import Graph
from ...placement import MOST_TURNS, Instance, Team
from ...plan import Segment
from ...testbed import Testbed
from ..units import Units, units
from .landmarks import asks
from .memory import BUSY, SLOTS
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
    offers : tuple of Offer
        Teams.
    """

    units: Units
    testbed: Testbed
    cost: CostModel
    root: int
    solo: Solo
    offers: tuple[Offer, ...]

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

    def instance(self, most_boards: int | None = None, slots: int = SLOTS, replicas: int = MOST_TURNS) -> Instance:
        """The bare numbers.

        Parameters
        ----------
        most_boards : int, optional
            Boards that may compute.
        slots : int
            Requests that each board must have room for at once.
        replicas : int
            Boards that may take turns in one stage.
        """
        testbed, capacity = self.testbed, capacities(self.testbed)
        return Instance(
            crossing=self.solo.crossing,
            compute_s=self._within_root(slots),
            need_bytes=self.solo.need_bytes(slots),
            capacity=capacity,
            routes=tuple(tuple(() if way is None else way.resources for way in row) for row in testbed.routes),
            resource_s=np.array([1 / resource.bandwidth for resource in testbed.resources]),
            root=self.root,
            replicas=min(replicas, testbed.ranks),
            teams=_teams([offer for offer in self.offers if offer.in_flight >= slots]),
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

    Units are cut where planners may cut; replicas and teams are looked at while all boards compute at once.
    """
    cut = units(graph)
    problem = Problem(cut, testbed, cost, root, solo(cut, testbed, cost, root), ())
    bare = problem.instance()
    recruiter = Recruiter(cut, testbed, cost, root)
    wanted = asks(testbed, root, bare.fits, problem.solo.compute_s[root], problem.solo.weight_bytes)
    offers = (recruiter.offer(boards, span) for boards, span in wanted)
    return replace(problem, offers=tuple(offer for offer in offers if offer is not None))


def capacities(testbed: Testbed) -> np.ndarray:
    """Bytes of memory of every board, float array (n,)."""
    limits = (device.memory_bytes for device in testbed.devices)
    return np.array([np.inf if limit is None else limit for limit in limits], float)


def root_slots(slots: int, boards: int) -> int:
    """Requests under way on the root while each board has so many."""
    return slots if slots < SLOTS else BUSY * boards + 1


def _teams(offers: Sequence[Offer]) -> tuple[Team, ...]:
    boards = dict.fromkeys(offer.boards for offer in offers)
    return tuple(Team(each, {offer.span: offer.asks for offer in offers if offer.boards == each}) for each in boards)
