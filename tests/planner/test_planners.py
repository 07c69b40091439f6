"""Every planner's plans run, are priced alike by whoever prices them, and none beats ``auto``."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from random import Random

import pytest

from flexpie_mpi.core.choices import PLANNERS
from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.model import load
from flexpie_mpi.planner import Task, make_plans, price
from flexpie_mpi.planner.explain import explain
from flexpie_mpi.planner.rules import random_plan
from flexpie_mpi.testbed import Device, Testbed, ring, star, switch

from ..graphs import GRAPHS, GraphBuilder
from ..models import LIGHT

COST = AnalyticCost()
BASELINES = tuple(name for name in PLANNERS if name not in ("auto", "random"))
TINY = ("tiny_cnn", "tiny_resnet", "tiny_mobilenet", "tiny_inception", "tiny_bert")


def boards(*slowdowns: float, bandwidth: float = 125e6, topology=switch, **more: object) -> Testbed:
    devices = tuple(Device(f"board{i}", slowdown=slowdown, **more) for i, slowdown in enumerate(slowdowns))
    return topology(devices, bandwidth, 20e-6)


def graph_of(name: str) -> Graph:
    return GRAPHS[name] if name in GRAPHS else load(f"builtin:{name}").graph


def seconds(name: str, graph: Graph, testbed: Testbed) -> float:
    return make_plans(name, Task(graph, testbed, COST)).plans[0].seconds


BEDS = {"3": boards(1, 1, 1), "4": boards(8, 8, 8, 8), "mixed": boards(1, 2, 4)}


@pytest.mark.parametrize(
    ("name", "bed"), [*product(GRAPHS, BEDS), *zip(TINY, ("3", "4", "mixed", "mixed", "4"), strict=True)]
)
def test_no_planner_beats_auto(name: str, bed: str) -> None:
    graph, testbed = graph_of(name), BEDS[bed]
    best = make_plans("auto", Task(graph, testbed, COST))
    assert best.is_optimal
    assert best.lower_bound_s == pytest.approx(best.plans[0].seconds)
    for baseline in BASELINES:
        assert best.plans[0].seconds <= seconds(baseline, graph, testbed) * (1 + 1e-9), baseline
    for seed in range(5):
        made = random_plan(graph, testbed.ranks, Random(seed))
        assert best.plans[0].seconds <= price(made, graph, testbed, COST).seconds * (1 + 1e-9)


@pytest.mark.parametrize("name", ["bvlc_alexnet", "shufflenet", "squeezenet"])
def test_no_planner_beats_auto_on_published_networks(name: str) -> None:
    (path,) = (path for path in LIGHT if path.stem == f"light_{name}")
    graph, testbed = load(str(path)).graph, boards(8, 8, 8, 8)
    best = make_plans("auto", Task(graph, testbed, COST)).plans[0].seconds
    for baseline in BASELINES:
        assert best <= seconds(baseline, graph, testbed) * (1 + 1e-9), baseline


@pytest.mark.parametrize("topology", [switch, ring, star])
@pytest.mark.parametrize("planner", [name for name in PLANNERS if name != "random"])
def test_plans_are_sound_and_priced_alike(planner: str, topology) -> None:
    graph, testbed = graph_of("tiny_cnn"), boards(4, 4, 4, 4, topology=topology)
    found = make_plans(planner, Task(graph, testbed, COST)).plans[0]
    assert violations(lower(found.plan, graph), found.plan, graph) == []
    assert price(found.plan, graph, testbed, COST).seconds == pytest.approx(found.seconds)


def test_the_best_plans_are_distinct_and_in_order() -> None:
    graph, testbed = graph_of("tiny_resnet"), boards(8, 8, 8)
    found = make_plans("auto", Task(graph, testbed, COST, top=5)).plans
    assert len({plan.plan.to_json() for plan in found}) == 5
    assert [plan.seconds for plan in found] == sorted(plan.seconds for plan in found)
    for item in found:
        assert price(item.plan, graph, testbed, COST).seconds == pytest.approx(item.seconds)
        lower(item.plan, graph)


def test_a_much_slower_board_is_left_out() -> None:
    graph = graph_of("tiny_vgg")
    plan = make_plans("auto", Task(graph, boards(8, 8, 160, bandwidth=1e9), COST)).plans[0].plan
    used = {rank for segment in plan.segments for rank in segment.layout.ranks}
    assert used == {0, 1}


def test_faster_boards_get_more() -> None:
    graph = graph_of("tiny_vgg")
    plan = make_plans("auto", Task(graph, boards(80, 160, bandwidth=1e9), COST)).plans[0].plan
    weighted = [segment.layout for segment in plan.segments if segment.layout.weights]
    assert weighted
    assert all(layout.weights[0] > layout.weights[1] for layout in weighted if layout.kind != "grid")


def test_slow_links_keep_everything_on_one_board() -> None:
    graph = graph_of("tiny_cnn")
    plan = make_plans("auto", Task(graph, boards(1, 1, 1, bandwidth=1e3), COST)).plans[0].plan
    assert {segment.layout.ranks for segment in plan.segments} == {(0,)}


def test_more_boards_never_take_longer() -> None:
    graph = graph_of("tiny_resnet")
    times = [seconds("auto", graph, boards(*[8] * count)) for count in (1, 2, 3, 4, 6)]
    assert times == sorted(times, reverse=True)


def test_many_ranks_lose_nothing_to_the_shortened_walks() -> None:
    """Forty ranks are planned with bounds on the walks; what they leave out is never the best."""
    graph = GRAPHS["residual"]
    few, many = boards(*[8] * 8), boards(*[8] * 40)
    assert seconds("auto", graph, many) <= seconds("auto", graph, few) * (1 + 1e-9)


def wide_products() -> Graph:
    """Two products with 128 MiB of weights each, which no more than their shapes stand for."""
    b = GraphBuilder((1, 16, 4096))
    hidden = b.node("MatMul", ("x", b.weight((4096, 8192))), (1, 16, 8192))
    return b.graph(b.node("MatMul", (hidden, b.weight((8192, 4096))), (1, 16, 4096)))


def test_memory_is_a_hard_limit() -> None:
    graph = wide_products()
    testbed = boards(1, 1, 1, 1, bandwidth=1e9, memory_bytes=220 << 20)
    plan = make_plans("auto", Task(graph, testbed, COST)).plans[0].plan
    for program in lower(plan, graph):
        held = sum(region.size * 4 for _, region in program.weights if region is not None)
        assert held <= (220 - 88) << 20
    with pytest.raises(PlanError, match=r"test .*fits the boards.* MB"):
        make_plans("auto", Task(graph, boards(1, 1, memory_bytes=150 << 20), COST))


def test_an_explanation_adds_up() -> None:
    graph, testbed = graph_of("tiny_inception"), boards(8, 8, 8)
    found = make_plans("auto", Task(graph, testbed, COST))
    reasons = explain(found.problem, found.paths[0])
    assert reasons.seconds == pytest.approx(found.plans[0].seconds)
    for reason in reasons.reasons:
        assert all(other.seconds >= reasons.seconds * (1 - 1e-9) for other in reason.alternatives)
    teams = dict(reasons.by_team)
    assert teams[max(teams)] == pytest.approx(found.plans[0].seconds)
    assert list(teams.values()) == sorted(teams.values(), reverse=True)


def test_what_cannot_be_planned_is_said() -> None:
    graph = GRAPHS["chain"]
    with pytest.raises(PlanError, match="unknown planner 'best'"):
        make_plans("best", Task(graph, boards(1), COST))
    plan = make_plans("auto", Task(graph, boards(1, 1), COST)).plans[0].plan
    with pytest.raises(PlanError, match="for 2 ranks"):
        price(plan, graph, boards(1, 1, 1), COST)
    with pytest.raises(PlanError, match="another model"):
        price(replace(plan, model="other"), graph, boards(1, 1), COST)
