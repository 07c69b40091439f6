"""``--verify``: equality as it is meant, and the segment that is named when something is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flexpie_mpi import Engine, Layout, Plan, Segment, layout_plan, load, run_ranks
from flexpie_mpi.core.region import Region
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure.compare import compare_outputs, with_boundaries
from flexpie_mpi.model.equality import apart, compare
from flexpie_mpi.ops import rule_for
from flexpie_mpi.report.run import divergence_sentence, verdict_record
from flexpie_mpi.runtime import engine as engine_module
from flexpie_mpi.runtime.kernels import own_block
from flexpie_mpi.runtime.loopback import alone

EQUAL = [
    (np.float32([1, 2]), np.float32([1, 2])),
    (np.float32([1, np.nan, np.inf]), np.float32([1, np.nan, np.inf])),
    (np.float32([1000, 0.05]), np.float32([1000, 0.0])),  # the largest magnitude sets the scale
    (np.float16([1, 1.001]), np.float16([1, 1])),
    (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)),
    (np.float32(2), np.float32(2)),
    (np.array(["a", "b"], object), np.array(["a", "b"], object)),
    (np.array([True, False]), np.array([True, False])),
    ([np.float32([1]), np.float32([2, 3])], [np.float32([1]), np.float32([2, 3])]),
    ([{1: 0.5, 2: 0.25}], [{1: 0.5, 2: 0.25}]),
]
DIFFERENT = [
    (np.float32([1, 2]), np.float32([1, 2.001])),
    (np.float32([1, np.nan]), np.float32([1, 2])),
    (np.float32([1, 2]), np.float32([1, np.nan])),
    (np.float32([1, np.inf]), np.float32([1, -np.inf])),
    (np.float32([1e-30]), np.float32([0])),
    (np.float16([1, 1.01]), np.float16([1, 1])),
    (np.float32([1, 2]), np.float64([1, 2])),
    (np.float32([1, 2]), np.float32([[1, 2]])),
    (np.int64([2**62]), np.int64([2**62 + 1])),
    (np.uint8([0]), np.uint8([255])),
    (np.array(["a"], object), np.array(["b"], object)),
    (np.array([True]), np.array([False])),
    ([np.float32([1])], [np.float32([1]), np.float32([2])]),
    ([np.float32([1])], [np.float32([2])]),
    ({1: 0.5}, {2: 0.5}),
    (np.float32([1]), [np.float32([1])]),
]


@pytest.mark.parametrize(("found", "expected"), EQUAL)
def test_equal(found, expected):
    assert compare("y", found, expected).problem == ""


@pytest.mark.parametrize(("found", "expected"), DIFFERENT)
def test_different(found, expected):
    check = compare("y", found, expected)
    assert check.problem and check.largest > check.allowed


@pytest.mark.parametrize(
    ("found", "expected", "rounding", "is_equal"),
    [
        (np.float32([1, 2.05]), np.float32([1, 2]), 0.03, True),  # 0.03 of the largest magnitude
        (np.float32([1, 2.05]), np.float32([1, 2]), 0.02, False),
        (np.float32([1, 2.3]), np.float32([1, 2]), 0.5, False),  # never more than a tenth
        (np.uint8([10, 250]), np.uint8([12, 250]), 0.01, True),
        (np.uint8([10, 250]), np.uint8([13, 250]), 0.01, False),
        (np.array([True, False]), np.array([True, True]), 0.1, False),
        ([np.float32([2.05])], [np.float32([2])], 0.03, True),
        (np.float32([1, np.nan]), np.float32([1, 2]), 0.1, False),
        (np.float32([[1]]), np.float32([1]), 0.1, False),
    ],
)
def test_rounding_widens_the_tolerance(found, expected, rounding, is_equal):
    check = compare("y", found, expected, rounding, "levels")
    assert (check.problem == "") == is_equal
    assert check.rule == "levels" and check.rounding == min(rounding, 0.1)


@pytest.mark.parametrize(
    ("found", "expected", "distance"),
    [
        (np.float32([1, 2.5]), np.float32([1, 2]), 0.25),
        (np.int8([0, -128]), np.int8([64, -128]), 0.5),
        ([{1: 3.0}], [{1: 2.0}], 0.5),
        (np.float32([1, np.nan]), np.float32([2, 2]), 0.5),  # where no difference can be taken, none counts
        (np.float32([1]), np.float32([1, 2]), 0.0),
        (np.array(["a"], object), np.array(["b"], object), 0.0),
        (np.zeros(2, np.float32), np.zeros(2, np.float32), 0.0),
    ],
)
def test_how_far_two_results_are_apart(found, expected, distance):
    assert apart(found, expected) == pytest.approx(distance)


def test_the_region_is_the_smallest_box_around_what_differs():
    expected = np.ones((1, 4, 8, 8), np.float32)
    found = expected.copy()
    found[0, 1, 3, 5] = found[0, 2, 6, 4] = 2
    check = compare("y", found, expected)
    assert check.region == Region(((0, 1), (1, 3), (3, 7), (4, 6)))
    assert check.largest == 1 and "2 of 256 elements" in check.problem


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(cache):
    return load("builtin:tiny_cnn", cache=cache)


def verdicts(model, cache, ranks, preset, fusion="free"):
    """The verdict of every rank, and the plan."""
    plan = layout_plan(model.graph, ranks, preset, fusion=fusion)
    inputs = random_inputs(model.graph)

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache)
        outputs = {name: np.array(value) for name, value in engine.run(inputs).items()}
        return compare_outputs(engine, inputs, outputs, cache=cache)

    return run_ranks(ranks, rank), plan


@pytest.mark.parametrize("preset", ["rows", "channels"])
def test_a_sound_job_is_equal(model, cache, preset):
    found, _ = verdicts(model, cache, 2, preset)
    assert found[0] == found[1] and found[0].is_equal and found[0].first is None
    assert verdict_record(found[0])["equal"] is True


@pytest.mark.parametrize("segment", [0, 3, 6])
def test_the_segment_that_computes_something_else_is_named(model, cache, segment, monkeypatch):
    make = engine_module.make_kernel

    def planted(sessions, program, step, values):
        action = make(sessions, program, step, values)
        if (program.size, program.rank, step.segment) != (2, 1, segment):
            return action
        _, index = step.outputs[0]

        def wrong():
            action()
            values[index][0, 0, -1, 0] += 10

        return wrong

    monkeypatch.setattr(engine_module, "make_kernel", planted)
    found, plan = verdicts(model, cache, 2, "rows")
    assert found[0] == found[1] and not found[0].is_equal
    first = found[0].first
    assert first.segment == segment and first.ranks == (1,)
    assert first.check.region.shape == (1, 1, 1, 1) and first.check.largest == pytest.approx(10)
    sentence = divergence_sentence(found[0], plan)
    assert f"segment that differs is {segment} " in sentence and plan.segments[segment].nodes[0] in sentence


def test_of_a_sum_every_rank_with_a_part_may_be_the_one(model, cache, monkeypatch):
    names = [node.name for node in model.graph.nodes]
    pool = next(place for place, node in enumerate(model.graph.nodes) if node.op == "GlobalAveragePool")
    spans = names[:pool], names[pool : pool + 1], names[pool + 1 :]
    layouts = Layout("single", (0,)), Layout("rows", (0, 1, 2), (1, 0, 1), in_parts=True), Layout("single", (0,))
    plan = Plan(tuple(map(Segment, map(tuple, spans), layouts)), 3, model.graph.digest)
    rule = type(rule_for(model.graph.bound[pool]))
    part = rule.part
    monkeypatch.setattr(rule, "part", _without_the_share(part))
    inputs = random_inputs(model.graph)

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache)
        outputs = {name: np.array(value) for name, value in engine.run(inputs).items()}
        return compare_outputs(engine, inputs, outputs, cache=cache)

    first = run_ranks(3, rank)[0].first
    assert plan.segments[first.segment].nodes == (names[pool],) and first.ranks == (0, 2)


def _without_the_share(part):
    """Parts of an average that are averages themselves."""
    return lambda self, node, into: (replace(part(self, node, into)[0], outputs=(0,)),)


def test_a_broken_rule_is_found_in_the_first_segment_that_uses_it(model, cache, monkeypatch):
    pool = model.graph.bound[model.graph.position["pool"]]
    rule = type(rule_for(pool))
    local = rule.local

    def upside_down(self, node, out, into):
        """Pads of the other end: right in size, shifted in content."""

        def turned(name, value):
            return (name, (*value[2:], *value[:2])) if name == "pads" else (name, value)

        made = local(self, node, out, into)
        return tuple(replace(one, attributes=tuple(turned(*pair) for pair in one.attributes)) for one in made)

    monkeypatch.setattr(rule, "local", upside_down)
    found, plan = verdicts(model, cache, 2, "rows", "none")
    assert plan.segments[found[0].first.segment].nodes == ("pool",)


def test_a_difference_that_does_not_repeat_is_said_to_be_one(model, cache):
    plan = layout_plan(model.graph, 1, "single")
    inputs = random_inputs(model.graph)

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache)
        return compare_outputs(engine, inputs, {"scores": np.array(engine.run(inputs)["scores"]) + 1}, cache=cache)

    (found,) = run_ranks(1, rank)
    assert not found.is_equal and found.first is None
    assert "did not repeat" in divergence_sentence(found, plan)


def test_a_difference_is_looked_for_in_the_form_in_which_it_showed(model, cache, monkeypatch):
    made = engine_module.Engine.__init__
    blocks = []

    def noted(engine, *given, **named):
        made(engine, *given, **named)
        if engine.transport.size == 2:
            blocks.append(engine.blocks)

    monkeypatch.setattr(engine_module.Engine, "__init__", noted)
    plan, inputs = layout_plan(model.graph, 2, "rows"), random_inputs(model.graph)
    wrong = {"scores": np.zeros((1, 10), np.float32)}
    for boundaries, expected in (("nchw", (0, 0)), ("auto", (own_block(), own_block()))):

        def rank(transport, boundaries=boundaries):
            engine = Engine(transport, model, plan, cache=cache, boundaries=boundaries)
            return compare_outputs(engine, inputs, wrong, cache=cache)

        blocks.clear()
        assert not run_ranks(2, rank)[0].is_equal and blocks == 4 * [expected], "two engines on two ranks"


def test_boundaries_become_outputs_once(model):
    plan = layout_plan(model.graph, 2, "rows", fusion="none")
    outputs = with_boundaries(model, plan).graph.outputs
    assert outputs[0] == "scores" and len(set(outputs)) == len(outputs) == len(model.graph.nodes)


def test_the_reference_shares_nothing_with_the_cache(model, cache):
    """Weights damaged on disk give wrong outputs on both sides of the engine, and must not give an equal verdict."""
    plan = layout_plan(model.graph, 1, "single")
    inputs = random_inputs(model.graph, seed=0)
    Engine(alone(), model, plan, cache=cache)
    slices = sorted((cache.folder / "weights").iterdir(), key=lambda path: path.stat().st_size)
    whole = slices[-1].read_bytes()
    slices[-1].write_bytes(np.full(len(whole) // 4, 0.5, np.float32).tobytes())
    try:
        engine = Engine(alone(), model, plan, cache=cache)
        assert not compare_outputs(engine, inputs, engine.run(inputs), cache=cache).is_equal
    finally:
        slices[-1].write_bytes(whole)
