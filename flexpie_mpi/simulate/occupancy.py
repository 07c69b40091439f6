"""What a stream of requests asks of every board and every link, and which of them is the bottleneck.

While requests follow each other, everything that one of them waits for others may use: what counts is for how long
each request occupies a board's processor, and each link or side of a port. The one that is occupied the longest gives
the rate; the others wait for it. Source: "Partitioning and Placement of Deep Neural Networks on Distributed Edge
Devices to Maximize Inference Throughput", section III (its beta, which knows links only).

What is left out: what MPI itself takes of a processor, and that a request may wait for a rank that is not idle but
busy with another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..core.errors import ProgramError
from ..core.graph import Graph
from ..core.program import Program
from ..cost.model import CostModel
from ..lower.facts import moved_bytes
from ..testbed import Testbed
from .prices import compute_seconds


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Seconds per request, on average over the turns of replicas, for which everything is occupied."""

    testbed: Testbed  # with R ranks and P resources
    compute_s: np.ndarray  # float array (R,), of every rank's processor
    resource_s: np.ndarray  # float array (P,), of every resource of the testbed
    # `send_s` and `receive_s`: float array (R,), of the slowest resource that what a rank sends, and what it receives,
    # passes, for its own messages alone
    send_s: np.ndarray
    receive_s: np.ndarray
    # `sent_bytes` and `received_bytes`: float array (R,)
    sent_bytes: np.ndarray
    received_bytes: np.ndarray

    @cached_property
    def seconds(self) -> float:
        """The bottleneck: seconds from one request to the next when as many are under way as it takes."""
        return float(max(self.compute_s.max(initial=0.0), self.resource_s.max(initial=0.0)))

    @cached_property
    def bottleneck(self) -> str:
        """What is occupied for so long: "pi2 computes", or a resource of the testbed such as "pi0 out"."""
        if self.compute_s.max(initial=0.0) >= self.resource_s.max(initial=0.0):
            return f"{self.testbed.devices[int(np.argmax(self.compute_s))].name} computes"
        return self.testbed.resources[int(np.argmax(self.resource_s))].name

    @property
    def per_s(self) -> float:
        """Requests per second; infinite where nothing takes any time."""
        return 1.0 / self.seconds if self.seconds else float("inf")


def occupancy(turns: Sequence[Sequence[Program]], graph: Graph, testbed: Testbed, cost: CostModel) -> Occupancy:
    """What a stream of requests asks for.

    `turns` has the programs of all ranks, for as many requests as it takes until the turns begin anew. Messages travel
    from rank to rank, whatever their exchange's kind. Ranks that compute in any of the turns crowd each other where
    they share a host, since all of them compute at once. Raises ProgramError when programs and testbed differ in the
    number of ranks.
    """
    ranks = testbed.ranks
    for programs in turns:
        if len(programs) != ranks:
            raise ProgramError(f"{len(programs)} programs do not fit the {ranks} boards of testbed '{testbed.name}'")
    busy = sorted({program.rank for programs in turns for program in programs if program.computes})
    active = dict(zip(busy, testbed.active(busy), strict=True))
    compute = np.zeros(ranks)
    for programs in turns:
        for (rank, _), seconds in compute_seconds(programs, graph, testbed, cost, active).items():
            compute[rank] += seconds
    moved = moved_bytes((m for programs in turns for program in programs for m in program.sends), ranks)
    return of_traffic(testbed, compute / len(turns), moved / len(turns))


def of_traffic(testbed: Testbed, compute_s: np.ndarray, moved: np.ndarray) -> Occupancy:
    """Occupancy of so many seconds of computing (R,), and bytes from rank to rank (R, R), per request."""
    resource_s = np.zeros(len(testbed.resources))
    send_s, receive_s = np.zeros((2, testbed.ranks, len(resource_s)))
    for source, target in np.argwhere(moved).tolist():
        route = testbed.routes[source][target]
        assert route is not None, "no rank sends to itself"
        for number in route.resources:
            seconds = moved[source, target] / testbed.resources[number].bandwidth
            resource_s[number] += seconds
            send_s[source, number] += seconds
            receive_s[target, number] += seconds
    return Occupancy(
        testbed,
        compute_s,
        resource_s,
        send_s.max(axis=1, initial=0.0),
        receive_s.max(axis=1, initial=0.0),
        moved.sum(axis=1),
        moved.sum(axis=0),
    )
