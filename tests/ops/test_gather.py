"""Gathers and scatters, with constant and computed indices."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.core.program import NodeBlock
from flexpie_mpi.core.region import Region
from flexpie_mpi.model.model import Model
from flexpie_mpi.ops import part_regions, rule_for

from .harness import check_parts, check_rule, run_block
from .onenode import NEWEST, OPSETS, axes_below, ints, one_node

DATA = (5, 6, 7)


def floats(rng, shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_gather_by_constant(opset, axis, shape, rng):
    low = -DATA[axis] if opset >= 11 else 0
    indices = np.asarray(rng.integers(low, DATA[axis], shape))
    proto = one_node("Gather", [DATA, indices], opset=opset, axis=axis)
    check_rule(proto, cut=(axes_below(2 + len(shape)),), trials=6)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_gather_by_computed(dtype, axis, shape, rng):
    feeds = {"x0": floats(rng, DATA), "x1": np.asarray(rng.integers(-5, 5, shape), dtype)}
    proto = one_node("Gather", [DATA, (shape, dtype)], axis=axis)
    check_rule(proto, feeds=feeds, cut=(axes_below(2 + len(shape)),))


def test_embedding_is_cut_by_tokens_and_by_features(rng):
    proto = one_node("Gather", [floats(rng, (50, 8)), ((2, 6), "int64")])
    check_rule(proto, feeds={"x1": rng.integers(0, 50, (2, 6))}, cut=(axes_below(3),), trials=20)
    (node,) = Model.from_skeleton(proto.SerializeToString()).graph.bound
    regions = rule_for(node).in_regions(node, (Region(((0, 2), (1, 3), (4, 8))),))
    assert regions == (Region(((0, 50), (4, 8))), Region(((0, 2), (1, 3))))


@pytest.mark.parametrize(("axis", "shape", "dtype"), [(0, (2, 6), "int64"), (1, (), "int32"), (-1, (3,), "int64")])
@pytest.mark.parametrize("opset", [11, NEWEST])
def test_parts_of_a_table_add_up_to_its_rows_bit_by_bit(axis, shape, dtype, opset, rng):
    table = floats(rng, (9, 8, 7))
    table[::2, ::3] = -0.0
    table.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    feeds = {"x1": np.asarray(rng.integers(-table.shape[axis], table.shape[axis], shape), dtype)}
    proto = one_node("Gather", [table, (shape, dtype)], axis=axis, opset=opset)
    check_parts(proto, {axis % 3}, feeds=feeds, rtol=0)


@pytest.mark.parametrize("index", [-10, 9])
@pytest.mark.parametrize("share", [(0, 4), (4, 9)])
def test_every_part_refuses_an_index_that_is_no_position(index, share, rng):
    table = floats(rng, (9, 2))
    model = Model.from_skeleton(one_node("Gather", [table, ((1,), "int64")]).SerializeToString())
    (node,) = model.graph.bound
    block = NodeBlock(
        node.node.name,
        (Region(((0, 1), (0, 2))),),
        part_regions(node, Region((share, (0, 2))), is_first=True),
        is_part=True,
    )
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run_block(model, node, block, {"x1": np.array([index])}, {"x0": table})


def test_constant_index_reads_only_its_slab():
    (node,) = Model.from_skeleton(one_node("Gather", [DATA, np.array(-1)], axis=1).SerializeToString()).graph.bound
    regions = rule_for(node).in_regions(node, (Region(((0, 5), (2, 7))),))
    assert regions == (Region(((0, 5), (5, 6), (2, 7))), None)


@pytest.mark.parametrize("opset", [11, 13, NEWEST])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(opset, axis, rng):
    shape = tuple(9 if place == axis % 3 else extent - 1 for place, extent in enumerate(DATA))
    feeds = {"x0": floats(rng, DATA), "x1": rng.integers(-5, 5, shape)}
    proto = one_node("GatherElements", [DATA, (shape, "int64")], opset=opset, axis=axis)
    check_rule(proto, feeds=feeds, cut=(axes_below(3),))


@pytest.mark.parametrize(
    ("batch", "shape"),
    [(0, (4, 1)), (0, (4, 2)), (0, (2, 3, 3)), (0, (2,)), (1, (5, 2)), (1, (5, 3, 1)), (2, (5, 6, 4, 1))],
)
@pytest.mark.parametrize("opset", [12, NEWEST])
def test_gather_nd(batch, shape, opset, rng):
    feeds = {"x0": floats(rng, DATA), "x1": rng.integers(0, 5, shape)}
    proto = one_node("GatherND", [DATA, (shape, "int64")], opset=opset, batch_dims=batch)
    ndim = len(shape) - 1 + len(DATA) - batch - shape[-1]
    check_rule(proto, feeds=feeds, cut=(axes_below(ndim),))


@pytest.mark.parametrize(("op", "opset"), [("Scatter", 9), ("ScatterElements", 11), ("ScatterElements", NEWEST)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("constant", [False, True])
def test_scatter_elements(op, opset, axis, constant, rng):
    shape = (2, 3, 2)
    columns = [rng.permutation(DATA[axis])[: shape[axis]] for _ in range(12 // shape[axis])]  # no place twice
    indices = np.moveaxis(np.array(columns).reshape(*np.delete(shape, axis), -1), -1, axis)
    feeds = {"x0": floats(rng, DATA), "x2": floats(rng, shape)} | ({} if constant else {"x1": indices})
    proto = one_node(op, [DATA, indices if constant else (shape, "int64"), shape], opset=opset, axis=axis)
    check_rule(proto, feeds=feeds, cut=(axes_below(3, without=[axis]),))


@pytest.mark.parametrize("reduction", ["add", "max"])
def test_scatter_elements_with_reduction(reduction, rng):
    feeds = {"x0": floats(rng, (4, 5)), "x1": rng.integers(0, 5, (3, 6)), "x2": floats(rng, (3, 6))}
    proto = one_node("ScatterElements", [(4, 5), ((3, 6), "int64"), (3, 6)], opset=18, axis=1, reduction=reduction)
    check_rule(proto, feeds=feeds, cut=({0},))


@pytest.mark.parametrize("opset", [11, 16, NEWEST])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd(opset, depth, rng):
    points = np.array([[0, 1, 2], [3, 4, 5], [1, 0, 6]])[:, :depth]
    updates = (3, *DATA[depth:])
    feeds = {"x0": floats(rng, DATA), "x2": floats(rng, updates)}
    check_rule(one_node("ScatterND", [DATA, points, updates], opset=opset), feeds=feeds, cut=(set(range(depth, 3)),))


def test_indices_are_shifted_to_what_is_held():
    proto = one_node("Gather", [(9, 2), ints(8, 3, -2, 3)])
    check_rule(proto, cut=({0, 1},), trials=30)
