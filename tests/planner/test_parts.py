"""Plans that share out sums: priced alike by whoever prices them, the best of all, and only where they may be."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise, product

import numpy as np
import onnx
import pytest

from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.facts import traffic_of
from flexpie_mpi.lower.shards import is_in_parts, live_out, segment_problems
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.model import load
from flexpie_mpi.planner import Search, Task, make_plans, price
from flexpie_mpi.planner.explain import explain
from flexpie_mpi.planner.latency import find
from flexpie_mpi.planner.problem import Choice
from flexpie_mpi.planner.units import units
from flexpie_mpi.simulate import simulate
from flexpie_mpi.testbed import Device, Testbed, switch

from ..graphs import GraphBuilder
from ..partial import MODELS
from .spaces import brute_force

COST = AnalyticCost()


class Bytes(AnalyticCost):
    """A second for every byte that is sent; nothing else costs anything."""

    def __init__(self) -> None:
        pass

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        return np.zeros(len(work))

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        return np.zeros(len(calls))

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        return transfers["total_bytes"].copy()


class Weights(Bytes):
    """A second for every byte of weights that is read; nothing else costs anything."""

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        return work["weight_bytes"].copy()

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        return np.zeros(len(transfers))


def boards(*slowdowns: float, bandwidth: float = 125e6, latency: float = 20e-6) -> Testbed:
    return switch([Device(f"b{rank}", slowdown=each) for rank, each in enumerate(slowdowns)], bandwidth, latency)


def pooled() -> Graph:
    """A convolution and its average, which a convolution of one pixel with a ReLU reads, on boards so slow that all
    of it is shared."""
    b = GraphBuilder((1, 32, 32, 32))
    mean = b.pool(b.conv("x", 32))
    return b.graph(b.relu(b.conv(mean, 256, kernel=1)))


def pair() -> Graph:
    """Two convolutions of few pixels and large weights, an epilogue behind each."""
    b = GraphBuilder((1, 256, 4, 4))
    return b.graph(b.relu(b.conv(b.relu(b.conv("x", 512, kernel=1)), 256, kernel=1)))


def dense() -> Graph:
    """A perceptron: a product, a bias and a Gelu, twice."""
    b = GraphBuilder((1, 16, 256))
    x = "x"
    for wide in (1024, 256):
        shape = (1, 16, wide)
        x = b.node("MatMul", (x, b.weight((b.values[x].shape[-1], wide))), shape)
        x = b.node("Gelu", (b.node("Add", (x, b.weight((wide,))), shape),), shape)
    return b.graph(x)


HANDMADE = {"pooled": pooled, "pair": pair, "dense": dense}
BUILT = ("tiny_mobilenet", "tiny_resnet", "tiny_bert", "tiny_vgg")


@pytest.fixture(scope="module", params=[*HANDMADE, *MODELS, *BUILT])
def graph(request, tmp_path_factory) -> Graph:
    name = request.param
    if name in HANDMADE:
        return HANDMADE[name]()
    if name in BUILT:
        return load(f"builtin:{name}").graph
    folder = tmp_path_factory.mktemp(name)
    onnx.save(MODELS[name](), folder / "model.onnx")
    return load(str(folder / "model.onnx"), cache=Cache(folder)).graph


BEDS = [boards(50, 50, 50, 50, bandwidth=1e9), boards(200, 200, latency=1e-7), boards(50, 100, 400, latency=1e-6)]


@pytest.mark.parametrize("testbed", BEDS, ids=["4", "2", "mixed"])
def test_sharing_out_sums_never_makes_a_plan_dearer_and_is_priced_alike(graph: Graph, testbed: Testbed) -> None:
    found, without = (make_plans("auto", Task(graph, testbed, COST, top=3, parts=parts)) for parts in (True, False))
    assert found.is_optimal and without.is_optimal
    assert found.plans[0].seconds <= without.plans[0].seconds * (1 + 1e-9)
    assert not any(segment.layout.in_parts for each in without.plans for segment in each.plan.segments)
    least = np.concatenate(([0.0], np.cumsum(found.problem.least)))
    for begin, options in enumerate(found.problem.space.options):  # no segment costs less than its units at least do
        assert (least[options.end] - least[begin] <= options.seconds).all()
    for each in found.plans:
        assert price(each.plan, graph, testbed, COST).seconds == pytest.approx(each.seconds)
        assert violations(lower(each.plan, graph), each.plan, graph) == []
        for segment, first, end in each.plan.spans:
            leaving = live_out(graph, first, end)
            assert not segment.layout.in_parts or any(is_in_parts(graph, name, segment.layout) for name in leaving)


@pytest.mark.parametrize("name", ["pooled", "pair", "dense"])
def test_sums_are_shared_out_where_that_pays(name: str) -> None:
    graph, testbed = HANDMADE[name](), boards(400, 400, 400, latency=1e-7)
    found, without = (make_plans("auto", Task(graph, testbed, COST, parts=parts)) for parts in (True, False))
    assert any(segment.layout.in_parts for segment in found.plans[0].plan.segments)
    assert found.plans[0].seconds < 0.99 * without.plans[0].seconds
    assert found.problem is not None and without.problem is not None
    reasons = explain(found.problem, found.paths[0])
    assert reasons.without_parts_s == pytest.approx(without.plans[0].seconds)
    assert explain(without.problem, without.paths[0]).without_parts_s is None


FEW = (
    Layout("single", (0,)),
    Layout("rows", (0, 1), (2, 1)),
    Layout("channels", (0, 1)),
    Layout("rows", (0, 1), in_parts=True),
    Layout("channels", (0, 1), (1, 3), in_parts=True),
)


@pytest.mark.parametrize("name", ["pooled", "pair", "dense"])
def test_the_best_plan_is_the_best_of_all_that_can_be_made(name: str) -> None:
    """Plans made one by one, from the words of a plan alone, each priced on its own."""
    graph, testbed = HANDMADE[name](), boards(100, 150)
    found = find(Task(graph, testbed, COST), Choice(FEW))
    seconds = [price(plan, graph, testbed, COST).seconds for plan in _all_plans(graph)]
    assert len(seconds) > 40
    assert found.plans[0].seconds == pytest.approx(min(seconds))


def _all_plans(graph: Graph):
    """Every plan of the layouts above that cuts a fused group only behind what it leaves in parts."""
    plain, cuts = set(units(graph).ends), units(graph, with_parts=True).ends
    assert len(cuts) > len(plain), "a sum that has an epilogue"
    names = [node.name for node in graph.nodes]
    for count in range(len(cuts) - 1):
        for inner in combinations(cuts[1:-1], count):
            spans = [*pairwise((0, *inner, len(names)))]
            choices = [
                [
                    each
                    for each in FEW
                    if not segment_problems(graph, *span, each) and (each.in_parts or span[1] in plain)
                ]
                for span in spans
            ]
            for layouts in product(*choices):
                rows = zip(spans, layouts, strict=True)
                segments = (Segment(tuple(names[first:end]), layout) for (first, end), layout in rows)
                yield Plan(tuple(segments), 2, graph.digest)


@pytest.mark.parametrize("name", ["pooled", "pair", "dense"])
def test_every_plan_of_the_search_costs_what_the_search_says(name: str) -> None:
    graph, testbed = HANDMADE[name](), boards(100, 150)
    found = find(Task(graph, testbed, COST), Choice(FEW))
    assert found.problem is not None
    every = brute_force(found.problem.space)
    assert every[0][0] == pytest.approx(found.plans[0].seconds)
    parted = 0
    for seconds, path in every[:: max(1, len(every) // 60)]:
        plan = _plan(found, path, graph)
        parted += any(segment.layout.in_parts for segment in plan.segments)
        assert price(plan, graph, testbed, COST).seconds == pytest.approx(seconds)
        assert violations(lower(plan, graph), plan, graph) == []
    assert parted > 10


def _plan(found: Search, path, graph: Graph) -> Plan:
    ends, layouts = found.problem.units.ends, found.problem.shards.layouts
    spans = ((graph.nodes[ends[begin] : ends[end]], layouts[layout]) for begin, end, layout in path)
    segments = (Segment(tuple(node.name for node in nodes), layout) for nodes, layout in spans)
    return Plan(tuple(segments), 2, graph.digest)


@pytest.mark.parametrize("rest", ["channels", "rows", "replicated", "single"])
@pytest.mark.parametrize("kind", ["rows", "grid", "columns"])
def test_what_is_priced_travels(kind: str, rest: str) -> None:
    """Bytes of the exchange that puts a sum together: of the price, of the programs, and of the job simulated."""
    graph, everyone = pooled(), (0, 1, 2)
    parting = Layout(kind, everyone, grid=(3, 1) if kind == "grid" else (), in_parts=True)
    after = Layout(rest, everyone if rest != "single" else (1,))
    segments = [
        Segment(tuple(node.name for node in graph.nodes[first:end]), layout)
        for (first, end), layout in zip(((0, 2), (2, 4)), (parting, after), strict=True)
    ]
    if segment_problems(graph, 2, 4, after):
        segments[1] = replace(segments[1], layout=Layout("single", (2,)))
    plan, testbed = Plan(tuple(segments), 3, graph.digest), boards(1, 1, 1)
    programs = lower(plan, graph)
    priced = price(plan, graph, testbed, Bytes())
    traffic = traffic_of(programs)
    assert priced.segments[1].exchange_s == traffic[1].nbytes > 0
    timeline = simulate(programs, graph, testbed, COST)
    assert timeline.latency_s == pytest.approx(price(plan, graph, testbed, COST).seconds, rel=0.1)


@pytest.mark.parametrize(("slowdowns", "expected"), [((2, 1), 2 * (16 * 8 + 16)), ((1, 2), 2 * 16 * 8)])
def test_what_is_added_once_is_priced_where_it_is_added(slowdowns: tuple[float, ...], expected: int) -> None:
    """The first of the ranks that share out a sum reads the bias: it counts where that is the slower board."""
    b = GraphBuilder((1, 16, 5, 5))
    y = b.node("Conv", ("x", b.weight((16, 16, 1, 1)), b.weight((16,))), (1, 16, 5, 5), kernel_shape=(1, 1))
    graph, testbed = b.graph(y), boards(*slowdowns)
    plan = Plan((Segment((y,), Layout("channels", (0, 1), in_parts=True)),), 2, graph.digest)
    assert price(plan, graph, testbed, Weights()).segments[0].compute_s == 4 * expected
    assert simulate(lower(plan, graph), graph, testbed, Weights()).latency_s == pytest.approx(4 * expected)
