"""Transposed convolutions: every box equals that box of the whole, gaps and output padding included."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import check_rule
from .numbers import weights
from .onenode import OPSETS, axes_below, one_node


def transpose(shape, out_channels, kernel, bias=True, opset=17, **attributes):
    weight = weights(shape[1], out_channels // attributes.get("group", 1), *kernel)
    operands = [shape, weight, *([weights(out_channels)] if bias else [])]
    return one_node("ConvTranspose", operands, opset=opset, **attributes)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("group,channels,out", [(1, 3, 5), (4, 4, 4), (2, 4, 6), (3, 3, 6)])
def test_groups(opset, group, channels, out):
    proto = transpose((2, channels, 4, 5), out, (3, 3), opset=opset, group=group, strides=[2, 1], pads=[1, 1, 1, 1])
    check_rule(proto, cut=({0, 1, 2, 3},), seed=opset)


@pytest.mark.parametrize(
    "attributes",
    [
        dict(strides=[2, 2], output_padding=[1, 1]),
        dict(strides=[3, 4], output_padding=[2, 3]),
        dict(strides=[4, 5]),
        dict(dilations=[2, 3], strides=[1, 2]),
        dict(dilations=[3, 1], strides=[3, 1], output_padding=[2, 0]),
        dict(strides=[2, 2], output_shape=[10, 11]),
        dict(strides=[3, 3], output_shape=[15, 16]),
        dict(strides=[3, 2], output_shape=[13, 12], auto_pad="SAME_UPPER"),
        dict(strides=[3, 2], output_shape=[13, 12], auto_pad="SAME_LOWER"),
        dict(strides=[2, 2], auto_pad="SAME_UPPER"),
        dict(strides=[2, 2], auto_pad="SAME_LOWER"),
        dict(strides=[2, 1], auto_pad="VALID"),
        dict(pads=[2, 1, 1, 2], strides=[2, 2]),
    ],
    ids=str,
)
def test_geometry(attributes):
    check_rule(transpose((1, 2, 5, 6), 3, (3, 2), **attributes), cut=({0, 1, 2, 3},), trials=20)


@pytest.mark.parametrize("shape,kernel", [((2, 3, 7), (3,)), ((1, 2, 3, 4, 3), (3, 1, 2))])
def test_one_and_three_spatial_axes(shape, kernel):
    proto = transpose(shape, 4, kernel, bias=False, strides=[2] * len(kernel), pads=[0, 1] * len(kernel))
    check_rule(proto, cut=(axes_below(len(shape)),), trials=20)


@st.composite
def transposed(draw):
    spatial, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    extents = [draw(st.integers(1, 6)) for _ in range(spatial)]
    kernel = [draw(st.integers(1, 4)) for _ in range(spatial)]
    strides = [draw(st.integers(1, 4)) for _ in range(spatial)]
    dilations = [draw(st.integers(1, 3)) for _ in range(spatial)]
    written = [(e - 1) * s + d * (k - 1) + 1 for e, k, s, d in zip(extents, kernel, strides, dilations, strict=True)]
    begins = [draw(st.integers(0, min(3, w - 1))) for w in written]
    ends = [draw(st.integers(0, min(3, w - 1 - b))) for w, b in zip(written, begins, strict=True)]
    extra = [draw(st.integers(0, stride - 1)) for stride in strides]
    channels, out = group * draw(st.integers(1, 2)), group * draw(st.integers(1, 3))
    return transpose(
        (draw(st.integers(1, 2)), channels, *extents), out, kernel, bias=draw(st.booleans()), group=group,
        strides=strides, dilations=dilations, pads=[*begins, *ends], output_padding=extra,
    )  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(transposed(), st.integers(0, 100))
def test_random(proto, seed):
    ndim = len(proto.graph.input[0].type.tensor_type.shape.dim)
    check_rule(proto, cut=(axes_below(ndim),), trials=4, seed=seed)
