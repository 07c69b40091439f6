"""Pad: every box, those with nothing but padding in them included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import check_rule
from .onenode import NEWEST, axes_below, ints, one_node

MODES = ("constant", "reflect", "edge", "wrap")


def pad(shape, pads, mode, opset=NEWEST, value=None, axes=None):
    if opset < 11:
        return one_node(
            "Pad", [shape], opset=opset, mode=mode, pads=pads, **({} if value is None else {"value": value})
        )
    operands = [shape, ints(*pads), None if value is None else np.array(value, np.float32)]
    return one_node("Pad", [*operands, *([] if axes is None else [ints(*axes)])], opset=opset, mode=mode)


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 19, 21, NEWEST])
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode, opset):
    if mode == "wrap" and opset < 19:
        return
    proto = pad((2, 3, 6, 5), [0, 1, 2, 4, 1, 0, 5, 3], mode, opset, value=1.5 if mode == "constant" else None)
    check_rule(proto, cut=({0, 1, 2, 3},), trials=24, rtol=0, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_negative_pads(mode):
    proto = pad((6, 7, 5), [-2, 2, -1, 3, -3, -1], mode)
    check_rule(proto, cut=({0, 1, 2},), trials=24, rtol=0, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_axes(mode):
    proto = pad((2, 5, 6), [2, 1, 3, 4], mode, value=2.0, axes=[-1, 1])
    check_rule(proto, cut=({0, 1, 2},), trials=24, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_types(dtype):
    proto = one_node("Pad", [((4, 5), dtype), ints(1, 9, 2, 0)])
    check_rule(proto, cut=({0, 1},), rtol=0, atol=0)


def test_value_computed_in_the_graph():
    check_rule(one_node("Pad", [(4, 5), ints(1, 9, 2, 0), ()]), cut=({0, 1},), rtol=0, atol=0)


def test_pads_computed_in_the_graph():
    proto = one_node("Pad", [(4, 5), ((4,), "int64")])
    proto.graph.output[0].type.tensor_type.shape.Clear()
    for extent in (5, 7):
        proto.graph.output[0].type.tensor_type.shape.dim.add(dim_value=extent)
    feeds = {"x0": np.ones((4, 5), np.float32), "x1": np.array([1, 0, 0, 2], np.int64)}
    check_rule(proto, cut=(set(),), feeds=feeds)


@st.composite
def padded(draw):
    mode = draw(st.sampled_from(MODES))
    shape = [draw(st.integers(1, 7)) for _ in range(draw(st.integers(1, 3)))]
    begins, ends = [], []
    for extent in shape:
        begin, end = (draw(st.integers(-((extent - 1) // 2), 8)) for _ in range(2))
        kept = extent + min(begin, 0) + min(end, 0)
        most = {"reflect": kept - 1, "wrap": kept}.get(mode, 8)  # onnxruntime mirrors and wraps once
        begins.append(min(begin, most))
        ends.append(min(end, most))
    return pad(shape, [*begins, *ends], mode, value=0.5 if mode == "constant" else None)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(padded(), st.integers(0, 100))
def test_random_pads(proto, seed):
    ndim = len(proto.graph.input[0].type.tensor_type.shape.dim)
    check_rule(proto, cut=(axes_below(ndim),), trials=5, seed=seed, rtol=0, atol=0)
