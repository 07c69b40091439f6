"""Reductions, arg-reductions, running sums and top-k."""

from __future__ import annotations

import numpy as np
import pytest

from .harness import check_parts, check_rule
from .onenode import NEWEST, OPSETS, axes_below, ints, one_node

OPS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
SHAPE = (2, 3, 4, 5)


def takes_axes_as_input(op: str, opset: int) -> bool:
    return opset >= (13 if op == "ReduceSum" else 18)


def reduction(op, opset, axes, keepdims, **attributes):
    operands = [SHAPE]
    if axes is not None and takes_axes_as_input(op, opset):
        operands.append(ints(*axes))
    elif axes is not None:
        attributes["axes"] = axes
    return one_node(op, operands, opset=opset, keepdims=keepdims, **attributes)


def cut_axes(axes, keepdims):
    kept = sorted(axes_below(4, without=range(4) if axes is None else axes))
    return set(kept) if keepdims else set(range(len(kept)))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduce_of_each_opset(op, opset, keepdims, rng):
    feeds = {"x0": rng.uniform(0.5, 1.5, SHAPE).astype(np.float32)}
    proto = reduction(op, opset, [1, 2], keepdims)
    check_rule(proto, cut=(cut_axes([1, 2], keepdims),), feeds=feeds, trials=4)


@pytest.mark.parametrize("axes", [[0], [3], [0, 2], [1, 3], [0, 1, 2, 3], None])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [7, 18])
def test_axes(axes, keepdims, opset):
    check_rule(reduction("ReduceMean", opset, axes, keepdims), cut=(cut_axes(axes, keepdims),))


@pytest.mark.parametrize("axes", [[-1], [-1, -3], [1, -1]])
@pytest.mark.parametrize("opset", [11, NEWEST])
def test_negative_axes(axes, opset):
    check_rule(reduction("ReduceMax", opset, axes, 0), cut=(cut_axes(axes, 0),))


@pytest.mark.parametrize("noop", [0, 1])
def test_no_axes(noop):
    cut = axes_below(4) if noop else set()
    check_rule(reduction("ReduceSum", 18, None, 1, noop_with_empty_axes=noop), cut=(cut,))


def test_computed_axes_are_not_cut():
    proto = one_node("ReduceSum", [SHAPE, ((1,), "int64")], keepdims=1, shapes=[(2, 3, 1, 5)])
    feeds = {"x0": np.ones(SHAPE, np.float32), "x1": ints(2)}
    check_rule(proto, cut=(set(),), feeds=feeds, trials=2)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize(("opset", "axis"), [(7, 2), (11, -2), (12, 0), (13, None), (NEWEST, -1)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_arg_reduce(op, opset, axis, keepdims):
    attributes = {} if axis is None else {"axis": axis}
    cut = cut_axes([0 if axis is None else axis], keepdims)
    check_rule(one_node(op, [SHAPE], opset=opset, keepdims=keepdims, **attributes), cut=(cut,))


def test_arg_reduce_of_last_index():
    proto = one_node("ArgMax", [((3, 9), "int32")], axis=1, select_last_index=1)
    check_rule(proto, cut=({0},))


@pytest.mark.parametrize("axis", [0, 2, -1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("opset", [11, 14])
def test_running_sum(axis, exclusive, reverse, opset):
    proto = one_node("CumSum", [(3, 4, 5), np.array(axis)], opset=opset, exclusive=exclusive, reverse=reverse)
    check_rule(proto, cut=(axes_below(3, without=[axis]),), trials=5)


def test_running_sum_along_a_computed_axis_is_not_cut():
    proto = one_node("CumSum", [(3, 4), ((), "int64")])
    check_rule(proto, cut=(set(),), feeds={"x0": np.ones((3, 4), np.float32), "x1": np.array(1)}, trials=2)


@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize("opset", [7, 10, 11, 24])
def test_top_k(axis, opset):
    attributes = {} if axis is None else {"axis": axis}
    operands = [(4, 5, 6)]
    if opset < 10:
        attributes["k"] = 3
    else:
        operands.append(ints(3))
    if opset >= 11:
        attributes["largest"] = 0
    cut = axes_below(3, without=[-1 if axis is None else axis])
    check_rule(one_node("TopK", operands, opset=opset, outputs=2, **attributes), cut=(cut, cut))


def test_keepdims_of_another_number_means_what_onnxruntime_takes_it_for():
    check_rule(reduction("ReduceMean", 18, [1], 2**40), cut=(cut_axes([1], keepdims=False),))


SUMMED = ("ReduceL1", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare")


@pytest.mark.parametrize("op", SUMMED)
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_parts_of_each_opset(op, opset, keepdims):
    check_parts(reduction(op, opset, [1, -1], keepdims), {1, 3}, trials=3, seed=opset)


@pytest.mark.parametrize("op", SUMMED)
@pytest.mark.parametrize("axes", [[0], [3], [-1, -3], [0, 1, 2, 3], None])
@pytest.mark.parametrize("opset", [11, NEWEST])
def test_parts_along_any_axes(op, axes, opset):
    reduced = {axis % 4 for axis in (range(4) if axes is None else axes)}
    check_parts(reduction(op, opset, axes, 0), reduced)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "ReduceSum", "ReduceSumSquare"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float64"])
def test_parts_of_other_types(op, dtype):
    check_parts(one_node(op, [(SHAPE, dtype), *([ints(1, 2)] if op == "ReduceSum" else [])], keepdims=0,
                         **({} if op == "ReduceSum" else {"axes": [1, 2]})), {1, 2})  # fmt: skip


@pytest.mark.parametrize(
    "proto",
    [
        *(reduction(op, 17, [1, 2], 0) for op in sorted(set(OPS) - set(SUMMED))),
        one_node("ReduceMean", [(SHAPE, "int32")], axes=[1, 2]),
        one_node("ReduceMean", [(SHAPE, "float16")], axes=[1, 2]),
        one_node("ReduceSum", [(SHAPE, "float16"), ints(1, 2)]),
        one_node("ReduceMax", [(SHAPE, "int8")], axes=[1, 2]),
        reduction("ReduceSum", 18, None, 1, noop_with_empty_axes=1),
        one_node("ArgMax", [SHAPE], axis=1),
        one_node("CumSum", [(3, 4, 5), np.array(1)]),
    ],
    ids=lambda proto: proto.graph.node[0].op_type,
)
def test_no_parts_where_they_would_be_rounded_or_are_no_summands(proto):
    check_parts(proto, set())


def test_no_parts_where_the_axes_are_computed():
    proto = one_node("ReduceSum", [SHAPE, ((1,), "int64")], keepdims=1, shapes=[(2, 3, 1, 5)])
    check_parts(proto, set(), feeds={"x0": np.ones(SHAPE, np.float32), "x1": ints(2)})
