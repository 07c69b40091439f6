"""Pipelines: the numbers of the problem are what the plan's programs do, and plans fit, or are refused with reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flexpie_mpi import load
from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment, enough_in_flight
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.lower import turns_of
from flexpie_mpi.lower.memory import memory_of, memory_problems, most_in_flight
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.pipeline import (
    Candidate,
    PlacementProblem,
    crossovers,
    pareto_front,
    place,
    placement_problem,
    streamed,
    undominated,
)
from flexpie_mpi.pipeline.teams import TeamPlanner, segments_of
from flexpie_mpi.placement import PlacedStage, Placement, loads, problems
from flexpie_mpi.placement.solvers import SOLVERS
from flexpie_mpi.planner import layout_plan, price
from flexpie_mpi.testbed import Device, ring, star, switch

from ..graphs import GRAPHS, GraphBuilder

COST = AnalyticCost()
MIB = 1 << 20


def boards(count, topology=switch, slowdown=80.0, memory=None, bandwidth=1e8):
    devices = [Device(f"b{rank}", slowdown=slowdown * (1 + rank % 2), memory_bytes=memory) for rank in range(count)]
    return topology(devices, bandwidth, 1e-5)


def heavy():
    """Three convolutions, the second of which has 324 MB of weights."""
    builder = GraphBuilder()
    return builder.graph(builder.conv(builder.conv(builder.conv("x", 3000), 3000), 4))


def skipping():
    """x -> a -> b -> c, with a also added to c's output at the very end."""
    builder = GraphBuilder()
    a = builder.conv("x", 8)
    return builder.graph(builder.add(builder.conv(builder.conv(a)), a)), a


def planned(problem: PlacementProblem, placement: Placement) -> Plan:
    segments = segments_of(problem.units, placement, problem.team_segments)
    return Plan(segments, problem.testbed.ranks, problem.graph.digest, problem.root)


def drawn(problem: PlacementProblem, generator: np.random.Generator) -> Placement:
    """Any placement, with replicas and teams where there are any."""
    while True:
        free, stages, begin = generator.permutation(problem.testbed.ranks).tolist(), [], 0
        while begin < len(problem.units) and free:
            team_options = [
                each for each in problem.team_options if each.span[0] == begin and set(each.boards) <= set(free)
            ]
            if team_options and generator.random() < 0.7:
                option = team_options[int(generator.integers(len(team_options)))]
                crew, end, together = option.boards, option.span[1], True
            else:
                size = int(generator.integers(1, min(3, len(free)) + 1))
                crew, end, together = tuple(free[:size]), int(generator.integers(begin, len(problem.units))) + 1, False
            stages.append(PlacedStage(begin, end, crew, together))
            free, begin = [board for board in free if board not in crew], end
        placement = Placement(tuple(stages))
        if not problems(problem.instance(), placement):
            return placement


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("topology", [switch, ring, star], ids=lambda topology: topology.__name__)
def test_a_placement_asks_for_what_its_plan_does(graph, topology):
    """Up to what the root has already, as it has made it or was given it: that is not sent."""
    generator = np.random.default_rng(7)
    problem = placement_problem(graph, boards(4, topology), COST)
    for _ in range(8):
        placement = drawn(problem, generator)
        plan, expected = planned(problem, placement), loads(problem.instance(), placement)
        found = streamed(plan, graph, problem.testbed, COST).occupancy
        assert found.compute_s == pytest.approx(expected.compute_s)
        assert (found.resource_s <= expected.resource_s * (1 + 1e-9) + 1e-15).all()
        if problem.root not in placement.boards:
            assert found.resource_s == pytest.approx(expected.resource_s)
        for turn, programs in enumerate(turns_of(plan, graph)):
            assert violations(programs, plan.variant(turn), graph) == []


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_a_team_asks_for_what_its_part_of_a_plan_does(graph):
    """Wherever it begins and ends; what comes from several members is the same in all, from whichever it comes."""
    testbed = switch([Device(f"b{rank}", slowdown=1000.0) for rank in range(5)], 1e10, 1e-9)
    problem = placement_problem(graph, testbed, COST)
    count = len(problem.units)
    planner = TeamPlanner(problem.units, testbed, COST, 0)
    spans = {(0, count), (0, count - 2), (1, count), (1, count - 1)}
    team_options = [planner.option(team, span) for team in ((1, 2), (0, 3, 4)) for span in sorted(spans)]
    problem = replace(problem, team_options=tuple(each for each in team_options if each is not None))
    assert len(problem.team_options) >= 6
    for option in problem.team_options:
        others = [board for board in range(5) if board not in option.boards]
        middle = PlacedStage(*option.span, option.boards, together=True)
        before = [PlacedStage(0, option.span[0], tuple(others[:1]))] if option.span[0] else []
        behind = [PlacedStage(option.span[1], count, tuple(others[1:2]))] if option.span[1] < count else []
        placement = Placement((*before, middle, *behind))
        expected, plan = loads(problem.instance(), placement), planned(problem, placement)
        found = streamed(plan, graph, testbed, COST).occupancy
        assert found.compute_s == pytest.approx(expected.compute_s)
        if 0 not in placement.boards:
            assert found.resource_s.sum() == pytest.approx(expected.resource_s.sum())
        assert violations(turns_of(plan, graph)[0], plan, graph) == []


