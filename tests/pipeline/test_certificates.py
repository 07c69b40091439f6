"""What is said to be proved of a pipeline: bounds of every plan, searches that end in time, sound advice."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest

from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.core.plan import Plan
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.pipeline import PlacementProblem, Streamed, place, placement_problem, streamed
from flexpie_mpi.pipeline.problem import contention_levels
from flexpie_mpi.pipeline.teams import TeamPlanner, segments_of
from flexpie_mpi.placement import Outcome, PlacedStage, Placement, outcome
from flexpie_mpi.placement.solvers import SOLVERS, Solver
from flexpie_mpi.testbed import Device, Testbed, one_host, switch

from ..graphs import GRAPHS, GraphBuilder

COST = AnalyticCost()
MB = 10**6


def boards(slowdowns=(80.0,) * 4, memory=None, bandwidth=1e8, hosts=("",) * 8, cores=1) -> Testbed:
    devices = [
        Device(f"b{rank}", slowdown=slowdown, memory_bytes=memory, host=hosts[rank], cores=cores)
        for rank, slowdown in enumerate(slowdowns)
    ]
    return switch(devices, bandwidth, 1e-5)


def as_plan(problem: PlacementProblem, placement: Placement) -> Streamed:
    segments = segments_of(problem.units, placement, problem.team_segments)
    plan = Plan(segments, problem.testbed.ranks, problem.graph.digest, problem.root)
    return streamed(plan, problem.graph, problem.testbed, COST)


def all_of_single_boards(problem: PlacementProblem) -> list[float]:
    """Seconds of every plan whose stages have a board each, or take turns on all boards."""
    ranks, units = range(problem.testbed.ranks), len(problem.units)
    found = [Placement((PlacedStage(0, units, tuple(ranks[: k + 1])),)) for k in ranks]
    for count in range(1, min(3, len(ranks), units) + 1):
        for crew in permutations(ranks, count):
            for cuts in combinations(range(1, units), count - 1):
                ends = (0, *cuts, units)
                found.append(Placement(tuple(PlacedStage(ends[k], ends[k + 1], (crew[k],)) for k in range(count))))
    return [as_plan(problem, placement).occupancy.seconds for placement in found]


def fed_twice():
    """A network that reads its input again at its end."""
    builder = GraphBuilder((1, 64, 32, 32))
    return builder.graph(builder.conv(builder.add(builder.conv(builder.conv("x", 64), 64), "x"), 1))


@pytest.mark.parametrize("bandwidth", [1e6, 1e8, 5e9])
@pytest.mark.parametrize("cores", [1, 2])
def test_boards_of_one_host_are_priced_as_so_many_compute_at_once(bandwidth, cores):
    problem = placement_problem(GRAPHS["residual"], one_host(3, cores=cores, bandwidth=bandwidth), COST)
    made = place(problem)
    least = min(all_of_single_boards(problem))
    assert made.lower_bound_s <= least * (1 + 1e-9) and made.seconds <= least * (1 + 1e-9)
    assert made.is_optimal
    for most in (1, 2):
        fewer = place(problem, most_boards=most)
        assert made.seconds <= fewer.seconds * (1 + 1e-9) and len(fewer.streamed.boards) <= most


def test_bounds_hold_where_some_boards_share_a_host():
    testbed = boards((1.0, 1.0, 1.0), bandwidth=1e8, hosts=("h", "h", ""))
    problem = placement_problem(GRAPHS["chain"], testbed, COST)
    made = place(problem)
    assert 0 < made.lower_bound_s <= min(all_of_single_boards(problem)) * (1 + 1e-9)
    assert [crowd.most for crowd in contention_levels(testbed)] == [2, 3]  # of two, one can be elsewhere
    assert [crowd.active for crowd in contention_levels(testbed)] == [(1.0, 1.0, 1.0), (2.0, 2.0, 1.0)]


def test_without_shared_hosts_there_is_one_crowd_and_many_are_grouped():
    assert [crowd.most for crowd in contention_levels(boards())] == [4]
    assert [crowd.most for crowd in contention_levels(one_host(8, cores=2))] == [2, 3, 4, 5, 6, 7, 8]
    many = contention_levels(one_host(16, cores=1))
    assert [crowd.most for crowd in many] == [2, 4, 6, 8, 10, 12, 14, 15, 16]
    assert [crowd.active[0] for crowd in many] == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 16.0]


@pytest.mark.parametrize("bandwidth", [5e5, 1.2e6, 1e8])
@pytest.mark.parametrize("slowdowns", [(80.0, 80.0), (80.0, 240.0)])
def test_bounds_hold_where_the_root_has_inputs_that_are_read_later(bandwidth, slowdowns):
    problem = placement_problem(fed_twice(), boards(slowdowns, bandwidth=bandwidth), COST)
    assert problem.is_kept and not placement_problem(GRAPHS["chain"], boards(), COST).is_kept
    made = place(problem)
    least = min(all_of_single_boards(problem))
    assert made.lower_bound_s <= least * (1 + 1e-9)
    assert made.seconds <= least * (1 + 1e-3)


def test_teams_are_counted_without_what_the_root_has():
    problem = placement_problem(fed_twice(), boards(), COST)
    units = len(problem.units)
    option = TeamPlanner(problem.units, problem.testbed, COST, 0).option((1, 2), (1, units - 2))
    whole, least = option.asks, option.least
    nbytes = problem.graph.value("x").nbytes
    assert (least.compute_s == whole.compute_s).all()
    assert whole.exit_bytes.sum() - least.exit_bytes.sum() == nbytes == problem.single_device.kept[units - 2]
    assert whole.entry_bytes.sum() - least.entry_bytes.sum() >= nbytes


def test_a_bound_above_the_plan_is_no_bound(monkeypatch):
    """Clamped to the plan's seconds it would call any plan the best."""
    units = len(placement_problem(GRAPHS["chain"], boards(), COST).units)
    found = Outcome(Placement((PlacedStage(0, units, (1,)),)), 9e9, 9e9, 0.0)
    monkeypatch.setitem(SOLVERS, "boasting", Solver("", lambda instance, seed, limit: found))
    made = place(placement_problem(GRAPHS["chain"], boards(), COST), "boasting")
    assert made.lower_bound_s == 0 and made.gap == 1 and not made.is_optimal


