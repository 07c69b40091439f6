"""Products that are split apart become one for each branch, and ranks keep the weights of their heads only."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from flexpie_mpi import Engine, layout_plan, run_ranks
from flexpie_mpi.lower import turns_of
from flexpie_mpi.lower.facts import facts_of

from ..models import beside_one_session
from .build import make, noise

HIDDEN, HEADS, TOKENS = 48, 4, 6


def attention(style: str) -> onnx.ModelProto:
    """Queries, keys and values by one product, taken apart as an exporter of that style does; or by one operator."""
    width = HIDDEN // HEADS
    weights = {"w": noise(HIDDEN, 3 * HIDDEN), "b": noise(3 * HIDDEN), "o": noise(HIDDEN, HIDDEN, seed=1)}
    if style == "merged":
        node = helper.make_node("Attention", ["x", "w", "b"], ["c"], domain="com.microsoft", num_heads=HEADS)
        nodes = [node, ("MatMul", ["c", "o"], ["y"])]
        return make(nodes, {"x": [1, TOKENS, HIDDEN]}, ["y"], weights, domains=["com.microsoft"])
    weights |= {"apart": np.array([0, 0, HEADS, width], np.int64), "flat": np.array([0, 0, HIDDEN], np.int64)}
    if style == "gemm":
        weights |= {"rows": np.array([-1, HIDDEN], np.int64), "back": np.array([1, TOKENS, 3 * HIDDEN], np.int64)}
        nodes = [
            ("Reshape", ["x", "rows"], ["x2"]),
            ("Gemm", ["x2", "w", "b"], ["m"]),
            ("Reshape", ["m", "back"], ["a"]),
        ]
    else:
        nodes = [("MatMul", ["x", "w"], ["m"]), ("Add", ["m", "b"], ["a"])]
    if style == "stacked":
        weights |= {"five": np.array([1, TOKENS, 3, HEADS, width], np.int64)}
        weights |= {name: np.array(place, np.int64) for place, name in enumerate(("zero", "one", "two"))}
        nodes += [
            ("Reshape", ["a", "five"], ["a5"]),
            helper.make_node("Transpose", ["a5"], ["t5"], perm=[2, 0, 3, 1, 4]),
        ]
        nodes += [("Gather", ["t5", place], [name]) for place, name in (("zero", "qt"), ("one", "kh"), ("two", "vt"))]
        nodes.append(helper.make_node("Transpose", ["kh"], ["kt"], perm=[0, 1, 3, 2]))
    else:
        weights["sizes"] = np.array([HIDDEN] * 3, np.int64)
        nodes.append(helper.make_node("Split", ["a", "sizes"], ["q", "k", "v"], axis=-1))
        for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            nodes.append(("Reshape", [name, "apart"], [f"{name}4"]))
            nodes.append(helper.make_node("Transpose", [f"{name}4"], [f"{name}t"], perm=perm))
    nodes += [
        ("MatMul", ["qt", "kt"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        ("MatMul", ["p", "vt"], ["c"]),
        helper.make_node("Transpose", ["c"], ["ct"], perm=[0, 2, 1, 3]),
        ("Reshape", ["ct", "flat"], ["cf"]),
        ("MatMul", ["cf", "o"], ["y"]),
    ]
    return make(nodes, {"x": [1, TOKENS, HIDDEN]}, ["y"], weights)


STYLES = ("split", "gemm", "stacked", "merged")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    models = {style: lambda style=style: attention(style) for style in STYLES}
    return beside_one_session(tmp_path_factory.mktemp("branches"), models)


@pytest.mark.parametrize("style", STYLES)
def test_every_branch_has_a_product_of_its_own(case, style):
    model, inputs, expected, cache = case(style)
    graph = model.graph
    assert [value.shape for value in graph.constants if len(value.shape) == 2] == [(HIDDEN, HIDDEN)] * 4
    assert "Split" not in {node.op for node in graph.nodes}
    assert graph.weight_bytes < 4 * (4 * HIDDEN * HIDDEN + 3 * HIDDEN + 200)
    plan = layout_plan(graph, 4, "megatron")
    found = facts_of(plan, graph, turns_of(plan, graph)[0])
    assert max(rank.weight_bytes for rank in found.ranks) < 0.27 * graph.weight_bytes

    def rank(transport):
        outputs = Engine(transport, model, plan, cache=cache).run(inputs)
        return {name: np.array(value) for name, value in outputs.items()}

    np.testing.assert_allclose(run_ranks(4, rank)[0]["y"], expected["y"], rtol=1e-4, atol=1e-4)