def test_spans_on_one_board_take_what_the_price_of_their_plan_says():
    graph, testbed = GRAPHS["residual"], boards(3)
    problem = placement_problem(graph, testbed, COST)
    for cut in range(1, len(problem.units)):
        placement = Placement((PlacedStage(0, cut, (2,)), PlacedStage(cut, len(problem.units), (1,))))
        priced = price(planned(problem, placement), graph, testbed, COST).segments
        found = problem.single_device.compute_s[[2, 1], [0, cut], [cut, len(problem.units)]]
        assert [priced[0].compute_s, priced[1].compute_s] == pytest.approx(found, rel=1e-2)  # its first takes inputs in
        assert priced[1].compute_s == pytest.approx(found[1])


def test_stages_take_along_what_later_ones_read():
    graph, a = skipping()
    problem = placement_problem(graph, boards(4), COST)
    count = len(problem.units)
    placement = Placement((PlacedStage(0, 1, (0,)), PlacedStage(1, 2, (1, 3)), PlacedStage(2, count, (2,))))
    plan = planned(problem, placement)
    assert [segment.forwards for segment in plan.segments] == [(), (a,), ()]
    for turn, relay in ((0, 1), (1, 3)):
        programs = turns_of(plan, graph)[turn]
        moves = {(m.source, m.target) for p in programs for m in p.sends if a in {piece.value for piece in m.pieces}}
        assert moves == {(0, relay), (relay, 2)}


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_makes_a_plan_that_runs_and_none_beats_the_exact_one(solver):
    graph, testbed = GRAPHS["residual"], boards(4, memory=256 * MIB)
    problem = placement_problem(graph, testbed, COST)
    best, made = place(problem), place(problem, solver)
    assert best.is_optimal and best.seconds <= made.seconds * (1 + 1e-9)
    plan = made.streamed.plan
    for turn, programs in enumerate(turns_of(plan, graph)):
        assert violations(programs, plan.variant(turn), graph) == []
    said = plan.provenance
    assert said["objective"] == "throughput" and said["planner"] == solver and said["testbed"] == testbed.name
    assert float(said["predicted_s"]) == pytest.approx(made.seconds)
    assert float(said["lower_bound_s"]) == pytest.approx(made.lower_bound_s) and made.lower_bound_s <= made.seconds
    assert Plan.from_json(plan.to_json()) == plan


def test_boards_are_left_out_when_so_asked():
    problem = placement_problem(GRAPHS["residual"], boards(4, bandwidth=1e10), COST)
    made = [place(problem, most_boards=count) for count in (1, 2, 4)]
    assert [len(each.streamed.boards) <= count for each, count in zip(made, (1, 2, 4), strict=True)] == [True] * 3
    assert made[0].seconds > 1.4 * made[1].seconds > 1.4 * made[2].seconds


def test_four_equal_boards_take_three_and_a_half_times_as_many_requests_as_one():
    graph = load("builtin:resnet50").graph
    testbed = switch([Device(f"pi{rank}", slowdown=8.0, memory_bytes=4 << 30) for rank in range(4)], 125e6, 50e-6)
    problem = replace(placement_problem(graph, testbed.subset(1), COST), testbed=testbed)
    compute_s = np.repeat(problem.single_device.compute_s, 4, axis=0)
    problem = replace(problem, single_device=replace(problem.single_device, compute_s=compute_s))
    best, one = place(problem), place(problem, most_boards=1)
    assert best.is_optimal and one.seconds >= 3.5 * best.seconds


