"""Where states stay between requests: with the ranks that read them.

What the segments of a rank read of a state it keeps, so that nothing of it travels before they run. What a request
makes of it is brought there at its end, with the outputs: an exchange only where those who make it are not those who
read it, and of one that grows the new positions alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import PlanError
from ..core.graph import Graph, State
from ..core.program import Finish, Kept, Program, Start
from ..core.region import Region
from .arena import arena_of
from .boundary import Boundary, Holdings, build_exchange
from .forms import Forms
from .shards import SegmentShard

Homes = Mapping[str, Mapping[int, Region]]
"""What each rank keeps of each state, by the name of its input."""


def check_in_flight(graph: Graph, requests: int) -> None:
    """Raise a PlanError when several requests are to be under way at once, and each goes on from the one before."""
    if requests > 1 and graph.states:
        raise PlanError(f"{requests} requests are to be under way at once: with states there is one at a time")


def homes_of(graph: Graph, segments: Iterable[Mapping[int, SegmentShard]], root: int) -> Homes:
    """What each rank keeps: the smallest region with all that its segments read of a state.

    The root keeps all of one of which nobody reads some part, so that nothing is lost.
    """
    homes: dict[str, dict[int, Region]] = {state.input: {} for state in graph.states}
    for shards in segments:
        for rank, shard in shards.items():
            for name, region in shard.inputs:
                if name in homes and region is not None:
                    homes[name][rank] = homes[name].get(rank, region).hull(region)
    for name, by_rank in homes.items():
        whole = Region.full(graph.value(name).shape or ())
        if not whole.is_covered(by_rank.values()):
            by_rank[root] = whole
    return homes


def homes_in(programs: Sequence[Program]) -> Homes:
    """What each rank of a job keeps, as its programs have it."""
    homes: dict[str, dict[int, Region]] = {}
    for program in programs:
        for buffer in program.buffers:
            if buffer.is_state and buffer.region is not None:
                homes.setdefault(buffer.value, {})[program.rank] = buffer.region
    return homes


def hold_states(graph: Graph, holdings: Holdings, homes: Homes, since: int = -1) -> dict[tuple[str, int], int]:
    """Buffers of all that is kept, by input and rank; they hold it when a request begins, or after segment `since`."""
    return {
        (name, rank): holdings.add(rank, graph.value(name), region, since, is_state=True)
        for name, by_rank in homes.items()
        for rank, region in by_rank.items()
    }


def reading(graph: Graph, ranks: int, homes: Homes, root: int) -> tuple[Program, ...]:
    """Programs that bring all that is kept to the root, as outputs by the inputs of the states."""
    holdings = Holdings(ranks, Forms(graph))
    hold_states(graph, holdings, homes)
    whole = {name: {root: Region.full(graph.value(name).shape or ())} for name in homes}
    boundary = build_exchange(graph, holdings, whole, 0)
    outputs = tuple((name, boundary.buffers[name, root]) for name in homes)
    return tuple(_program(graph, holdings, boundary, rank, outputs=outputs * (rank == root)) for rank in range(ranks))


def writing(graph: Graph, ranks: int, homes: Homes, root: int) -> tuple[Program, ...]:
    """Programs that bring what the root is given of every state, by its input, to those who keep it."""
    holdings = Holdings(ranks, Forms(graph))
    inputs = tuple(
        (name, holdings.add(root, graph.value(name), Region.full(graph.value(name).shape or ()), -1)) for name in homes
    )
    boundary = build_exchange(graph, holdings, homes, 0)
    held = hold_states(graph, holdings, homes, since=0)
    kept: list[list[Kept]] = [[] for _ in range(ranks)]
    for (name, rank), target in held.items():
        kept[rank].append(Kept(boundary.buffers[name, rank], target, homes[name][rank]))
    return tuple(
        _program(graph, holdings, boundary, rank, inputs=inputs * (rank == root), kept=tuple(kept[rank]))
        for rank in range(ranks)
    )


def _program(graph: Graph, holdings: Holdings, boundary: Boundary, rank: int, **ends: Any) -> Program:
    """The program of a rank that has nothing to do but an exchange."""
    part = boundary.part(rank, 0, graph)
    steps = () if part is None else (Finish(part),) if part.kind == "local" else (Start(part), Finish(part))
    fields = {"inputs": (), "outputs": (), **ends}
    program = Program(rank, holdings.ranks, tuple(holdings.buffers[rank]), steps, weights=(), **fields)
    return replace(program, arena=arena_of(program))


def left_at(graph: Graph, state: State, home: Region) -> Region:
    """What a rank gets of the output of a state that it keeps: the same region, or all new positions of it."""
    if state.axis < 0:
        return home
    shape = graph.value(state.output).shape or ()
    return home.with_axis(state.axis, (0, shape[state.axis]))


def kept_by(
    graph: Graph, homes: Homes, held: Mapping[tuple[str, int], int], boundary: Boundary, rank: int
) -> tuple[Kept, ...]:
    """What a rank puts away when the last `boundary` has brought it all."""
    return tuple(
        Kept(
            boundary.buffers[state.output, rank],
            held[state.input, rank],
            left_at(graph, state, homes[state.input][rank]),
            state.axis,
        )
        for state in graph.changing
        if rank in homes[state.input]
    )


def state_problems(program: Program, graph: Graph, written: Collection[int]) -> Iterator[str]:
    """What is wrong with what a rank keeps, in sentences; `written` are the buffers that its steps write."""
    homes = {buffer.value: buffer for buffer in program.buffers if buffer.is_state}
    wanted = {
        (home.index, state.output, left_at(graph, state, home.region), state.axis)
        for state in graph.changing
        if (home := homes.get(state.input)) is not None and home.region is not None
    }
    sources = [program.buffers[kept.source] for kept in program.kept]
    kept = [
        (each.target, source.value, each.region, each.axis)
        for each, source in zip(program.kept, sources, strict=True)
        if source.region is not None and source.region.contains(each.region) and not source.is_part
    ]
    if len(kept) != len(program.kept) or len(kept) != len(wanted) or {*kept} != wanted:
        yield "does not keep what the outputs of its states leave"
    if any(home.index in written for home in homes.values()):
        yield "writes a state before the last step"
