"""Simulated jobs: they end, close to what planners add up, and better boards and links make them faster."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.errors import ProgramError
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.program import Program
from flexpie_mpi.core.timeline import Timeline
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.model import load
from flexpie_mpi.planner import Task, layout_plan, make_plans, price
from flexpie_mpi.planner.rules import random_plan
from flexpie_mpi.simulate import simulate
from flexpie_mpi.testbed import Device, Testbed, ring, star, switch

from ..graphs import GRAPHS

COST = AnalyticCost()
SHAPES = (switch, ring, star)


def boards(*slowdowns: float, shape=switch, bandwidth: float = 125e6, latency: float = 50e-6) -> Testbed:
    return shape([Device(f"b{rank}", slowdown=s) for rank, s in enumerate(slowdowns)], bandwidth, latency)


def busiest_s(timeline: Timeline, ranks: int) -> float:
    """What the rank that computes longest computes."""
    return max(timeline.total("compute", rank) for rank in range(ranks))


@st.composite
def jobs(draw) -> tuple[Graph, tuple[Program, ...], dict]:
    """A small graph, programs of a random plan, and boards and links for it."""
    graph = GRAPHS[draw(st.sampled_from(sorted(GRAPHS)))]
    ranks = draw(st.integers(1, 6))
    plan = random_plan(graph, ranks, Random(draw(st.integers(0, 10**6))))
    programs = lower(plan, graph)
    assert violations(programs, plan, graph) == []
    links = {
        "shape": draw(st.sampled_from(SHAPES)),
        "bandwidth": 10 ** draw(st.floats(5, 10)),
        "latency": 10 ** draw(st.floats(-6, -2)),
    }
    return graph, programs, links | {"slowdowns": draw(st.lists(st.floats(1, 20), min_size=ranks, max_size=ranks))}


def took(job, **changes) -> Timeline:
    graph, programs, known = job
    given = known | changes
    return simulate(programs, graph, boards(*given.pop("slowdowns"), **given), COST)


@given(jobs())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_sound_job_ends_and_no_rank_does_two_things_at_once(job) -> None:
    found, ranks = took(job), len(job[1])
    assert found.latency_s >= busiest_s(found, ranks) > 0
    for rank in range(ranks):
        events = [event for event in found.events if event.rank == rank]
        assert all(a.end_s == b.begin_s for a, b in pairwise(events))
        computed = [event.segment for event in events if event.kind == "compute"]
        assert computed == [step.segment for step in job[1][rank].computes]


@given(jobs(), st.floats(1.01, 20))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_better_links_are_never_slower(job, factor: float) -> None:
    before = took(job).latency_s
    assert took(job, bandwidth=job[2]["bandwidth"] * factor).latency_s <= before * (1 + 1e-9)
    assert took(job, latency=job[2]["latency"] / factor).latency_s <= before * (1 + 1e-9)


@given(jobs(), st.floats(1.01, 20))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_slower_boards_are_slower_and_no_more_than_they_are(job, factor: float) -> None:
    """A late message may leave its share of a link to one that matters more, so a little can be won."""
    before, after = took(job), took(job, slowdowns=[factor * slowdown for slowdown in job[2]["slowdowns"]])
    assert before.latency_s * 0.95 <= after.latency_s <= before.latency_s * factor * (1 + 1e-9)
    ranks = len(job[1])
    assert busiest_s(after, ranks) == pytest.approx(factor * busiest_s(before, ranks))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("planner", ["auto", "rows", "channels"])
def test_close_to_what_the_planner_adds_up(planner: str, shape) -> None:
    graph, testbed = load("builtin:resnet18").graph, boards(8, 8, 8, 8, shape=shape)
    found = make_plans(planner, Task(graph, testbed, COST)).plans[0]
    timeline = simulate(lower(found.plan, graph), graph, testbed, COST)
    assert 0.97 * found.seconds <= timeline.latency_s <= 1.01 * found.seconds
    assert timeline.latency_s >= busiest_s(timeline, 4)


def test_one_rank_takes_exactly_what_the_planner_adds_up() -> None:
    graph, testbed = load("builtin:tiny_inception").graph, boards(3)
    plan = layout_plan(graph, 1, "rows")
    found = simulate(lower(plan, graph), graph, testbed, COST)
    assert found.latency_s == pytest.approx(price(plan, graph, testbed, COST).seconds)
    assert {event.kind for event in found.events} == {"receive", "compute"}


def test_unequal_boards_wait_where_equal_ones_do_not() -> None:
    graph = GRAPHS["chain"]
    programs = lower(layout_plan(graph, 3, "rows"), graph)
    equal, unequal = (simulate(programs, graph, boards(*each), COST) for each in ((50, 50, 50), (50, 50, 100)))
    assert unequal.latency_s > 1.5 * equal.latency_s
    assert unequal.total("wait", 0) > 2 * equal.total("wait", 0)
    assert unequal.total("wait", 2) < unequal.total("wait", 1)


def test_idle_boards_change_nothing() -> None:
    graph = GRAPHS["residual"]
    plan = layout_plan(graph, 2, "rows")
    few = simulate(lower(plan, graph), graph, boards(4, 4), COST)
    many = simulate(lower(replace(plan, ranks=5), graph), graph, boards(4, 4, 4, 4, 4), COST)
    assert many.events == few.events


def test_programs_and_boards_must_be_as_many() -> None:
    graph = GRAPHS["chain"]
    with pytest.raises(ProgramError, match="2 programs cannot be simulated on the 3 boards"):
        simulate(lower(layout_plan(graph, 2, "rows"), graph), graph, boards(1, 1, 1), COST)
