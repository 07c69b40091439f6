"""Transpose, and the shape changes that keep elements in order."""

from __future__ import annotations

from itertools import permutations
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.region import Region
from flexpie_mpi.model.model import Model
from flexpie_mpi.ops import rule_for

from .harness import check_rule
from .onenode import NEWEST, OPSETS, axes_below, ints, one_node


@pytest.mark.parametrize("order", [None, *permutations(range(3))])
def test_transpose(order):
    attributes = {} if order is None else {"perm": order}
    check_rule(one_node("Transpose", [(3, 4, 5)], **attributes), cut=(axes_below(3),))


@pytest.mark.parametrize("opset", OPSETS)
def test_transpose_of_each_opset(opset):
    check_rule(one_node("Transpose", [(2, 3, 4, 5)], opset=opset, perm=(0, 2, 3, 1)), cut=(axes_below(4),))


RESHAPES = (
    # input, output, output axes that may be cut
    ((2, 8, 3, 3), (2, 72), {0, 1}),
    ((2, 12, 5, 5), (2, 3, 4, 5, 5), {0, 1, 3, 4}),
    ((2, 3, 4, 5, 5), (2, 12, 5, 5), {0, 1, 2, 3}),
    ((2, 7, 24), (2, 7, 4, 6), {0, 1, 2}),
    ((2, 7, 4, 6), (2, 7, 24), {0, 1, 2}),
    ((4, 6), (6, 4), {0}),
    ((24,), (2, 3, 4), {0}),
    ((2, 3, 4), (24,), {0}),
    ((1, 24), (24, 1), {0}),
    ((5, 1, 6), (5, 6), {0, 1}),
    ((5, 6), (1, 5, 1, 6, 1), {1, 3}),
    ((6, 4, 10), (3, 8, 2, 5), {0, 2}),
    ((6, 4, 10), (3, 2, 2, 20), {0, 2}),
    ((6, 35), (14, 15), {0}),
    ((1, 1, 1), (1,), {0}),
    ((1, 1), (), set()),
    ((), (1, 1), {0}),
)


@pytest.mark.parametrize(("source", "target", "cut"), RESHAPES)
def test_reshape(source, target, cut):
    proto = one_node("Unsqueeze", [(), ints(0, 1)]) if source == () else None
    if target == ():
        proto = one_node("Squeeze", [source])
    check_rule(proto or one_node("Reshape", [source, ints(*target)]), cut=(cut,), trials=30)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("target", [(0, -1), (2, 3, -1), (-1, 4), (0, 0, 4), (-1,)])
def test_reshape_with_zeros_and_minus_one(opset, target):
    check_rule(one_node("Reshape", [(2, 3, 4), ints(*target)], opset=opset), trials=6)


def test_reshape_allowzero():
    check_rule(one_node("Reshape", [(2, 3, 4), ints(6, -1)], allowzero=1), cut=({0, 1},))


def test_reshape_to_a_computed_shape_is_not_cut():
    proto = one_node("Reshape", [(4, 6), ((1,), "int64")], shapes=[(24,)])
    check_rule(proto, cut=(set(),), feeds={"x0": np.ones((4, 6), np.float32), "x1": ints(24)}, trials=2)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("axis", "cut"), [(0, {1}), (1, {0, 1}), (2, {0, 1}), (3, {0, 1}), (None, {0, 1})])
def test_flatten(opset, axis, cut):
    attributes = {} if axis is None else {"axis": axis}
    check_rule(one_node("Flatten", [(2, 3, 4)], opset=opset, **attributes), cut=(cut if axis != 3 else {0},), trials=6)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axes", [(1,), (1, 3), None])
def test_squeeze(opset, axes):
    operands, attributes = [(4, 1, 5, 1)], {}
    if axes is not None and opset >= 13:
        operands.append(ints(*axes))
    elif axes is not None:
        attributes["axes"] = axes
    check_rule(one_node("Squeeze", operands, opset=opset, **attributes), trials=6)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axes", [(0,), (1, 3), (2,)])
def test_unsqueeze(opset, axes):
    operands, attributes = [(4, 5)], {}
    if opset >= 13:
        operands.append(ints(*axes))
    else:
        attributes["axes"] = axes
    cut = axes_below(2 + len(axes), without=axes)
    check_rule(one_node("Unsqueeze", operands, opset=opset, **attributes), cut=(cut,), trials=6)


def read(source, target, box):
    proto = one_node("Reshape", [source, ints(*target)])
    (node,) = Model.from_skeleton(proto.SerializeToString()).graph.bound
    return rule_for(node).in_regions(node, (Region(box),))


def test_reshape_reads_no_more_than_it_must():
    assert read((8, 6), (48,), ((7, 20),)) == (Region(((1, 4), (0, 6))), None)
    assert read((8, 6), (48,), ((7, 9),)) == (Region(((1, 2), (1, 3))), None)
    assert read((2, 24), (2, 4, 6), ((0, 1), (1, 3), (0, 6))) == (Region(((0, 1), (6, 18))), None)


@st.composite
def reshapes(draw):
    """Two shapes of the same size: each the prime factors in the same order, differently grouped."""
    factors = draw(st.lists(st.sampled_from((1, 2, 3, 5)), min_size=1, max_size=5).filter(lambda f: prod(f) < 500))

    def grouped():
        ends = sorted(draw(st.sets(st.integers(1, len(factors) - 1)))) if len(factors) > 1 else []
        return tuple(prod(factors[lo:hi]) for lo, hi in zip([0, *ends], [*ends, len(factors)], strict=True))

    return grouped(), grouped()


@settings(max_examples=60, deadline=None)
@given(reshapes(), st.integers(0, 99))
def test_any_reshape(shapes, seed):
    source, target = shapes
    check_rule(one_node("Reshape", [source, ints(*target)], opset=NEWEST), trials=4, seed=seed)
