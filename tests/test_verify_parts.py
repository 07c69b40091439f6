"""Whatever may go wrong with the parts of a sum is found by the verifier, and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.core.program import Compute, Exchange, Finish, Message, Program, Start
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.verify import violations

from .graphs import GraphBuilder

Programs = tuple[Program, ...]
RANKS = (0, 1, 2)


def summing() -> tuple[Graph, Plan]:
    """Convolution (rows) and the average of it in parts; a convolution with a bias in parts; one of both by rows."""
    b = GraphBuilder((1, 6, 12, 10))
    image = b.conv("x")
    mean = b.pool(image)
    scaled = b.node("Mul", (image, mean), b.values[image].shape)
    weight, bias = b.weight((6, 6, 1, 1)), b.weight((6,))
    mixed = b.node("Conv", (scaled, weight, bias), b.values[image].shape, kernel_shape=(1, 1))
    graph = b.graph(b.conv(mixed))
    layouts = [
        Layout("rows", RANKS), Layout("rows", RANKS, in_parts=True), Layout("channels", RANKS),
        Layout("channels", RANKS, in_parts=True), Layout("rows", RANKS),
    ]  # fmt: skip
    segments = (Segment((node.name,), layout) for node, layout in zip(graph.nodes, layouts, strict=True))
    return graph, Plan(tuple(segments), 3, graph.digest)


GRAPH, PLAN = summing()
PROGRAMS = lower(PLAN, GRAPH)
MEAN, MIXED = GRAPH.nodes[1].outputs[0], GRAPH.nodes[3].outputs[0]
AT_MEAN, AT_MIXED = 2, 4
"""Exchanges in which the two are put together."""


def kinds(programs: Programs) -> set[str]:
    return {violation.kind for violation in violations(programs, PLAN, GRAPH)}


def with_exchange(programs: Programs, rank: int, index: int, change: Callable[[Exchange], Exchange]) -> Programs:
    """The programs with one rank's part of an exchange changed."""
    steps = (
        replace(step, exchange=change(step.exchange))
        if isinstance(step, Start | Finish) and step.exchange.index == index
        else step
        for step in programs[rank].steps
    )
    changed = replace(programs[rank], steps=tuple(steps))
    return (*programs[:rank], changed, *programs[rank + 1 :])


def with_message(programs: Programs, index: int, change: Callable[[Message], Message | None]) -> Programs:
    """The programs with what rank 0 sends rank 1 changed at both ends; None leaves it out."""

    def side(messages: tuple[Message, ...]) -> Iterator[Message]:
        for message in messages:
            new = change(message) if (message.source, message.target) == (0, 1) else message
            yield from [] if new is None else [new]

    programs = with_exchange(programs, 0, index, lambda each: replace(each, sends=tuple(side(each.sends))))
    return with_exchange(programs, 1, index, lambda each: replace(each, receives=tuple(side(each.receives))))


def with_pieces(programs: Programs, rank: int, index: int, **changes: str) -> Programs:
    """The programs with the pieces that a rank receives, and its copies, changed."""

    def change(each: Exchange) -> Exchange:
        receives = (replace(m, pieces=tuple(replace(piece, **changes) for piece in m.pieces)) for m in each.receives)
        copies = (replace(copy, **changes) for copy in each.copies)
        return replace(each, receives=tuple(receives), copies=tuple(copies))

    return with_exchange(programs, rank, index, change)


def with_buffers(programs: Programs, rank: int, value: str, **changes: object) -> Programs:
    buffers = (replace(b, **changes) if b.value == value and b.is_part else b for b in programs[rank].buffers)
    changed = replace(programs[rank], buffers=tuple(buffers))
    return (*programs[:rank], changed, *programs[rank + 1 :])


def test_the_job_itself_is_sound() -> None:
    assert violations(PROGRAMS, PLAN, GRAPH) == []
    combined = [p.combine for e in PROGRAMS[1].exchanges for m in e.receives for p in m.pieces]
    assert sorted(set(combined)) == ["", "add"]


@pytest.mark.parametrize("index", [AT_MEAN, AT_MIXED])
def test_a_part_that_is_left_out(index: int) -> None:
    assert "sum" in kinds(with_message(PROGRAMS, index, lambda message: None))
    assert "sum" in kinds(with_exchange(PROGRAMS, 2, index, lambda each: replace(each, copies=())))


@pytest.mark.parametrize("index", [AT_MEAN, AT_MIXED])
def test_a_part_that_comes_in_twice(index: int) -> None:
    twice = with_message(PROGRAMS, index, lambda m: replace(m, pieces=2 * m.pieces, nbytes=2 * m.nbytes))
    assert kinds(twice) == {"sum"}
    assert kinds(with_exchange(PROGRAMS, 2, index, lambda each: replace(each, copies=2 * each.copies))) == {"sum"}


@pytest.mark.parametrize("how", ["maximum", "minimum", "multiply", ""])
@pytest.mark.parametrize("rank", RANKS)
def test_parts_that_are_combined_in_another_way(how: str, rank: int) -> None:
    assert kinds(with_pieces(PROGRAMS, rank, AT_MIXED, combine=how)) == {"sum"}


