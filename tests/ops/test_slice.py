"""Slice: steps, negative bounds, clamping, in all three forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import check_rule
from .onenode import NEWEST, OPSETS, axes_below, ints, one_node

FAR = 2**31 - 1


def sliced(shape, opset, starts, ends, axes=None, steps=None):
    """A model of one Slice; shape inference does not know negative bounds before opset 10."""
    if opset >= 10:
        optional = [None if axes is None else ints(*axes)] + ([ints(*steps)] if steps else [])
        return one_node("Slice", [shape, ints(*starts), ints(*ends), *optional], opset=opset)
    attributes = {} if axes is None else {"axes": axes}
    pieces = [slice(None)] * len(shape)
    for axis, start, end in zip(axes or range(len(starts)), starts, ends, strict=True):
        pieces[axis] = slice(start, end)
    shapes = [np.empty(shape)[tuple(pieces)].shape]
    return one_node("Slice", [shape], opset=opset, starts=starts, ends=ends, shapes=shapes, **attributes)


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
    proto = one_node("Slice", [(6, 5), ((1,), "int64"), ints(4), ints(0)], shapes=[(3, 5)])
    check_rule(proto, cut=(set(),), feeds={"x0": np.ones((6, 5), np.float32), "x1": ints(1)}, trials=2)


@st.composite
def spelled(draw, extent):
    """Start, end and step that take at least one position of an axis, in any of the ways to write them."""
    step, first = draw(st.sampled_from((-3, -2, -1, 1, 2, 3))), draw(st.integers(0, extent - 1))
    room = extent - 1 - first if step > 0 else first
    last = first + step * draw(st.integers(0, room // abs(step)))
    end = draw(st.integers(last + 1, last + step) if step > 0 else st.integers(last + step, last - 1))
    far = FAR if step > 0 else -FAR
    ends = [end, end - extent] if 0 <= end < extent else [far, end if step > 0 else end - extent]
    starts = [first, first - extent] + ([-far] if first == (0 if step > 0 else extent - 1) else [])
    return draw(st.sampled_from(starts)), draw(st.sampled_from(ends)), step


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_slice(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    starts, ends, steps = zip(*(data.draw(spelled(extent)) for extent in shape), strict=True)
    proto = sliced(shape, 17, starts, ends, tuple(range(len(shape))), steps)
    check_rule(proto, cut=(axes_below(len(shape)),), trials=4, seed=data.draw(st.integers(0, 9)))
