"""Only what is asked for: outputs by name and by position, and nothing computed that they do not need."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.core.plan import Plan
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import turns_of
from flexpie_mpi.lower.facts import facts_of
from flexpie_mpi.lower.shards import node_flops
from flexpie_mpi.measure.compare import Reference
from flexpie_mpi.model import Model
from flexpie_mpi.model.inputs import Asked
from flexpie_mpi.planner.rules import random_plan

from ..fused import MODELS
from .build import make, noise, save

HIDDEN, HEADS = 24, 3


def block() -> onnx.ModelProto:
    """A layer of a decoder as an exporter writes it, and a head with large weights."""
    heads = np.array([0, 0, HEADS, HIDDEN // HEADS], np.int64)
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g"], ["n"]),
        *(("MatMul", ["n", f"w{name}"], [name]) for name in "qkv"),
        *(("Reshape", [name, "heads"], [f"{name}4"]) for name in "qkv"),
        *(helper.make_node("Transpose", [f"{name}4"], [f"{name}t"], perm=[0, 2, 1, 3]) for name in "qv"),
        helper.make_node("Transpose", ["k4"], ["kt"], perm=[0, 2, 3, 1]),
        ("MatMul", ["qt", "kt"], ["scores"]),
        ("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["weights"], axis=-1),
        ("MatMul", ["weights", "vt"], ["c"]),
        helper.make_node("Transpose", ["c"], ["ct"], perm=[0, 2, 1, 3]),
        ("Reshape", ["ct", "flat"], ["cf"]),
        ("MatMul", ["cf", "wo"], ["o"]),
        ("Add", ["o", "x"], ["h"]),
        ("MatMul", ["h", "head"], ["logits"]),
    ]
    square = {f"w{name}": noise(HIDDEN, HIDDEN, seed=ord(name)) for name in "qkvo"}
    mask = np.triu(np.full((1, 1, 8, 8), -1e4, np.float32), 1)
    shapes = {"heads": heads, "flat": np.array([0, 0, HIDDEN], np.int64), "mask": mask, "g": noise(HIDDEN)}
    return make(nodes, {"x": ["b", 8, HIDDEN]}, ["logits", "h"], {**square, **shapes, "head": noise(HIDDEN, 400)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    save(block(), folder / "block.onnx")
    for name, make_model in MODELS.items():
        save(make_model(), folder / f"{name}.onnx")
    return folder


def loaded(folder: Path, name: str, *outputs: str) -> Model:
    return load(str(folder / f"{name}.onnx"), Asked(outputs=outputs or None), Cache(folder / "cache"))


def run(model: Model, plan: Plan, folder: Path) -> dict[str, np.ndarray]:
    """Outputs of a plan, compared with those of the file."""
    inputs = random_inputs(model.graph, seed=3)
    cache = Cache(folder / "cache")

    def rank(transport):
        mine = model if transport.rank == 0 else Model.from_skeleton(model.skeleton())
        return {name: np.array(value) for name, value in Engine(transport, mine, plan, cache=cache).run(inputs).items()}

    found = run_ranks(plan.ranks, rank)[0]
    assert not [check for check in Reference(model, 1).compare(inputs, found) if check.problem], plan
    return found


def work(model: Model) -> int:
    return sum(map(node_flops, model.graph.bound))


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ("logits[:, -1]", np.s_[:, -1]),
        ("logits[:]", np.s_[:]),
        ("logits[:, 2:5, 7]", np.s_[:, 2:5, 7]),
        ("logits[-1, :4, -3:-1]", np.s_[-1, :4, -3:-1]),
        ("logits[ 0 , 1 , 2 ]", np.s_[0, 1, 2]),
    ],
)
def test_positions_are_what_numpy_takes(folder, asked, index):
    model = loaded(folder, "block", asked)
    found = run(model, layout_plan(model.graph, 2, "rows"), folder)
    session = onnxruntime.InferenceSession(str(folder / "block.onnx"))
    (logits,) = session.run(["logits"], random_inputs(model.graph, seed=3))
    np.testing.assert_allclose(found[asked], logits[index], rtol=1e-4, atol=1e-5)


def test_nothing_is_computed_that_no_output_needs(folder):
    whole, last = loaded(folder, "block"), loaded(folder, "block", "logits[:, -1]")
    sizes = {node.writes[0]: last.graph.value(node.writes[0]).shape for node in last.graph.nodes}
    assert sizes["q"] == (1, 1, HIDDEN) and sizes["k"] == (1, 8, HIDDEN) and sizes["weights"] == (1, HEADS, 1, 8)
    assert work(last) < work(whole) / 4
    assert {node.op for node in loaded(folder, "block", "h").graph.nodes} == {n.op for n in whole.graph.nodes}
    assert work(loaded(folder, "block", "h")) < work(whole) / 2
    assert loaded(folder, "block", "h", "logits").graph.outputs == ("h", "logits")
    assert len({each.graph.digest for each in (whole, last, loaded(folder, "block", "logits[:, -2]"))}) == 3


def test_positions_of_a_value_that_the_model_takes_itself(folder, tmp_path):
    """Nobody has to ask: a class token is all that a head reads of the last layer."""
    proto = block()
    proto.graph.node.append(helper.make_node("Gather", ["logits", "zero"], ["token"], axis=1))
    proto.graph.initializer.append(helper.make_tensor("zero", 7, (), [0]))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("token", 1, None))
    model = load(save(proto, tmp_path / "m.onnx"), cache=Cache(tmp_path / "cache"))
    assert model.graph.value("q").shape == (1, 1, HIDDEN)
    run(model, layout_plan(model.graph, 3, "channels"), tmp_path)


def test_every_rank_keeps_its_share_of_weights_that_are_cut(folder):
    model = loaded(folder, "block", "logits[:, -1, :200]")
    plan = layout_plan(model.graph, 4, "channels")
    needs = facts_of(plan, model.graph, turns_of(plan, model.graph)[0]).ranks
    assert max(need.weight_bytes for need in needs) < 4 * (5 * HIDDEN * HIDDEN + HIDDEN * 50 + 1000)
    run(model, plan, folder)


@pytest.mark.parametrize("name", MODELS)
def test_random_plans_of_one_position(folder, name):
    first = loaded(folder, name).graph.outputs[0]
    model = loaded(folder, name, f"{first}[:, -1]" if name != "recurrent" else f"{first}[-1]")
    for seed in range(2):
        run(model, random_plan(model.graph, 3, Random(seed)), folder)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("logit", "--outputs logit: the model has no such output; did you mean 'logits'"),
        ("z[0]", "no such output; its outputs are 'logits', 'h'"),
        ("logits[8:9, a]", "' a' in --outputs is no position as -1 and no range as 3:10"),
        ("logits[::2]", "'::2' in --outputs is no position"),
        ("logits[]", "'' in --outputs is no position"),
        ("logits[:, 8]", "(index 8 into 8 positions)"),
        ("logits[0, 0, 0, 0]", "does not accept the model"),
    ],
)
def test_what_there_is_not(folder, asked, said):
    with pytest.raises(ModelError) as raised:
        loaded(folder, "block", asked)
    assert said in str(raised.value)


def test_old_models_and_names_with_brackets(tmp_path):
    nodes = [("Relu", ["x"], ["y[0]"]), ("Neg", ["x"], ["y"])]
    path = save(make(nodes, {"x": [4, 6]}, ["y[0]", "y"], opset=9), tmp_path / "m.onnx")
    model = load(path, Asked(outputs=("y[0]", "y[1:, -1]")), Cache(None))
    assert [model.graph.value(name).shape for name in model.graph.outputs] == [(4, 6), (3,)]
    run(model, layout_plan(model.graph, 2, "rows"), tmp_path)