def test_a_sum_that_begins_with_another_rank() -> None:
    """What was in the buffer before is added, and the parts of the ranks before are overwritten."""

    def change(each: Exchange) -> Exchange:
        how = {0: "add", 2: ""}
        receives = (
            replace(m, pieces=tuple(replace(piece, combine=how[m.source]) for piece in m.pieces)) for m in each.receives
        )
        return replace(each, receives=tuple(receives))

    assert kinds(with_exchange(PROGRAMS, 1, AT_MEAN, change)) == {"sum"}


def test_parts_that_come_in_two_exchanges() -> None:
    """The rest comes later, when the sum has been read."""

    def moved(programs: Programs, rank: int, side: str) -> Programs:
        (message,) = [
            m for e in programs[rank].exchanges if e.index == AT_MEAN for m in getattr(e, side)
            if (m.source, m.target) == (0, 1)
        ]  # fmt: skip
        rest = lambda each: tuple(m for m in getattr(each, side) if m != message)  # noqa: E731
        programs = with_exchange(programs, rank, AT_MEAN, lambda each: replace(each, **{side: rest(each)}))
        late = replace(message, tag=999)
        return with_exchange(
            programs, rank, AT_MIXED, lambda each: replace(each, **{side: (*getattr(each, side), late)})
        )

    assert "sum" in kinds(moved(moved(PROGRAMS, 0, "sends"), 1, "receives"))


def test_a_plain_value_that_is_combined() -> None:
    """The halo of the first convolution, added to what is not there yet."""
    halo = next(e.index for e in PROGRAMS[1].exchanges if all(not p.combine for m in e.receives for p in m.pieces))
    assert "sum" in kinds(with_pieces(PROGRAMS, 1, halo, combine="add"))


def test_a_part_that_is_sent_for_all_of_the_value() -> None:
    def alone(each: Exchange) -> Exchange:
        first = replace(each.receives[0], pieces=tuple(replace(p, combine="") for p in each.receives[0].pieces))
        return replace(each, receives=(first,), copies=())

    programs = with_exchange(PROGRAMS, 1, AT_MIXED, alone)
    programs = with_exchange(
        programs, 2, AT_MIXED, lambda each: replace(each, sends=tuple(m for m in each.sends if m.target != 1))
    )
    assert kinds(programs) == {"sum"}


def test_a_part_that_is_read_for_all_of_the_value() -> None:
    part = next(b for b in PROGRAMS[1].buffers if b.value == MEAN and b.is_part)

    def reading(step):
        if not isinstance(step, Compute) or MEAN not in dict(step.inputs):
            return step
        return replace(step, inputs=tuple((n, part.index if n == MEAN else index) for n, index in step.inputs))

    changed = replace(PROGRAMS[1], steps=tuple(map(reading, PROGRAMS[1].steps)))
    assert "sum" in kinds((PROGRAMS[0], changed, PROGRAMS[2]))


def test_an_output_that_is_only_a_part() -> None:
    part = next(b for b in PROGRAMS[0].buffers if b.value == MEAN and b.is_part)
    changed = replace(PROGRAMS[0], outputs=(*PROGRAMS[0].outputs, (MEAN, part.index)))
    assert "sum" in kinds((changed, *PROGRAMS[1:]))


@pytest.mark.parametrize("rank", RANKS)
def test_a_part_that_is_not_marked_as_one(rank: int) -> None:
    assert "sum" in kinds(with_buffers(PROGRAMS, rank, MEAN, is_part=False))


def with_block(rank: int, name: str, change) -> Programs:
    """The programs with one rank's block of the node that writes a value changed."""
    node = GRAPH.nodes[GRAPH.producer[name]].name
    steps = (
        replace(step, blocks=tuple(change(block) if block.node == node else block for block in step.blocks))
        if isinstance(step, Compute)
        else step
        for step in PROGRAMS[rank].steps
    )
    changed = replace(PROGRAMS[rank], steps=tuple(steps))
    return (*PROGRAMS[:rank], changed, *PROGRAMS[rank + 1 :])


def block_of(rank: int, name: str):
    node = GRAPH.nodes[GRAPH.producer[name]].name
    return next(block for step in PROGRAMS[rank].computes for block in step.blocks if block.node == node)


def test_a_rank_that_makes_the_part_of_another() -> None:
    other = block_of(0, MIXED)
    assert "regions" in kinds(with_block(1, MIXED, lambda block: other))


def test_a_bias_that_is_added_twice() -> None:
    bias = block_of(0, MIXED).inputs[2]
    assert bias is not None and block_of(1, MIXED).inputs[2] is None
    programs = with_block(1, MIXED, lambda block: replace(block, inputs=(*block.inputs[:2], bias)))
    assert kinds(programs) == {"regions"}


def test_a_part_of_a_segment_that_leaves_none() -> None:
    segments = tuple(replace(segment, layout=replace(segment.layout, in_parts=False)) for segment in PLAN.segments)
    found = violations(PROGRAMS, replace(PLAN, segments=segments), GRAPH)
    assert {violation.kind for violation in found} == {"regions"}
