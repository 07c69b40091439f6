"""Convolutions: every box of every geometry equals that box of the whole convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import check_parts, check_rule
from .numbers import weights
from .onenode import OPSETS, one_node


def conv(shape, out_channels, kernel, bias=True, opset=17, **attributes):
    group = attributes.get("group", 1)
    weight = weights(out_channels, shape[1] // group, *kernel)
    return one_node("Conv", [shape, weight, *([weights(out_channels)] if bias else [])], opset=opset, **attributes)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("group,channels,out", [(1, 3, 5), (6, 6, 6), (6, 6, 12), (2, 6, 8), (4, 8, 4), (3, 6, 12)])
def test_groups(opset, group, channels, out):
    proto = conv((2, channels, 7, 6), out, (3, 3), opset=opset, group=group, pads=[1, 1, 1, 1])
    check_rule(proto, cut=({0, 1, 2, 3},), seed=opset)


@pytest.mark.parametrize(
    "attributes",
    [
        dict(strides=[2, 2], pads=[1, 0, 0, 1]),
        dict(dilations=[2, 3], pads=[2, 3, 2, 3]),
        dict(strides=[3, 1], dilations=[1, 2]),
        dict(auto_pad="SAME_UPPER", strides=[2, 3]),
        dict(auto_pad="SAME_LOWER", strides=[2, 3]),
        dict(auto_pad="VALID", strides=[2, 1]),
        dict(auto_pad="NOTSET", pads=[7, 5, 6, 8]),
        dict(pads=[9, 0, 0, 9], strides=[2, 2]),
        dict(pads=[4, 4, 4, 4], strides=[5, 5], kernel_shape=[3, 2]),
    ],
    ids=str,
)
def test_geometry(attributes):
    check_rule(conv((1, 2, 9, 8), 3, (3, 2), **attributes), cut=({0, 1, 2, 3},), trials=20)


@pytest.mark.parametrize("shape,kernel", [((2, 3, 11), (3,)), ((1, 3, 5, 6, 4), (3, 1, 2))])
def test_one_and_three_spatial_axes(shape, kernel):
    cut = set(range(len(shape)))
    pads = [1] * (2 * len(kernel))
    check_rule(conv(shape, 4, kernel, bias=False, strides=[2] * len(kernel), pads=pads), cut=(cut,), trials=20)


def test_only_padding_in_every_window():
    """Kernel 1, stride 4 over one row padded by one: all that is read is the row of zeros in front."""
    check_rule(conv((1, 2, 2, 3), 2, (1, 1), strides=[4, 1], pads=[1, 2, 0, 2]), cut=({0, 1, 2, 3},))


@st.composite
def convolutions(draw):
    spatial = draw(st.integers(1, 2))
    group = draw(st.integers(1, 3))
    channels, out = group * draw(st.integers(1, 3)), group * draw(st.integers(1, 3))
    extents = [draw(st.integers(1, 9)) for _ in range(spatial)]
    kernel = [draw(st.integers(1, 4)) for _ in range(spatial)]
    dilations = [draw(st.integers(1, 3)) for _ in range(spatial)]
    begins = [draw(st.integers(0, 6)) for _ in range(spatial)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    ends = [draw(st.integers(0, 6)) + max(0, r - e - b) for r, e, b in zip(reach, extents, begins, strict=True)]
    attributes = dict(
        group=group, dilations=dilations, pads=[*begins, *ends], strides=[draw(st.integers(1, 4)) for _ in extents]
    )
    shape = (draw(st.integers(1, 2)), channels, *extents)
    return conv(shape, out, kernel, bias=draw(st.booleans()), **attributes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(convolutions(), st.integers(0, 100))
def test_random_convolutions(proto, seed):
    spatial = len(proto.graph.input[0].type.tensor_type.shape.dim)
    check_rule(proto, cut=(set(range(spatial)),), trials=4, seed=seed, rtol=1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("group,channels,out", [(1, 4, 6), (4, 4, 4), (2, 4, 6)])
def test_qlinear(per_channel, group, channels, out):
    scales = np.linspace(0.01, 0.05, out, dtype=np.float32) if per_channel else np.array(0.02, np.float32)
    zeros = np.zeros(out, np.int8) if per_channel else np.array(3, np.int8)
    inputs = [
        ((1, channels, 7, 6), "uint8"), np.array(0.03, np.float32), np.array(17, np.uint8),
        weights(out, channels // group, 3, 3, dtype="int8"), scales, zeros,
        np.array(0.5, np.float32), np.array(128, np.uint8), weights(out, dtype="int32"),
    ]  # fmt: skip
    proto = one_node("QLinearConv", inputs, group=group, pads=[1, 1, 1, 1], strides=[1, 2])
    check_rule(proto, cut=({0, 1, 2, 3},), rtol=0, atol=0)


@pytest.mark.parametrize("zeros", [[], [5], [5, 0]])
@pytest.mark.parametrize("group,out", [(1, 5), (4, 8)])
def test_integer(zeros, group, out):
    points = [np.array(value, np.uint8) for value in zeros]
    inputs = [((2, 4, 6, 5), "uint8"), weights(out, 4 // group, 3, 2, dtype="uint8"), *points]
    proto = one_node("ConvInteger", inputs, group=group, pads=[2, 1, 1, 2])
    check_rule(proto, cut=({0, 1, 2, 3},), rtol=0, atol=0)


def test_weight_computed_in_the_graph():
    proto = one_node("Conv", [(1, 4, 6, 6), (6, 2, 3, 3), (6,)], group=2, pads=[1, 1, 1, 1])
    check_rule(proto, cut=({0, 1, 2, 3},))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        dict(strides=[2, 2], pads=[1, 0, 0, 1]),
        dict(dilations=[2, 3], pads=[2, 3, 2, 3]),
        dict(auto_pad="SAME_UPPER", strides=[2, 3]),
        dict(auto_pad="SAME_LOWER", strides=[2, 3]),
        dict(auto_pad="VALID", strides=[2, 1]),
        dict(pads=[9, 0, 0, 9], strides=[2, 2]),
    ],
    ids=str,
)
@pytest.mark.parametrize("bias", [False, True])
def test_parts_add_the_bias_once(attributes, bias):
    check_parts(conv((2, 7, 9, 8), 3, (3, 2), bias=bias, **attributes), {1})


@pytest.mark.parametrize("opset", OPSETS)
def test_parts_of_each_opset(opset):
    check_parts(conv((1, 5, 7, 6), 4, (3, 3), opset=opset, pads=[1, 1, 1, 1]), {1}, seed=opset)


@pytest.mark.parametrize("shape,kernel", [((2, 6, 11), (3,)), ((1, 6, 5, 6, 4), (3, 1, 2))])
def test_parts_of_one_and_three_spatial_axes(shape, kernel):
    check_parts(conv(shape, 4, kernel, strides=[2] * len(kernel), pads=[1] * (2 * len(kernel))), {1})


@settings(max_examples=30, deadline=None, derandomize=True)
@given(convolutions(), st.integers(0, 100))
def test_parts_of_random_convolutions(proto, seed):
    (group,) = (item.i for item in proto.graph.node[0].attribute if item.name == "group")
    check_parts(proto, {1} if group == 1 else set(), trials=3, seed=seed, rtol=1e-4)


def test_parts_of_weights_that_are_computed():
    check_parts(one_node("Conv", [(1, 6, 6, 6), (4, 6, 3, 3), (4,)], pads=[1, 1, 1, 1]), {1})


@pytest.mark.parametrize("op", ["ConvInteger", "QLinearConv"])
def test_quantised_convolutions_have_no_parts(op):
    data, weight = ((2, 4, 6, 5), "uint8"), weights(5, 4, 3, 2, dtype="uint8")
    one, zero = np.array(0.05, np.float32), np.array(0, np.uint8)
    inputs = [data, weight, zero] if op == "ConvInteger" else [data, one, zero, weight, one, zero, one, zero]
    check_parts(one_node(op, inputs), set())
