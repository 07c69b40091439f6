"""Models that take pixels: the same numbers bit by bit, a quarter of the bytes, and plans that fit the file."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.core.graph import Value
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment, problems
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.images import Normalisation, normalisation
from flexpie_mpi.measure.compare import Reference
from flexpie_mpi.model import Model
from flexpie_mpi.model.pixels import file_plan, pixel_plan, with_pixels

from .build import make, save

RANKS = 3
MEANS = {"default": None, "one": [127.5], "channels": [123.675, 116.28, 103.53]}
SCALES = {"default": None, "one": [0.0078], "channels": [1 / 58.395, 1 / 57.12, 1 / 57.375]}


def of(shape: tuple[int, ...], mean: list[float] | None, scale: list[float] | None, name: str = "x") -> Normalisation:
    return normalisation(Path("x.png"), Value(name, shape, "float32"), mean, scale)


def pixels_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def run(model: Model, inputs: dict[str, np.ndarray], plan: Plan, folder: Path) -> tuple[dict[str, np.ndarray], int]:
    """Outputs of a plan, and bytes that the root sends in its first exchange."""

    def rank(transport):
        mine = model if transport.rank == 0 else Model.from_skeleton(model.skeleton())
        engine = Engine(transport, mine, plan, cache=Cache(folder))
        outputs = {name: np.array(value) for name, value in engine.run(inputs).items()}
        return outputs, sum(message.nbytes for message in engine.program.sends if message.tag == 0)

    return run_ranks(plan.ranks, rank)[0]


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("mean", "scale"), list(product(MEANS, SCALES)))
@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 16, 16, 3), (3, 16, 16)])
def test_every_pixel_becomes_the_same_number(tmp_path, shape, mean, scale):
    path = save(make([("Neg", ["x"], ["y"])], {"x": shape}, ["y"]), tmp_path / "m.onnx")
    model = load(path, cache=Cache(tmp_path / "cache"))
    numbers = of(shape, MEANS[mean], SCALES[scale])
    taking = with_pixels(model, {"x": numbers})
    every = np.tile(np.arange(256, dtype=np.uint8), 3).reshape(3, 16, 16)
    pixels = np.ascontiguousarray(np.moveaxis(every, 0, -1) if shape[-1] == 3 else every).reshape(shape)
    plan = layout_plan(taking.graph, RANKS, "rows")
    found, _ = run(taking, {"x": pixels}, plan, tmp_path / "cache")
    assert equal(found["y"], -numbers.applied(pixels))


@pytest.mark.parametrize("preset", ["rows", "columns", "channels", "grid"])
def test_a_network_gives_the_same_outputs_and_is_sent_a_quarter(tmp_path, preset):
    cache = Cache(tmp_path)
    model = load("builtin:tiny_cnn", cache=cache)
    (name,) = model.graph.inputs
    numbers = of(model.graph.value(name).shape, None, None, name)
    taking, pixels = with_pixels(model, {name: numbers}), pixels_of(model.graph.value(name).shape)
    expected, floats = run(model, {name: numbers.applied(pixels)}, layout_plan(model.graph, RANKS, preset), tmp_path)
    found, sent = run(taking, {name: pixels}, layout_plan(taking.graph, RANKS, preset), tmp_path)
    assert all(equal(found[output], expected[output]) for output in expected)
    assert floats == 4 * sent > 0
    assert not any(check.problem for check in Reference(taking, 1).compare({name: pixels}, found))
    wrong = {output: value + 1 for output, value in found.items()}
    assert all(check.problem for check in Reference(taking, 1).compare({name: pixels}, wrong))


def test_two_pictures_one_of_which_is_read_late_and_inside_a_branch(tmp_path):
    branch = helper.make_graph(
        [helper.make_node("Neg", ["late"], ["inner"])], "then", [], [helper.make_tensor_value_info("inner", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["late"], ["inner2"])], "else", [], [helper.make_tensor_value_info("inner2", 1, None)]
    )
    nodes = [
        ("Relu", ["early"], ["a"]),
        ("ReduceSum", ["a"], ["s"]),
        ("Greater", ["s", "zero"], ["flag"]),
        helper.make_node("Squeeze", ["flag"], ["one"]),
        helper.make_node("If", ["one"], ["b"], then_branch=branch, else_branch=other),
        ("Add", ["a", "b"], ["y"]),
    ]
    shape = (1, 3, 5, 7)
    proto = make(nodes, {"early": shape, "late": shape}, ["y"], {"zero": np.zeros((1, 1, 1, 1), np.float32)})
    model = load(save(proto, tmp_path / "m.onnx"), cache=Cache(tmp_path / "cache"))
    numbers = {"early": of(shape, None, None), "late": of(shape, [100], [0.5])}
    inputs = {"early": pixels_of(shape, 1), "late": pixels_of(shape, 2)}
    taking = with_pixels(model, numbers)
    found, _ = run(taking, inputs, layout_plan(taking.graph, RANKS, "rows"), tmp_path / "cache")
    floats = {name: numbers[name].applied(array) for name, array in inputs.items()}
    assert equal(found["y"], np.maximum(floats["early"], 0) - floats["late"])
    assert equal(taking.file_inputs(inputs)["late"], floats["late"])


def test_names_that_are_taken_are_left_alone(tmp_path):
    nodes = [("Neg", ["x"], ["x::Cast"]), ("Abs", ["x::Cast"], ["x::Mul"])]
    model = load(save(make(nodes, {"x": (1, 3, 4, 4)}, ["x::Mul"]), tmp_path / "m.onnx"), cache=Cache(tmp_path))
    numbers, pixels = of((1, 3, 4, 4), None, None), pixels_of((1, 3, 4, 4))
    taking = with_pixels(model, {"x": numbers})
    found, _ = run(taking, {"x": pixels}, layout_plan(taking.graph, RANKS, "rows"), tmp_path)
    assert equal(found["x::Mul"], numbers.applied(pixels))


def test_an_input_that_is_an_output_too_stays_as_it_is(tmp_path):
    proto = make([("Neg", ["x"], ["y"])], {"x": (1, 3, 4, 4)}, ["y", "x"])
    model = load(save(proto, tmp_path / "m.onnx"), cache=Cache(tmp_path))
    taking = with_pixels(model, {"x": of((1, 3, 4, 4), None, None)})
    found, _ = run(taking, {"x": np.ones((1, 3, 4, 4), np.float32)}, layout_plan(taking.graph, 2, "rows"), tmp_path)
    assert (found["x"] == 1).all() and (found["y"] == -1).all()
    assert with_pixels(model, {}) is model


def test_a_plan_of_pixels_becomes_one_of_the_file(tmp_path):
    model = load("builtin:tiny_cnn", cache=Cache(tmp_path))
    (name,) = model.graph.inputs
    taking = with_pixels(model, {name: of(model.graph.value(name).shape, [1], None, name)})
    made = len(taking.graph.nodes) - len(model.graph.nodes)
    assert made == 4 and taking.file_digest == model.graph.digest != taking.graph.digest
    nodes = [node.name for node in taking.graph.nodes]
    rows = Layout("rows", (0, 1))
    for end in (1, made, made + 1):  # cut inside what was added, behind it, and behind the first node of the file
        value = taking.graph.nodes[end - 1].writes[0]
        halves = Segment(tuple(nodes[:end]), rows), Segment(tuple(nodes[end:]), Layout("single", (0,)), (), (value,))
        plan = Plan(halves, 2, taking.graph.digest)
        assert problems(plan, taking.graph) == [] and problems(plan, model.graph) != []
        assert problems(file_plan(taking, plan), model.graph) == []
        assert len(file_plan(taking, plan).segments) == 1 + (end > made)
    plain = layout_plan(model.graph, 2, "rows")
    assert file_plan(model, plain) is plain


@pytest.mark.parametrize("preset", ["rows", "channels"])
def test_a_plan_of_the_file_becomes_one_of_pixels(tmp_path, preset):
    model = load("builtin:tiny_cnn", cache=Cache(tmp_path))
    (name,) = model.graph.inputs
    numbers = of(model.graph.value(name).shape, MEANS["channels"], SCALES["channels"], name)
    taking, pixels = with_pixels(model, {name: numbers}), pixels_of(model.graph.value(name).shape)
    plan = layout_plan(model.graph, RANKS, preset, fusion="none")
    planned = pixel_plan(taking, plan)
    assert problems(planned, taking.graph) == [] and file_plan(taking, planned) == plan
    expected, floats = run(model, {name: numbers.applied(pixels)}, plan, tmp_path)
    found, sent = run(taking, {name: pixels}, planned, tmp_path)
    assert floats == 4 * sent > 0 and all(equal(found[each], expected[each]) for each in expected)
    assert pixel_plan(model, plan) is plan
    assert pixel_plan(taking, replace(plan, model="another")) is None


def test_numbers_that_several_segments_read_are_no_pixels_of_a_plan(tmp_path):
    shape, rows = (1, 3, 8, 8), Layout("rows", (0, 1))
    proto = make([("Neg", ["x"], ["a"]), ("Relu", ["a"], ["b"]), ("Add", ["x", "b"], ["y"])], {"x": shape}, ["y"])
    model = load(save(proto, tmp_path / "m.onnx"), cache=Cache(tmp_path))
    taking, nodes = with_pixels(model, {"x": of(shape, None, None)}), [node.name for node in model.graph.nodes]
    whole, halves = ([nodes], [nodes[:1], nodes[1:]])
    plans = [
        Plan(tuple(Segment(tuple(part), rows) for part in parts), 2, model.graph.digest) for parts in (whole, halves)
    ]
    assert problems(pixel_plan(taking, plans[0]), taking.graph) == [] and pixel_plan(taking, plans[1]) is None
