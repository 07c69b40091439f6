"""Matrix products: rows, columns and batches of the result, and slices of the weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.region import Region
from flexpie_mpi.model.model import Model
from flexpie_mpi.ops import part_axes, rule_for

from .harness import check_parts, check_rule
from .onenode import NEWEST, OPSETS, axes_below, one_node

SHAPES = (
    ((4, 6), (6, 5)),
    ((2, 3, 4, 6), (2, 3, 6, 5)),
    ((2, 3, 4, 6), (6, 5)),
    ((4, 6), (2, 3, 6, 5)),
    ((2, 1, 4, 6), (3, 6, 5)),
    ((6,), (6, 5)),
    ((6,), (3, 6, 5)),
    ((4, 6), (6,)),
    ((2, 4, 6), (6,)),
    ((6,), (6,)),
)


@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("constant", [False, True])
def test_matmul(left, right, constant, rng):
    weight = rng.standard_normal(right).astype(np.float32)
    proto = one_node("MatMul", [left, weight if constant else right])
    check_rule(proto, cut=(axes_below(len(np.matmul(np.zeros(left), weight).shape)),), trials=8)


@pytest.mark.parametrize("opset", OPSETS)
def test_matmul_of_each_opset(opset):
    check_rule(one_node("MatMul", [(2, 4, 6), (6, 5)], opset=opset), cut=(axes_below(3),))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_batch_broadcast(data):
    batch = data.draw(st.lists(st.integers(1, 4), max_size=3))
    own = [
        tuple(data.draw(st.sampled_from((1, n))) for n in batch[data.draw(st.integers(0, len(batch))) :]) for _ in "ab"
    ]
    m, k, n = (data.draw(st.integers(1, 6)) for _ in "mkn")
    check_rule(one_node("MatMul", [(*own[0], m, k), (*own[1], k, n)]), trials=3)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("added", [None, (), (1,), (5,), (4, 1), (1, 5), (4, 5)])
@pytest.mark.parametrize("opset", [11, NEWEST])
def test_gemm(trans_a, trans_b, added, opset, rng):
    left, right = ((6, 4) if trans_a else (4, 6)), ((5, 6) if trans_b else (6, 5))
    weight = rng.standard_normal(right).astype(np.float32)
    operands = [left, weight] if added is None else [left, weight, rng.standard_normal(added).astype(np.float32)]
    proto = one_node("Gemm", operands, opset=opset, transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0)
    check_rule(proto, cut=(axes_below(2),), trials=5)


@pytest.mark.parametrize("opset", [7, 9])
def test_gemm_of_old_opsets(opset):
    check_rule(one_node("Gemm", [(4, 6), (6, 5), (5,)], opset=opset), cut=(axes_below(2),))


def test_output_features_need_only_their_weights(rng):
    """The reason to cut by channels: a quarter of the features reads a quarter of the weights."""
    proto = one_node("Gemm", [(1, 64), rng.standard_normal((8, 64)).astype(np.float32), (8,)], transB=1)
    (node,) = Model.from_skeleton(proto.SerializeToString()).graph.bound
    _, weight, bias = rule_for(node).in_regions(node, (Region(((0, 1), (2, 4))),))
    assert weight == Region(((2, 4), (0, 64))) and bias == Region(((2, 4),))


@pytest.mark.parametrize(("op", "shapes"), [("MatMul", [(2, 4, 6), (6, 5)]), ("Einsum", [(2, 4, 6), (6, 5)])])
def test_work_is_two_flops_per_product(op, shapes):
    attributes = {"equation": "bij,jk->bik"} if op == "Einsum" else {}
    (node,) = Model.from_skeleton(one_node(op, shapes, **attributes).SerializeToString()).graph.bound
    assert rule_for(node).flops(node, (Region(((0, 2), (1, 4), (0, 5))),)) == 2 * (2 * 3 * 5) * 6


POINTS = ((None, None), ((), ()), ((), (5,)))


@pytest.mark.parametrize("zero_points", POINTS)
@pytest.mark.parametrize("types", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_matmul_integer(zero_points, types, rng):
    weight = rng.integers(0, 100, (6, 5)).astype(types[1])
    points = [
        None if shape is None else np.array(rng.integers(0, 9, shape), dtype)
        for shape, dtype in zip(zero_points, types, strict=True)
    ]
    proto = one_node("MatMulInteger", [((2, 4, 6), types[0]), weight, *points])
    check_rule(proto, cut=(axes_below(3),))


@pytest.mark.parametrize("opset", [10, 21, NEWEST])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_qlinear_matmul(opset, by_column, batch, rng):
    shape = (5,) if by_column else ()
    weight = rng.integers(-50, 50, (6, 5)).astype(np.int8)
    scales = rng.uniform(0.01, 0.05, shape).astype(np.float32), np.zeros(shape, np.int8)
    one, zero = np.array(0.05, np.float32), np.array(3, np.int8)
    proto = one_node(
        "QLinearMatMul", [((*batch, 4, 6), "int8"), one, zero, weight, *map(np.asarray, scales), one, zero], opset=opset
    )
    check_rule(proto, cut=(axes_below(2 + len(batch)),))


EQUATIONS = (
    ("ij,jk->ik", (4, 6), (6, 5)),
    ("bij, bjk -> bik", (2, 4, 6), (2, 6, 5)),
    ("bhid,bhjd->bhij", (2, 3, 4, 6), (2, 3, 5, 6)),
    ("ij,jk", (4, 6), (6, 5)),
    ("ij->ji", (4, 6)),
    ("ij->", (4, 6)),
    ("ij->i", (4, 6)),
    ("i,j->ij", (4,), (6,)),
    ("bij,bij->bi", (2, 4, 6), (2, 4, 6)),
)


@pytest.mark.parametrize(("equation", "shapes"), [(equation, shapes) for equation, *shapes in EQUATIONS])
def test_einsum(equation, shapes):
    proto = one_node("Einsum", shapes, equation=equation)
    ndim = len(proto.graph.output[0].type.tensor_type.shape.dim)
    check_rule(proto, cut=(axes_below(ndim),))


def test_einsum_with_ellipsis_runs_whole():
    check_rule(one_node("Einsum", [(2, 4, 6)], equation="...ij->...ji"), cut=(set(),), trials=2)


@pytest.mark.parametrize(("left", "right"), SHAPES)
@pytest.mark.parametrize("constant", [False, True])
def test_parts_of_a_product(left, right, constant, rng):
    weight = rng.standard_normal(right).astype(np.float32)
    check_parts(one_node("MatMul", [left, weight if constant else right]), {len(left) - 1})


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from(["float32", "float64", "int32", "int64"]))
def test_parts_of_any_stack(data, dtype):
    batch = data.draw(st.lists(st.integers(1, 3), max_size=2))
    own = [tuple(data.draw(st.sampled_from((1, n))) for n in batch) for _ in "ab"]
    m, k, n = (data.draw(st.integers(1, 9)) for _ in "mkn")
    shapes = [((*own[0], m, k), dtype), ((*own[1], k, n), dtype)]
    check_parts(one_node("MatMul", shapes), {len(batch) + 1}, trials=3, seed=m * k)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("added", [None, (), (5,), (4, 1), (4, 5)])
@pytest.mark.parametrize("opset", [11, NEWEST])
def test_parts_of_gemm_add_the_summand_once(trans_a, trans_b, added, opset, rng):
    left, right = ((6, 4) if trans_a else (4, 6)), ((5, 6) if trans_b else (6, 5))
    operands = [left, right] if added is None else [left, right, rng.standard_normal(added).astype(np.float32)]
    proto = one_node("Gemm", operands, opset=opset, transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0)
    check_parts(proto, {0 if trans_a else 1})


def test_the_summand_of_gemm_may_be_computed():
    check_parts(one_node("Gemm", [(4, 6), (6, 5), (4, 5)], beta=3.0), {1})


@pytest.mark.parametrize("opset", [7, 9])
def test_gemm_of_old_opsets_has_no_parts(opset):
    check_parts(one_node("Gemm", [(4, 6), (6, 5), (5,)], opset=opset), set())


@pytest.mark.parametrize("zero_points", POINTS)
@pytest.mark.parametrize("types", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_parts_of_matmul_integer(zero_points, types, rng):
    weight = rng.integers(0, 100, (6, 5)).astype(types[1])
    points = [
        None if shape is None else np.array(rng.integers(0, 9, shape), dtype)
        for shape, dtype in zip(zero_points, types, strict=True)
    ]
    check_parts(one_node("MatMulInteger", [((2, 4, 6), types[0]), weight, *points]), {2})


@pytest.mark.parametrize(
    ("equation", "shapes", "axes"),
    [
        ("ij,jk->ik", ((4, 6), (6, 5)), {1}),
        ("bij,bjk->bik", ((2, 4, 6), (2, 6, 5)), {2}),
        ("bhid,bhjd->bhij", ((2, 3, 4, 6), (2, 3, 5, 6)), {3}),
        ("ijk,jk->i", ((4, 6, 5), (6, 5)), {1, 2}),
        ("ij->", ((4, 6),), {0, 1}),
        ("ji,jk->ik", ((6, 4), (6, 5)), {0}),
        ("i,j->ij", ((4,), (6,)), set()),
        ("ij->ji", ((4, 6),), set()),
    ],
)
def test_parts_of_einsum(equation, shapes, axes):
    check_parts(one_node("Einsum", shapes, equation=equation), axes)


def test_no_parts_along_a_label_that_is_stretched():
    """An operand of extent 1 along a summed label is read whole by every share, and counted as often as there are."""
    check_parts(one_node("Einsum", [(4, 1), (6, 5)], equation="ij,jk->ik", shapes=[(4, 5)]), set())
    check_parts(one_node("Einsum", [(4, 6), (1, 5)], equation="ij,jk->ik", shapes=[(4, 5)]), set())


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Einsum"])
def test_half_precision_has_no_parts(op):
    attributes = {"equation": "ij,jk->ik"} if op == "Einsum" else {}
    proto = one_node(op, [((4, 6), "float16"), ((6, 5), "float16")], **attributes)
    _no_parts(proto)


def test_a_value_that_is_read_twice_has_no_parts():
    proto = one_node("MatMul", [(4, 4), (4, 4)])
    proto.graph.node[0].input[1] = "x0"
    del proto.graph.input[1:]
    check_parts(proto, set())


def test_a_constant_on_the_left_has_parts_too(rng):
    check_parts(one_node("MatMul", [rng.standard_normal((4, 6)).astype(np.float32), (6, 5)]), {1})


def test_quantised_products_have_no_parts():
    one, zero = np.array(0.05, np.float32), np.array(3, np.int8)
    weight = np.ones((6, 5), np.int8)
    check_parts(one_node("QLinearMatMul", [((4, 6), "int8"), one, zero, weight, one, zero, one, zero]), set())


def _no_parts(proto):
    """Where onnxruntime may have no kernel to compare with."""
    (node,) = Model.from_skeleton(proto.SerializeToString()).graph.bound
    assert part_axes(node) == set()
