"""The walk over a plan's segments that writes every rank's program."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from weakref import ref

from ..core.errors import PlanError
from ..core.graph import Graph, Value
from ..core.layout import Layout, cut_axes
from ..core.plan import Plan, Segment, problems
from ..core.program import Compute, Finish, Kept, Program, Start, Step
from ..core.region import Region
from ..ops import whole
from .arena import arena_of, with_staging_slots
from .boundary import Boundary, Holdings, build_exchange
from .forms import Forms
from .shards import SegmentShard, segment_problems, segment_shard
from .states import Homes, hold_states, homes_of, kept_by, left_at


@dataclass(slots=True)
class _Draft:
    """Steps of one rank in the order in which the walk finds them, and the weights that they read."""

    steps: list[Step] = field(default_factory=list)
    weights: dict[tuple[str, Region | None], None] = field(default_factory=dict)
    kept: tuple[Kept, ...] = ()

    def ordered(self) -> tuple[Step, ...]:
        return tuple(sorted(self.steps, key=attrgetter("order")))


def lower(plan: Plan, graph: Graph, blocks: Sequence[int] = (), homes: Homes | None = None) -> tuple[Program, ...]:
    """Programs of all ranks, by rank.

    Parameters
    ----------
    plan : Plan
    graph : Graph
    blocks : sequence of int
        In which ranks compute convolutions, as of :class:`.forms.Forms`.
    homes : Homes, optional
        Where states stay, as another plan has it; where this one reads them when not given.

    Raises
    ------
    PlanError
        When the plan does not fit the graph or a layout does not fit a node; the sentence says why.
    """
    check(plan, graph)
    holdings, drafts = Holdings(plan.ranks, Forms(graph, blocks)), [_Draft() for _ in range(plan.ranks)]
    shards = [_shards(graph, *span) for span in plan.spans]
    inputs = [_hold_inputs(graph, holdings, shards, rank, plan.root) for rank in range(plan.ranks)]
    homes = homes_of(graph, shards, plan.root) if homes is None else homes
    held = hold_states(graph, holdings, homes)
    for index, segment in enumerate(plan.segments):
        _lower_segment(graph, holdings, drafts, index, segment, shards[index])
    last = len(plan.segments)
    boundary = build_exchange(graph, holdings, _wanted(graph, homes, plan.root), last)
    _add_exchange(graph, drafts, last, boundary)
    outputs = tuple((name, _buffer_of(holdings, boundary, name, plan.root)) for name in graph.outputs)
    for rank, draft in enumerate(drafts):
        draft.kept = kept_by(graph, homes, held, boundary, rank)
    return tuple(_program(plan, rank, holdings, drafts[rank], inputs[rank], outputs) for rank in range(plan.ranks))


def turns_of(
    plan: Plan, graph: Graph, blocks: Sequence[int] = (), homes: Homes | None = None
) -> tuple[tuple[Program, ...], ...]:
    """Programs of all ranks for every turn; `blocks` and `homes` as of :func:`lower`.

    Those of the last plan are kept: a plan is checked by whoever makes it and again before it starts, and then run.
    Raises PlanError when the plan does not fit the graph.
    """
    global _latest
    if graph.states and plan.period > 1:
        raise PlanError("ranks that take turns would each have some requests' state only: use a plan without replicas")
    question = replace(plan, provenance={}), tuple(blocks), homes
    latest = _latest
    if latest is None or latest[0]() is not graph or latest[1] != question:
        turns = tuple(lower(plan.variant(request), graph, blocks, homes) for request in range(plan.period))
        _latest = ref(graph), question, turns
        return turns
    return latest[2]


_latest: tuple[ref[Graph], tuple[Plan, tuple[int, ...], Homes | None], tuple[tuple[Program, ...], ...]] | None = None
"""What `turns_of` was last asked for, and its answer."""


def check(plan: Plan, graph: Graph) -> None:
    """Raise a PlanError with the first reason why `plan` cannot be lowered for `graph`."""
    sentences = problems(plan, graph)
    if plan.period > 1:
        sentences.append(
            f"ranks take turns over {plan.period} requests: lower the plan of one request, plan.variant(request)"
        )
    for index, (segment, first, end) in enumerate(plan.spans if not sentences else ()):
        reasons = segment_problems(graph, first, end, segment.layout, plan.root)
        sentences += [f"segment {index}: {reason}" for reason in reasons]
    if sentences:
        raise PlanError(sentences[0])


def digest(programs: tuple[Program, ...]) -> str:
    """Hex digest of a job: two ranks that lowered the same plan alike have the same."""
    return hashlib.blake2b(repr(programs).encode(), digest_size=16).hexdigest()


def _shards(graph: Graph, segment: Segment, first: int, end: int) -> dict[int, SegmentShard]:
    """The part of every rank that has one in a segment."""
    shards = ((rank, segment_shard(graph, first, end, segment.layout, rank)) for rank in segment.layout.ranks)
    return {rank: shard for rank, shard in shards if shard is not None}


def _wanted(graph: Graph, homes: Homes, root: int) -> dict[str, dict[int, Region]]:
    """What ranks need when a request ends: the root the outputs, and others what they keep of states."""
    regions = ((name, whole(graph.value(name))) for name in graph.outputs)
    wanted = {name: {root: region} for name, region in regions if region is not None}
    for state in graph.changing:
        by_rank = wanted.setdefault(state.output, {})
        for rank, home in homes[state.input].items():
            region = left_at(graph, state, home)
            by_rank[rank] = by_rank.get(rank, region).hull(region)
    return wanted


def _hold_inputs(
    graph: Graph, holdings: Holdings, shards: Iterable[Mapping[int, SegmentShard]], rank: int, root: int
) -> tuple[tuple[str, int], ...]:
    """What a rank is given: the root everything, every other what its segments read of the growth of states."""
    read = {name for by_rank in shards if rank in by_rank for name, _ in by_rank[rank].inputs}
    names = graph.given if rank == root else [name for name in graph.told if name in read]
    values = map(graph.value, names)
    return tuple((value.name, holdings.add(rank, value, whole(value), since=-1)) for value in values)


def _lower_segment(
    graph: Graph,
    holdings: Holdings,
    drafts: list[_Draft],
    index: int,
    segment: Segment,
    shards: dict[int, SegmentShard],
) -> None:
    needs: dict[str, dict[int, Region]] = {}
    for rank, shard in shards.items():
        for name, region in shard.inputs:
            if region is not None:
                needs.setdefault(name, {})[rank] = region
    for name in segment.forwards:
        by_rank = needs.setdefault(name, {})
        for rank, region in carried_regions(graph.value(name), segment.layout):
            by_rank[rank] = by_rank.get(rank, region).hull(region)
    boundary = build_exchange(graph, holdings, needs, index)
    for name in segment.forwards:
        holdings.carry(name, needs[name])
    _add_exchange(graph, drafts, index, boundary)
    for rank, shard in shards.items():
        inputs = tuple((name, _buffer_of(holdings, boundary, name, rank)) for name, _ in shard.inputs)
        outputs = tuple(
            (name, holdings.add(rank, graph.value(name), region, index, is_part=name in shard.parts))
            for name, region in shard.outputs
        )
        drafts[rank].steps.append(Compute(index, shard.blocks, inputs, outputs))
        drafts[rank].weights.update(dict.fromkeys(shard.weights))


def carried_regions(value: Value, layout: Layout) -> Iterator[tuple[int, Region]]:
    """(rank, region) of what each rank takes along of a value: its shard, or the first rank all of it."""
    region = Region.full(value.shape or ())
    axes = cut_axes(layout.kind, len(value.shape or ()))
    if not axes:
        yield layout.ranks[0], region
        return
    for rank in layout.ranks:
        shard = layout.region(region.shape, rank)
        if shard is not None and not shard.is_empty:
            yield rank, shard


def _buffer_of(holdings: Holdings, boundary: Boundary, name: str, rank: int) -> int:
    """Where a rank finds a value after an boundary: in the buffer the boundary fills, or, opaque, in its only one."""
    buffer = boundary.buffers.get((name, rank))
    return holdings.of(name, rank)[0].buffer if buffer is None else buffer


def _add_exchange(graph: Graph, drafts: list[_Draft], segment: int, boundary: Boundary) -> None:
    """Every rank starts an exchange as soon as all that travels is there, and ends it just before the segment."""
    for rank, draft in enumerate(drafts):
        part = boundary.part(rank, segment, graph)
        if part is None:
            continue
        if part.kind != "local":
            draft.steps.append(Start(part))
        draft.steps.append(Finish(part))


def _program(
    plan: Plan,
    rank: int,
    holdings: Holdings,
    draft: _Draft,
    inputs: tuple[tuple[str, int], ...],
    outputs: tuple[tuple[str, int], ...],
) -> Program:
    program = Program(
        rank=rank,
        size=plan.ranks,
        buffers=tuple(holdings.buffers[rank]),
        steps=with_staging_slots(draft.ordered()),
        inputs=inputs,
        outputs=outputs if rank == plan.root else (),
        weights=tuple(draft.weights),
        kept=draft.kept,
    )
    return replace(program, arena=arena_of(program))
