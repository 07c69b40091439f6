"""Slice: steps, negative bounds, clamping, in all three forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .harness import check_rule
from .onenode import NEWEST, OPSETS, axes_below, ints, one_node

FAR = 2**31 - 1


def sliced(shape, opset, starts, ends, axes=None, steps=None):
    if opset >= 10:
        optional = [None if axes is None else ints(*axes)] + ([ints(*steps)] if steps else [])
        return one_node("Slice", [shape, ints(*starts), ints(*ends), *optional], opset=opset)
    attributes = {} if axes is None else {"axes": axes}
    return one_node("Slice", [shape], opset=opset, starts=starts, ends=ends, **attributes)


@pytest.mark.parametrize("opset", [*OPSETS, 10])
@pytest.mark.parametrize(
    ("starts", "ends", "axes"),
    [
        ((1, 2), (5, 4), None),
        ((1,), (3,), (2,)),
        ((-4,), (-1,), (0,)),
        ((0, 3), (FAR, FAR), (0, 2)),
        ((-FAR,), (4,), (1,)),
        ((1, 1), (3, -1), (2, 0)),
    ],
)
def test_slice(opset, starts, ends, axes):
    check_rule(sliced((7, 6, 5), opset, starts, ends, axes), cut=(axes_below(3),), trials=8)


@pytest.mark.parametrize("opset", [10, 13, NEWEST])
@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [
        ((0,), (FAR,), (0,), (2,)),
        ((1, 0), (9, 5), (0, 2), (3, 2)),
        ((-1,), (-FAR,), (0,), (-1,)),
        ((FAR, 4), (-FAR, 0), (0, 2), (-2, -3)),
        ((5,), (1,), (1,), (-1,)),
        ((1, 5), (2, 0), (0, 1), (1, -2)),
    ],
)
def test_steps(opset, starts, ends, axes, steps):
    check_rule(sliced((9, 6, 5), opset, starts, ends, axes, steps), cut=(axes_below(3),))


def test_negative_axes():
    check_rule(sliced((7, 6, 5), 17, (1, 4), (6, 0), (-3, -1), (2, -1)), cut=(axes_below(3),))


def test_computed_bounds_are_not_cut():
    proto = one_node("Slice", [(6, 5), ((1,), "int64"), ints(4), ints(0)])
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    check_rule(proto, cut=(set(),), feeds={"x0": np.ones((6, 5), np.float32), "x1": ints(1)}, trials=2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_slice(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    bound = st.one_of(st.integers(-12, 12), st.sampled_from((FAR, -FAR)))
    step = st.sampled_from((-4, -3, -2, -1, 1, 1, 2, 3, 4))
    starts, ends, steps = ([data.draw(kind) for _ in shape] for kind in (bound, bound, step))
    pieces = tuple(slice(*triple) for triple in zip(starts, ends, steps, strict=True))
    assume(np.empty(shape)[pieces].size)
    proto = sliced(shape, 17, starts, ends, tuple(range(len(shape))), steps)
    check_rule(proto, cut=(axes_below(len(shape)),), trials=4, seed=data.draw(st.integers(0, 9)))
