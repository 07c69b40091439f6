"""Whether a plan fits into what is really free on every host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf

from ..core.choices import PRESETS
from ..core.errors import PlanError
from ..core.graph import Graph
from ..lower import turns_of
from ..lower.memory import RankMemory, mb, memory_of
from ..measure.limits import Memory


def shortages(
    needs: Sequence[RankMemory], memory: Sequence[Memory], hosts: Mapping[str, Sequence[int]], in_flight: int = 1
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Hosts that have less memory free than the engines of their ranks need: these ranks, and a sentence.

    Parameters
    ----------
    needs, memory : sequence
        By rank; what a rank can still get it shares with the others of its host.
    hosts : mapping
        Ranks by the name of their host.
    in_flight : int
        Requests under way at once.
    """
    for name, ranks in hosts.items():
        least = min((memory[rank] for rank in ranks), key=_room)
        needed = [needs[rank].engine_bytes(in_flight) for rank in ranks]
        if sum(needed) > _room(least):
            each = ", ".join(f"rank {rank} {mb(nbytes)}" for rank, nbytes in zip(ranks, needed, strict=True))
            yield (
                tuple(ranks),
                f"'{name}' has {mb(_room(least))} of memory free, as {least.bound_by} has it, and the plan needs "
                f"{mb(sum(needed))} more there ({each})",
            )


def most_that_fits(
    needs: Sequence[RankMemory], memory: Sequence[Memory], hosts: Mapping[str, Sequence[int]], wanted: int
) -> int:
    """Requests that what is free has room for at once, up to `wanted`; 0 where there is none for a single one."""
    fits = (count for count in range(wanted, 0, -1) if not any(shortages(needs, memory, hosts, count)))
    return next(fits, 0)


def words_that_fit(
    graph: Graph,
    ranks: int,
    blocks: Sequence[int],
    memory: Sequence[Memory],
    hosts: Mapping[str, Sequence[int]],
) -> str:
    """What to type for a plan of one layout that fits, the first in the order of `PRESETS`; nothing where none does."""
    from ..planner import layout_plan  # which a rank that is given its plan does without

    for preset in PRESETS:
        with suppress(PlanError):  # a layout that this model, or so many ranks, cannot have
            plan = layout_plan(graph, ranks, preset)
            needs = memory_of(turns_of(plan, graph, blocks), graph, plan.root)
            if most_that_fits(needs, memory, hosts, 1):
                most = max(need.engine_bytes() for need in needs)
                return f"--layout {preset} fits, with {mb(most)} on the rank that needs most"
    return ""


def _room(memory: Memory) -> float:
    """Bytes that a process can still get."""
    return inf if memory.free_bytes is None else memory.free_bytes