@pytest.mark.parametrize("fits", [True, False])
def test_all_searches_together_take_no_longer_than_allowed(monkeypatch, fits):
    """On a clock that only the solver moves on, by all that it may take."""
    now, limits = [0.0], []
    units = len(placement_problem(GRAPHS["residual"], boards(), COST).units)

    def solve(instance, seed, limit):
        limits.append(limit)
        now[0] += limit
        return Outcome(Placement((PlacedStage(0, units, (0,)),)) if fits else None, 1.0, 0.0, limit)

    monkeypatch.setattr(outcome, "perf_counter", lambda: now[0])
    monkeypatch.setitem(SOLVERS, "slow", Solver("", solve))
    problem = placement_problem(GRAPHS["residual"], one_host(4, cores=1), COST)
    if fits:
        place(problem, "slow", time_limit_s=8.0)
    else:
        with pytest.raises(PlanError, match="was not made to fit, by 'slow', which is no proof"):
            place(problem, "slow", time_limit_s=8.0)
    assert len(limits) >= 4 and sum(limits) <= 8.0 * (1 + 1e-9) and min(limits[:2]) >= 0.5


def test_fewer_take_turns_where_the_boards_beside_them_have_too_little_memory(monkeypatch):
    graph, limits = GRAPHS["residual"], {}
    units = len(placement_problem(graph, boards(), COST).units)

    def placement(turns):
        return Placement((PlacedStage(0, 1, tuple(range(turns))), PlacedStage(1, units, (5,))))

    free = placement_problem(graph, boards((80.0,) * 6), COST)
    limits = {turns: as_plan(free, placement(turns)).needs[5].total_bytes(1) for turns in (3, 4)}
    assert limits[3] < limits[4]
    devices = [Device(f"b{rank}", slowdown=80.0, memory_bytes=limits[3] if rank == 5 else 10**9) for rank in range(6)]
    problem, asked = placement_problem(graph, switch(devices, 1e8, 1e-5), COST), []

    def solve(instance, seed, limit):
        asked.append(instance.replicas)
        return Outcome(placement(min(5, instance.replicas)), 1.0, 0.0, 0.0)

    monkeypatch.setitem(SOLVERS, "eager", Solver("", solve))
    made = place(problem, "eager")
    assert made.placement == placement(3) and asked[:3] == [6, 4, 3]
    monkeypatch.setitem(SOLVERS, "stubborn", Solver("", lambda *_: Outcome(placement(5), 1.0, 1.0, 0.0)))
    with pytest.raises(PlanError, match="which is no proof"):  # there was a placement, though no plan of it fits
        place(problem, "stubborn")


def test_advice_is_as_much_memory_as_it_takes_and_no_more():
    builder = GraphBuilder((1, 4, 1000, 1000))
    graph = builder.graph(builder.pool(builder.conv(builder.conv("x", 4), 4)))
    with pytest.raises(PlanError) as raised:
        place(placement_problem(graph, boards(memory=110 * MB), COST))
    advised = int(str(raised.value).split("take boards of ")[1].split(" MB")[0])
    alone = (
        as_plan(placement_problem(graph, boards(), COST), Placement((PlacedStage(0, 3, (0,)),))).needs[0].total_bytes(1)
    )
    assert alone <= advised * MB <= 1.25 * alone
    assert place(placement_problem(graph, boards(memory=advised * MB), COST)).streamed.in_flight >= 1
