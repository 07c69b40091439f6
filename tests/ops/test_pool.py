"""Pools: every box equals that box of the whole pool, whatever borders, rounding and counting it has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import check_parts, check_rule
from .onenode import NEWEST, OPSETS, axes_below, one_node

KINDS = ("MaxPool", "AveragePool", "LpPool")


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("op", KINDS)
def test_opsets(op, opset):
    proto = one_node(op, [(2, 3, 9, 8)], opset=opset, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    check_rule(proto, cut=({0, 1, 2, 3},))


GEOMETRIES = [
    dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    dict(kernel_shape=[3, 3], strides=[3, 2], ceil_mode=1, pads=[1, 1, 1, 1]),
    dict(kernel_shape=[2, 4], strides=[2, 3], ceil_mode=1, pads=[0, 2, 1, 2]),
    dict(kernel_shape=[3, 2], dilations=[2, 3], strides=[1, 2], pads=[2, 1, 2, 1]),
    dict(kernel_shape=[3, 2], dilations=[3, 2], strides=[2, 3], ceil_mode=1, pads=[1, 1, 2, 0]),
    dict(kernel_shape=[3, 2], strides=[2, 3], auto_pad="SAME_UPPER"),
    dict(kernel_shape=[3, 2], strides=[2, 3], auto_pad="SAME_LOWER"),
    dict(kernel_shape=[3, 2], strides=[2, 3], auto_pad="VALID"),
    dict(kernel_shape=[1, 1], strides=[3, 2]),
]


@pytest.mark.parametrize("attributes", GEOMETRIES, ids=str)
@pytest.mark.parametrize("op", KINDS)
def test_geometry(op, attributes):
    check_rule(one_node(op, [(1, 2, 9, 8)], opset=NEWEST, **attributes), cut=({0, 1, 2, 3},), trials=20)


@pytest.mark.parametrize("opset", [10, 13, 19, NEWEST])
@pytest.mark.parametrize("attributes", [item for item in GEOMETRIES if "dilations" not in item], ids=str)
def test_average_that_counts_padding(attributes, opset):
    proto = one_node("AveragePool", [(1, 2, 9, 8)], opset=opset, count_include_pad=1, **attributes)
    check_rule(proto, cut=({0, 1, 2, 3},), trials=20)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("op", KINDS)
def test_auto_pad_with_rounding_up(op, auto_pad):
    proto = one_node(
        op, [(1, 2, 9, 8)], opset=NEWEST, kernel_shape=[2, 3], strides=[2, 3], auto_pad=auto_pad, ceil_mode=1
    )
    check_rule(proto)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", KINDS)
def test_auto_pad_of_onnxruntime_knows_no_dilations(op, auto_pad):
    proto = one_node(op, [(1, 2, 9, 8)], opset=NEWEST, kernel_shape=[3, 2], dilations=[2, 3], auto_pad=auto_pad)
    check_rule(proto, cut=({0, 1, 2, 3},), trials=20)


@pytest.mark.parametrize("op", ["AveragePool", "LpPool"])  # onnxruntime's MaxPool refuses
def test_auto_pad_that_crops(op):
    """A stride beyond the kernel makes the pads negative, for which no local form has words."""
    proto = one_node(op, [(1, 4, 6, 12)], opset=NEWEST, kernel_shape=[1, 1], strides=[1, 3], auto_pad="SAME_UPPER")
    check_rule(proto, cut=({0, 1},))


@pytest.mark.parametrize("op", KINDS)
@pytest.mark.parametrize("shape", [(2, 3, 11), (1, 2, 5, 6, 4)])
def test_one_and_three_spatial_axes(op, shape):
    spatial = len(shape) - 2
    attributes = dict(kernel_shape=[3] * spatial, strides=[2] * spatial, pads=[1] * (2 * spatial))
    check_rule(one_node(op, [shape], opset=NEWEST, **attributes), cut=(axes_below(len(shape)),), trials=20)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_maximum_of_integers(dtype):
    proto = one_node("MaxPool", [((1, 3, 8, 7), dtype)], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    check_rule(proto, cut=({0, 1, 2, 3},))


@pytest.mark.parametrize("p", [1, 3])
def test_norms(p):
    proto = one_node("LpPool", [(1, 2, 7, 7)], p=p, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    check_rule(proto, cut=({0, 1, 2, 3},), rtol=1e-4)


@pytest.mark.parametrize("opset", [8, 13, NEWEST])
@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (2, 3, 11), (1, 3, 5, 6, 4)])
def test_indices_are_those_of_the_whole(shape, opset):
    spatial, axes = len(shape) - 2, axes_below(len(shape))
    attributes = dict(kernel_shape=[3] * spatial, strides=[2] * spatial, pads=[1] * (2 * spatial))
    proto = one_node("MaxPool", [shape], opset=opset, outputs=2, **attributes)
    check_rule(proto, cut=(axes, axes), trials=24, rtol=0, atol=0)


def test_indices_that_count_columns_first_are_not_cut():
    proto = one_node("MaxPool", [(2, 3, 9, 8)], outputs=2, kernel_shape=[2, 2], strides=[2, 2], storage_order=1)
    check_rule(proto, cut=(set(), set()))


@st.composite
def pools(draw):
    op = draw(st.sampled_from(KINDS))
    spatial = draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 4)) for _ in range(spatial)]
    dilations = [draw(st.integers(1, 2)) for _ in range(spatial)]
    pads = [draw(st.integers(0, extent - 1)) for extent in (*kernel, *kernel)]
    extents = [d * (k - 1) + draw(st.integers(1, 7)) for d, k in zip(dilations, kernel, strict=True)]
    attributes = dict(
        kernel_shape=kernel, dilations=dilations, pads=pads, ceil_mode=draw(st.integers(0, 1)),
        strides=[draw(st.integers(1, 4)) for _ in kernel],
    )  # fmt: skip
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    return one_node(op, [(2, 2, *extents)], opset=NEWEST, **attributes)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(pools(), st.integers(0, 100))
def test_random_pools(proto, seed):
    ndim = len(proto.graph.input[0].type.tensor_type.shape.dim)
    check_rule(proto, cut=(axes_below(ndim),), trials=4, seed=seed)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools(op):
    for opset in (7, 13, 21):
        check_rule(one_node(op, [(3, 5, 4, 6)], opset=opset), cut=({0, 1},))
    check_rule(one_node(op, [(3, 5, 7)]), cut=({0, 1},))


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 4, 5, 6), (2, 2, 3, 4, 5)])
@pytest.mark.parametrize("opset", OPSETS)
def test_parts_of_all_positions(op, shape, opset):
    check_parts(one_node(op, [shape], opset=opset), set(range(2, len(shape))), seed=opset)


def test_no_parts_of_windows_and_other_norms():
    check_parts(one_node("GlobalLpPool", [(1, 4, 5, 6)], p=2), set())
    check_parts(one_node("AveragePool", [(1, 4, 6, 6)], kernel_shape=[6, 6]), set())
