"""Quantised and half-precision models: equal bit by bit or within rounding, and faults found all the same."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.measure.compare import Reference, Rounding, compare_outputs
from flexpie_mpi.report.run import verdict_lines, verdict_record
from flexpie_mpi.runtime import engine as engine_module

from .model.build import make, save
from .quantised import inputs, write

SEED = 7
"""Of a request on which onnxruntime's own levels differ by a per cent, dynamically quantised."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A form's file, and its model, each made once."""
    folder, models = tmp_path_factory.mktemp("forms"), {}
    cache = Cache(folder / "cache")

    def make(form):
        if form not in models:
            path = write(form, folder)
            models[form] = path, load(str(path), cache=cache), cache
        return models[form]

    return make


def outputs_of(model, cache, ranks, layout, fusion, feeds):
    plan = layout_plan(model.graph, ranks, layout, fusion=fusion)

    def rank(transport):
        return {name: np.array(value) for name, value in Engine(transport, model, plan, cache=cache).run(feeds).items()}

    return run_ranks(ranks, rank)[0]


BITWISE = [
    ("bert: QDQ, per channel", 3, "rows", "none"),
    ("bert: QDQ, per channel", 2, "channels", "none"),
    ("bert: QOperator, per tensor", 2, "channels", "free"),
    ("resnet: QDQ, per tensor", 3, "rows", "none"),
    ("resnet: QOperator, per channel", 3, "grid", "free"),
    ("resnet: dynamic, per tensor", 2, "channels", "none"),
]


@pytest.mark.parametrize(("form", "ranks", "layout", "fusion"), BITWISE)
def test_integer_kernels_are_equal_bit_by_bit(made, form, ranks, layout, fusion):
    path, model, cache = made(form)
    feeds = inputs(path, SEED)
    found = outputs_of(model, cache, ranks, layout, fusion, feeds)
    reference = Reference(model, 1)
    expected = reference.outputs(feeds)
    assert all(np.array_equal(found[name], value) for name, value in expected.items())


def _pair(value, scale, zero):
    """Nodes that quantise a value and give it back as floats."""
    return [
        ("QuantizeLinear", [value, scale, zero], [f"{value}.q"]),
        ("DequantizeLinear", [f"{value}.q", scale, zero], [f"{value}.f"]),
    ]


SCALES = {"fine": np.float32(0.01), "coarse": np.float32(0.03), "middle": np.float32(0.02)}
"""So that many sums lie in the middle between two steps, where kernels round otherwise."""
ZEROS = {"unsigned": np.uint8(128), "signed": np.int8(3)}
IMAGE = (1, 4, 16, 16)


def _joined():
    """Two halves that are quantised by scales of their own, joined and quantised once more."""
    halves = [*_pair("x", "fine", "unsigned"), *_pair("z", "coarse", "unsigned")]
    join = helper.make_node("Concat", ["x.f", "z.f"], ["y"], axis=1)
    return make([*halves, join, *_pair("y", "middle", "unsigned")], {"x": IMAGE, "z": IMAGE}, ["y.f"], SCALES | ZEROS)


def _signed():
    """A sum that two nodes read, so that it keeps the sign that its operands lose: onnxruntime adds floats."""
    nodes = [*_pair("x", "fine", "signed"), *_pair("z", "coarse", "signed"), ("Add", ["x.f", "z.f"], ["s"])]
    nodes += [*_pair("s", "middle", "signed"), ("Sigmoid", ["s.f"], ["g"]), *_pair("g", "fine", "signed")]
    nodes += [("Mul", ["s.f", "g.f"], ["y"]), *_pair("y", "coarse", "signed")]
    return make(nodes, {"x": IMAGE, "z": IMAGE}, ["y.f"], SCALES | ZEROS)


@pytest.mark.parametrize(("network", "layout", "fusion"), [(_joined, "channels", "free"), (_signed, "rows", "none")])
def test_a_part_is_given_the_kernels_that_the_whole_has(tmp_path, network, layout, fusion):
    """Which ones those are depends on what is around: types without a sign, a second rounding behind a first."""
    path = save(network(), tmp_path / "network.onnx")
    feeds, cache = inputs(path, SEED), Cache(None)
    model = load(path, cache=cache)
    found = outputs_of(model, cache, 2, layout, fusion, feeds)
    expected = Reference(model, 1).outputs(feeds)
    assert np.array_equal(found["y.f"], expected["y.f"])


def test_kernels_that_need_packed_weights_get_them(made):
    """Without, four-bit products sum in floats: in no session of a job, nor where a model is prepared."""
    path, model, cache = made("bert: 4 bits, 8-bit sums")
    feeds = inputs(path, SEED)
    found = outputs_of(model, cache, 2, "rows", "free", feeds)
    reference = Reference(model, 1)
    assert [check.rule for check in reference.compare(feeds, found) if not check.problem] == ["", ""]


def verdict_of(model, cache, feeds, ranks, layout):
    plan = layout_plan(model.graph, ranks, layout, fusion="none")

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache)
        outputs = {name: np.array(value) for name, value in engine.run(feeds).items()}
        return compare_outputs(engine, feeds, outputs, cache=cache)

    return run_ranks(ranks, rank)[0], plan


FORMS = ["bert: dynamic, per channel", "bert: float16"]


@pytest.mark.parametrize("form", FORMS)
def test_what_onnxruntime_rounds_otherwise_itself_is_no_fault(made, form):
    path, model, cache = made(form)
    found, plan = verdict_of(model, cache, inputs(path, SEED), 2, "channels")
    assert found.is_equal
    for check in found.outputs:
        assert check.largest <= check.allowed
        assert check.rounding <= 0.1 and bool(check.rounding) == bool(check.rule)
    (line,) = verdict_lines(found, plan)
    assert "equal to one onnxruntime session" in line
    ruled = {item["rule"] for item in verdict_record(found)["outputs"]}
    assert ("levels" in ruled) == ("what onnxruntime's own optimisation levels differ by" in line)


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_shard_is_found_all_the_same(made, form, monkeypatch):
    """A rank's rows are off by one in the last layer: where nothing behind would make the difference any larger."""
    path, model, cache = made(form)
    plan = layout_plan(model.graph, 2, "channels", fusion="none")
    wrong = max(n for n, segment in enumerate(plan.segments) if "encoder.3.attention.value" in segment.nodes[-1])
    make = engine_module.make_kernel

    def planted(sessions, program, step, values):
        action = make(sessions, program, step, values)
        if (program.size, program.rank, step.segment) != (2, 1, wrong):
            return action
        _, index = step.outputs[0]

        def shifted():
            action()
            values[index][...] = np.roll(values[index], 1, axis=1)

        return shifted

    monkeypatch.setattr(engine_module, "make_kernel", planted)
    found, _ = verdict_of(model, cache, inputs(path, SEED), 2, "channels")
    assert not found.is_equal
    assert found.first.segment >= wrong
    assert found.first.ranks == (1,)


def test_rounding_is_looked_for_only_where_something_differs(made, monkeypatch):
    path, model, _ = made("resnet: QDQ, per tensor")
    looked = []
    monkeypatch.setattr(Rounding, "look", lambda self, rule, *_: looked.append(rule))
    feeds = inputs(path, SEED)
    reference = Reference(model, 1)
    expected = reference.outputs(feeds)
    assert not any(check.problem for check in reference.compare(feeds, expected))
    assert looked == []
    wrong = {name: value + np.abs(value).max() for name, value in expected.items()}
    assert all(check.problem for check in reference.compare(feeds, wrong))
    assert looked == ["levels", "nudges"]
