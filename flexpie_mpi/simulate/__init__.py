"""Simulation: what a job would take on boards that one may not have, rank by rank.

In go the programs of all ranks, the testbed and a cost model; out comes a timeline, as the executor of a real run makes
one. Each rank goes through its program on its own clock, messages share the links, and how long a rank waits follows
from that. The one difficulty: the cost model prices a whole exchange, and the walk needs it in parts
(:mod:`flexpie_mpi.simulate.prices`).

Two things are left out: MPI's own algorithms (a collective moves the messages that it stands for), and that a rank
which computes may hold up a large message that it has sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import ProgramError
from ..core.graph import Graph
from ..core.program import Program
from ..core.timeline import Timeline
from ..cost.model import CostModel
from ..testbed import Testbed
from .prices import price_job
from .walk import Walk

__all__ = ["simulate"]


def simulate(programs: Sequence[Program], graph: Graph, testbed: Testbed, cost: CostModel) -> Timeline:
    """What every rank of a job does when, in one request that all begin together.

    `programs` are those of all ranks, by rank, as :func:`flexpie_mpi.lower.lower` makes them. The timeline has the
    events of every rank in order, without those that take no time. Raises ProgramError when programs and testbed differ
    in the number of ranks, or some rank would wait for ever.
    """
    if len(programs) != testbed.ranks:
        raise ProgramError(
            f"{len(programs)} programs cannot be simulated on the {testbed.ranks} boards of testbed '{testbed.name}'"
        )
    return Walk(programs, testbed, price_job(programs, graph, testbed, cost)).timeline()
