"""What is told of an operator or of a kind of layout in one place is enough: both are added here, and run exactly."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from flexpie_mpi import Engine, Plan, Segment, layout_plan, load, run_ranks
from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.core.layout import KINDS, Kind, Layout
from flexpie_mpi.core.region import Region
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.shards import allowed_kinds
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.ops import OpRule, base, register, rule_for
from flexpie_mpi.ops.base import axes_of, hull
from flexpie_mpi.ops.pool import GlobalPool
from flexpie_mpi.planner.registry import kinds_of
from flexpie_mpi.report.models import inspect, inspection_items
from flexpie_mpi.report.theme import LIGHT

from .model.build import make, noise, save
from .planners import planned


def run_and_compare(path: str, plan: Plan, model, cache: Cache) -> None:
    """Run a plan on loopback ranks; its outputs equal one onnxruntime session's on the file."""
    assert violations(lower(plan, model.graph), plan, model.graph) == []
    inputs = random_inputs(model.graph, seed=1)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def rank(transport):
        outputs = Engine(transport, model, plan, cache=cache).run(inputs)
        return {name: np.array(value) for name, value in outputs.items()}

    (output,) = run_ranks(plan.ranks, rank)[plan.root].values()
    (expected,) = session.run(None, inputs)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)


def shared_nodes(plan: Plan, kind: str) -> set[str]:
    return {name for item in plan.segments if item.layout.kind == kind for name in item.nodes}


@pytest.fixture
def grid_sample():
    """A rule for GridSample, which has none."""

    @register
    class GridSample(OpRule):
        """Data (N, C, H, W) at the points of a grid (N, h, w, 2): any output may need any place of its channel."""

        ops = ("GridSample",)
        element_flops = 8

        def cut_axes(self, node):
            return axes_of(node)

        def in_regions(self, node, out):
            batch, channels, *points = hull(out).bounds
            extents = Region.full(node.in_shape()).bounds[2:]
            return Region((batch, channels, *extents)), Region((batch, *points, (0, len(points))))

    yield GridSample
    del base._RULES["GridSample"]


def sampled() -> object:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("GridSample", ["c", "points"], ["s"], "sample", mode="bilinear", padding_mode="border"),
        helper.make_node("Relu", ["s"], ["y"], "relu"),
    ]
    return make(nodes, {"x": (2, 6, 7, 9), "points": (2, 8, 5, 2)}, ["y"], {"w": noise(6, 6, 3, 3)})


def test_an_operator_is_one_rule(grid_sample, tmp_path):
    cache, path = Cache(tmp_path / "cache"), save(sampled(), tmp_path / "m.onnx")
    model = load(path, cache=cache)
    node = next(node for node in model.graph.bound if node.op == "GridSample")
    assert isinstance(rule_for(node), grid_sample)
    for ranks in (2, 3):
        for kind in ("rows", "columns", "channels", "batch"):
            plan = layout_plan(model.graph, ranks, kind)
            assert node.node.name in shared_nodes(plan, kind)
            run_and_compare(path, plan, model, cache)
        run_and_compare(path, planned(model.graph, ranks, "auto"), model, cache)


def test_without_the_rule_the_operator_is_run_whole(tmp_path):
    cache, path = Cache(tmp_path / "cache"), save(sampled(), tmp_path / "m.onnx")
    model = load(path, cache=cache)
    plan = layout_plan(model.graph, 2, "rows")
    assert "sample" not in shared_nodes(plan, "rows")
    run_and_compare(path, plan, model, cache)


class FirstNorm(GlobalPool):
    """GlobalLpPool as a sum of magnitudes, which has no parts otherwise."""

    def combines(self, node):
        return "add" if node.op == "GlobalLpPool" and node.attribute("p", 2) == 1 else ""


def test_parts_of_an_operator_are_two_methods_of_its_rule(monkeypatch, tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalLpPool", ["c"], ["n"], "norm", p=1),
        helper.make_node("Conv", ["n", "v"], ["y"], "last"),
    ]
    made = make(nodes, {"x": (1, 3, 11, 9)}, ["y"], {"w": noise(8, 3, 3, 3), "v": noise(5, 8, 1, 1)})
    cache, path = Cache(tmp_path / "cache"), save(made, tmp_path / "m.onnx")
    model = load(path, cache=cache)
    layouts = Layout("rows", (0, 1, 2), (2, 1, 1), in_parts=True), Layout("channels", (0, 1, 2))
    segments = tuple(map(Segment, (("conv", "norm"), ("last",)), layouts))
    plan = Plan(segments, 3, model.graph.digest)
    with pytest.raises(PlanError, match="is a sum over what 'rows' cuts"):
        lower(plan, model.graph)
    monkeypatch.setitem(base._RULES, "GlobalLpPool", FirstNorm())
    model = load(path, cache=cache)
    run_and_compare(path, plan, model, cache)


@pytest.fixture
def planes():
    """Cuts the last of five axes, which no kind does."""
    KINDS["planes"] = Kind({5: (4,)}, "p", is_rare=True)
    yield "planes"
    del KINDS["planes"]


def volume() -> object:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2, 2], strides=[1, 2, 2]),
        helper.make_node("Conv", ["p", "v"], ["y"], "last", strides=[1, 1, 2], pads=[1, 1, 1, 1, 1, 1]),
    ]
    weights = {"w": noise(4, 2, 3, 3, 3), "v": noise(3, 4, 3, 3, 3)}
    return make(nodes, {"x": (1, 2, 4, 6, 13)}, ["y"], weights)


def test_a_layout_that_cuts_another_axis_is_one_row(planes, tmp_path):
    cache, path = Cache(tmp_path / "cache"), save(volume(), tmp_path / "m.onnx")
    model = load(path, cache=cache)
    names = {node.name for node in model.graph.nodes}
    assert all(planes in allowed_kinds(model.graph, node) for node in model.graph.bound)
    for ranks in (2, 3):
        for fusion in ("free", "none", "all-legal"):
            plan = layout_plan(model.graph, ranks, planes, fusion=fusion)
            assert shared_nodes(plan, planes) == names
            assert Plan.from_json(plan.to_json()) == plan
            run_and_compare(path, plan, model, cache)
        weighted = layout_plan(model.graph, ranks, planes, weights=(3, 1, 2)[:ranks])
        run_and_compare(path, weighted, model, cache)


def test_a_new_kind_is_searched_listed_and_drawn(planes, tmp_path):
    cache, path = Cache(tmp_path / "cache"), save(volume(), tmp_path / "m.onnx")
    model = load(path, cache=cache)
    assert planes in kinds_of(model.graph)
    assert planes not in kinds_of(load("builtin:tiny_cnn", cache=cache).graph)
    run_and_compare(path, planned(model.graph, 2, "auto"), model, cache)
    assert "p planes" in "\n".join(map(str, inspection_items(model, inspect(model.graph))))
    assert LIGHT.kind(planes).startswith("#") and str(Layout(planes, (0, 1))) == "planes on 0-1"
