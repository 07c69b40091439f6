"""Crops inside segments in blocks: what they make is what a Slice makes, and nothing is laid out in rows for them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.model.blocked import marked, unmarked
from flexpie_mpi.model.blocked_crops import crops_of
from flexpie_mpi.runtime import cpu

BLOCK = cpu.block_size()
pytestmark = pytest.mark.skipif(not BLOCK, reason="onnxruntime has no blocked layout on this processor")

SHAPE = (1, 40, 9, 7)
"""Of the input: its last block is not full where a block is 16."""


def segment(*nodes, made=(1, 40, 6, 5), shape=SHAPE):
    """A model from ``x`` to ``y`` of nodes that may use the weights ``w`` (3 x 3, with pads) and ``v`` (1 x 1)."""
    chance = np.random.default_rng(0)
    weights = {"w": (40, shape[1], 3, 3), "v": (40, 40, 1, 1)}
    arrays = [numpy_helper.from_array(chance.standard_normal(of, np.float32) * 0.1, n) for n, of in weights.items()]
    bounds = {"rows": ([2], [8], [2]), "both": ([2, 1], [8, 6], [2, 3]), "channels": ([8], [40], [1])}
    for name, parts in bounds.items():
        for part, numbers in zip(("from", "to", "axes"), parts, strict=True):
            arrays.append(numpy_helper.from_array(np.array(numbers, np.int64), f"{name} {part}"))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, of) for n, of in (("x", shape), ("y", made))]
    graph = helper.make_graph(nodes, "segment", ends[:1], ends[1:], initializer=arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def conv(source, target, weight="v"):
    pads = [1, 1, 1, 1] if weight == "w" else [0, 0, 0, 0]
    return helper.make_node("Conv", [source, weight], [target], name=target, pads=pads)


def crop(source, target, bounds):
    return helper.make_node("Slice", [source, *(f"{bounds} {part}" for part in ("from", "to", "axes"))], [target])


def session(model, **settings):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def blocked_form(array):
    n, c, h, w = array.shape
    padded = np.zeros((n, -(-c // BLOCK) * BLOCK, h, w), np.float32)
    padded[:, :c] = array
    return padded.reshape(n, -1, BLOCK, h, w).transpose(0, 1, 3, 4, 2).reshape(padded.shape)


def in_blocks(tmp_path, model, *ends):
    """The operators that are left of a segment, and its result with `ends` in blocks, beside what it should be."""
    found, blocked = list(crops_of(model, BLOCK)), dict.fromkeys(ends, BLOCK)
    session(marked(model, blocked, found), optimized_model_filepath=str(tmp_path / "made.onnx"))
    made = unmarked(tmp_path / "made.onnx", model, blocked, found)
    x = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    own = session(made, graph_optimization_level=level)
    (got,) = own.run(None, {own.get_inputs()[0].name: blocked_form(x) if "x" in ends else x})
    (wanted,) = session(model).run(None, {"x": x})
    wanted = blocked_form(wanted) if "y" in ends else wanted
    return [node.op_type for node in onnx.ModelProto.FromString(made).graph.node], got, wanted


SHORTCUT = (
    conv("x", "a", "w"), crop("x", "s", "both"), crop("a", "b", "both"), conv("b", "c"),
    helper.make_node("Add", ["c", "s"], ["d"]), helper.make_node("Relu", ["d"], ["y"]),
)  # fmt: skip


def test_a_cropped_shortcut_stays_in_blocks_and_its_addition_in_the_convolution(tmp_path):
    ops, got, wanted = in_blocks(tmp_path, segment(*SHORTCUT), "x", "y")
    assert sorted(ops) == ["Conv", "Conv", *["Reshape"] * 4, "Slice", "Slice"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_what_is_cropped_in_rows_is_laid_out_in_blocks_behind(tmp_path):
    ops, got, wanted = in_blocks(tmp_path, segment(crop("x", "s", "rows"), conv("s", "y"), made=(1, 40, 6, 7)), "y")
    assert ops == ["Slice", "ReorderInput", "Conv"]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_what_is_read_in_rows_too_is_laid_out_so(tmp_path):
    """A softmax knows no blocks."""
    nodes = (
        conv("x", "a", "w"), crop("a", "s", "both"), helper.make_node("Softmax", ["s"], ["m"], axis=3),
        conv("s", "c"), helper.make_node("Mul", ["c", "m"], ["y"]),
    )  # fmt: skip
    _, got, wanted = in_blocks(tmp_path, segment(*nodes), "x")
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 40, 9, 7), (1, 4, 9, 7)])
def test_only_rows_and_columns_of_whole_blocks_are_cropped_so(shape):
    model = segment(crop("x", "s", "channels"), crop("x", "t", "rows"), shape=shape)
    assert [made.name for _, made in crops_of(model, BLOCK)] == (["t"] if shape[1] >= BLOCK else [])


@pytest.mark.parametrize(("ranks", "layout"), [(3, "rows"), (4, "grid")])
def test_a_job_whose_segments_crop_gives_the_same(ranks, layout, tmp_path):
    model = load("builtin:tiny_resnet")
    inputs = random_inputs(model.graph)
    plans = layout_plan(model.graph, 1, "single"), layout_plan(model.graph, ranks, layout, fusion="all-legal")

    def run(plan, boundaries):
        def rank(transport):
            engine = Engine(transport, model, plan, cache=Cache(tmp_path), boundaries=boundaries)
            return {name: array.copy() for name, array in engine.run(inputs).items()}

        return run_ranks(plan.ranks, rank)[0]

    wanted, got = run(plans[0], "nchw"), run(plans[1], "blocked")
    written = [onnx.load(path, load_external_data=False) for path in tmp_path.glob("blocked*/*/model.onnx")]
    ops = [node.op_type for each in written for node in each.graph.node]
    assert "Slice" in ops and "Add" not in ops
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5 * float(np.abs(array).max()))
