"""Concat, Split, Tile and Expand, cut along the joined axis too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.region import Region
from flexpie_mpi.model.model import Model
from flexpie_mpi.ops import rule_for

from .harness import check_rule
from .onenode import NEWEST, OPSETS, axes_below, ints, one_node


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(opset, axis):
    shapes = [tuple(k if place == axis else 4 for place in range(3)) for k in (1, 3, 2, 5)]
    check_rule(one_node("Concat", shapes, opset=opset, axis=axis), cut=(axes_below(3),))


def test_concat_along_a_negative_axis_with_a_constant(rng):
    weight = rng.standard_normal((2, 4)).astype(np.float32)
    check_rule(one_node("Concat", [(2, 3), weight, (2, 2)], axis=-1), cut=(axes_below(2),), trials=30)


def test_concat_reads_only_what_it_touches():
    proto = one_node("Concat", [(2, 3), (2, 4), (2, 5)], axis=1)
    (node,) = Model.from_skeleton(proto.SerializeToString()).graph.bound
    regions = rule_for(node).in_regions(node, (Region(((0, 1), (5, 7))),))
    assert regions == (None, Region(((0, 1), (2, 4))), None)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 3, 2), (6,)])
def test_split(opset, axis, sizes):
    shape = tuple(6 if place == axis else 4 for place in range(3))
    operands, attributes = [shape], {"axis": axis}
    if opset < 13:
        attributes["split"] = sizes
    else:
        operands.append(ints(*sizes))
    proto = one_node("Split", operands, opset=opset, outputs=len(sizes), **attributes)
    check_rule(proto, cut=(axes_below(3),) * len(sizes), trials=8)


@pytest.mark.parametrize(("opset", "extent"), [(7, 6), (13, 6), (18, 6), (18, 7), (NEWEST, 8)])
def test_split_without_sizes(opset, extent):
    attributes = {"num_outputs": 3} if opset >= 18 else {}
    proto = one_node("Split", [(2, extent)], opset=opset, outputs=3, axis=-1 if opset >= 11 else 1, **attributes)
    check_rule(proto, cut=(axes_below(2),) * 3, trials=20)


def test_split_with_computed_sizes_is_not_cut():
    proto = one_node("Split", [(2, 6), ((2,), "int64")], outputs=2, axis=1, shapes=[(2, 2), (2, 4)])
    feeds = {"x0": np.ones((2, 6), np.float32), "x1": ints(2, 4)}
    check_rule(proto, cut=(set(), set()), feeds=feeds, trials=2)


@pytest.mark.parametrize("opset", [7, 13, NEWEST])
@pytest.mark.parametrize("repeats", [(1, 1, 1), (1, 3, 1), (4, 1, 2), (2, 3, 5)])
@pytest.mark.parametrize("shape", [(3, 1, 4), (1, 5, 1)])
def test_tile(opset, repeats, shape):
    check_rule(one_node("Tile", [shape, ints(*repeats)], opset=opset), cut=(axes_below(3),), trials=15)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4), st.integers(0, 99))
def test_any_tile(axes, seed):
    shape, repeats = zip(*axes, strict=True)
    check_rule(one_node("Tile", [shape, ints(*repeats)]), cut=(axes_below(len(shape)),), trials=4, seed=seed)


@pytest.mark.parametrize("opset", [8, 13, NEWEST])
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1), (1, 1, 1), (2, 1, 4, 6)])
def test_expand(opset, shape):
    source = (3, 1) if len(shape) < 4 else (1, 3, 1, 1)
    ndim = max(len(source), len(shape))
    if shape == (2, 3, 4):
        source = (3, 4)
    check_rule(one_node("Expand", [source, ints(*shape)], opset=opset), cut=(axes_below(ndim),))


def test_expand_to_a_computed_shape_is_not_cut():
    proto = one_node("Expand", [(3, 1), ((2,), "int64")], shapes=[(3, 4)])
    feeds = {"x0": np.ones((3, 1), np.float32), "x1": ints(3, 4)}
    check_rule(proto, cut=(set(),), feeds=feeds, trials=2)