def test_what_no_board_can_hold_is_shared():
    graph, testbed = heavy(), boards(4, memory=600 * MIB)
    problem = placement_problem(graph, testbed, COST)
    assert not problem.instance().fits.all(axis=0)[1, 2] and problem.team_options
    made = place(problem)
    assert any(stage.together for stage in made.placement.stages)
    plan, found = made.streamed.plan, made.streamed
    assert violations(turns_of(plan, graph)[0], plan, graph) == []
    assert found.in_flight >= 1 and memory_problems(found.needs, testbed, found.in_flight) == []
    assert most_in_flight(found.needs, testbed, found.in_flight) == found.in_flight


def test_what_fits_nowhere_is_refused_with_the_numbers():
    problem = placement_problem(heavy(), boards(2, memory=256 * MIB), COST)
    with pytest.raises(PlanError) as raised:
        place(problem)
    sentence = str(raised.value)
    assert "test does not fit the boards of testbed 'switch' (2 x 268 MB): 'conv1' alone needs 13" in sentence
    assert "324 MB of them weights" in sentence and "352 MB beside a process of 92 MB" in sentence
    enough = int(sentence.split("take boards of ")[1].split(" MB")[0])
    larger = placement_problem(heavy(), boards(2, memory=(enough + 1) * 10**6), COST)
    assert place(larger).streamed.in_flight >= 1
    with pytest.raises(PlanError, match="was not made to fit, by 'even', which is no proof"):
        place(problem, "even")
    with pytest.raises(PlanError, match=r"unknown planner 'best'; choose from .*exact"):
        place(problem, "best")


def test_a_plan_that_does_not_fit_says_which_board_lacks_what():
    graph, testbed = heavy(), boards(2, memory=256 * MIB)
    plan = layout_plan(graph, 2, "single")
    found = memory_of(turns_of(plan, graph), graph)
    (sentence,) = memory_problems(found, testbed)
    assert "rank 0 needs 1389 MB" in sentence and "325 MB for weights" in sentence and "'b0' has 268 MB" in sentence
    assert found[1].total_bytes(1) < found[0].total_bytes(1) <= found[0].total_bytes(2)
    assert found[0].slots_bytes(1) < found[0].slots_bytes(2)
    assert most_in_flight(found, testbed, 5) == 0 and most_in_flight(found, boards(2), 5) == 5


def test_enough_requests_are_two_of_every_replica_and_one_more():
    graph = GRAPHS["chain"]
    first, second, *others = (node.name for node in graph.nodes)
    alone = [Layout("single", (rank,)) for rank in range(4)]
    latency = Plan((Segment((first,), Layout("rows", (0, 1))), Segment((second, *others), alone[1])), 2, graph.digest)
    pipeline = Plan((Segment((first,), alone[0]), Segment((second, *others), alone[1])), 2, graph.digest)
    replicas = Plan((Segment((first,), alone[0]), Segment((second, *others), alone[1], tuple(alone[2:]))), 4, "")
    assert [enough_in_flight(plan) for plan in (latency, pipeline, replicas)] == [3, 5, 9]


def test_the_front_holds_nothing_that_is_beaten():
    problem = placement_problem(GRAPHS["chain"], boards(3, slowdown=400.0, bandwidth=1e10), COST)
    chosen = pareto_front(problem)
    numbers = [one.numbers for one in chosen]
    assert numbers == sorted(numbers)
    for a in numbers:
        assert not any(all(x <= y for x, y in zip(b, a, strict=True)) for b in numbers if b != a)
    assert {one.objective for one in chosen} == {"latency", "throughput"}
    steps = crossovers(chosen)
    assert [step.rate for step in steps] == sorted(step.rate for step in steps)
    assert steps[0].candidate == 0 and steps[-1].rate == pytest.approx(1 / min(b for _, b, _ in numbers))
    for step in steps:  # of all that keep up, the one of least latency
        able = [a for a, b, _ in numbers if 1 / b >= step.rate * (1 - 1e-9)]
        assert numbers[step.candidate][0] == min(able)
    assert undominated((*chosen, *chosen)) == chosen
    worse = Candidate(replace(chosen[0].streamed, latency_s=chosen[0].streamed.latency_s * 2), "latency")
    assert worse not in undominated((worse, *chosen))
