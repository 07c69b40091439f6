"""Jobs made by hand: programs of a few steps, and prices that are round numbers."""

from __future__ import annotations

from collections.abc import Sequence

from flexpie_mpi.core.program import Compute, Exchange, Finish, Message, Program, Start, Step
from flexpie_mpi.core.timeline import Timeline
from flexpie_mpi.simulate.prices import Prices
from flexpie_mpi.simulate.walk import Walk
from flexpie_mpi.testbed import Device, Testbed, switch

MB = 10**6
PORT, LATENCY = 100 * MB, 0.5
"""Of every link here: 1 MB takes 0.01 s, and is half a second late."""


def boards(count: int, topology=switch, bandwidth: float = PORT, latency: float = LATENCY) -> Testbed:
    return topology([Device(f"b{rank}") for rank in range(count)], bandwidth, latency)


def parts(index: int, moves: dict[tuple[int, int], int], kind: str = "halo", slot: int = -1) -> dict[int, Exchange]:
    """Every rank's part of an exchange of so many MB from rank to rank."""
    messages = [Message(*pair, index, (), size * MB) for pair, size in sorted(moves.items())]
    group = tuple(sorted({rank for pair in moves for rank in pair}))
    return {
        rank: Exchange(
            index,
            kind,
            group,
            tuple(message for message in messages if message.source == rank),
            tuple(message for message in messages if message.target == rank),
            (),
            slot,
        )
        for rank in group
    }


def compute(segment: int) -> Compute:
    return Compute(segment, (), (), ())


def walked(
    steps: Sequence[Sequence[Step]],
    testbed: Testbed | None = None,
    compute_s: dict[tuple[int, int], float] | None = None,
    pack_s: float = 0.0,
    unpack_s: float = 0.0,
) -> Timeline:
    """The timeline of ranks with these steps; what is not priced takes no time."""
    programs = [Program(rank, len(steps), (), tuple(mine), (), (), ()) for rank, mine in enumerate(steps)]
    own = [((p.rank, s.exchange.index), s.exchange) for p in programs for s in p.steps if not isinstance(s, Compute)]
    packing = {place: pack_s if part.sends else 0.0 for place, part in own}
    unpacking = {place: unpack_s if part.receives else 0.0 for place, part in own}
    computes = {(program.rank, step.segment): 0.0 for program in programs for step in program.computes}
    prices = Prices({}, computes | (compute_s or {}), packing, unpacking)
    return Walk(programs, testbed or boards(len(steps)), prices).timeline()


def exchanged(
    moves: dict[tuple[int, int], int], testbed: Testbed, kind: str = "halo", pack_s: float = 0.0, unpack_s: float = 0.0
) -> Timeline:
    """The timeline of one exchange that all ranks begin at once."""
    found = parts(1, moves, kind)
    steps = [[Start(found[rank]), Finish(found[rank])] if rank in found else [] for rank in range(testbed.ranks)]
    return walked(steps, testbed, pack_s=pack_s, unpack_s=unpack_s)
