"""QuantizeLinear and DequantizeLinear with one scale, a scale per channel, and blocks."""

from __future__ import annotations

import numpy as np
import pytest

from .harness import check_rule
from .onenode import NEWEST, axes_below, one_node

SHAPE = (2, 6, 4, 5)


def operands(op, scale, rng, *, with_zero=True, dtype="int8"):
    scales = np.asarray(rng.uniform(0.02, 0.1, scale), np.float32)
    zero = [np.asarray(rng.integers(0, 9, scale), dtype)] if with_zero else []
    return [(SHAPE, "float32" if op == "QuantizeLinear" else dtype), scales, *zero]


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23, NEWEST])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_one_scale(op, opset, dtype, rng):
    proto = one_node(op, operands(op, (), rng, dtype=dtype), opset=opset)
    check_rule(proto, cut=(axes_below(4),), trials=5)


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("with_zero", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize("opset", [13, 21, NEWEST])
def test_scale_per_position_of_an_axis(op, with_zero, axis, opset, rng):
    attributes = {} if axis is None else {"axis": axis}
    dtype = "int8" if with_zero or op == "DequantizeLinear" else "uint8"
    inputs = operands(op, (SHAPE[1 if axis is None else axis],), rng, with_zero=with_zero, dtype=dtype)
    check_rule(one_node(op, inputs, opset=opset, **attributes), cut=(axes_below(4),))


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("opset", [21, NEWEST])
def test_blocks(op, opset, rng):
    proto = one_node(op, operands(op, (2, 2, 4, 5), rng), opset=opset, axis=1, block_size=3)
    check_rule(proto, cut=(axes_below(4),))


def test_computed_scale(rng):
    proto = one_node("QuantizeLinear", [SHAPE, (6,), ((6,), "uint8")])
    feeds = {
        "x0": rng.standard_normal(SHAPE).astype(np.float32),
        "x1": rng.uniform(0.1, 0.2, 6).astype(np.float32),
        "x2": rng.integers(0, 9, 6).astype(np.uint8),
    }
    check_rule(proto, feeds=feeds, cut=(axes_below(4),))


def test_dynamic_quantisation_runs_whole():
    proto = one_node("DynamicQuantizeLinear", [(3, 4)], outputs=3)
    check_rule(proto, cut=(set(), set(), set()), trials=3)
