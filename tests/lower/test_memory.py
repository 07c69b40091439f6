"""The model of memory: its terms, and that planners, which need it for thousands of segments, have the same numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flexpie_mpi import layout_plan, load
from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.core.program import Exchange, Message, Piece, Program, Start
from flexpie_mpi.core.region import Region
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.lower import lower, turns_of
from flexpie_mpi.lower.arena import message_bytes
from flexpie_mpi.lower.facts import weight_bytes
from flexpie_mpi.lower.memory import PROCESS_BYTES, constants_of, memory_of, memory_problems
from flexpie_mpi.pipeline.single_device import single_device_costs
from flexpie_mpi.planner import Task, make_plans
from flexpie_mpi.planner.problem import Choice, ProblemBuilder
from flexpie_mpi.planner.search import load as load_of
from flexpie_mpi.planner.units import units
from flexpie_mpi.runtime.channels import pack
from flexpie_mpi.testbed import Device, switch

PIECES = tuple((Piece("x", Region(((0, stop),)), 0),) for stop in (100, 50))


def message(target, pieces, nbytes, source=0):
    return Message(source, target, 0, pieces, nbytes)


def program(*exchanges):
    return Program(0, 3, (), tuple(Start(exchange) for exchange in exchanges), (), (), ())


def test_messages_of_the_same_pieces_share_memory():
    sends = (message(1, PIECES[0], 400), message(2, PIECES[0], 400))
    halo = Exchange(1, "halo", (0, 1, 2), sends, (message(0, PIECES[1], 200, source=1),), ())
    assert message_bytes(program(halo)) == 400 + 200
    other = replace(halo, sends=(sends[0], message(2, PIECES[1], 200)))
    assert message_bytes(program(other)) == 400 + 200 + 200


def test_collectives_of_one_lane_share_memory():
    gather = Exchange(1, "gather", (0, 1, 2), (), tuple(message(0, PIECES[0], 400, peer) for peer in (1, 2)), (), 0)
    small = replace(gather, index=2, receives=gather.receives[:1])
    sizes = [pack(exchange, 0).send.memory.size + pack(exchange, 0).receive.memory.size for exchange in (gather, small)]
    assert sizes[0] > sizes[1] and message_bytes(program(gather, small)) == sizes[0]
    assert message_bytes(program(gather, replace(small, staging_slot=1))) == sum(sizes)


def test_a_rank_needs_its_process_its_weights_its_buffers_and_its_messages():
    model = load("builtin:tiny_cnn")
    programs = lower(layout_plan(model.graph, 2, "rows"), model.graph)
    for need, job in zip(memory_of([programs], model.graph), programs, strict=True):
        rest = job.arena.nbytes + message_bytes(job)
        assert need.weight_bytes == weight_bytes(model.graph, job) and need.single_bytes == rest > 0
        assert need.total_bytes() == PROCESS_BYTES + need.engine_bytes()
        assert need.engine_bytes() == need.weight_bytes + max(need.inner_bytes + rest, need.starting_bytes)


COST = AnalyticCost()


@pytest.fixture(scope="module", params=["tiny_cnn", "tiny_resnet", "tiny_inception", "tiny_bert"])
def graph(request):
    return load(f"builtin:{request.param}").graph


def boards(count, limit=None):
    return switch([Device(f"b{rank}", memory_bytes=limit) for rank in range(count)], 1e8, 1e-5)


@pytest.mark.parametrize("preset", ["rows", "channels", "grid", "single"])
def test_the_latency_planner_adds_up_the_same_constants(graph, preset):
    """Segment by segment: what several nodes read counts for each."""
    plan = layout_plan(graph, 3, preset, fusion="none")
    cut = units(graph, [first for _, first, _ in plan.spans])
    layouts = tuple(dict.fromkeys(segment.layout for segment in plan.segments))
    problem = ProblemBuilder(cut, boards(3, 1 << 40), COST, layouts).build(Choice(layouts, lonely=True))
    known = {layout: number for number, layout in enumerate(problem.shards.layouts)}
    number = {end: place for place, end in enumerate(cut.ends)}
    path = tuple((number[first], number[end], known[segment.layout]) for segment, first, end in plan.spans)
    programs = lower(plan, graph)
    needs = memory_of([programs], graph)
    read = [sum(n for step in program.computes for _, n in constants_of(graph, step)) for program in programs]
    assert load_of(problem.space, path).tolist() == read
    assert all(need.weight_bytes <= nbytes for need, nbytes in zip(needs, read, strict=True))


def test_one_board_alone_is_told_the_same_by_spans_and_by_its_program(graph):
    """The throughput planner's numbers of all units on one board are those of the plan ``single``."""
    alone = single_device_costs(units(graph), boards(1), COST, 0)
    (program,) = lower(layout_plan(graph, 1, "single", fusion="all-legal"), graph)
    (need,) = memory_of([[program]], graph)
    read = sum(nbytes for step in program.computes for _, nbytes in constants_of(graph, step))
    assert alone.weight_bytes[0, -1] == read >= need.weight_bytes
    assert int(alone.inner_bytes[0, -1]) == need.inner_bytes and int(alone.starting_bytes[0, -1]) == need.starting_bytes
    assert alone.need_bytes(1)[0, -1] >= need.total_bytes() - 64 * len(graph.outputs)


def test_a_plan_that_does_not_fit_is_not_chosen():
    """Constants alone would fit: what convolutions need to start, and values inside segments, count as well."""
    graph = load("builtin:tiny_resnet").graph
    free = make_plans("auto", Task(graph, boards(2), COST)).plans[0].plan
    most = max(need.total_bytes() for need in memory_of(turns_of(free, graph), graph))
    found = make_plans("auto", Task(graph, boards(2, most), COST)).plans[0].plan
    assert memory_problems(memory_of(turns_of(found, graph), graph), boards(2, most)) == []
    with pytest.raises(PlanError, match=r"no plan of .* fits the boards"):
        make_plans("auto", Task(graph, boards(2, PROCESS_BYTES + 1000), COST))
    need = memory_of(turns_of(layout_plan(graph, 1, "single"), graph), graph)[0]
    tight = boards(1, PROCESS_BYTES + need.weight_bytes + 1)
    with pytest.raises(PlanError, match=r"was found that fits the boards .* rank 0 needs .* of memory"):
        make_plans("auto", Task(graph, tight, COST))
